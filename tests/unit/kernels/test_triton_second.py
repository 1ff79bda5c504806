"""The Triton kernels of the double backward in the interpreter, against autograd in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.kernels import derivatives
from graphnorms.kernels.triton import normalize as triton
from graphnorms.kernels.triton import tiles
from graphnorms.segments import Segments
from tests.conftest import BACKENDS
from tests.operands import call_of
from tests.unit.kernels.test_double_backward import (
    BOTH,
    NODES,
    POINTS,
    ROW,
    combinations,
    error,
    given_for,
)
from tests.unit.kernels.test_triton import launches

__all__ = ["launches"]
pytestmark = [
    pytest.mark.skipif("triton" not in BACKENDS, reason="no triton here, or a GPU"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, of NaN
]
FULL = pytest.mark.full("interpreted kernels")


@pytest.fixture
def kernels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the closed form the kernels must do it."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError("the closed form was asked")

    monkeypatch.setattr(derivatives, "double_backward", refuse)


@pytest.mark.parametrize(
    "place",
    # Rows and a function always, segments in chunks below; the other domains in full.
    [pytest.param(i, marks=[] if i in (1, 11) else FULL) for i in range(len(POINTS))],
)
def test_against_autograd(place: int, kernels_alone: None) -> None:
    """Every fifth combination of activation, cotangents and parameters, mask or dropout."""
    for given, call, asked, expected in combinations(place)[place % 5 :: 5]:
        found = given.second(torch.float64, asked, backend="triton", **call)
        errors = [error(*pair) for pair in zip(found, expected, strict=True)]
        assert max(errors, default=0) < 1e-12, (call, asked, errors)


CHUNKED: list[tuple[dict[str, Any], str | None]] = [
    ({"center": NODES, "scale": NODES}, "silu"),
    ({"center": NODES, "scale": BOTH}, None),
    ({"center": BOTH, "scale": BOTH}, "gelu"),
    ({"center": None, "scale": NODES}, "relu"),
]


@pytest.mark.parametrize("place", [0, *(pytest.param(i, marks=FULL) for i in (1, 2, 3))])
def test_segments_of_several_chunks(
    place: int, kernels_alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which begin, end and lie anywhere in a chunk, among short and empty ones."""
    monkeypatch.setattr(tiles, "CHUNK_ROWS", 16)
    monkeypatch.setattr(tiles, "LONG_ROWS", 8)
    counts = torch.tensor([5, 33, 0, 18])
    segments, masked = Segments.from_counts(counts), place % 2 == 0
    rows = int(counts.sum())
    if masked:
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(1))
        segments = Segments.from_batch(segments.index[order], 4)
        segments = segments.with_mask(torch.arange(rows) % 20 != 7)
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(2)) + 3
    point, activation = CHUNKED[place]
    given = given_for(segments, x, point, own=not masked)
    call = {**point, "groups": 1 + place % 2, "activation": activation}
    expected = given.second(torch.float64, "all", backend="reference", **call)
    found = given.second(torch.float64, "all", backend="triton", **call)
    for one, other in zip(found, expected, strict=True):
        assert error(one, other) < 1e-12
    if not place:
        found = given.second(torch.float32, "all", backend="triton", **call)
        given.check(found, expected, call, torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=FULL)])
def test_narrow_features_are_summed_in_float32(dtype: torch.dtype) -> None:
    """Far from 0, too: sums are relative to an entry. Rows of many channels are odd in number."""
    batch = torch.tensor([0, 2, 2, 1, 2, 0, 2, 1, 2])
    x = (torch.randn(9, 7, generator=torch.Generator().manual_seed(0)) + 30).to(dtype)
    for point, own in ((POINTS[0], True), (POINTS[1], False), (POINTS[1], True), (POINTS[2], True)):
        given = given_for(Segments.from_batch(batch, 3), x, point, own=own)
        call = {**point, "groups": 1, "activation": "silu"}
        found = given.second(dtype, "all", backend="triton", **call)
        expected = given.second(torch.float64, "all", backend="reference", **call)
        given.check(found, expected, call, dtype)


