"""The attention backends on this machine: time, memory, error, and which is the fastest at each size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sagan.bench.machine import available_memory
from sagan.bench.memory import peak_memory
from sagan.bench.settings import BenchSettings, Result, Rows
from sagan.bench.timing import ROUNDS, time_in_turns
from sagan.core.attention import ExcludeLocal, attend
from sagan.core.attention.dispatch import BACKENDS, choose_backend, reasons_against
from sagan.core.attention.reference import attend_reference
from sagan.run.build import attention_patterns
from sagan.system.callbacks import Progress
from sagan.system.sentences import binary

_SLOWER = 1.1  # a choice this many times slower than the fastest is reported
_DENSE_MATRICES = 6  # scores, weights and gradients of the reference, forward and backward, held at a time

Way = Callable[[Tensor, Tensor, Tensor], Tensor]  # q, k and v to the output
Call = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """An attention to measure: on a map of size x size, with the dims of queries and of values."""

    pattern: ExcludeLocal
    batch: int
    dim: int
    value_dim: int
    sweep: bool = False
    """Whether it belongs to the series of growing maps by which the choice of a backend is judged."""

    def inputs(self, device: torch.device, dtype: torch.dtype) -> Inputs:
        rows = self.pattern.queries, self.pattern.keys, self.pattern.keys, self.pattern.queries
        dims = self.dim, self.dim, self.value_dim, self.value_dim
        draw = torch.Generator().manual_seed(0)
        q, k, v, grad = (
            torch.randn(self.batch, 1, n, d, generator=draw).to(device, dtype) for n, d in zip(rows, dims, strict=True)
        )
        return Inputs(q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), grad)


@dataclass(frozen=True)
class Inputs:
    """The inputs of an attention, and the gradient of its output."""

    q: Tensor
    k: Tensor
    v: Tensor
    grad: Tensor

    def forward(self, way: Way) -> Tensor:
        return way(self.q, self.k, self.v)

    def both(self, way: Way) -> list[Tensor]:
        """The output and the gradients of q, k and v."""
        out = self.forward(way)
        return [out.detach(), *torch.autograd.grad(out, (self.q, self.k, self.v), self.grad)]

    def exact(self, pattern: ExcludeLocal) -> list[Tensor]:
        """What `both` would be in float64."""
        q, k, v, grad = (x.detach().double() for x in self.tensors())
        wide = Inputs(q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), grad)
        return wide.both(partial(attend_reference, pattern=pattern))

    def tensors(self) -> tuple[Tensor, ...]:
        return self.q, self.k, self.v, self.grad


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
            channels = width * model.shape.shorter // (2 * size)
            assert isinstance(pattern, ExcludeLocal)
            found.append(Case(pattern, settings.batch_size, max(1, channels // 8), channels))
    return found


def measure_attention(settings: BenchSettings, progress: Progress) -> Result:
    """Rows by case and backend: seconds forward, and forward and backward, peak bytes beyond the inputs, and error."""
    rows, notes = [], []
    chosen = cases(settings)
    for number, case in enumerate(chosen):
        inputs = case.inputs(settings.device, settings.dtype)
        ways, refused = usable_backends(case, inputs)
        rows += measure_case(case, inputs, ways)
        notes += [note for note in refused if note not in notes]
        progress(number + 1, len(chosen))
    return {"rows": rows, "fastest": _fastest(rows), "notes": notes + _judge(rows)}


def usable_backends(case: Case, inputs: Inputs) -> tuple[dict[str, Way], list[str]]:
    """The backends that can compute a case, by name, and why the others cannot."""
    ways: dict[str, Way] = {}
    notes = []
    for name in BACKENDS:
        reasons = reasons_against(name, inputs.q, inputs.k, inputs.v, case.pattern)
        if name == "reference" and not _dense_fits(case, inputs.q.device):
            reasons = [f"its matrices at N = {case.pattern.queries:,} do not fit into memory"]
        if reasons:
            notes.append(f"{name} was not measured on {inputs.q.device}: {'; '.join(reasons)}")
        else:
            ways[name] = partial(attend, pattern=case.pattern, backend=name)
    return ways, notes


def measure_case(
    case: Case,
    inputs: Inputs,
    ways: Mapping[str, Way],
    rounds: int = ROUNDS,
    prepare: Callable[[Call], Call] = lambda call: call,
    *,
    cpu_time: bool = False,
) -> list[Result]:
    """A row for each way, all of them timed in turns; ``prepare`` makes of each call the one that is timed."""
    device = inputs.q.device
    calls: dict[str, Call] = {}
    for name, way in ways.items():
        calls[f"{name} forward"] = prepare(partial(inputs.forward, way))
        calls[f"{name} both"] = prepare(partial(inputs.both, way))
    timings = time_in_turns(calls, device, rounds, cpu_time=cpu_time)
    exact = inputs.exact(case.pattern) if _dense_fits(case, device) else None
    taken = choose_backend(inputs.q, inputs.k, inputs.v, case.pattern)
    return [
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
            "memory": memory_beyond_inputs(partial(inputs.both, way), inputs),
            "error": None if exact is None else _error(inputs.both(way), exact),
        }
        for name, way in ways.items()
    ]


def memory_beyond_inputs(call: Call, inputs: Inputs) -> int:
    device = inputs.q.device
    on_gpu = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if on_gpu else sum(x.nbytes for x in inputs.tensors())
    return peak_memory(call, device, inputs.tensors()) - before


def _error(found: list[Tensor], exact: list[Tensor]) -> float:
    """The largest difference in any of the four, relative to its largest number."""
    return max(
        float((mine.double() - right).abs().max() / right.abs().max().clamp_min(1e-300))
        for mine, right in zip(found, exact, strict=True)
    )


def _dense_fits(case: Case, device: torch.device) -> bool:
    """Whether the reference in float64, which errors are measured against, fits into half of the free memory."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    matrix = case.batch * case.pattern.queries * case.pattern.keys * 8
    return free is None or _DENSE_MATRICES * matrix < free / 2


def _fastest(rows: list[Result]) -> list[Result]:
    """For each size of the sweep the fastest backend, forward and backward, and the one that `attend` takes."""
    found = []
    for queries in dict.fromkeys(row["queries"] for row in rows if row["sweep"]):
        some = {row["backend"]: row for row in rows if row["sweep"] and row["queries"] == queries}
        fastest = min(some, key=lambda name: some[name]["both"]["median"])
        taken = next((name for name, row in some.items() if row["chosen"]), None)
        slower = some[taken]["both"]["median"] / some[fastest]["both"]["median"] if taken else None
        found.append({"queries": queries, "fastest": fastest, "taken": taken, "times_slower": slower})
    return found


def _judge(rows: list[Result]) -> list[str]:
    """Which backend is the fastest from which size on, what `attend` takes, and where the two disagree."""
    found = _fastest(rows)
    if not found:
        return []
    notes = [
        f"fastest, forward and backward: {_by_size(found, 'fastest')}",
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
