"""The Triton kernels of the normalization, called like those of the CPU.

One launch processes the segments that fit one program; three more process longer ones, if the sizes
allow any. Only the device knows which segments are longer, so all four are launched then, and
programs without work exit at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.kernels.cpu.extension import rows_contiguous
from graphnorms.kernels.point import Call, Parameters
from graphnorms.kernels.tensor_checks import check_memory
from graphnorms.kernels.triton import tiles
from graphnorms.kernels.triton.call import Launch, check_like
from graphnorms.kernels.triton.loading import device_code, launch


def normalize_forward(
    x: Tensor, residual: Tensor | None, parameters: Parameters, call: Call, moment: bool
) -> tuple[Tensor, Tensor]:
    """Run the forward kernels.

    Returns:
        y, and the statistics, laid out as `graphnorms.kernels.cpu.normalize` does.
    """
    launched = Launch.of(x, parameters, call)
    if residual is not None:
        check_like("residual", residual, x.shape, x.dtype, x)
        residual = rows_contiguous(residual)
    centers, scales = launched.sizes
    statistics = x.new_empty(centers + scales * (2 if moment else 1), dtype=launched.accumulation)
    shift, rstd = launched.parts(statistics)
    squares = statistics[centers + scales :] if moment and launched.scale else None
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not launched.of_each_row:
        _segment_forward(launched, residual, y, shift, rstd, squares)
    elif not launched.own:
        _row_forward(launched, residual, y, shift, rstd, squares)
    else:
        # Everything per row, then parameters per segment: two steps, with float32 in between.
        plain, then = launched.split()
        between = torch.empty_like(plain.x)
        _row_forward(plain, None, between, shift, rstd, squares)
        _segment_forward(then.on(between), residual, y, None, None, None)
    return y, statistics


def normalize_backward(
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    statistics: Tensor,
    call: Call,
    needs: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Run the backward kernels; the gradient of a residual is grad_y itself.

    Args:
        needs: Which of the gradients of x, mean_scale, weight and bias are needed.

    Returns:
        The four gradients, those of parameters in the accumulation dtype; `None` if not needed.
    """
    launched = Launch.of(x, parameters, call)
    check_like("grad_y", grad_y, x.shape, x.dtype, x)
    grad_y = rows_contiguous(grad_y)
    _check_statistics(launched, statistics)
    shift, rstd = launched.parts(statistics)
    grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device) if needs[0] else None
    grads = [
        torch.empty_like(parameter) if needed and parameter is not None else None
        for parameter, needed in zip(
            (launched.mean_scale, launched.weight, launched.bias), needs[1:], strict=True
        )
    ]
    if not launched.of_each_row:
        _segment_backward(launched, grad_y, grad_x, shift, rstd, grads)
    elif not launched.own:
        _row_backward(launched, grad_y, grad_x, shift, rstd, grads)
    else:
        plain, then = launched.split()
        between = torch.empty_like(plain.x)
        again = launched.parts(torch.empty_like(statistics))
        _row_forward(plain, None, between, *again, None)
        of_plain = [grads[0], None, None]
        asked = grad_x is not None or grads[0] is not None
        grad_between = torch.empty_like(between) if asked else None
        _segment_backward(then.on(between), grad_y, grad_between, None, None, [None, *grads[1:]])
        if grad_between is not None:
            _row_backward(plain, grad_between, grad_x, shift, rstd, of_plain)
    return grad_x, grads[0], grads[1], grads[2]


