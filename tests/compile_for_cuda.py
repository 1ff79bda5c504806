"""Compile every kernel for a GPU that is not there, and print what came out as JSON.

To be run by itself: `python -m tests.compile_for_cuda [quick]`. The kernels are those that the
launchers ask for, with the arguments they pass; only the launch is a compilation instead.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from graphnorms.kernels.aggregation.operands import Edges, Weights
from graphnorms.kernels.triton import (
    aggregate,
    normalize,
    parameter_sums,
    row_launches,
    segment_launches,
)
from tests.operands import call_of

TYPES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
}
TARGET = GPUTarget("cuda", int(os.environ.get("CAPABILITY", "90")), 32)
compiled: dict[str, dict[str, Any]] = {}


def compile_instead(
    kernel: Any, grid: tuple[int, int], device: Any, *arguments: Any, warps: int, **constants: Any
) -> None:
    """Take the place of `launch`: specialize as triton does, and compile."""
    if not all(grid):
        return
    names = list(inspect.signature(kernel.fn).parameters)
    signature, values, aligned = {}, {}, {}
    for place, (name, argument) in enumerate(zip(names, arguments, strict=False)):
        varies = kernel.params[place].do_not_specialize
        if argument is None or (isinstance(argument, int) and argument == 1 and not varies):
            signature[name], values[place,] = "constexpr", argument
        elif isinstance(argument, Tensor):
            signature[name] = TYPES[argument.dtype]
            aligned[place,] = [["tt.divisibility", 16]]
        elif isinstance(argument, float):
            signature[name] = "fp64"
        else:
            signature[name] = "i32" if -(2**31) <= argument < 2**31 else "i64"
            if argument % 16 == 0 and not varies:
                aligned[place,] = [["tt.divisibility", 16]]
    for name, value in constants.items():
        signature[name], values[names.index(name),] = "constexpr", value
    key = f"{kernel.fn.__name__} {signature} {values} {warps}"
    if key in compiled:
        return
    source = ASTSource(kernel, {name: signature[name] for name in names}, values, aligned)
    options = {"num_warps": warps, "enable_fp_fusion": True}
    result = triton.compile(source, target=TARGET, options=options)
    compiled[key] = {
        "name": kernel.fn.__name__,
        "bytes": len(result.asm["cubin"]),
        "atomic": bool(re.search(r"\b(atom|red)\.", result.asm["ptx"])),
        **resources(result.asm["cubin"]),
    }


def resources(cubin: bytes) -> dict[str, int]:
    """Registers of a thread, and the bytes it spills."""
    tool = triton.knobs.nvidia.cuobjdump.path
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        command = [tool, "--dump-resource-usage", str(file)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    return {} if found is None else {"registers": int(found[1]), "stack": int(found[2])}


def norm(
    dtype: torch.dtype,
    center: int,
    scale: int,
    activation: int,
    *,
    own: bool = False,
    ordered: bool = False,
    dropout: float = 0.0,
    alpha: bool = False,
    mean: int = 30,
    rows: int = 600,
    backward: bool = True,
    force: bool = False,
    function: int = 0,
    cells: int = 0,
) -> None:
    """Compile what one normalization needs; tanh has one argument, erf, the second one, two."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    segments, channels = rows // mean, 48
    x = torch.zeros(rows, channels, dtype=dtype)
    ptr = torch.zeros(segments + 1, dtype=torch.int64)
    order = torch.arange(rows) if ordered else None
    seed = torch.tensor(3) if dropout else None
    weight = torch.zeros((segments, channels) if own else (channels,), dtype=wide)
    mean_scale = torch.ones(function, dtype=wide) if function else weight if alpha else None
    parameters = (mean_scale, weight, weight)
    call = call_of(
        x,
        ptr=ptr,
        order=order,
        seed=seed,
        center=center,
        scale=scale,
        activation=activation,
        dropout=dropout,
        masked=ordered,
        function=function,
        table=torch.ones(3, channels, dtype=torch.int64) if cells else None,
        centers=cells,
        scales=cells,
    )
    residual = x if dropout else None
    y, kept = normalize.normalize_forward(x, residual, parameters, call, True)
    if backward:
        normalize.normalize_backward(y, x, parameters, kept, call, [True] * 4)
        given = (x, *parameters)
        normalize.normalize_double_backward(given, y, x, parameters, kept, call, [True] * 5)
        if not force:
            return
        # Of the gradient of x alone, as a force asks for it.
        given = (x, None, None, None)
        normalize.normalize_double_backward(given, y, x, parameters, kept, call, [True] * 5)


def edges(dtype: torch.dtype, *, scaled: bool, weighted: bool, featured: bool) -> None:
    """Compile what one aggregation needs."""
    x = torch.zeros(60, 70, dtype=dtype)
    ptr, index = torch.zeros(61, dtype=torch.int64), torch.zeros(130, dtype=torch.int64)
    along = Edges(ptr, index, index if weighted else None)
    weights = Weights(
        torch.ones(60) if scaled else None,
        torch.ones(130) if weighted else None,
        torch.zeros(130, 70, dtype=dtype) if featured else None,
        1.5,
    )
    aggregate.aggregate(x, along, weights)
    if weighted or featured:
        aggregate.aggregate_backward(x, x, along, weights, [True, True])


def main(quick: bool) -> None:
    for module in (aggregate, parameter_sums, row_launches, segment_launches):
        module.launch = compile_instead  # type: ignore[attr-defined]
    single, double, half, brain = torch.float32, torch.float64, torch.float16, torch.bfloat16
    norm(single, 1, 1, 1, dropout=0.2, alpha=True, rows=200, backward=False)
    if not quick:
        norm(single, 1, 1, 1, dropout=0.2, alpha=True, ordered=True)
        norm(single, 1, 1, 0, mean=3, force=True)
        norm(brain, 3, 3, 3, own=True)
        norm(double, 1, 3, 3, dropout=0.75, ordered=True)
        norm(half, 2, 2, 4, dropout=0.1, ordered=True)
        norm(brain, 0, 2, 4, dropout=0.1, own=True)
        norm(single, 2, 2, 3, cells=3)
        norm(single, 1, 0, 2)
        norm(single, 0, 0, 4, function=2, dropout=0.1, ordered=True)
        norm(double, 0, 0, 3, function=1)
        norm(brain, 0, 0, 0, function=1, own=True)
        norm(half, 0, 1, 3, rows=100_000, mean=100_000)
        edges(single, scaled=False, weighted=False, featured=False)
        edges(brain, scaled=True, weighted=True, featured=False)
        edges(half, scaled=False, weighted=False, featured=True)
    print(json.dumps(list(compiled.values())))


if __name__ == "__main__":
    main("quick" in sys.argv[1:])
