"""A whole training step as one CUDA graph, which the GPU replays without a launch for each kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Turn = dict[str, Tensor]  # the inputs of one update of one network
Kind = tuple[bool, ...]  # what decides which kernels a step consists of
Play = Callable[[Kind, list[Turn]], dict[str, Tensor]]

_EAGER_STEPS = 3  # until kernels are compiled, chosen and loaded, and the optimisers have their state


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    turns: list[Turn]  # the graph's inputs
    names: list[str]
    values: Tensor  # its outputs, what was measured: (names,)


class CapturedStep:
    """Computes steps by CUDA graphs, one for each kind of step.

    The first steps of a kind are computed eagerly; then the kind is captured, which computes nothing, and replayed from
    then on. So every step is computed once and in order, whenever its kind is captured.

    Args:
        play: computes a step: launches work on the device and never waits for it. Its tensors (weights, optimiser
            states) must stay in place from call to call; its inputs are in the turns.
        device: a CUDA device.
    """

    def __init__(self, play: Play, device: torch.device):
        assert device.type == "cuda", "start_run and resume_run have checked it"
        self.play = play
        self.stream = torch.cuda.Stream(device)  # capturing is not allowed on the default stream
        self.pool = torch.cuda.graph_pool_handle()
        self.captured: dict[Kind, _Captured] = {}
        self.eager_steps: dict[Kind, int] = {}

    def __call__(self, kind: Kind, turns: list[Turn]) -> dict[str, Tensor]:
        done = self.eager_steps.get(kind, 0)
        if done < _EAGER_STEPS:
            self.eager_steps[kind] = done + 1
            return self._play_eagerly(kind, turns)
        if kind not in self.captured:
            self.captured[kind] = self._capture(kind, turns)
        captured = self.captured[kind]
        for inputs, turn in zip(captured.turns, turns, strict=True):
            for name, tensor in turn.items():
                inputs[name].copy_(tensor)
        captured.graph.replay()
        # a copy, as the next replay overwrites them
        return dict(zip(captured.names, captured.values.clone().unbind(), strict=True))

    def _play_eagerly(self, kind: Kind, turns: list[Turn]) -> dict[str, Tensor]:
        here = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            measured = self.play(kind, turns)
        here.wait_stream(self.stream)
        return measured

    def _capture(self, kind: Kind, turns: list[Turn]) -> _Captured:
        inputs = [{name: tensor.clone() for name, tensor in turn.items()} for turn in turns]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            measured = self.play(kind, inputs)
            values = torch.stack([value.float() for value in measured.values()])
        return _Captured(graph, inputs, list(measured), values)
