"""The launches of the kernels for statistics over nodes.

One launch processes the segments that fit one program; three more process longer ones, if the sizes
allow any. Only the device knows which segments are longer, so all four are launched then, and
programs without work exit at once.
"""

from __future__ import annotations

from torch import Tensor

from graphnorms.kernels.triton import tiles
from graphnorms.kernels.triton.call import Cotangents, Launch, Pair
from graphnorms.kernels.triton.loading import device_code, launch
from graphnorms.kernels.triton.parameter_sums import add_up, partial_sums


class Plan:
    """The sizes of the launches."""

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


def segment_forward(
    call: Launch,
    residual: Tensor | None,
    y: Tensor,
    shift: Tensor | None,
    rstd: Tensor | None,
    moment: Tensor | None,
) -> None:
    """Launch the forward, which writes y and the statistics."""
    plan, device, code = Plan(call), call.x.device, device_code("chunks")
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


def segment_backward(
    call: Launch,
    grad_y: Tensor,
    grad_x: Tensor | None,
    shift: Tensor | None,
    rstd: Tensor | None,
    grads: list[Tensor | None],
) -> None:
    """Launch the backward, which writes the gradients of x and of the parameters."""
    plan, device, code = Plan(call), call.x.device, device_code("chunks")
    strides = (call.x.stride(0), grad_y.stride(0))
    order = (call.ptr, call.order, call.seed)
    parameters = (call.mean_scale, call.weight, call.bias, shift, rstd)
    of_mean_scale, of_weight, of_bias = grads
    own = (of_weight, of_bias) if call.own else (None, None)
    shared = [of_mean_scale, None, None] if call.own else grads
    chunks = plan.chunks if plan.longer else 0
    shares = partial_sums(call, plan.programs + chunks, shared)
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
    add_up(call, shares, shared)


def segment_double_backward(
    call: Launch,
    grad_y: Tensor,
    cotangents: Cotangents,
    kept: Pair,
    of_rows: Pair,
    grads: list[Tensor | None],
) -> None:
    """Launch the double backward.

    Args:
        kept: The shifts and 1/s of the forward.
        of_rows: The gradients of grad_y and of x, to be written.
        grads: The gradients of the parameters, to be written.
    """
    plan, device, code = Plan(call), call.x.device, device_code("second_chunks")
    of_x, *of_parameters = cotangents
    strides = (call.x.stride(0), grad_y.stride(0), of_x.stride(0))
    rows = (call.x, grad_y, of_x)
    order = (call.ptr, call.order, call.seed)
    parameters = (call.mean_scale, call.weight, call.bias)
    own = tuple(grads[1:]) if call.own else (None, None)
    shared = [grads[0], None, None] if call.own else grads
    chunks = plan.chunks if plan.longer else 0
    shares = partial_sums(call, plan.programs + chunks, shared)
    sizes = (call.segments, call.channels, call.groups, call.span)
    choices = call.choices("CENTER", "SCALE", "ACTIVATION", "OWN")
    launch(
        device_code("second_segments").segment_double_backward,
        (plan.programs, call.blocks),
        device,
        *(*rows, *of_rows, *order, *parameters, *of_parameters, *kept, *own, shares),
        *(*strides, *sizes, plan.limit, plan.tiles_per_program, *call.numbers()),
        **plan.tile.named("R", segments="T"),
        **choices,
    )
    grid, terms = (plan.chunks, call.blocks), call.second_terms
    merged = grad_y.new_empty((chunks, terms, call.channels), dtype=call.accumulation)
    if plan.longer:
        partial = grad_y.new_empty((chunks, 2, terms, call.channels), dtype=call.accumulation)
        launch(
            code.chunk_second_sums,
            grid,
            device,
            *(*rows, *order, *parameters, *kept, partial),
            *(*strides, *sizes, terms, plan.size, plan.steps, *call.numbers()),
            **plan.part.named("R"),
            **choices,
        )
        launch(
            code.merge_second_sums,
            (*grid, terms),
            device,
            *(call.ptr, partial, merged, call.segments, call.channels, call.span),
            *(terms, plan.size, plan.steps),
            **plan.merge.named("J"),
        )
    if plan.longer or of_rows != (None, None):
        launch(
            code.chunk_double_backward,
            grid,
            device,
            *(*rows, *of_rows, *order, *parameters, *of_parameters, *kept, *own),
            *(shares if plan.longer else None, merged, *strides, call.rows, *sizes),
            *(terms, plan.size, plan.steps, plan.programs, *call.numbers()),
            **plan.part.named("R"),
            **choices,
        )
    add_up(call, shares, shared)