@pytest.mark.parametrize("over", [NODES, pytest.param(ROW, marks=FULL), BOTH])
def test_nan_stays_in_its_cell(over: gn.Over) -> None:
    segments = Segments.from_counts(torch.tensor([4, 5, 3]))
    x = torch.randn(12, 6, generator=torch.Generator().manual_seed(3))
    broken = x.clone()
    broken[6, 3] = torch.nan
    inside = torch.zeros(12, 6, dtype=torch.bool)
    rows = slice(6, 7) if over is ROW else slice(4, 9)
    inside[rows, 3 if over is NODES else slice(3, 6)] = True
    call: dict[str, Any] = {"center": over, "scale": over, "groups": 2, "activation": "gelu"}
    found = []
    for features in (broken, x):
        given = given_for(segments, features, call, own=True)
        found.append(given.second(torch.float32, "x", backend="triton", **call)[:2])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one[~inside], other[~inside])
    assert found[0][1][inside].isnan().all()


def norms() -> dict[str, Any]:
    return {
        "over nodes": gn.GraphNorm(4, activation="silu"),
        "within rows": gn.LayerNorm(4, mode="node"),
        "both": gn.LayerNorm(4, mode="graph", activation="gelu"),
        "groups": gn.GroupNorm(4, 2, mode="graph"),
    }


def derivatives_of(layer: gn.Norm, x: Tensor, batch: Tensor, orders: int) -> list[Tensor]:
    """All derivatives with respect to x of an energy, and those of the last to the parameters."""
    found = []
    leaf = x.clone().requires_grad_()
    value = (layer(leaf, batch, 3) * torch.cos(leaf)).square().sum()
    for _ in range(orders):
        (force,) = torch.autograd.grad(value, leaf, create_graph=True)
        found.append(force.detach())
        value = (force * torch.sin(leaf)).square().sum()
    return [*found, *torch.autograd.grad(value, [leaf, *layer.parameters()])]


@pytest.mark.parametrize(
    "kind",
    ["over nodes", "within rows", *(pytest.param(k, marks=FULL) for k in ("both", "groups"))],
)
def test_derivatives_of_every_order_of_a_layer(kind: str) -> None:
    """The force step by kernels, the third order by the closed form that starts from them."""
    layer = norms()[kind].double()
    generator = torch.Generator().manual_seed(4)
    for parameter in layer.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    x = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    batch = torch.tensor([0, 2, 0, 0, 2, 2, 0])
    results = []
    for name in ("triton", "reference"):
        layer.backend = name
        results.append([d for n in (1, 2) for d in derivatives_of(layer, x, batch, n)])
    for place, (one, other) in enumerate(zip(*results, strict=True)):
        assert error(one, other) < 1e-12, place


@pytest.mark.parametrize("kind", ["over nodes", "within rows"])
def test_numerical_derivatives(kind: str, kernels_alone: None) -> None:
    layer = norms()[kind].double()
    layer.backend = "triton"
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    batch = torch.tensor([0, 2, 0, 0, 2, 2])
    given = [x.requires_grad_(), *layer.parameters()]
    assert torch.autograd.gradgradcheck(
        lambda x, *parameters: layer(x, batch, 3), given, fast_mode=True
    )


@pytest.mark.parametrize(
    ("rows", "segments", "order", "longest", "names"),
    [
        (200, 10, "unsorted", -1, ["segment_double_backward", "sum_shares"]),
        (
            10**6,
            20_000,
            "masked",
            99,
            ["segment_double_backward", "chunk_double_backward", "sum_shares"],
        ),
        (
            10**6,
            9,
            "sorted",
            -1,
            [
                "segment_double_backward",
                "chunk_second_sums",
                "merge_second_sums",
                "chunk_double_backward",
                "sum_shares",
            ],
        ),
    ],
)
def test_what_is_launched_follows_from_sizes_alone(
    rows: int, segments: int, order: str, longest: int, names: list[str], launches: list[Any]
) -> None:
    x = torch.empty(rows, 128, device="meta")
    ptr = torch.empty(segments + 1, dtype=torch.int64, device="meta")
    ids = None if order == "sorted" else torch.empty(rows, dtype=torch.int64, device="meta")
    parameters = (torch.empty(128, device="meta"),) * 3
    masked = order == "masked"
    call = call_of(x, ptr=ptr, order=ids, center=1, scale=1, longest=longest, masked=masked)
    statistics = torch.empty(2 * segments * 128, device="meta")
    for of_parameters in (parameters, (None,) * 3):
        launches.clear()
        cotangents = (x, *of_parameters)
        triton.normalize_double_backward(cotangents, x, x, parameters, statistics, call, [True] * 5)
        assert [name for name, _ in launches] == names
    launches.clear()
    needs = [True, True, False, False, False]
    triton.normalize_double_backward(cotangents, x, x, parameters, statistics, call, needs)
    assert [name for name, _ in launches] == names[:-1]
