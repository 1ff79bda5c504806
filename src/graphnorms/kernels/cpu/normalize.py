"""The C++ kernels of the normalization as functions of tensors.

Addresses are passed on, so everything is checked here: a size, stride, dtype or device that
does not fit never reaches the kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.kernels.cpu.extension import (
    DTYPES,
    address,
    check_index,
    check_storage,
    common_refusals,
    kernels,
    parameter,
    rows_contiguous,
)
from graphnorms.kernels.problem import (
    NormalizeProblem,
    accumulation_dtype,
    domain_refusals,
    statistics_sizes,
)


def normalize_refusals(problem: NormalizeProblem) -> list[str]:
    """Why the backend cannot run a `segment_normalize`; empty if it can."""
    return common_refusals(problem.device, problem.dtype) + domain_refusals(problem)


def normalize_forward(
    x: Tensor,
    residual: Tensor | None,
    ptr: Tensor,
    order: Tensor | None,
    seed: Tensor | None,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    center: int,
    scale: int,
    groups: int,
    eps: float,
    activation: int,
    dropout: float,
    moment: bool,
) -> tuple[Tensor, Tensor]:
    """Run the forward kernel.

    Returns:
        y, and the statistics in one vector: the shift (the centre's mean relative to the cell's
        first entry), 1/sqrt(s² + eps), and s² if `moment`.
    """
    x = rows_contiguous(x)
    dtype = accumulation_dtype(x.dtype)
    rows, channels = x.shape
    segments = ptr.shape[0] - 1
    _check(x, ptr, order, seed, groups)
    mean_scale, weight, bias, stride = _parameters(
        mean_scale, weight, bias, segments, channels, dtype
    )
    if residual is not None:
        _check_like("residual", residual, x)
        residual = rows_contiguous(residual)
    centers, scales = statistics_sizes(center, scale, rows, segments, channels, groups)
    y = torch.empty_like(x)
    statistics = x.new_empty(centers + scales * (2 if moment else 1), dtype=dtype)
    kernels().normalize_forward(
        DTYPES[x.dtype], rows, channels, segments, groups, center, scale, activation,
        torch.get_num_threads(), eps, dropout, stride, ptr.data_ptr(), address(order),
        address(seed), address(mean_scale), address(weight), address(bias),
        statistics.data_ptr(), moment and scale > 0, x.data_ptr(), x.stride(0), address(residual),
        0 if residual is None else residual.stride(0), y.data_ptr(),
    )  # fmt: skip
    return y, statistics


def normalize_backward(
    grad_y: Tensor,
    x: Tensor,
    ptr: Tensor,
    order: Tensor | None,
    seed: Tensor | None,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    statistics: Tensor,
    center: int,
    scale: int,
    groups: int,
    eps: float,
    activation: int,
    dropout: float,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the backward kernel. The gradient of a residual is grad_y, and not made here.

    Args:
        needs: Which of the gradients of x, mean_scale, weight and bias are asked for.

    Returns:
        The four gradients, those of parameters in the accumulation dtype; an empty tensor for
        each that was not asked for.
    """
    x, grad_y = rows_contiguous(x), rows_contiguous(grad_y)
    dtype = accumulation_dtype(x.dtype)
    rows, channels = x.shape
    segments = ptr.shape[0] - 1
    _check(x, ptr, order, seed, groups)
    _check_like("grad_y", grad_y, x)
    size = sum(statistics_sizes(center, scale, rows, segments, channels, groups))
    if (
        statistics.dim() != 1 or statistics.shape[0] < size or statistics.dtype != dtype
        or not statistics.is_cpu or not statistics.is_contiguous()
    ):  # fmt: skip
        raise ValueError(
            f"statistics is {tuple(statistics.shape)} of {statistics.dtype}, expected at least "
            f"{size} of {dtype}"
        )
    mean_scale, weight, bias, stride = _parameters(
        mean_scale, weight, bias, segments, channels, dtype
    )
    grad_x = torch.empty_like(x) if needs[0] else x.new_empty(0)
    grad_mean_scale, grad_weight, grad_bias = (
        torch.empty_like(parameter) if needed and parameter is not None else statistics.new_empty(0)
        for parameter, needed in zip((mean_scale, weight, bias), needs[1:], strict=True)
    )
    kernels().normalize_backward(
        DTYPES[x.dtype], rows, channels, segments, groups, center, scale, activation,
        torch.get_num_threads(), eps, dropout, stride, ptr.data_ptr(), address(order),
        address(seed), address(mean_scale), address(weight), address(bias),
        statistics.data_ptr(), x.data_ptr(), x.stride(0), grad_y.data_ptr(), grad_y.stride(0),
        grad_x.data_ptr(), grad_mean_scale.data_ptr(), grad_weight.data_ptr(),
        grad_bias.data_ptr(),
    )  # fmt: skip
    return grad_x, grad_mean_scale, grad_weight, grad_bias


