"""The C++ kernels of the normalization, called with any tensors.

The extension checks every size, stride, dtype and device, and returns false for a call that does
not fit. Only then does this module look for the cause: it copies tensors with other strides or
dtypes, and raises the error for tensors that cannot be converted. If squared deviations overflow
the accumulation dtype (from 1e19 on in float32), the extension returns `None`, and the reference
runs, which rescales such cells. Infinite features are not rescaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from graphnorms.kernels import derivatives, reference
from graphnorms.kernels.cpu.extension import (
    check_index,
    features,
    kernels,
    parameter,
    resolved,
    rows_like,
    unreadable,
)
from graphnorms.kernels.layout import Layout
from graphnorms.kernels.point import Averages, Call, Parameters, accumulation_dtype
from graphnorms.kernels.tensor_checks import check_memory


def normalize_forward(
    x: Tensor, residual: Tensor | None, parameters: Parameters, call: Call, moment: bool
) -> tuple[Tensor, Tensor]:
    """Run the forward kernel.

    Returns:
        y, and the statistics in one vector: the shift (the centre's mean relative to the cell's
        first entry), 1/sqrt(s² + eps), and s² if `moment`.
    """
    centers, scales = call.cells(x)
    size = centers + scales * (2 if moment else 1)
    y = torch.empty_like(x)
    # Passing a dtype costs a fifth of the call.
    wide = x.dtype in _WIDE
    statistics = x.new_empty(size) if wide else x.new_empty(size, dtype=torch.float32)
    run = kernels().normalize_forward
    how = (moment, torch.get_num_threads())
    if not run(x, residual, parameters, call, *how, y, statistics):
        x = features(x)
        if residual is not None:
            residual = rows_like("residual", residual, x)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        done = run(x, residual, *_fitting(x, parameters, call), *how, y, statistics)
        if done is None and bool(x.isfinite().all()):
            y, _, _ = reference.segment_normalize(x, call, parameters, residual)
        elif done is False:
            raise unreadable()
    return y, statistics


def normalize_by_averages(
    x: Tensor, residual: Tensor | None, parameters: Parameters, call: Call, averages: Averages
) -> Tensor:
    """Normalize by averages, without a gradient.

    Args:
        call: Of one segment of all rows, without statistics.
        averages: In the accumulation dtype.
    """
    y = torch.empty_like(x)
    run = kernels().normalize_by_averages
    how = (*averages, torch.get_num_threads())
    if not run(x, residual, parameters, call, *how, y):
        x = features(x)
        if residual is not None:
            residual = rows_like("residual", residual, x)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        for name, average in averages._asdict().items():
            _check_vector(name, average, (x.shape[1],), accumulation_dtype(x.dtype))
        if not run(x, residual, *_fitting(x, parameters, call), *how, y):
            raise unreadable()
    return y


def normalize_backward(
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    statistics: Tensor,
    call: Call,
    needs: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Run the backward kernel; the gradient of a residual is grad_y itself.

    Args:
        needs: Which of the gradients of x, mean_scale, weight and bias are needed.

    Returns:
        The four gradients, those of parameters in the accumulation dtype; `None` if not needed.
    """
    dtype = accumulation_dtype(x.dtype)
    grad_x = torch.empty_like(x) if needs[0] else None
    grads = _rooms(parameters, needs, dtype)
    run = kernels().normalize_backward
    threads = torch.get_num_threads()
    if not run(grad_y, x, parameters, statistics, call, threads, grad_x, grads):
        x = features(x)
        fitting, call = _fitting(x, parameters, call)
        grad_y = rows_like("grad_y", grad_y, x)
        _check_statistics(statistics, x, call)
        if grad_x is not None:
            grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        grads = _rooms(fitting, needs, dtype)
        done = run(grad_y, x, fitting, statistics, call, threads, grad_x, grads)
        if done is None and bool(x.isfinite().all()):
            found = derivatives.backward(grad_y, x, parameters, call)
            of_x, *others = (
                grad if needed else None for grad, needed in zip(found, needs, strict=True)
            )
            return of_x, others[0], others[1], others[2]
        if done is False:
            raise unreadable()
    return grad_x, *grads


