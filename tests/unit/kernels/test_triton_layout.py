"""Ragged cells of columns within rows: the Triton kernels in the interpreter, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import graphnorms as gn
from graphnorms.kernels import derivatives, reference
from graphnorms.kernels.backend import TRITON
from graphnorms.kernels.layout import Layout
from graphnorms.kernels.point import Over
from graphnorms.segments import Segments
from tests.conftest import BACKENDS
from tests.unit.kernels.test_layout_rows import POINTS, TOLERANCES, Drawn, in_float64

pytestmark = pytest.mark.skipif("triton" not in BACKENDS, reason="no triton here, or a GPU")
FULL = pytest.mark.full("interpreted kernels")


@pytest.mark.parametrize(
    ("place", "dtype"),
    [
        (1, torch.float64),
        pytest.param(0, torch.bfloat16, marks=FULL),
        pytest.param(2, torch.float64, marks=FULL),
        pytest.param(0, torch.float32, marks=FULL),
    ],
)
def test_the_kernels_are_the_reference(place: int, dtype: torch.dtype) -> None:
    """Own parameters, masked rows, cotangents, activations and dropout by turns of the seed."""
    for seed in (0, 1, 2, 4, 7):
        drawn = Drawn(seed, POINTS[place], dtype)
        call, given = drawn.call, drawn.parameters
        y, statistics = TRITON.forward(drawn.x, drawn.residual, given, call, True)
        first = TRITON.backward(drawn.grad_y, drawn.x, given, statistics, call, [True] * 4)
        cotangents = (drawn.u, *drawn.of_parameters)
        second = TRITON.double_backward(
            cotangents, drawn.grad_y, drawn.x, given, statistics, call, [True] * 5
        )
        x, residual, grad_y, *wide = in_float64((drawn.x, drawn.residual, drawn.grad_y, *given))
        assert x is not None
        assert grad_y is not None
        parameters = (wide[0], wide[1], wide[2])
        expected = [
            reference.segment_normalize(x, call, parameters, residual)[0],
            *derivatives.backward(grad_y, x, parameters, call),
            *derivatives.double_backward(in_float64(cotangents), grad_y, x, parameters, call),
        ]
        for mine, theirs in zip([y, *first, *second], expected, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                bound = TOLERANCES[torch.float32 if mine.dtype == torch.float32 else dtype]
                torch.testing.assert_close(mine.double(), theirs, rtol=bound, atol=bound)


@pytest.mark.parametrize("over", [Over.NODES, Over.BOTH])
def test_a_layout_over_nodes_is_refused(over: Any) -> None:
    with pytest.raises(gn.BackendRefusedError, match="a layout with statistics over nodes"):
        gn.segment_normalize(
            torch.ones(3, 2),
            Segments.single(3),
            center=over,
            scale=Over.BOTH,
            layout=Layout.of([0, 1]),
            backend="triton",
        )