def update_running(
    x: Tensor,
    statistics: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
) -> None:
    """Move running averages towards the mean and the unbiased variance of all rows of x.

    Args:
        x: The features, at least two rows; the first one is what the statistics are relative to.
        statistics: Those of `normalize_forward` over nodes with `moment`, one segment.
        running_mean, running_var: The averages, in the accumulation dtype; changed in place.
        momentum: Weight of x in them.
    """
    dtype = accumulation_dtype(x.dtype)
    rows, channels = x.shape
    check_storage(x)
    for name, vector, length in (
        ("statistics", statistics, 3 * channels),
        ("running_mean", running_mean, channels),
        ("running_var", running_var, channels),
    ):
        if (
            vector.shape != (length,) or vector.dtype != dtype or not vector.is_cpu
            or not vector.is_contiguous()
        ):  # fmt: skip
            raise ValueError(
                f"{name} is {tuple(vector.shape)} of {vector.dtype}, "
                f"expected ({length},) of {dtype}"
            )
    if rows < 2:
        raise ValueError(f"x is {tuple(x.shape)}, expected two rows or more")
    first = x if x.stride(1) == 1 else x[0].contiguous()
    base, size = statistics.data_ptr(), channels * statistics.element_size()
    kernels().update_running(
        DTYPES[x.dtype], rows, channels, momentum, first.data_ptr(), base, base + 2 * size,
        running_mean.data_ptr(), running_var.data_ptr(),
    )  # fmt: skip


def _check(x: Tensor, ptr: Tensor, order: Tensor | None, seed: Tensor | None, groups: int) -> None:
    check_storage(x)
    channels = x.shape[1]
    if groups < 1 or channels < 1 or channels % groups:
        raise ValueError(f"groups is {groups}, which does not divide the {channels} channels")
    check_index("ptr", ptr, None)
    if not ptr.shape[0]:
        raise ValueError("ptr is empty, expected segments + 1 offsets")
    if order is not None:
        check_index("order", order, x.shape[0])
    if seed is not None and (seed.dtype != torch.int64 or seed.numel() != 1 or not seed.is_cpu):
        raise ValueError(
            f"seed is {tuple(seed.shape)} of {seed.dtype} on {seed.device}, expected one int64 "
            "on the cpu"
        )


def _check_like(name: str, tensor: Tensor, x: Tensor) -> None:
    if tensor.shape != x.shape or tensor.dtype != x.dtype or not tensor.is_cpu:
        raise ValueError(
            f"{name} is {tuple(tensor.shape)} of {tensor.dtype} on {tensor.device}, expected "
            f"{tuple(x.shape)} of {x.dtype} on the cpu like x"
        )


def _parameters(
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    segments: int,
    channels: int,
    dtype: torch.dtype,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, int]:
    """The parameters as a kernel reads them, and how far apart those of two segments are."""
    stride = 0
    if (weight is not None and weight.dim() == 2) or (bias is not None and bias.dim() == 2):
        stride = channels
    shape = (segments, channels) if stride else (channels,)
    return (
        parameter("mean_scale", mean_scale, (channels,), dtype),
        parameter("weight", weight, shape, dtype),
        parameter("bias", bias, shape, dtype),
        stride,
    )
