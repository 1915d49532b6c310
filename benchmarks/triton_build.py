"""Compiles the Triton attention kernels for a GPU, which need not be present, and prints the resources they take.

    python -m benchmarks.triton_build [--capability 90] [--dtypes bfloat16 float32] [--dims 8/64 16/128 32/256]

For every kernel: registers of a thread, bytes that did not fit in them and were spilled to a stack (0 is the aim),
shared memory of a program, and instructions of the tensor cores in the PTX. It finds errors that the interpreter
cannot: a dtype that a product does not take, a type that changes in a loop, a block that does not fit. TRITON_INTERPRET
must not be set.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sagan.core.attention import triton_kernel
from sagan.core.attention.patterns import ExcludeLocal, Pattern

KERNELS: dict[triton_kernel.Kernel, Any] = {
    "forward": triton_kernel._forward_kernel,
    "backward_queries": triton_kernel._backward_queries_kernel,
    "backward_keys": triton_kernel._backward_keys_kernel,
}
TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
FLOAT32_POINTERS = {"log_sum_ptr", "delta_ptr"}


@dataclass(frozen=True)
class Build:
    """A compiled kernel: registers of a thread, bytes of its stack, bytes of shared memory of a program, its PTX."""

    registers: int
    spilled: int
    shared: int
    ptx: str

    @property
    def tensor_core_instructions(self) -> int:
        return len(re.findall(r"wgmma\.mma_async|mma\.sync", self.ptx))


def build(
    kernel: triton_kernel.Kernel, pattern: Pattern, dim: int, value_dim: int, dtype: torch.dtype, capability: int = 90
) -> Build:
    """The kernel as launched for tensors whose pointers and strides are multiples of 16, like those of a network."""
    q, v = (torch.empty(1, 1, 1, size, dtype=dtype, device="meta") for size in (dim, value_dim))
    plan, options = triton_kernel.make_plan(kernel, q, v, triton_kernel._as_numbers(pattern))
    function = KERNELS[kernel]
    signature = {name: _type(name, dtype) for name in function.arg_names}
    aligned = [i for i, kind in enumerate(signature.values()) if kind[0] == "*" or kind == "i32"]
    source = ASTSource(
        fn=function,
        signature=signature,
        constexprs={(function.arg_names.index("P"),): plan},
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned if function.arg_names[i] != "heads"},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=dict(options))
    return Build(*_resources(compiled.asm["cubin"]), compiled.metadata.shared, compiled.asm["ptx"])


def _type(argument: str, dtype: torch.dtype) -> str:
    if argument == "P":
        return "constexpr"
    if argument.endswith("_ptr"):
        return "*fp32" if argument in FLOAT32_POINTERS else f"*{TYPES[dtype]}"
    return "fp32" if argument.endswith("scale") else "i32"


def _resources(binary: bytes) -> tuple[int, int]:
    """Registers of a thread, and bytes of its stack, to which the rest is spilled."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(binary)
        command = [str(tool), "--dump-resource-usage", str(path)]
        report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    registers, stack = (int(re.findall(rf"{name}:(\d+)", report)[0]) for name in ("REG", "STACK"))
    return registers, stack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capability", type=int, default=90, help="of the GPU, 90 for an H100 or H200 (default)")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float16", "float32"])
    parser.add_argument("--dims", nargs="+", default=["8/64", "16/128", "32/256", "256/256"], metavar="DIM/VALUE_DIM")
    parser.add_argument("--size", type=int, default=64, help="of the map (default 64)")
    parser.add_argument("--tf32", action="store_true", help="products of float32 in TF32")
    options = parser.parse_args()
    if options.tf32:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    pattern = ExcludeLocal(options.size, options.size, 3)
    print(f"triton {triton.__version__}, capability {options.capability}, {pattern}")
    print(
        f"{'kernel':<18}{'dtype':<10}{'dims':>9}{'registers':>11}{'spilled':>9}{'shared KiB':>12}{'tensor cores':>14}"
    )
    for dtype in options.dtypes:
        for dims in options.dims:
            for kernel in KERNELS:
                made = build(kernel, pattern, *map(int, dims.split("/")), getattr(torch, dtype), options.capability)
                cells = f"{made.registers:>11}{made.spilled:>9}{made.shared / 1024:>12.1f}"
                print(f"{kernel:<18}{dtype:<10}{dims:>9}{cells}{made.tensor_core_instructions:>14}", flush=True)


if __name__ == "__main__":
    main()