class _Plan:
    """The sizes of the launches for statistics over nodes."""

    def __init__(self, call: Launch) -> None:
        self.size = tiles.chunk_rows(call.rows)  # rows of a chunk
        self.tile = tiles.tile_of_segments(call.rows, call.segments, call.span)
        self.part = tiles.tile_of_rows(call.span)
        self.merge = tiles.tile_of_parts(call.span)
        self.longer = call.rows > self.size and not 0 <= call.longest <= self.size
        # Maximal rows of a segment in one program; unlimited if no segment is long.
        self.limit = self.size if self.longer else call.rows
        # A single segment without masked rows is certainly long.
        alone = call.segments == 1 and not call.masked and self.longer
        self.tiles = 0 if alone else -(-call.segments // self.tile.segments)
        # Chunks also pass masked rows through.
        self.chunks = -(-call.rows // self.size) if self.longer or call.masked else 0
        self.steps = call.segments.bit_length()
        self.tiles_per_program = max(-(-self.tiles // tiles.PROGRAMS), 1)
        self.programs = -(-self.tiles // self.tiles_per_program)


def _segment_forward(
    call: Launch,
    residual: Tensor | None,
    y: Tensor,
    shift: Tensor | None,
    rstd: Tensor | None,
    moment: Tensor | None,
) -> None:
    plan, device, code = _Plan(call), call.x.device, device_code("chunks")
    strides = (call.x.stride(0), 0 if residual is None else residual.stride(0))
    order = (call.ptr, call.order, call.seed)
    parameters = (call.mean_scale, call.weight, call.bias, shift, rstd)
    lengths = (call.segments, call.channels)
    sizes = (*lengths, call.groups, call.span)
    launch(
        device_code("segments").segment_forward,
        (plan.tiles, call.blocks),
        device,
        *(call.x, residual, y, *order, *parameters, moment),
        *(*strides, *sizes, plan.limit, call.eps, *call.numbers()),
        **plan.tile.named("R", segments="T"),
        **call.choices("CENTER", "SCALE", "ACTIVATION", "OWN"),
    )
    grid = (plan.chunks, call.blocks)
    if plan.longer and (call.center or call.scale):
        partial = y.new_empty((plan.chunks, 2, 2, call.channels), dtype=call.accumulation)
        launch(
            code.chunk_statistics,
            grid,
            device,
            *(call.x, call.ptr, call.order, partial),
            *(strides[0], *lengths, call.span, plan.size, plan.steps),
            **plan.part.named("R"),
            **call.choices("CENTER", "SCALE"),
        )
        launch(
            code.merge_statistics,
            grid,
            device,
            *(call.x, call.ptr, call.order, *parameters, moment, partial),
            *(strides[0], *sizes, plan.size, plan.steps, call.eps),
            **plan.merge.named("J"),
            **call.choices("CENTER", "SCALE", "OWN"),
        )
    launch(
        code.chunk_forward,
        grid,
        device,
        *(call.x, residual, y, *order, *parameters),
        *(*strides, call.rows, *sizes, plan.size, plan.steps, *call.numbers()),
        **plan.part.named("R"),
        **call.choices("CENTER", "SCALE", "ACTIVATION", "OWN"),
    )


def _segment_backward(
    call: Launch,
    grad_y: Tensor,
    grad_x: Tensor | None,
    shift: Tensor | None,
    rstd: Tensor | None,
    grads: list[Tensor | None],
) -> None:
    plan, device, code = _Plan(call), call.x.device, device_code("chunks")
    strides = (call.x.stride(0), grad_y.stride(0))
    order = (call.ptr, call.order, call.seed)
    parameters = (call.mean_scale, call.weight, call.bias, shift, rstd)
    of_mean_scale, of_weight, of_bias = grads
    own = (of_weight, of_bias) if call.own else (None, None)
    shared = [of_mean_scale, None, None] if call.own else grads
    chunks = plan.chunks if plan.longer else 0
    shares = _shares(call, plan.programs + chunks, shared)
    sizes = (call.segments, call.channels, call.groups, call.span)
    launch(
        device_code("segments").segment_backward,
        (plan.programs, call.blocks),
        device,
        *(call.x, grad_y, grad_x, *order, *parameters, *own, shares),
        *(*strides, *sizes, plan.limit, plan.tiles_per_program, *call.numbers()),
        **plan.tile.named("R", segments="T"),
        **call.choices("CENTER", "SCALE", "ACTIVATION", "OWN"),
    )
    grid = (plan.chunks, call.blocks)
    coefficients = grad_y.new_empty((chunks, 2, call.channels), dtype=call.accumulation)
    if plan.longer:
        partial = grad_y.new_empty((chunks, 2, 2, call.channels), dtype=call.accumulation)
        launch(
            code.chunk_gradients,
            grid,
            device,
            *(call.x, grad_y, *order, *parameters, partial),
            *(*strides, *sizes, plan.size, plan.steps, *call.numbers()),
            **plan.part.named("R"),
            **call.choices("CENTER", "SCALE", "ACTIVATION", "OWN"),
        )
        launch(
            code.merge_gradients,
            grid,
            device,
            *(call.x, call.ptr, call.order, *parameters, *own, shares, partial, coefficients),
            *(strides[0], *sizes, plan.size, plan.steps, plan.programs),
            **plan.merge.named("J"),
            **call.choices("CENTER", "SCALE", "OWN"),
        )
    if grad_x is not None:
        launch(
            code.chunk_backward,
            grid,
            device,
            *(call.x, grad_y, grad_x, *order, *parameters, coefficients),
            *(*strides, call.rows, *sizes, plan.size, plan.steps, *call.numbers()),
            **plan.part.named("R"),
            **call.choices("CENTER", "SCALE", "ACTIVATION", "OWN"),
        )
    _sum_shares(call, shares, shared)


def _row_forward(
    call: Launch,
    residual: Tensor | None,
    y: Tensor,
    shift: Tensor | None,
    rstd: Tensor | None,
    moment: Tensor | None,
) -> None:
    tile = tiles.tile_of_rows(call.span)
    strides = (call.x.stride(0), 0 if residual is None else residual.stride(0))
    if call.function:
        launch(
            device_code("bounded").bounded_forward,
            (-(-call.rows // tile.rows), call.blocks),
            call.x.device,
            *(call.x, residual, y, call.ptr, call.order, call.seed),
            *(call.mean_scale, call.weight, call.bias),
            *(*strides, call.rows, call.segments, call.channels, call.span, *call.numbers()),
            **tile.named("R"),
            **call.choices("FUNCTION", "COUNT", "ACTIVATION"),
        )
        return
    launch(
        device_code("rows").row_forward,
        (-(-call.rows // tile.rows), call.blocks),
        call.x.device,
        *(call.x, residual, y, call.ptr, call.order, call.seed),
        *(call.weight, call.bias, shift, rstd, moment),
        *(*strides, call.rows, call.segments, call.channels, call.groups, call.span),
        *(call.eps, *call.numbers()),
        **tile.named("R"),
        **call.choices("CENTER", "SCALE", "ACTIVATION"),
    )


def _row_backward(
    call: Launch,
    grad_y: Tensor,
    grad_x: Tensor | None,
    shift: Tensor | None,
    rstd: Tensor | None,
    grads: list[Tensor | None],
) -> None:
    tile = tiles.tile_of_rows(call.span)
    number = -(-call.rows // tile.rows)
    tiles_per_program = max(-(-number // tiles.PROGRAMS), 1)
    programs = -(-number // tiles_per_program)
    shares = _shares(call, programs, [None, *grads[1:]])
    strides = (call.x.stride(0), grad_y.stride(0))
    if call.function:
        size = (programs * call.blocks, 2)
        sums = None if grads[0] is None else call.x.new_empty(size, dtype=call.accumulation)
        launch(
            device_code("bounded").bounded_backward,
            (programs, call.blocks),
            call.x.device,
            *(call.x, grad_y, grad_x, call.ptr, call.order, call.seed),
            *(call.mean_scale, call.weight, call.bias, shares, sums),
            *(*strides, call.rows, call.segments, call.channels, call.span),
            *(tiles_per_program, *call.numbers()),
            **tile.named("R"),
            **call.choices("FUNCTION", "COUNT", "ACTIVATION"),
        )
        _sum_shares(call, shares, [None, *grads[1:]])
        if sums is not None and grads[0] is not None:
            grads[0].copy_(sums.sum(0, dtype=torch.float64)[: grads[0].shape[0]])
        return
    launch(
        device_code("rows").row_backward,
        (programs, call.blocks),
        call.x.device,
        *(call.x, grad_y, grad_x, call.ptr, call.order, call.seed),
        *(call.weight, call.bias, shift, rstd, shares),
        *(*strides, call.rows, call.segments, call.channels, call.groups, call.span),
        *(tiles_per_program, *call.numbers()),
        **tile.named("R"),
        **call.choices("CENTER", "SCALE", "ACTIVATION"),
    )
    _sum_shares(call, shares, grads)


def _shares(call: Launch, number: int, grads: list[Tensor | None]) -> Tensor | None:
    """Allocate the partial sums of the gradients of shared parameters, one per program."""
    if all(grad is None for grad in grads):
        return None
    return call.x.new_empty((number, 3, call.channels), dtype=call.accumulation)


def _sum_shares(call: Launch, shares: Tensor | None, grads: list[Tensor | None]) -> None:
    if shares is None:
        return
    tile = tiles.tile_of_parts(min(call.channels, tiles.SUMMED_CHANNELS))
    grid = (-(-call.channels // tile.channels), 3)
    arguments = (shares, *grads, shares.shape[0], call.channels)
    launch(device_code("shares").sum_shares, grid, call.x.device, *arguments, **tile.named("J"))


def _check_statistics(call: Launch, statistics: Tensor) -> None:
    size = sum(call.sizes)
    if (
        statistics.dim() != 1
        or statistics.shape[0] < size
        or statistics.dtype != call.accumulation
        or statistics.device != call.x.device
        or not statistics.is_contiguous()
    ):
        raise ValueError(
            f"statistics is {tuple(statistics.shape)} of {statistics.dtype}, expected at least "
            f"{size} of {call.accumulation}"
        )
    check_memory("statistics", statistics)