def normalize_double_backward(
    cotangents: Sequence[Tensor | None],
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    statistics: Tensor,
    call: Call,
    needs: list[bool],
) -> tuple[Tensor | None, ...]:
    """Run the kernel of the backward's backward, equations (13) to (16) and (19), (20).

    Args:
        cotangents: Of the gradients of x, mean_scale, weight and bias; `None` for 0.
        needs: Which of the gradients of grad_y, x, mean_scale, weight and bias are needed.

    Returns:
        The five gradients, those of parameters in the accumulation dtype; `None` if not needed.
    """
    dtype = accumulation_dtype(x.dtype)
    of_grad_x, others = cotangents[0], tuple(cotangents[1:])
    if of_grad_x is None:
        of_grad_x = torch.zeros_like(x)
    grad_grad_y, grad_x = torch.empty_like(x), torch.empty_like(x)
    grads = _rooms(parameters, needs[1:], dtype)
    run = kernels().normalize_double_backward
    threads = torch.get_num_threads()
    given, rooms = (parameters, statistics, call, threads), (grad_grad_y, grad_x, grads)
    if not run(of_grad_x, others, grad_y, x, *given, *rooms):
        x = features(x)
        fitting, call = _fitting(x, parameters, call)
        grad_y, of_grad_x = rows_like("grad_y", grad_y, x), rows_like("of_grad_x", of_grad_x, x)
        others = tuple(
            parameter(f"of_grad_{name}", of_grad, () if of is None else tuple(of.shape), dtype)
            for name, of_grad, of in zip(
                ("mean_scale", "weight", "bias"), others, fitting, strict=True
            )
        )
        _check_statistics(statistics, x, call)
        grad_grad_y, grad_x = (
            torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(2)
        )
        grads = _rooms(fitting, needs[1:], dtype)
        given, rooms = (fitting, statistics, call, threads), (grad_grad_y, grad_x, grads)
        done = run(of_grad_x, others, grad_y, x, *given, *rooms)
        if done is None and bool(x.isfinite().all()):
            found = derivatives.double_backward(cotangents, grad_y, x, parameters, call)
            return tuple(
                grad if needed else None for grad, needed in zip(found, needs, strict=True)
            )
        if done is False:
            raise unreadable()
    return grad_grad_y if needs[0] else None, grad_x if needs[1] else None, *grads


def update_running(
    x: Tensor,
    statistics: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    momentum: float,
) -> None:
    """Update running averages by the mean and the unbiased variance of all rows of x.

    Args:
        x: The features, at least two rows; the statistics are relative to the first one.
        statistics: Those of `normalize_forward` over nodes with `moment`, for one segment.
        running_mean, running_var: The averages, in the accumulation dtype; changed in place.
        num_batches_tracked: Their counter, one int64; increased by one.
        momentum: Weight of x in them.
    """
    rows, channels = x.shape
    run = kernels().update_running
    averages = (running_mean, running_var, num_batches_tracked)
    if not run(x, statistics, *averages, rows, momentum):
        if rows < 2:
            raise ValueError(f"x is {tuple(x.shape)}, expected two rows or more")
        dtype = accumulation_dtype(x.dtype)
        for name, tensor, shape, wanted in (
            ("statistics", statistics, (3 * channels,), dtype),
            ("running_mean", running_mean, (channels,), dtype),
            ("running_var", running_var, (channels,), dtype),
            ("num_batches_tracked", num_batches_tracked, (), torch.int64),
        ):
            _check_vector(name, tensor, shape, wanted)
        first = features(resolved("x", x)[:1])
        if not run(first, statistics, *averages, rows, momentum):
            raise unreadable()


