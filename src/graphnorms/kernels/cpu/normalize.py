"""The C++ kernels of the normalization as functions of tensors that need not fit.

The extension takes tensors, checks every size, stride, dtype and device, and answers a call that
does not fit with false. Only then is it asked here what does not: strides and dtypes that the
kernels do not have are copied, and for what cannot be made to fit the error is worded. Where
deviations are so large that their squares leave the accumulation dtype (from 1e19 on in float32)
the answer is `None`, and the reference runs: it changes the unit for such cells. Infinite features
are what they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphnorms.kernels import reference
from graphnorms.kernels.calls import check_memory
from graphnorms.kernels.cpu.extension import (
    check_index,
    features,
    kernels,
    parameter,
    resolved,
    rows_like,
    unreadable,
)
from graphnorms.kernels.derivatives import backward
from graphnorms.kernels.point import Operands, Parameters, accumulation_dtype


def normalize_forward(
    x: Tensor, residual: Tensor | None, parameters: Parameters, operands: Operands, moment: bool
) -> tuple[Tensor, Tensor]:
    """Run the forward kernel.

    Returns:
        y, and the statistics in one vector: the shift (the centre's mean relative to the cell's
        first entry), 1/sqrt(s² + eps), and s² if `moment`.
    """
    centers, scales = operands.cells(*x.shape)
    size = centers + scales * (2 if moment else 1)
    y = torch.empty_like(x)
    dtype = accumulation_dtype(x.dtype)
    statistics = x.new_empty(size) if dtype == x.dtype else x.new_empty(size, dtype=dtype)
    run = kernels().normalize_forward
    numbers = (*operands[3:9], moment, torch.get_num_threads())
    if not run(x, residual, *operands[:3], *parameters, *numbers, y, statistics):
        x = features(x)
        if residual is not None:
            residual = rows_like("residual", residual, x)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        done = run(x, residual, *_fitting(x, parameters, operands), *numbers, y, statistics)
        if done is None and bool(x.isfinite().all()):
            call = operands.call(x, parameters, residual)
            y, _, _ = reference.segment_normalize(x, call)
        elif done is False:
            raise unreadable()
    return y, statistics


def normalize_backward(
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    statistics: Tensor,
    operands: Operands,
    needs: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Run the backward kernel. The gradient of a residual is grad_y, and not made here.

    Args:
        needs: Which of the gradients of x, mean_scale, weight and bias are asked for.

    Returns:
        The four gradients, those of parameters in the accumulation dtype; `None` for each that
        was not asked for.
    """
    dtype = accumulation_dtype(x.dtype)
    grad_x = torch.empty_like(x) if needs[0] else None
    grads: Parameters = (
        _room(parameters[0], dtype) if needs[1] else None,
        _room(parameters[1], dtype) if needs[2] else None,
        _room(parameters[2], dtype) if needs[3] else None,
    )
    run = kernels().normalize_backward
    numbers = (*operands[3:9], torch.get_num_threads())
    if not run(grad_y, x, *operands[:3], *parameters, statistics, *numbers, grad_x, *grads):
        x = features(x)
        fitting = _fitting(x, parameters, operands)
        grad_y = rows_like("grad_y", grad_y, x)
        _check_statistics(statistics, x, operands)
        if grad_x is not None:
            grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        grads = (
            _room(fitting[3], dtype) if needs[1] else None,
            _room(fitting[4], dtype) if needs[2] else None,
            _room(fitting[5], dtype) if needs[3] else None,
        )
        done = run(grad_y, x, *fitting, statistics, *numbers, grad_x, *grads)
        if done is None and bool(x.isfinite().all()):
            found = backward(grad_y, x, operands.call(x, parameters))
            of_x, *others = (
                grad if needed else None for grad, needed in zip(found, needs, strict=True)
            )
            return of_x, others[0], others[1], others[2]
        if done is False:
            raise unreadable()
    return grad_x, *grads


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
    rows, channels = x.shape
    run = kernels().update_running
    if not run(x, statistics, running_mean, running_var, rows, momentum):
        if rows < 2:
            raise ValueError(f"x is {tuple(x.shape)}, expected two rows or more")
        dtype = accumulation_dtype(x.dtype)
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
            check_memory(name, vector)
        first = features(resolved("x", x)[:1])
        if not run(first, statistics, running_mean, running_var, rows, momentum):
            raise unreadable()


def _room(parameter: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Room for the gradient of a parameter."""
    if parameter is None:
        return None
    # Naming a dtype costs a fifth of the call.
    return torch.empty_like(parameter, dtype=None if parameter.dtype == dtype else dtype)


def _fitting(x: Tensor, parameters: Parameters, operands: Operands) -> tuple[Any, ...]:
    """ptr, order, seed and the parameters, copied where strides or dtypes are others.

    Raises:
        ValueError: Something cannot be made to fit.
    """
    ptr, order, seed = operands[:3]
    mean_scale, weight, bias = parameters
    groups, channels = operands.groups, x.shape[1]
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
    return (
        ptr,
        order,
        seed,
        parameter("mean_scale", mean_scale, (channels,), dtype),
        parameter("weight", weight, affine, dtype),
        parameter("bias", bias, affine, dtype),
    )


def _check_statistics(statistics: Tensor, x: Tensor, operands: Operands) -> None:
    dtype = accumulation_dtype(x.dtype)
    size = sum(operands.cells(*x.shape))
    if (
        statistics.dim() != 1 or statistics.shape[0] < size or statistics.dtype != dtype
        or not statistics.is_cpu or not statistics.is_contiguous()
    ):  # fmt: skip
        raise ValueError(
            f"statistics is {tuple(statistics.shape)} of {statistics.dtype}, expected at least "
            f"{size} of {dtype}"
        )
    check_memory("statistics", statistics)
