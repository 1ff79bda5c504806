"""The C++ kernels of the normalization as functions of tensors.

Addresses are passed on, so everything is checked here: a size, stride, dtype or device that
does not fit never reaches the kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.kernels.cpu.extension import DTYPES as _DTYPES
from graphnorms.kernels.cpu.extension import address as _address
from graphnorms.kernels.cpu.extension import check_index as _check_index
from graphnorms.kernels.cpu.extension import common_refusals as _common_refusals
from graphnorms.kernels.cpu.extension import kernels as _kernels
from graphnorms.kernels.cpu.extension import parameter as _parameter
from graphnorms.kernels.cpu.extension import rows_contiguous as _rows_contiguous
from graphnorms.kernels.problem import NormalizeProblem, Over, accumulation_dtype, cells


def normalize_refusals(problem: NormalizeProblem) -> list[str]:
    """Why the backend cannot run a `segment_normalize`; empty if it can."""
    reasons = _common_refusals(problem.device, problem.dtype)
    over = {problem.center, problem.scale} - {None}
    if Over.CHANNELS in over and len(over) > 1:
        reasons.append("one statistic within rows and one over nodes")
    if Over.CHANNELS in over and problem.mean_scale:
        reasons.append("mean_scale with a centre within rows")
    if problem.center is Over.BOTH and problem.scale is Over.NODES:
        reasons.append("a centre over nodes and channels with a scale over nodes")
    if problem.center is Over.BOTH and problem.mean_scale:
        reasons.append("mean_scale with a centre over nodes and channels")
    return reasons


def normalize_forward(
    x: Tensor,
    ptr: Tensor,
    order: Tensor | None,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    center: int,
    scale: int,
    groups: int,
    eps: float,
    activation: int,
    statistics: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the forward kernel.

    Returns:
        y, the shift (the centre's mean relative to the cell's first entry), 1/sqrt(s² + eps),
        and s² if `statistics`, else an empty tensor.
    """
    x = _rows_contiguous(x)
    dtype = accumulation_dtype(x.dtype)
    rows, channels, segments = _check(x, ptr, order, groups)
    centers = cells(center, rows, segments, channels, groups)
    scales = cells(scale, rows, segments, channels, groups)
    y = x.new_empty((rows, channels))
    shift = x.new_empty(centers, dtype=dtype)
    rstd = x.new_empty(scales, dtype=dtype)
    moment = x.new_empty(scales if statistics else (0, 0), dtype=dtype)
    mean_scale = _parameter("mean_scale", mean_scale, channels, dtype)
    weight = _parameter("weight", weight, channels, dtype)
    bias = _parameter("bias", bias, channels, dtype)
    _kernels().normalize_forward(
        _DTYPES[x.dtype], rows, channels, segments, groups, center, scale, activation,
        torch.get_num_threads(), eps, ptr.data_ptr(), _address(order), _address(mean_scale),
        _address(weight), _address(bias), shift.data_ptr(), rstd.data_ptr(), moment.data_ptr(),
        x.data_ptr(), x.stride(0), y.data_ptr(),
    )  # fmt: skip
    return y, shift, rstd, moment


def normalize_backward(
    grad_y: Tensor,
    x: Tensor,
    ptr: Tensor,
    order: Tensor | None,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    shift: Tensor,
    rstd: Tensor,
    center: int,
    scale: int,
    groups: int,
    eps: float,
    activation: int,
    needs: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the backward kernel.

    Args:
        needs: Which of the gradients of x, mean_scale, weight and bias are asked for.

    Returns:
        The four gradients, those of parameters in the accumulation dtype; an empty tensor for
        each that was not asked for.
    """
    x, grad_y = _rows_contiguous(x), _rows_contiguous(grad_y)
    dtype = accumulation_dtype(x.dtype)
    rows, channels, segments = _check(x, ptr, order, groups)
    if grad_y.shape != x.shape or grad_y.dtype != x.dtype or grad_y.device != x.device:
        raise ValueError(f"grad_y is {grad_y.shape} of {grad_y.dtype}, expected that of x")
    for name, statistic, over in (("shift", shift, center), ("rstd", rstd, scale)):
        shape = cells(over, rows, segments, channels, groups)
        if statistic.shape != shape or statistic.dtype != dtype or not statistic.is_contiguous():
            raise ValueError(f"{name} is {tuple(statistic.shape)}, expected {shape} of {dtype}")
    mean_scale = _parameter("mean_scale", mean_scale, channels, dtype)
    weight = _parameter("weight", weight, channels, dtype)
    bias = _parameter("bias", bias, channels, dtype)
    grad_x = x.new_empty((rows, channels) if needs[0] else (0,))
    grads = [x.new_empty((channels,) if needed else (0,), dtype=dtype) for needed in needs[1:]]
    _kernels().normalize_backward(
        _DTYPES[x.dtype], rows, channels, segments, groups, center, scale, activation,
        torch.get_num_threads(), eps, ptr.data_ptr(), _address(order), _address(mean_scale),
        _address(weight), _address(bias), shift.data_ptr(), rstd.data_ptr(), x.data_ptr(),
        x.stride(0), grad_y.data_ptr(), grad_y.stride(0), grad_x.data_ptr(),
        grads[0].data_ptr(), grads[1].data_ptr(), grads[2].data_ptr(),
    )  # fmt: skip
    return grad_x, grads[0], grads[1], grads[2]


def _check(x: Tensor, ptr: Tensor, order: Tensor | None, groups: int) -> tuple[int, int, int]:
    rows, channels = x.shape
    if not x.is_cpu or x.dtype not in _DTYPES:
        raise ValueError(f"x is {x.dtype} on {x.device}, expected a kernel's dtype on the cpu")
    if groups < 1 or channels < 1 or channels % groups:
        raise ValueError(f"groups is {groups}, which does not divide the {channels} channels")
    _check_index("ptr", ptr, None)
    if order is not None:
        _check_index("order", order, rows)
    return rows, channels, ptr.shape[0] - 1
