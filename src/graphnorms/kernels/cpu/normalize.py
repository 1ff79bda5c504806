"""The C++ kernels of the normalization as functions of tensors that need not fit.

The extension takes tensors, checks every size, stride, dtype and device, and answers a call that
does not fit with false. Only then is it asked here what does not: strides and dtypes that the
kernels do not have are copied, and for what cannot be made to fit the error is worded. Where
deviations are so large that their squares leave the accumulation dtype (from 1e19 on in float32)
the answer is `None`, and the reference runs: it changes the unit for such cells. Infinite features
are what they are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphnorms.kernels import reference
from graphnorms.kernels.calls import check_memory
from graphnorms.kernels.cpu.extension import (
    check_index,
    common_refusals,
    features,
    kernels,
    parameter,
    resolved,
    rows_like,
    unreadable,
)
from graphnorms.kernels.derivatives import Equation, backward
from graphnorms.kernels.problem import (
    NormalizeProblem,
    accumulation_dtype,
    domain_refusals,
    statistics_sizes,
)


def normalize_refusals(problem: NormalizeProblem) -> list[str]:
    """Why the backend cannot run a `segment_normalize`; empty if it can."""
    return common_refusals(problem.device, problem.dtype) + domain_refusals(problem)


class _Inputs(NamedTuple):
    """The tensors that forward and backward have in common, in the order of the extension."""

    ptr: Tensor
    order: Tensor | None
    seed: Tensor | None
    mean_scale: Tensor | None
    weight: Tensor | None
    bias: Tensor | None


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
    longest: int,
    masked: bool,
    moment: bool,
) -> tuple[Tensor, Tensor]:
    """Run the forward kernel; it needs neither `longest` nor `masked`.

    Returns:
        y, and the statistics in one vector: the shift (the centre's mean relative to the cell's
        first entry), 1/sqrt(s² + eps), and s² if `moment`.
    """
    rows, channels = x.shape
    segments = max(ptr.shape[0] - 1, 0)
    centers, scales = statistics_sizes(center, scale, rows, segments, channels, groups)
    size = centers + scales * (2 if moment else 1)
    y = torch.empty_like(x)
    dtype = accumulation_dtype(x.dtype)
    statistics = x.new_empty(size) if dtype == x.dtype else x.new_empty(size, dtype=dtype)
    run = kernels().normalize_forward
    choices = (center, scale, groups, eps, activation, dropout, moment, torch.get_num_threads())
    if not run(
        x, residual, ptr, order, seed, mean_scale, weight, bias, *choices, y, statistics
    ):  # fmt: skip
        x = features(x)
        inputs = _fitting(x, groups, _Inputs(ptr, order, seed, mean_scale, weight, bias))
        if residual is not None:
            residual = rows_like("residual", residual, x)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        done = run(x, residual, *inputs, *choices, y, statistics)
        if done is None and bool(x.isfinite().all()):
            equation = Equation.of_call(
                x, (mean_scale, weight, bias), ptr, order, seed,
                (center, scale, groups, eps, activation, dropout, longest, masked),
            )  # fmt: skip
            y, _, _ = reference.segment_normalize(x, residual=residual, **equation._asdict())
        elif done is False:
            raise unreadable()
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
    longest: int,
    masked: bool,
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
    needs_x, needs_scale, needs_weight, needs_bias = needs
    grad_x = torch.empty_like(x) if needs_x else None
    grads = (
        _room_for(mean_scale, dtype) if needs_scale else None,
        _room_for(weight, dtype) if needs_weight else None,
        _room_for(bias, dtype) if needs_bias else None,
    )
    run = kernels().normalize_backward
    choices = (center, scale, groups, eps, activation, dropout, torch.get_num_threads())
    if not run(
        grad_y, x, ptr, order, seed, mean_scale, weight, bias, statistics, *choices, grad_x, *grads
    ):
        x = features(x)
        inputs = _fitting(x, groups, _Inputs(ptr, order, seed, mean_scale, weight, bias))
        grad_y = rows_like("grad_y", grad_y, x)
        _check_statistics(statistics, x, ptr.shape[0] - 1, center, scale, groups)
        if grad_x is not None:
            grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        grads = (
            None if grads[0] is None else _room_for(inputs.mean_scale, dtype),
            None if grads[1] is None else _room_for(inputs.weight, dtype),
            None if grads[2] is None else _room_for(inputs.bias, dtype),
        )
        done = run(grad_y, x, *inputs, statistics, *choices, grad_x, *grads)
        if done is None and bool(x.isfinite().all()):
            equation = Equation.of_call(
                x, (mean_scale, weight, bias), ptr, order, seed,
                (center, scale, groups, eps, activation, dropout, longest, masked),
            )  # fmt: skip
            of_x, of_scale, of_weight, of_bias = backward(grad_y, x, equation)
            return (
                of_x if needs_x else None,
                of_scale if needs_scale else None,
                of_weight if needs_weight else None,
                of_bias if needs_bias else None,
            )
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


def _room_for(parameter: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Room for the gradient of a parameter."""
    if parameter is None:
        return None
    # Naming a dtype costs a fifth of the call.
    return torch.empty_like(parameter, dtype=None if parameter.dtype == dtype else dtype)


def _fitting(x: Tensor, groups: int, inputs: _Inputs) -> _Inputs:
    """What the kernels take, copied where strides or dtypes are others.

    Raises:
        ValueError: Something cannot be made to fit.
    """
    ptr, order, seed, mean_scale, weight, bias = inputs
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
    if seed is not None:
        check_memory("seed", seed)
    dtype = accumulation_dtype(x.dtype)
    own = any(p is not None and p.dim() == 2 for p in (weight, bias))
    affine = (ptr.shape[0] - 1, channels) if own else (channels,)
    return _Inputs(
        ptr, order, None if seed is None else seed.reshape(()),
        parameter("mean_scale", mean_scale, (channels,), dtype),
        parameter("weight", weight, affine, dtype),
        parameter("bias", bias, affine, dtype),
    )  # fmt: skip


def _check_statistics(
    statistics: Tensor, x: Tensor, segments: int, center: int, scale: int, groups: int
) -> None:
    dtype = accumulation_dtype(x.dtype)
    size = sum(statistics_sizes(center, scale, x.shape[0], segments, x.shape[1], groups))
    if (
        statistics.dim() != 1 or statistics.shape[0] < size or statistics.dtype != dtype
        or not statistics.is_cpu or not statistics.is_contiguous()
    ):  # fmt: skip
        raise ValueError(
            f"statistics is {tuple(statistics.shape)} of {statistics.dtype}, expected at least "
            f"{size} of {dtype}"
        )
    check_memory("statistics", statistics)
