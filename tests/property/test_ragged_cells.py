"""Statistics over nodes with ragged cells of columns: the kernels against the reference."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import graphnorms as gn
from graphnorms.kernels import derivatives
from graphnorms.kernels.cpu import extension
from graphnorms.kernels.layout import Layout
from graphnorms.segments import Segments
from graphnorms.testing import tolerance
from tests.norms import normal

pytestmark = pytest.mark.skipif(extension.unavailable() is not None, reason="no kernels to compare")

NODES, BOTH = gn.Over.NODES, gn.Over.BOTH
LONG = 700
"""Rows of a segment that is done in chunks, at 300 columns."""


class Case(NamedTuple):
    """What a call is given, in float64, and its cotangents."""

    call: dict[str, Any]
    x: Tensor
    parameters: dict[str, Tensor]
    cotangents: list[Tensor]

    def off(self, found: list[Tensor], dtype: torch.dtype) -> float:
        """How far results in a dtype are from exact ones of the rounded features, by what rounding
        may do."""
        x, grad_y = (t.to(dtype).double() for t in (self.x, self.cotangents[0]))
        parameters = {name: p.float().double() for name, p in self.parameters.items()}
        exact = Case(self.call, x, parameters, [grad_y, *self.cotangents[1:]])
        expected = exact.results(torch.float64, "reference")
        # 1 / s multiplies what has been rounded.
        allowed = tolerance(dtype, max(x.shape)) / self.call["eps"] ** 0.5
        return furthest(found, expected) / allowed

    def results(self, dtype: torch.dtype, backend: str) -> list[Tensor]:
        """The result, its gradients, and the gradients of all gradients, in that order."""
        wide = torch.promote_types(dtype, torch.float32)
        x, grad_y = (t.to(dtype).requires_grad_() for t in (self.x, self.cotangents[0]))
        leaves: dict[str, Any] = {
            name: p.to(wide).requires_grad_() for name, p in self.parameters.items()
        }
        y = gn.segment_normalize(x, backend=backend, **self.call, **leaves)
        inputs = [x, *leaves.values()]
        first = torch.autograd.grad(y, inputs, grad_y, create_graph=True)
        directions = [t.to(g.dtype) for t, g in zip(self.cotangents[1:], first, strict=True)]
        second = torch.autograd.grad(first, [grad_y, *inputs], directions, materialize_grads=True)
        return [t.detach().double() for t in (y, *first, *second)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Cells of columns that need not be neighbours, and segments of any length and order."""
    seed = draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    columns = draw(st.sampled_from([1, 3, 22, 300]))

    def integers(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (columns,), generator=generator)

    layout = Layout.of(
        integers(0, draw(st.integers(1, columns))),
        integers(-1, 1),
        draw(st.sampled_from([None, integers(1, 6)])),
    )
    counts = draw(st.lists(st.sampled_from([0, 1, 2, 40, LONG]), min_size=1, max_size=4))
    batch = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    rows = batch.shape[0]
    if draw(st.booleans()):
        batch = batch[torch.randperm(rows, generator=generator)]
    segments = Segments.from_batch(batch, len(counts))
    if draw(st.booleans()):
        segments = segments.with_mask(torch.rand(rows, generator=generator) < 0.8)
    center = draw(st.sampled_from([None, NODES]))
    affine = (len(counts), columns) if draw(st.booleans()) else (columns,)
    shapes = {"weight": affine, "bias": affine}
    if center is not None and draw(st.booleans()):
        shapes["mean_scale"] = (columns,)
    parameters = {name: normal(*shape, seed=seed) + 0.5 for name, shape in shapes.items()}
    cotangents = [normal(rows, columns, seed=seed + i) for i in (1, 2)]
    cotangents += [normal(*shape, seed=seed + 3) for shape in shapes.values()]
    call = {
        "segments": segments,
        "center": center,
        "scale": draw(st.sampled_from([BOTH, BOTH, None])),
        "layout": layout,
        "eps": 0.1,
        "activation": draw(st.sampled_from([None, None, "silu"])),
    }
    return Case(call, normal(rows, columns, seed=seed) * 2 + 1, parameters, cotangents)


BRIEFLY = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def furthest(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest distance, relative to the largest entry of the same tensor."""
    distances = [0.0]
    for one, other in zip(found, expected, strict=True):
        if other.numel():
            scale = other.abs().max().clamp(min=1)
            distances.append(float((one - other).abs().max() / scale))
    return max(distances)


@BRIEFLY
@given(case=cases())
def test_two_orders_in_float64(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = case.results(torch.float64, "reference")
    with monkeypatch.context() as patched:
        for name in ("backward", "double_backward"):  # which would take a call out of range
            patched.setattr(derivatives, name, None)
        found = case.results(torch.float64, "cpu")
    assert furthest(found, expected) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@settings(BRIEFLY, max_examples=15)
@given(case=cases())
def test_two_orders_in_other_dtypes(case: Case, dtype: torch.dtype) -> None:
    assert case.off(case.results(dtype, "cpu"), dtype) < 1


def case_of_copies(rows: int, activation: str | None = None) -> Case:
    """Scalars, vectors and degree 2 in blocks, in one long segment and a few short ones."""
    cells = torch.cat([torch.arange(60), 60 + torch.arange(60) % 20, 80 + torch.arange(100) // 5])
    layout = Layout.of(cells, torch.where(cells < 60, 0, -1))
    segments = Segments.from_counts(torch.tensor([3, rows, 0, 50]))
    shapes = {"weight": (220,), "bias": (220,), "mean_scale": (220,)}
    parameters = {name: normal(*shape) + 0.5 for name, shape in shapes.items()}
    cotangents = [normal(rows + 53, 220, seed=i) for i in (1, 2)]
    cotangents += [normal(220, seed=3) for _ in shapes]
    call = {
        "segments": segments,
        "center": NODES,
        "scale": BOTH,
        "layout": layout,
        "eps": 0.1,
        "activation": activation,
    }
    return Case(call, normal(rows + 53, 220) + 3, parameters, cotangents)


def test_the_same_bits_for_every_number_of_threads(threads: None) -> None:
    case = case_of_copies(900, "gelu")
    results = []
    for number in (1, 2):
        torch.set_num_threads(number)
        results.append(case.results(torch.float32, "cpu"))
    assert all(map(torch.equal, *results))
    assert case.off(results[0], torch.float32) < 1


def test_squares_beyond_float32() -> None:
    case = case_of_copies(300)
    large = case._replace(x=case.x * 1e25)
    found, expected = large.results(torch.float32, "cpu"), large.results(torch.float64, "reference")
    for i, unit in ((0, 1), (1, 1e25)):  # the result, and the gradient of x
        torch.testing.assert_close(found[i] * unit, expected[i] * unit, rtol=1e-4, atol=1e-4)


SUMMED = Layout.of([0, 0, 1, 1, 1, 1], divisors=[1] * 6)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [({"groups": 2}, [1.0] * 6), ({"layout": SUMMED}, [0.5**0.5] * 2 + [0.5] * 4)],
)
def test_squares_whose_sum_alone_is_beyond_float32(
    cells: dict[str, Any], expected: list[float]
) -> None:
    x = torch.full((1, 6), 1.5e19)
    y = gn.segment_normalize(x, Segments.single(1), center=None, scale=BOTH, backend="cpu", **cells)
    torch.testing.assert_close(y, torch.tensor([expected]))
