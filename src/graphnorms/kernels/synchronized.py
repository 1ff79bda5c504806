"""The one equation with segments that are spread over several ranks.

Every rank measures its own rows (count, a pivot p, the mean relative to p, the variance). One
gather sends the measurements to all ranks, which merge them: see `rank_statistics`. The backward
sums g and g z over the rows and, in one exchange, over the ranks, where g is the gradient of the
standardized z. All ranks get the same bits.

On the CPU a rank measures by a kernel if available; the rest is plain torch, on any device. The
backward saves nothing of the size of x but x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphnorms.kernels import reference
from graphnorms.kernels.derivatives import ACTIVATION_DERIVATIVES
from graphnorms.kernels.domain_cells import (
    cells_of_center,
    cells_of_scale,
    of_rows,
    sum_of_segments,
    weights_of,
)
from graphnorms.kernels.dropout import drop
from graphnorms.kernels.point import Call, Over, Parameters, Point, accumulation_dtype
from graphnorms.kernels.rank_statistics import (
    Merged,
    measure,
    merge,
    refuse,
    refuse_second_derivative,
)
from graphnorms.kernels.ranks import Ranks
from graphnorms.kernels.tensor_checks import check_memory
from graphnorms.tracing import outside_graphs


@dataclass(frozen=True, slots=True)
class Shared:
    """The statistics of all ranks, equal on each, without a gradient.

    Args:
        mean: Per cell of the centre domain, in the accumulation dtype.
        moment: Per cell of the scale domain.
        counts: Rows of every segment, `(segments,)`.
    """

    mean: Tensor
    moment: Tensor
    counts: Tensor


class _Cells(NamedTuple):
    """The statistics that centre and scale the rows; empty tensors for missing ones."""

    pivot: Tensor
    """Per cell of the centre domain."""
    relative: Tensor
    """The mean relative to it."""
    mean: Tensor
    """The mean of o over the rows, `(segments, channels)`."""
    moment: Tensor
    """Per cell of the scale domain."""
    factor: Tensor
    """1/sqrt(moment + eps)."""


class _Exchange(NamedTuple):
    """A call and the statistics of all ranks for it."""

    call: Call
    ranks: Ranks
    rows: Tensor
    cells: _Cells


@outside_graphs
def normalize(
    x: Tensor,
    call: Call,
    parameters: Parameters,
    residual: Tensor | None,
    ranks: Ranks,
    backend: str,
) -> tuple[Tensor, Shared]:
    """Run `segment_normalize` on segments that are spread over ranks.

    Segment s is the same on every rank. Gradients of parameters are sums over the rows of this
    rank, as `DistributedDataParallel` expects; gradients of x are those of the sum of the losses of
    all ranks.

    Raises:
        BackendRefusedError: A kernel is requested by name, or a transform is active.
    """
    refuse(backend)
    center, scale, segment, groups, _ = call.point
    if Over.CHANNELS not in (center, scale):
        return _over_ranks(x, call, parameters, residual, ranks, backend)
    # A statistic within rows does not involve other ranks: use one call per statistic.
    wide = x.to(accumulation_dtype(x.dtype))
    residual = None if residual is None else residual.to(wide.dtype)
    mean_scale, weight, bias = parameters
    first = Call(call.segments, Point(center, None, segment, groups), call.eps, layout=call.layout)
    then = call._replace(point=Point(None, scale, segment, groups))
    of_first, of_then = (mean_scale, None, None), (None, weight, bias)
    if center is Over.CHANNELS:
        wide, _, _ = reference.segment_normalize(wide, first, of_first)
        y, shared = _over_ranks(wide, then, of_then, residual, ranks, backend)
    else:
        wide, shared = _over_ranks(wide, first, of_first, None, ranks, backend)
        y, _, _ = reference.segment_normalize(wide, then, of_then, residual)
    return y.to(x.dtype), shared


def _over_ranks(
    x: Tensor,
    call: Call,
    parameters: Parameters,
    residual: Tensor | None,
    ranks: Ranks,
    backend: str,
) -> tuple[Tensor, Shared]:
    given = (x, residual, *parameters)
    _check_memory(*given)
    with torch.no_grad():
        own = measure(x, call.segments, spread=call.point.scale is not None, backend=backend)
        merged = merge(ranks.gather(own), x.shape[1])
        cells = _cells_of(merged, call, parameters[0])
    y: Tensor = _Normalize.apply(  # type: ignore[no-untyped-call]
        *given, _Exchange(call, ranks, merged.rows, cells)
    )
    return y, Shared(
        cells.pivot + cells.relative, cells.moment, merged.rows.squeeze(1).to(torch.int64)
    )


def _check_memory(*tensors: Tensor | None) -> None:
    """Refuse freed tensors, which plain torch would read."""
    names = ("x", "residual", "mean_scale", "weight", "bias")
    for name, tensor in zip(names, tensors, strict=True):
        if tensor is not None:
            check_memory(name, tensor)


def _cells_of(merged: Merged, call: Call, mean_scale: Tensor | None) -> _Cells:
    center, scale = cells_of_center(call), cells_of_scale(call)
    channels = merged.pivot.shape[1]
    none = merged.pivot.new_zeros((0, 0))
    pivot = relative = moment = factor = none
    if center is None:
        mean = merged.pivot + merged.relative
    else:
        pivot = center.first_columns(merged.pivot)
        apart = (merged.pivot - center.widen(pivot, channels)) + merged.relative
        over_nodes = center.over is Over.NODES
        relative = merged.relative if over_nodes else center.over_columns(apart)
        mean = apart - center.widen(relative, channels)
    if center is not None and mean_scale is not None:
        share = mean_scale.to(mean.dtype)
        mean = mean + (1 - share) * center.widen(pivot + relative, channels)
    if scale is not None:
        moment = scale.over_columns(merged.var + mean.square())
        factor = torch.rsqrt(moment + call.eps)
    return _Cells(pivot, relative, mean, moment, factor)


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        mean_scale: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        exchange: _Exchange,
    ) -> Tensor:
        call = exchange.call
        segments = call.segments
        z, _ = _standardize(reference.counted(x, segments), exchange, mean_scale)
        y = reference.transform(z, segments, weight, bias)
        y = reference.finish(y, call.activation, call.dropout, call.seed)
        if segments.masked:
            y = torch.where(reference.rows_that_count(segments), y, x.to(y.dtype))
        if residual is not None:
            y = y + residual.to(y.dtype)
        ctx.save_for_backward(x, mean_scale, weight, bias)
        ctx.exchange = exchange
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        (grad_y,) = grads
        x, mean_scale, weight, bias = ctx.saved_tensors
        _check_memory(x, None, mean_scale, weight, bias)
        exchange: _Exchange = ctx.exchange
        call = exchange.call
        segments, channels = call.segments, x.shape[1]
        z, factor = _standardize(reference.counted(x, segments), exchange, mean_scale)
        grad = reference.counted(grad_y, segments)
        if call.activation is not None or call.seed is not None:
            if call.seed is not None:
                grad = drop(grad, call.dropout, call.seed)
            slope, _ = ACTIVATION_DERIVATIVES[call.activation]
            grad = slope(reference.transform(z, segments, weight, bias)) * grad
        sums = sum_of_segments(torch.cat((grad, grad * z), 1), segments)
        grad_bias, grad_weight = sums.split(channels, 1)  # over the rows of this rank
        grad_x, grad_mean_scale = None, None
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[2]:
            if weight is not None:
                grad = grad * of_rows(weight.to(grad.dtype), segments)
                sums = sums * torch.cat((weight, weight), -1).to(sums.dtype)
            # The only exchange; without a scale, half of it is enough.
            sums = exchange.ranks.total(sums if call.point.scale else sums[:, :channels])
            grad, mean = _through_statistics(grad, z, factor, sums, exchange, mean_scale)
            center = cells_of_center(call)
            if center is not None and ctx.needs_input_grad[2]:
                own = sum_of_segments(grad, segments)
                of_all = exchange.cells.pivot + exchange.cells.relative
                grad_mean_scale = -(own * center.widen(of_all, channels)).sum(0)
            if center is not None:
                grad = grad - center.spread(mean, channels)
            if segments.masked:
                grad = torch.where(reference.rows_that_count(segments), grad, grad_y.to(grad.dtype))
            grad_x = grad.to(x.dtype)
        return (
            grad_x,
            grad_y if ctx.needs_input_grad[1] else None,
            _like(grad_mean_scale, mean_scale),
            _like(grad_weight, weight),
            _like(grad_bias, bias),
            None,
        )


def _standardize(
    x: Tensor, exchange: _Exchange, mean_scale: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Centre and scale the rows; also return the factor."""
    call, cells, channels = exchange.call, exchange.cells, x.shape[1]
    center, scale = cells_of_center(call), cells_of_scale(call)
    if center is not None:
        shifted = x - center.spread(cells.pivot, channels)
        x = reference.subtract_mean(shifted, cells.pivot, cells.relative, center, mean_scale)
    if scale is None:
        return x, None
    factor = scale.spread(cells.factor, channels)
    return x * factor, factor


