"""The attention backends on this machine: time, memory, error, and from which size on each is the fastest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sagan.bench.cost import binary
from sagan.bench.machine import available_memory
from sagan.bench.settings import BenchSettings, Result, Rows
from sagan.bench.tally import peak_memory
from sagan.bench.timing import time_in_turns
from sagan.core.attention import ExcludeLocal, Pattern, attend
from sagan.core.attention.dispatch import BACKENDS, choose_backend, reasons_against
from sagan.core.attention.reference import attend_reference
from sagan.run.build import attention_patterns
from sagan.system.callbacks import Progress

_SLOWER = 1.1  # a choice this many times slower than the fastest is worth a sentence
_DENSE_MATRICES = 6  # scores, weights and gradients of the reference, forwards and backwards, held at a time

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]  # q, k, v and the gradient of the output


@dataclass(frozen=True)
class Case:
    """An attention to measure: on a map of size x size, with the dims of one query and of one value."""

    pattern: ExcludeLocal
    batch: int
    dim: int
    value_dim: int
    sweep: bool
    """Whether it belongs to the row of growing maps by which the choice of a backend is judged."""

    def inputs(self, device: torch.device, dtype: torch.dtype) -> Inputs:
        rows = self.pattern.queries, self.pattern.keys, self.pattern.keys, self.pattern.queries
        dims = self.dim, self.dim, self.value_dim, self.value_dim
        draw = torch.Generator().manual_seed(0)
        q, k, v, grad = (
            torch.randn(self.batch, 1, n, d, generator=draw).to(device, dtype) for n, d in zip(rows, dims, strict=True)
        )
        return q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), grad


def cases(settings: BenchSettings) -> list[Case]:
    """Growing maps with the dims of the published 32x32 layer, and the layers of the network itself."""
    sizes = [8, 16, 32, 64, 128] if settings.on_gpu else [8, 16, 32, 64]
    if settings.quick:
        sizes = [size for size in sizes if size <= settings.imsize // 2]
    scores = 2**28 if settings.on_gpu else 2**22 if settings.quick else 2**24  # in a batch
    spans = [settings.span] if settings.quick else sorted({0, settings.span}, key=str)
    found = [
        Case(ExcludeLocal(size, size, span), max(1, min(64, scores // size**4)), 8, 64, sweep=span == settings.span)
        for size in sizes
        for span in spans
    ]
    return found if settings.quick else found + _own_layers(settings)


def _own_layers(settings: BenchSettings) -> list[Case]:
    model = settings.config().model
    found = []
    for network, width in (("generator", model.g_conv_dim), ("discriminator", model.d_conv_dim)):
        for size, pattern in attention_patterns(model, network).items():  # type: ignore[arg-type]
            channels = width * model.imsize // (2 * size)
            assert isinstance(pattern, ExcludeLocal)
            found.append(Case(pattern, settings.batch_size, max(1, channels // 8), channels, sweep=False))
    return found


def measure_attention(settings: BenchSettings, progress: Progress) -> Result:
    """Rows by case and backend: seconds forwards, and forwards and backwards, peak bytes over the inputs, and error."""
    rows, notes = [], []
    chosen = cases(settings)
    for number, case in enumerate(chosen):
        measured, refused = _measure(case, settings)
        rows += measured
        notes += [note for note in refused if note not in notes]
        progress(number + 1, len(chosen))
    return {"rows": rows, "fastest": _fastest(rows), "notes": notes + _judge(rows)}


def _measure(case: Case, settings: BenchSettings) -> tuple[list[Result], list[str]]:
    inputs = case.inputs(settings.device, settings.dtype)
    q, k, v, _ = inputs
    taken = choose_backend(q, k, v, case.pattern)
    backends, notes = [], []
    for name in BACKENDS:
        reasons = reasons_against(name, q, k, v, case.pattern)
        if name == "reference" and not _dense_fits(case, settings.device):
            reasons = [f"its matrices at N = {case.pattern.queries:,} do not fit into memory"]
        if reasons:
            notes.append(f"{name} was not measured on {settings.device}: {'; '.join(reasons)}")
        else:
            backends.append(name)
    ways: dict[str, Callable[[], object]] = {}
    for name in backends:
        ways[f"{name} forward"] = partial(_forward, name, inputs, case.pattern)
        ways[f"{name} both"] = partial(_forward_and_backward, name, inputs, case.pattern)
    timings = time_in_turns(ways, settings.device)
    exact = _exact(inputs, case.pattern) if "reference" in backends else None
    rows = []
    for name in backends:
        both = partial(_forward_and_backward, name, inputs, case.pattern)
        rows.append(
            {
                "backend": name,
                "chosen": name == taken,
                "sweep": case.sweep,
                "queries": case.pattern.queries,
                "keys": case.pattern.keys,
                "batch": case.batch,
                "dims": [case.dim, case.value_dim],
                "pattern": case.pattern.label,
                "forward": timings[f"{name} forward"].to_dict(),
                "both": timings[f"{name} both"].to_dict(),
                "memory": peak_memory(both, settings.device, inputs) - _held(inputs, settings.device),
                "error": _error(both(), exact) if exact is not None else None,
            }
        )
    return rows, notes


def _forward(backend: str, inputs: Inputs, pattern: Pattern) -> Tensor:
    q, k, v, _ = inputs
    return attend(q, k, v, pattern, backend=backend)


def _forward_and_backward(backend: str, inputs: Inputs, pattern: Pattern) -> list[Tensor]:
    q, k, v, grad = inputs
    out = attend(q, k, v, pattern, backend=backend)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), grad)]


def _exact(inputs: Inputs, pattern: Pattern) -> list[Tensor]:
    """Output and gradients in float64, on the same rounded inputs."""
    q, k, v, grad = (x.detach().double() for x in inputs)
    out = attend_reference(q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), pattern)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), grad)]


def _error(found: list[Tensor], exact: list[Tensor]) -> float:
    """The largest difference in any of the four, relative to its largest number."""
    return max(
        float((mine.double() - right).abs().max() / right.abs().max().clamp_min(1e-300))
        for mine, right in zip(found, exact, strict=True)
    )


def _held(inputs: Inputs, device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else sum(x.nbytes for x in inputs)


def _dense_fits(case: Case, device: torch.device) -> bool:
    """Whether the reference in float64, by which errors are measured, fits into half of the free memory."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    matrix = case.batch * case.pattern.queries * case.pattern.keys * 8
    return free is None or _DENSE_MATRICES * matrix < free / 2


