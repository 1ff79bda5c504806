"""The C++ kernels of the aggregation as functions of tensors.

Addresses are passed on, so everything is checked here, as in `graphnorms.kernels.cpu.backend`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.kernels.cpu.extension import (
    DTYPES,
    address,
    check_index,
    common_refusals,
    kernels,
    parameter,
    rows_contiguous,
)
from graphnorms.kernels.problem import AggregateProblem, accumulation_dtype


def aggregate_refusals(problem: AggregateProblem) -> list[str]:
    """Why the backend cannot run an `aggregate`; empty if it can."""
    return common_refusals(problem.device, problem.dtype)


def aggregate(
    x: Tensor,
    ptr: Tensor,
    index: Tensor,
    node_scale: Tensor | None,
    self_weight: float,
) -> Tensor:
    """Run the aggregation kernel; with the transposed CSR it is its own backward."""
    x = rows_contiguous(x)
    dtype = accumulation_dtype(x.dtype)
    rows, channels = x.shape
    if not x.is_cpu or x.dtype not in DTYPES:
        raise ValueError(f"x is {x.dtype} on {x.device}, expected a kernel's dtype on the cpu")
    check_index("ptr", ptr, rows + 1)
    check_index("index", index, None)
    edges = index.shape[0]
    node_scale = parameter("node_scale", node_scale, rows, dtype)
    y = x.new_empty((rows, channels))
    kernels().aggregate(
        DTYPES[x.dtype], rows, channels, edges, torch.get_num_threads(), ptr.data_ptr(),
        index.data_ptr(), address(node_scale), self_weight, x.data_ptr(),
        x.stride(0), y.data_ptr(),
    )  # fmt: skip
    return y