def _through_statistics(
    grad: Tensor,
    z: Tensor,
    factor: Tensor | None,
    sums: Tensor,
    exchange: _Exchange,
    mean_scale: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the gradient of o, the centred rows, and its scaled mean over the centre's cells.

    Args:
        grad, z: The gradient of the standardized rows, and these rows.
        factor: z / o; `None` without a scale.
        sums: Sums of grad and grad z over the rows of all ranks, `(segments, channels)` each.
        exchange: The call, and the statistics of the ranks.
        mean_scale: The share of the mean that was removed.
    """
    center, scale = cells_of_center(exchange.call), cells_of_scale(exchange.call)
    channels, count = z.shape[1], exchange.rows.clamp(min=1)
    total = sums[:, :channels]
    if scale is not None and factor is not None:
        summed, weighed = (weights := weights_of(scale)).summed, weights.weighed
        share = summed.over_columns(sums[:, channels:] / count)
        grad = factor * (grad - weighed(z) * summed.spread(share, channels))
        each = scale.widen(exchange.cells.factor, channels)
        z_sum = each * count * exchange.cells.mean
        total = each * (total - summed.widen(share, channels) * weighed(z_sum))
    mean = total / count
    if mean_scale is not None:
        mean = mean * mean_scale.to(mean.dtype)
    return grad, mean if center is None else center.over_columns(mean)


def _like(grad: Tensor | None, parameter: Tensor | None) -> Tensor | None:
    """Sum a gradient over the segments unless the parameter is per segment."""
    if grad is None or parameter is None:
        return None
    if grad.dim() > parameter.dim():
        grad = grad.sum(0)
    return grad.to(parameter.dtype)
