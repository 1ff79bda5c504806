"""The launches of the kernels for statistics within rows, and for functions of each entry."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.kernels.triton import tiles
from graphnorms.kernels.triton.call import Cotangents, Launch, Pair
from graphnorms.kernels.triton.loading import device_code, launch
from graphnorms.kernels.triton.parameter_sums import add_up, partial_sums


def row_forward(
    call: Launch,
    residual: Tensor | None,
    y: Tensor,
    shift: Tensor | None,
    rstd: Tensor | None,
    moment: Tensor | None,
) -> None:
    """Launch the forward, which writes y and the statistics."""
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
    if call.table is not None:
        launch(
            device_code("ragged_rows").ragged_forward,
            (-(-call.rows // tile.rows), call.blocks),
            call.x.device,
            *(call.x, residual, y, call.ptr, call.order, call.seed, call.table),
            *(call.weight, call.bias, shift, rstd, moment),
            *(*strides, call.rows, call.segments, call.channels, call.span, *call.cells),
            *(call.eps, *call.numbers()),
            **tile.named("R"),
            **call.choices("CENTER", "SCALE", "ACTIVATION"),
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


def row_backward(
    call: Launch,
    grad_y: Tensor,
    grad_x: Tensor | None,
    shift: Tensor | None,
    rstd: Tensor | None,
    grads: list[Tensor | None],
) -> None:
    """Launch the backward, which writes the gradients of x and of the parameters."""
    work = Work(call)
    shares = partial_sums(call, work.programs, [None, *grads[1:]])
    strides = (call.x.stride(0), grad_y.stride(0))
    rows = (call.x, grad_y, grad_x, call.ptr, call.order, call.seed)
    if call.function:
        sums = work.sums_of_argument(grads[0])
        launch(
            device_code("bounded").bounded_backward,
            work.grid,
            call.x.device,
            *(*rows, call.mean_scale, call.weight, call.bias, shares, sums),
            *(*strides, call.rows, call.segments, call.channels, call.span),
            *(work.tiles_per_program, *call.numbers()),
            **work.tile.named("R"),
            **call.choices("FUNCTION", "COUNT", "ACTIVATION"),
        )
        add_up_argument(sums, grads[0])
    elif call.table is not None:
        launch(
            device_code("ragged_rows").ragged_backward,
            work.grid,
            call.x.device,
            *(*rows, call.table, call.weight, call.bias, shift, rstd, shares),
            *(*strides, call.rows, call.segments, call.channels, call.span, *call.cells),
            *(work.tiles_per_program, *call.numbers()),
            **work.tile.named("R"),
            **call.choices("CENTER", "SCALE", "ACTIVATION"),
        )
    else:
        launch(
            device_code("rows").row_backward,
            work.grid,
            call.x.device,
            *(*rows, call.weight, call.bias, shift, rstd, shares),
            *(*strides, call.rows, call.segments, call.channels, call.groups, call.span),
            *(work.tiles_per_program, *call.numbers()),
            **work.tile.named("R"),
            **call.choices("CENTER", "SCALE", "ACTIVATION"),
        )
    add_up(call, shares, [None, *grads[1:]])


def row_double_backward(
    call: Launch,
    grad_y: Tensor,
    cotangents: Cotangents,
    kept: Pair,
    of_rows: Pair,
    grads: list[Tensor | None],
) -> None:
    """Launch the double backward; see `segment_launches.segment_double_backward`."""
    work = Work(call)
    of_x, *of_parameters = cotangents
    shares = partial_sums(call, work.programs, [None, *grads[1:]])
    strides = (call.x.stride(0), grad_y.stride(0), of_x.stride(0))
    rows = (call.x, grad_y, of_x, *of_rows, call.ptr, call.order, call.seed)
    if call.function:
        sums = work.sums_of_argument(grads[0])
        launch(
            device_code("bounded").bounded_double_backward,
            work.grid,
            call.x.device,
            *(*rows, call.mean_scale, call.weight, call.bias, *of_parameters, shares, sums),
            *(*strides, call.rows, call.segments, call.channels, call.span),
            *(work.tiles_per_program, *call.numbers()),
            **work.tile.named("R"),
            **call.choices("FUNCTION", "COUNT", "ACTIVATION"),
        )
        add_up_argument(sums, grads[0])
    elif call.table is not None:
        launch(
            device_code("ragged_rows").ragged_double_backward,
            work.grid,
            call.x.device,
            *(*rows, call.table, call.weight, call.bias, *of_parameters[1:], *kept, shares),
            *(*strides, call.rows, call.segments, call.channels, call.span, *call.cells),
            *(work.tiles_per_program, *call.numbers()),
            **work.tile.named("R"),
            **call.choices("CENTER", "SCALE", "ACTIVATION"),
        )
    else:
        launch(
            device_code("second_rows").row_double_backward,
            work.grid,
            call.x.device,
            *(*rows, call.weight, call.bias, *of_parameters[1:], *kept, shares),
            *(*strides, call.rows, call.segments, call.channels, call.groups, call.span),
            *(work.tiles_per_program, *call.numbers()),
            **work.tile.named("R"),
            **call.choices("CENTER", "SCALE", "ACTIVATION"),
        )
    add_up(call, shares, [None, *grads[1:]])


class Work:
    """Rows in tiles, divided among the programs of a backward."""

    def __init__(self, call: Launch) -> None:
        self.call = call
        self.tile = tiles.tile_of_rows(call.span)
        number = -(-call.rows // self.tile.rows)
        self.tiles_per_program = max(-(-number // tiles.PROGRAMS), 1)
        self.programs = -(-number // self.tiles_per_program)
        self.grid = (self.programs, call.blocks)

    def sums_of_argument(self, grad: Tensor | None) -> Tensor | None:
        """Allocate the programs' sums for the gradients of a function's slope and shift."""
        if grad is None:
            return None
        programs = self.programs * self.call.blocks
        return self.call.x.new_empty((programs, 2), dtype=self.call.accumulation)


def add_up_argument(sums: Tensor | None, grad: Tensor | None) -> None:
    """Add up the programs' sums, in double."""
    if sums is not None and grad is not None:
        grad.copy_(sums.sum(0, dtype=torch.float64)[: grad.shape[0]])
