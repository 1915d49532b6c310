"""A training step as a CUDA graph, or as several where gradients go to other processes in between.

The GPU replays them without a launch for each kernel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sagan.core.game.shards import AddUp

Turn = dict[str, Tensor]  # the inputs of one update of one network, for one shard of the batch
Kind = tuple[bool, ...]  # what decides which kernels a step consists of
Play = Callable[[Kind, list[list[Turn]]], dict[str, Tensor]]

_EAGER_STEPS = 3  # until kernels are compiled, chosen and loaded, and the optimisers have their state


@dataclass(frozen=True)
class _Piece:
    """A graph, and what is added up over the processes after it, if anything."""

    graph: torch.cuda.CUDAGraph
    rows: Tensor | None = None
    total: Tensor | None = None


@dataclass(frozen=True)
class _Captured:
    pieces: list[_Piece]
    turns: list[list[Turn]]  # the graphs' inputs
    names: list[str]
    values: Tensor  # their outputs, what was measured: (names,)


class CapturedStep:
    """Computes steps by CUDA graphs, for each kind of step.

    The first steps of a kind are computed eagerly; then the kind is captured, which computes nothing, and replayed from
    then on. So every step is computed once and in order, whenever its kind is captured.

    Args:
        play: computes a step: launches work on the device and never waits for it. Its tensors (weights, optimiser
            states) must stay in place from call to call; its inputs are in the turns. Its last argument is called where
            gradients are added up.
        device: a CUDA device.
        add_up: adds gradients over the processes, if there are several; never captured.
    """

    def __init__(
        self,
        play: Callable[[Kind, list[list[Turn]], AddUp | None], dict[str, Tensor]],
        device: torch.device,
        add_up: AddUp | None = None,
    ):
        assert device.type == "cuda", "start_run and resume_run have checked it"
        self.play, self.add_up = play, add_up
        self.stream = torch.cuda.Stream(device)  # capturing is not allowed on the default stream
        self.pool = torch.cuda.graph_pool_handle()
        self.captured: dict[Kind, _Captured] = {}
        self.eager_steps: dict[Kind, int] = {}

    def __call__(self, kind: Kind, turns: list[list[Turn]]) -> dict[str, Tensor]:
        done = self.eager_steps.get(kind, 0)
        if done < _EAGER_STEPS:
            self.eager_steps[kind] = done + 1
            return self._play_eagerly(kind, turns)
        if kind not in self.captured:
            self.captured[kind] = self._capture(kind, turns)
        captured = self.captured[kind]
        for inputs, given in zip(captured.turns, turns, strict=True):
            for into, turn in zip(inputs, given, strict=True):
                for name, tensor in turn.items():
                    into[name].copy_(tensor)
        for piece in captured.pieces:
            piece.graph.replay()
            if self.add_up is not None and piece.rows is not None and piece.total is not None:
                self.add_up(piece.rows, piece.total)
        # a copy, as the next replay overwrites them
        return dict(zip(captured.names, captured.values.clone().unbind(), strict=True))

    def _play_eagerly(self, kind: Kind, turns: list[list[Turn]]) -> dict[str, Tensor]:
        here = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            measured = self.play(kind, turns, self.add_up)
        here.wait_stream(self.stream)
        return measured

    def _capture(self, kind: Kind, turns: list[list[Turn]]) -> _Captured:
        inputs = [[{name: tensor.clone() for name, tensor in turn.items()} for turn in each] for each in turns]
        pieces: list[_Piece] = []
        graphs: list[torch.cuda.CUDAGraph] = []
        with contextlib.ExitStack() as capturing:

            def begin() -> None:
                graphs.append(torch.cuda.CUDAGraph())
                capturing.enter_context(torch.cuda.graph(graphs[-1], pool=self.pool, stream=self.stream))

            def cut(rows: Tensor, total: Tensor) -> None:
                """Ends a graph where the other processes are needed, and begins the next."""
                capturing.pop_all().close()
                pieces.append(_Piece(graphs[-1], rows, total))
                begin()

            begin()
            measured = self.play(kind, inputs, cut if self.add_up is not None else None)
            values = torch.stack([value.float() for value in measured.values()])
        pieces.append(_Piece(graphs[-1]))
        return _Captured(pieces, inputs, list(measured), values)