def _check_vector(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Refuse what a kernel cannot read, or would write to a copy of."""
    if (
        tensor.shape != shape
        or tensor.dtype != dtype
        or not tensor.is_cpu
        or not tensor.is_contiguous()
    ):
        raise ValueError(
            f"{name} is {tuple(tensor.shape)} of {tensor.dtype}, expected {shape} of {dtype}"
        )
    check_memory(name, tensor)


_WIDE: Final = (torch.float32, torch.float64)
"""The dtypes that statistics share with the features."""


def _rooms(parameters: Parameters, needs: list[bool], dtype: torch.dtype) -> Parameters:
    """Allocate the needed gradients of parameters."""
    mean_scale, weight, bias = parameters
    return (
        _room(mean_scale, dtype) if needs[1] else None,
        _room(weight, dtype) if needs[2] else None,
        _room(bias, dtype) if needs[3] else None,
    )


def _room(parameter: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if parameter is None:
        return None
    if parameter.dtype == dtype:  # passing a dtype costs a fifth of the call
        return torch.empty_like(parameter)
    return torch.empty_like(parameter, dtype=dtype)


def _fitting(x: Tensor, parameters: Parameters, call: Call) -> tuple[Parameters, Call]:
    """Convert the parameters and the tensors of a call for the kernels, copying where needed.

    Raises:
        ValueError: A tensor cannot be converted.
    """
    ptr, order, seed = call.segments.ptr, call.segments.order, call.seed
    mean_scale, weight, bias = parameters
    groups, channels = call.point.groups, x.shape[1]
    if groups < 1 or channels < 1 or channels % groups:
        raise ValueError(f"groups is {groups}, which does not divide the {channels} channels")
    check_index("ptr", ptr, None)
    if not ptr.shape[0]:
        raise ValueError("ptr is empty, expected segments + 1 offsets")
    if order is not None:
        check_index("order", order, x.shape[0])
    if seed is not None:
        if seed.dtype != torch.int64 or seed.numel() != 1 or not seed.is_cpu:
            raise ValueError(
                f"seed is {tuple(seed.shape)} of {seed.dtype} on {seed.device}, expected one "
                "int64 on the cpu"
            )
        check_memory("seed", seed)
        seed = seed.reshape(())
    dtype = accumulation_dtype(x.dtype)
    own = any(p is not None and p.dim() == 2 for p in (weight, bias))
    affine = (ptr.shape[0] - 1, channels) if own else (channels,)
    fitting = (
        parameter("mean_scale", mean_scale, call.mean_scale_shape(x, mean_scale), dtype),
        parameter("weight", weight, affine, dtype),
        parameter("bias", bias, affine, dtype),
    )
    layout = None if call.layout is None else _contiguous(x, call.layout)
    return fitting, call._replace(seed=seed, layout=layout)


def _contiguous(x: Tensor, layout: Layout) -> Layout:
    """Return a layout whose table has no gaps.

    Raises:
        ValueError: It has another shape or dtype, is not on the cpu, or has no memory.
    """
    expected = (3, x.shape[1])
    if layout.table.shape != expected or layout.table.dtype != torch.int64 or not x.is_cpu:
        raise ValueError(
            f"the table of layout is {tuple(layout.table.shape)} of {layout.table.dtype}, expected "
            f"{expected} of int64 on the cpu"
        )
    return layout._replace(table=resolved("layout", layout.table).contiguous())


def _check_statistics(statistics: Tensor, x: Tensor, call: Call) -> None:
    dtype = accumulation_dtype(x.dtype)
    size = sum(call.cells(x))
    if (
        statistics.dim() != 1
        or statistics.shape[0] < size
        or statistics.dtype != dtype
        or not statistics.is_cpu
        or not statistics.is_contiguous()
    ):
        raise ValueError(
            f"statistics is {tuple(statistics.shape)} of {statistics.dtype}, expected at least "
            f"{size} of {dtype}"
        )
    check_memory("statistics", statistics)
