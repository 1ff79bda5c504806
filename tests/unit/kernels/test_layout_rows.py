"""Ragged cells of columns within rows: the C++ kernels against the reference in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.kernels import derivatives, reference
from graphnorms.kernels.backend import CPU
from graphnorms.kernels.cpu import extension
from graphnorms.kernels.layout import Layout
from graphnorms.kernels.point import Call, Over, Parameters, Point
from graphnorms.segments import Segments, as_segments
from tests.norms import normal

POINTS = [
    (None, Over.CHANNELS),
    (Over.CHANNELS, Over.CHANNELS),
    (Over.CHANNELS, None),
]
TOLERANCES = {
    torch.float64: 1e-13,
    torch.float32: 3e-6,
    torch.bfloat16: 1e-2,  # a rounding of the result is 2⁻⁹
    torch.float16: 1e-3,
}
needs_kernels = pytest.mark.skipif(extension.unavailable() is not None, reason="no kernels")


def ranges(columns: int, generator: torch.Generator) -> Tensor:
    """Numbers of 1 to 5 neighbouring cells of any width."""
    number = int(torch.randint(1, min(columns, 5) + 1, (), generator=generator))
    cuts = torch.randperm(columns - 1, generator=generator)[: number - 1].sort().values + 1
    return torch.bucketize(torch.arange(columns), cuts, right=True)


def ragged(columns: int, generator: torch.Generator) -> Layout:
    """Cells of centre and scale that know nothing of each other, some columns without a centre."""
    center, scale = ranges(columns, generator), ranges(columns, generator)
    left_out = torch.rand(5, generator=generator) < 0.4
    divisors = torch.randint(1, 9, (5,), generator=generator)[ranges(columns, generator)]
    return Layout.of(scale, torch.where(left_out[center], -1, center), divisors)


class Drawn:
    """A call with a layout, its features and its parameters."""

    def __init__(self, seed: int, point: tuple[Over | None, Over | None], dtype: torch.dtype):
        generator = torch.Generator().manual_seed(seed)
        columns = int(torch.randint(1, 70, (), generator=generator))
        rows = int(torch.randint(0, 7, (), generator=generator))
        wide = torch.float64 if dtype == torch.float64 else torch.float32

        def numbers(*shape: int, of: torch.dtype = wide) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(of)

        self.x, self.residual, self.grad_y, self.u = (
            numbers(rows, columns, of=dtype) for _ in range(4)
        )
        own = seed % 4 == 1
        if own:  # parameters per segment
            batch = torch.randint(0, 3, (rows,), generator=generator)
            segments = Segments.from_batch(batch, 3)
        else:
            mask = torch.rand(rows, generator=generator) < 0.7 if seed % 4 == 2 else None
            segments = as_segments(None, rows_of=self.x, mask=mask)
        shape = (3, columns) if own else (columns,)
        self.parameters: Parameters = (None, numbers(*shape), numbers(*shape))
        self.of_parameters = (None, numbers(*shape), numbers(*shape))
        if seed % 3 == 0:
            self.of_parameters = (None, None, self.of_parameters[2])
        activation = [None, "silu", "relu"][seed % 3]
        dropout = (0.3, torch.tensor(seed)) if seed % 5 == 0 else (0.0, None)
        layout = ragged(columns, generator)
        self.call = Call(segments, Point(*point), 0.1, activation, *dropout, layout)


def in_float64(tensors: Any) -> tuple[Tensor | None, ...]:
    return tuple(None if tensor is None else tensor.double() for tensor in tensors)


@needs_kernels
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("point", POINTS)
def test_the_kernels_are_the_reference(point: Any, dtype: torch.dtype) -> None:
    for seed in range(24):
        drawn = Drawn(seed, point, dtype)
        call, given = drawn.call, drawn.parameters
        y, statistics = CPU.forward(drawn.x, drawn.residual, given, call, True)
        first = CPU.backward(drawn.grad_y, drawn.x, given, statistics, call, [True] * 4)
        cotangents = (drawn.u, *drawn.of_parameters)
        second = CPU.double_backward(
            cotangents, drawn.grad_y, drawn.x, given, statistics, call, [True] * 5
        )
        x, residual, grad_y = in_float64((drawn.x, drawn.residual, drawn.grad_y))
        assert x is not None
        assert grad_y is not None
        _, weight, bias = in_float64(given)
        wide = (None, weight, bias)
        expected, _, moment = reference.segment_normalize(x, call, wide, residual)
        found = [y, *first, *second]
        wanted = [
            expected,
            *derivatives.backward(grad_y, x, wide, call),
            *derivatives.double_backward(in_float64(cotangents), grad_y, x, wide, call),
        ]
        if point[1] is not None:
            found.append(statistics[-moment.numel() :].view_as(moment) if moment.numel() else None)
            wanted.append(moment if moment.numel() else None)
        for mine, theirs in zip(found, wanted, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                bound = TOLERANCES[torch.float32 if mine.dtype == torch.float32 else dtype]
                torch.testing.assert_close(mine.double(), theirs, rtol=bound, atol=bound)


@needs_kernels
def test_equal_cells_are_groups() -> None:
    x, segments = normal(7, 12), Segments.from_counts(torch.tensor([3, 0, 4]))
    cells = torch.arange(12) // 4
    for center, scale in POINTS:
        both = [
            gn.segment_normalize(x, segments, center=center, scale=scale, **more, backend="cpu")
            for more in ({"groups": 3}, {"layout": Layout.of(cells, cells)})
        ]
        assert torch.equal(*both)


@pytest.mark.parametrize("center", [None, Over.NODES, Over.CHANNELS, Over.BOTH])
@pytest.mark.parametrize("scale", [None, Over.CHANNELS, Over.BOTH])
def test_the_derivatives_of_every_pair_of_domains(center: Any, scale: Any) -> None:
    """With a learned share of the mean, and cells whose columns lie apart where that is allowed."""
    layout = Layout.of([0, 0, 0, 1, 1, 2], [0, 0, -1, -1, 1, 1], [3, 3, 3, 2, 2, 5])
    if Over.CHANNELS not in (center, scale):
        layout = layout._replace(table=layout.table[:, [3, 0, 5, 1, 4, 2]])
    segments = Segments.from_batch(torch.tensor([0, 2, 2, 0, 0]), 3)
    share = None if center is None else normal(6).requires_grad_()

    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        found = (*parameters, None, None)[:3] if share is not None else (None, *parameters)
        return gn.segment_normalize(
            x,
            segments,
            center=center,
            scale=scale,
            layout=layout,
            mean_scale=found[0],
            weight=found[1],
            bias=found[2],
            eps=0.1,
            activation="silu",
        )

    inputs = [normal(5, 6).requires_grad_(), normal(6).requires_grad_(), normal(6).requires_grad_()]
    if share is not None:
        inputs.insert(1, share)
    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


def test_the_weighted_moment_by_hand() -> None:
    x, segments = normal(4, 5), Segments.from_counts(torch.tensor([4]))
    layout = Layout.of([0, 0, 0, 1, 1], [0, 0, -1, -1, -1], [2, 2, 6, 1, 1])
    y = gn.segment_normalize(
        x, segments, center=Over.CHANNELS, scale=Over.CHANNELS, layout=layout, eps=0.5
    )
    o = x.clone()
    o[:, :2] -= x[:, :2].mean(1, keepdim=True)
    left = o[:, 0] ** 2 / 2 + o[:, 1] ** 2 / 2 + o[:, 2] ** 2 / 6
    right = o[:, 3] ** 2 + o[:, 4] ** 2
    squares = torch.stack((left, left, left, right, right), 1)
    torch.testing.assert_close(y, o / (squares + 0.5).sqrt(), rtol=0, atol=1e-14)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_squares_beyond_the_range(dtype: torch.dtype) -> None:
    """Of float16 in float32, of float32 by the reference."""
    size = 1e25 if dtype == torch.float32 else 3e4
    x = (normal(5, 9).clamp(-2, 2) * size).to(dtype).requires_grad_()
    layout = Layout.of([0] * 6 + [1] * 3, [0] * 3 + [-1] * 6, [18] * 9)
    y = gn.segment_normalize(
        x,
        Segments.from_counts(torch.tensor([5])),
        center=Over.CHANNELS,
        scale=Over.CHANNELS,
        layout=layout,
    )
    wide = gn.segment_normalize(
        x.detach().double(),
        Segments.from_counts(torch.tensor([5])),
        center=Over.CHANNELS,
        scale=Over.CHANNELS,
        layout=layout,
    )
    torch.testing.assert_close(y.double(), wide, rtol=2e-3, atol=1e-5)
    (grad,) = torch.autograd.grad(y.float().sin().sum(), x)
    assert bool(grad.isfinite().all())


@needs_kernels
def test_threads_do_not_change_bits() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(600, 96, generator=generator, requires_grad=True)
    weight = torch.randn(96, generator=generator, requires_grad=True)
    layout, segments = ragged(96, generator), Segments.from_counts(torch.tensor([600]))

    def derive() -> list[Tensor]:
        y = gn.segment_normalize(
            x,
            segments,
            center=Over.CHANNELS,
            scale=Over.CHANNELS,
            layout=layout,
            weight=weight,
            activation="gelu",
        )
        first = torch.autograd.grad(y.square().sum(), (x, weight), create_graph=True)
        return [y, *first, *torch.autograd.grad(first[0].square().sum(), (x, weight))]

    threads = torch.get_num_threads()
    try:
        both = []
        for number in (1, 3):
            torch.set_num_threads(number)
            both.append(derive())
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, three) for one, three in zip(*both, strict=True))


def test_what_does_not_fit_is_refused_in_words() -> None:
    x, segments = normal(3, 4), Segments.from_counts(torch.tensor([3]))
    layout, within = Layout.of([0, 0, 1, 1]), Over.CHANNELS

    def call(layout: Layout, **more: Any) -> None:
        given: dict[str, Any] = {"center": None, "scale": within, **more}
        gn.segment_normalize(x, segments, layout=layout, **given)

    for more, message in (
        ({"groups": 2}, "groups is 2, but a layout is given"),
        ({"scale": Over.NODES}, "scale is Over.NODES, where every column is a cell"),
        ({"scale": None, "function": "tanh"}, "function is 'tanh', but a layout is given"),
    ):
        with pytest.raises(ValueError, match=message):
            call(layout, **more)
    with pytest.raises(ValueError, match=r"table of layout is \(3, 3\) of torch.int64"):
        call(Layout.of([0, 0, 1]))
    with pytest.raises(gn.BackendRefusedError, match="mean_scale with a centre within rows"):
        call(layout, center=within, mean_scale=torch.ones(4), backend="cpu")
    with pytest.raises(gn.BackendRefusedError, match="a layout"):
        call(layout, scale=Over.BOTH, backend="triton")
    for wrong, message in (
        (([0, -1],), "a number below -1 in center_cells, 0 in scale_cells"),
        (([0, 1], [0, -2]), "below -1 in center_cells"),
        (([0, 1], None, [1, 0]), "1 in divisors"),
        (([0, 1], [0]), r"center_cells, scale_cells and divisors are \(1,\) of torch.int64"),
    ):
        with pytest.raises(ValueError, match=message):
            Layout.of(*wrong)


@needs_kernels
def test_cells_that_are_no_ranges_are_refused_in_words() -> None:
    x, segments = normal(3, 4), Segments.from_counts(torch.tensor([3]))
    apart, backwards = Layout.of([0, 1, 0, 1]), Layout.of([1, 1, 0, 0])
    beyond = Layout.of([0, 0, 1, 1])._replace(scales=1)
    for layout, message in (
        (apart, "a cell that is not a range of columns"),
        (backwards, "cells in another order"),
        (beyond, "a cell or a divisor outside its range"),
    ):
        with pytest.raises(ValueError, match=message):
            gn.segment_normalize(x, segments, center=None, scale=Over.CHANNELS, layout=layout)
