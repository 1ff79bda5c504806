"""The sum over neighbours and its gradients: T rows of a CSR matrix, C channels, edge by edge.

Each row is summed by one program in the order of its edges, and each edge stands in one row, so
that nothing is added atomically. The equations are those of docs/maths.md.
"""

import triton
import triton.language as tl

from graphnorms.kernels.triton.device.cells import VARYING, load_rows
from graphnorms.kernels.triton.device.segments import lanes


@triton.jit
def _rows(ptr, rows, T: tl.constexpr):
    """T rows: their numbers, which there are, where their edges begin, and how many."""
    row = tl.program_id(0).to(tl.int64) * T + tl.arange(0, T)
    there = row < rows
    begin = tl.load(ptr + row, mask=there, other=0)
    return row, there, begin, tl.load(ptr + row + 1, mask=there, other=0) - begin


@triton.jit
def _edge(index, order, begin, degree, number):
    """The edge of each row with a number: the other node, the edge's own number, if there is."""
    there = number < degree
    node = tl.load(index + begin + number, mask=there, other=0)
    edge = begin + number
    if order is not None:
        edge = tl.load(order + begin + number, mask=there, other=0)
    return node, edge, there


@triton.jit
def _finish(
    total, x, x_stride, y, node_scale, row, there, self_weight, channels, channel, inside,
    WITH_SELF: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """y_i = s_i (w s_i x_i + total)"""
    mask = there[:, None] & inside[None, :]
    if WITH_SELF:
        own = load_rows(x, x_stride, row[:, None], channel[None, :], mask, ACC)
        own = own * tl.full((), self_weight, ACC)
        if node_scale is not None:
            own = own * tl.load(node_scale + row, mask=there, other=0.0)[:, None]
        total += own
    if node_scale is not None:
        total = total * tl.load(node_scale + row, mask=there, other=0.0)[:, None]
    at = y + row[:, None] * channels + channel[None, :]
    tl.store(at, total.to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=VARYING)
def sum_neighbours(
    x, y, ptr, index, order, node_scale, edge_weight, x_stride, rows, channels, span,
    self_weight: tl.float64, WITH_SELF: tl.constexpr, T: tl.constexpr, C: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """y_i = s_i (w s_i x_i + sum a_e s_j x_j), equation (9); along the transpose, its gradient."""
    channel, inside = lanes(span, channels, C)
    row, there, begin, degree = _rows(ptr, rows, T)
    total = tl.zeros([T, C], ACC)
    for number in range(tl.max(degree, axis=0)):
        node, edge, real = _edge(index, order, begin, degree, number)
        mask = real[:, None] & inside[None, :]
        message = load_rows(x, x_stride, node[:, None], channel[None, :], mask, ACC)
        if node_scale is not None:
            message = message * tl.load(node_scale + node, mask=real, other=0.0)[:, None]
        if edge_weight is not None:
            message = message * tl.load(edge_weight + edge, mask=real, other=0.0)[:, None]
        total += message
    _finish(
        total, x, x_stride, y, node_scale, row, there, self_weight, channels, channel, inside,
        WITH_SELF, ACC,
    )  # fmt: skip


@triton.jit(do_not_specialize=VARYING)
def sum_messages(
    x, y, edge_features, ptr, index, order, x_stride, features_stride, rows, channels, span,
    self_weight: tl.float64, WITH_SELF: tl.constexpr, T: tl.constexpr, C: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """y_i = w x_i + sum max(x_j + z_e, 0), equation (11)."""
    channel, inside = lanes(span, channels, C)
    row, there, begin, degree = _rows(ptr, rows, T)
    total = tl.zeros([T, C], ACC)
    for number in range(tl.max(degree, axis=0)):
        node, edge, real = _edge(index, order, begin, degree, number)
        mask = real[:, None] & inside[None, :]
        message = load_rows(x, x_stride, node[:, None], channel[None, :], mask, ACC)
        message += load_rows(
            edge_features, features_stride, edge[:, None], channel[None, :], mask, ACC
        )  # fmt: skip
        total += tl.where(message < 0, 0.0, message)
    _finish(
        total, x, x_stride, y, None, row, there, self_weight, channels, channel, inside,
        WITH_SELF, ACC,
    )  # fmt: skip


@triton.jit(do_not_specialize=VARYING)
def message_gradients(
    x, grad_y, edge_features, grad_x, grad_features, ptr, index, order, x_stride, grad_stride,
    features_stride, rows, channels, span, self_weight: tl.float64, WITH_SELF: tl.constexpr,
    T: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The gradients of equation (12), by rows of the transpose."""
    channel, inside = lanes(span, channels, C)
    row, there, begin, degree = _rows(ptr, rows, T)
    mask = there[:, None] & inside[None, :]
    source = load_rows(x, x_stride, row[:, None], channel[None, :], mask, ACC)
    total = tl.zeros([T, C], ACC)
    for number in range(tl.max(degree, axis=0)):
        node, edge, real = _edge(index, order, begin, degree, number)
        mask = real[:, None] & inside[None, :]
        message = source + load_rows(
            edge_features, features_stride, edge[:, None], channel[None, :], mask, ACC
        )  # fmt: skip
        grad = load_rows(grad_y, grad_stride, node[:, None], channel[None, :], mask, ACC)
        grad = tl.where(message <= 0, 0.0, grad)
        total += tl.where(mask, grad, 0.0)
        if grad_features is not None:
            at = grad_features + edge[:, None] * channels + channel[None, :]
            tl.store(at, grad.to(grad_features.dtype.element_ty), mask=mask)
    if grad_x is not None:
        _finish(
            total, grad_y, grad_stride, grad_x, None, row, there, self_weight, channels, channel,
            inside, WITH_SELF, ACC,
        )  # fmt: skip


@triton.jit(do_not_specialize=VARYING)
def weight_gradients(
    x, grad_y, grad_weight, ptr, index, order, node_scale, x_stride, grad_stride, rows, channels,
    T: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """dL/da_e = s_i s_j <g_i, x_j>, equation (10), by rows of the transpose, all channels."""
    row, _, begin, degree = _rows(ptr, rows, T)
    for number in range(tl.max(degree, axis=0)):
        node, edge, real = _edge(index, order, begin, degree, number)
        product = tl.zeros([T, C], ACC)
        for first in range(0, channels, C):
            channel = first + tl.arange(0, C)
            mask = real[:, None] & (channel < channels)[None, :]
            source = load_rows(x, x_stride, row[:, None], channel[None, :], mask, ACC)
            grad = load_rows(grad_y, grad_stride, node[:, None], channel[None, :], mask, ACC)
            product += source * grad
        found = tl.sum(product, axis=1)
        if node_scale is not None:
            found = found * tl.load(node_scale + row, mask=real, other=0.0)
            found = found * tl.load(node_scale + node, mask=real, other=0.0)
        tl.store(grad_weight + edge, found, mask=real)