def _fastest(rows: list[Result]) -> list[Result]:
    """For each size of the sweep the fastest backend and the one that `attend` takes, forwards and backwards."""
    found = []
    for queries in dict.fromkeys(row["queries"] for row in rows if row["sweep"]):
        some = {row["backend"]: row for row in rows if row["sweep"] and row["queries"] == queries}
        fastest = min(some, key=lambda name: some[name]["both"]["median"])
        taken = next((name for name, row in some.items() if row["chosen"]), None)
        slower = some[taken]["both"]["median"] / some[fastest]["both"]["median"] if taken else None
        found.append({"queries": queries, "fastest": fastest, "taken": taken, "times_slower": slower})
    return found


def _judge(rows: list[Result]) -> list[str]:
    """Which backend wins from which size on, what `attend` takes, and where the two disagree."""
    found = _fastest(rows)
    if not found:
        return []
    notes = [
        f"fastest, forwards and backwards: {_by_size(found, 'fastest')}",
        f"attend() takes: {_by_size(found, 'taken')}",
    ]
    for row in found:
        if row["times_slower"] and row["times_slower"] > _SLOWER:
            notes.append(
                f"here attend() is not the fastest at N = {row['queries']:,}: {row['taken']} takes "
                f"{row['times_slower']:.2f} times as long as {row['fastest']}"
            )
    return notes


def _by_size(found: list[Result], key: str) -> str:
    """``reference from N = 64, blocked from N = 1,024``"""
    changes = [
        row for before, row in zip([None, *found], found, strict=False) if before is None or before[key] != row[key]
    ]
    return ", ".join(f"{row[key] or 'none that could be measured'} from N = {row['queries']:,}" for row in changes)


def attention_rows(result: Result) -> Rows:
    """The table; a star marks the backend that `attend` takes."""
    rows = [["N", "keys", "batch", "dims", "pattern", "backend", "forward ms", "both ms", "spread", "memory", "error"]]
    for row in result["rows"]:
        rows.append(
            [
                f"{row['queries']:,}",
                f"{row['keys']:,}",
                str(row["batch"]),
                "/".join(map(str, row["dims"])),
                row["pattern"],
                row["backend"] + ("*" if row["chosen"] else ""),
                f"{row['forward']['median'] * 1e3:.3g}",
                f"{row['both']['median'] * 1e3:.3g}",
                f"{row['both']['spread']:.0%}",
                binary(row["memory"]),
                "" if row["error"] is None else f"{row['error']:.0e}",
            ]
        )
    return rows
