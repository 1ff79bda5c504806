"""Every layer in the battery that is public, and what beyond it every layer of ours must stand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.segments import Segments
from graphnorms.testing import check_norm
from tests.conformance.rows import ON_BACKENDS, ROWS, Row, arguments
from tests.norms import OfTypes, close, normal, randomize

pytestmark = [
    # torch's own: Dynamo makes an instance of a Function, and forward-mode AD compiles a script.
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning"),
]

CHANNELS = 6
UNSORTED = torch.repeat_interleave(torch.arange(5), torch.tensor([5, 1, 0, 7, 3]))[
    torch.randperm(16, generator=torch.Generator().manual_seed(11))
]
BETWEEN_GRAPHS = ("batch", "diff-group", "power", "united", "super")
"""Those in which the graphs of a batch depend on each other."""

OF_TYPES = ("hetero-batch", "hetero-layer")


def first_of_its_kind(row: Row) -> bool:
    return row is next(other for other in ROWS.values() if other.norm == row.norm)


def not_checked(row: Row) -> tuple[str, ...]:
    """What of the battery a layer need not stand, and why."""
    found = []
    if row.norm in ("pair", "mean-subtraction", "graph-size", "message", *OF_TYPES):
        found.append("errors")  # they take any width, or what wraps them takes any type
    if row.norm in ("ada", "power"):
        found.append("gradients")  # theirs are no derivatives, by their authors' choice
    if row.norm in OF_TYPES:
        found += ["batch", "graphs"]  # a graph is a type, and alone it is the first
    if row.norm == "super":
        found.append("awkward")  # it adds shares of a large mean; `test_layers.py` allows for them
    if row.norm == "diff-group":
        found += ["awkward", "half"]  # large means are judged by the groups, in its own tests
    if row.norm == "contra" or not first_of_its_kind(row):
        found += ["awkward", "half"]  # slow, and in `test_layers.py` against the formula
    if not gn.CATALOG[row.norm].needs:
        found.append("compile")  # in `test_modes.py`
    return tuple(found)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=() if first_of_its_kind(row) else pytest.mark.full("batteries of variants")
        )
        for name, row in ROWS.items()
    ],
)
def test_passes_the_public_battery(name: str) -> None:
    row = ROWS[name]
    mixes = row.norm in BETWEEN_GRAPHS or row.over == "batch" or "batch" in name
    check_norm(
        lambda channels: row.make(channels, 4),
        per_graph=not mixes or row.norm == "hetero-batch",
        given=lambda batch, size, rows: arguments(
            row.given(batch, size, rows), rows, torch.float64
        ),
        skip=not_checked(row),
    )


def call(
    row: Row,
    layer: Any,
    x: Tensor,
    batch: Any,
    size: int | None,
    given: dict[str, Any],
    **rest: Any,
) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    y: Tensor = layer(x, batch, size, **arguments(given, x.shape[0], wide), **rest)
    return y


@pytest.mark.parametrize("name", ROWS)
def test_segments_in_the_place_of_a_batch(name: str) -> None:
    row = ROWS[name]
    layer = row.make(CHANNELS, 5)
    x, given = normal(16, CHANNELS, dtype=torch.float32), row.given(UNSORTED, 5, 16)
    by_batch = call(row, copy.deepcopy(layer), x, UNSORTED, 5, given)
    segments = Segments.from_batch(UNSORTED, 5)
    assert torch.equal(call(row, layer, x, segments, None, given), by_batch)


def case(order: str) -> tuple[Tensor, Tensor]:
    """Graphs, one without a row that counts and one without a row, and a mask."""
    generator = torch.Generator().manual_seed(0)
    batch = torch.repeat_interleave(torch.arange(5), torch.tensor([5, 80, 0, 7, 40]))
    mask = torch.rand(batch.shape[0], generator=generator) < 0.6
    mask[batch == 3] = False
    if order == "unsorted":
        shuffle = torch.randperm(batch.shape[0], generator=generator)
        batch, mask = batch[shuffle], mask[shuffle]
    return batch, mask


def without(given: dict[str, Any], mask: Tensor) -> dict[str, Any]:
    """What is given, for the rows that count alone."""
    found = {}
    number = mask.long().cumsum(0) - 1
    for key, value in given.items():
        if key == "edges":
            found[key] = number[value[:, mask[value].all(0)]]
        else:
            found[key] = value[mask] if value.shape[0] == mask.shape[0] else value
    return found


@pytest.mark.parametrize("order", ["sorted", "unsorted"])
@pytest.mark.parametrize(("name", "backend"), ON_BACKENDS, indirect=["backend"])
def test_masked_rows_are_not_there(name: str, order: str, backend: str) -> None:
    row = ROWS[name]
    batch, mask = case(order)
    more = {} if backend == "auto" else {"backend": backend}
    given = row.given(batch, 5, batch.shape[0])
    for dtype, allowed in ((torch.float64, 1e-11), (torch.float32, 2e-5), (torch.bfloat16, 2e-2)):
        x, residual, grad_y = (normal(batch.shape[0], 9, seed=i, dtype=dtype) for i in range(3))
        results = []
        for masked in (True, False):
            layer = row.make(
                9, 5, activation="silu", dtype=torch.promote_types(dtype, torch.float32), **more
            )
            if row.randomize:
                randomize(layer)
            leaf = x.clone()
            if masked:
                leaf[~mask] = float("nan")  # what padding may hold
            leaf.requires_grad_()
            if masked:
                y = call(row, layer, leaf, batch, 5, given, residual=residual, mask=mask)
                assert torch.isnan(y[~mask]).all()
                y.backward(grad_y)
                assert leaf.grad is not None
                assert torch.equal(leaf.grad[~mask], grad_y[~mask])
                leaf.grad[~mask] = 0
                y = y[mask]
            else:
                y = call(
                    row,
                    layer,
                    leaf[mask],
                    batch[mask],
                    5,
                    without(given, mask),
                    residual=residual[mask],
                )
                y.backward(grad_y[mask])
            assert leaf.grad is not None
            grads = [p.grad for p in layer.parameters() if p.grad is not None]
            results.append([y.detach(), leaf.grad, *grads, *layer.buffers()])
        torch.testing.assert_close(*results, rtol=allowed, atol=allowed)


@pytest.mark.parametrize(("name", "backend"), ON_BACKENDS, indirect=["backend"])
def test_masked_rows_come_out_as_they_are_and_the_residual_added(name: str, backend: str) -> None:
    row = ROWS[name]
    batch, mask = case("sorted")
    x, given = normal(batch.shape[0], 9, dtype=torch.float32), row.given(batch, 5, batch.shape[0])
    more = {} if backend == "auto" else {"backend": backend}
    layer = row.make(9, 5, activation="relu", dropout=0.5, **more)
    y = call(row, layer, x, batch, 5, given, mask=mask)
    assert torch.equal(y[~mask], x[~mask])
    assert 0.2 < float((y[mask] == 0).float().mean()) < 0.95
    y = call(row, layer, x, batch, 5, given, residual=2 * x, mask=mask)
    assert torch.equal(y[~mask], 3 * x[~mask])

    layer = row.make(9, 5, **more)
    before = [buffer.clone() for buffer in layer.buffers()]
    nothing = call(row, layer, x, batch, 5, given, mask=torch.zeros_like(mask))
    assert torch.equal(nothing, x)
    assert all(map(torch.equal, layer.buffers(), before))
    every = call(row, layer, x, batch, 5, given, mask=torch.ones_like(mask))
    twin = row.make(9, 5, **more)
    twin.load_state_dict(layer.state_dict())
    if row.norm != "power":  # whose moment has moved
        torch.testing.assert_close(every, call(row, twin, x, batch, 5, given))


@pytest.mark.parametrize("name", ROWS)
def test_wrong_calls_and_arguments_are_named(name: str) -> None:
    row = ROWS[name]
    batch = torch.tensor([0, 0, 1, 1])
    for training in (True, False):
        layer = row.make(CHANNELS, 2).train(training)
        given, x = row.given(batch, 2, 4), torch.zeros(4, CHANNELS)
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"x": x.long()}, r"x is torch.int64, expected a floating dtype"),
            ({"residual": x[:, :2]}, r"residual is .* like x"),
            ({"residual": x.double()}, r"residual is .* like x"),
            ({"mask": torch.ones(5, dtype=torch.bool)}, r"mask is \(5,\) of torch.bool, expected"),
            ({"mask": torch.ones(4)}, r"mask is \(4,\) of torch.float32"),
            ({"mask": [True] * 4}, "mask is a list"),
        ]
        if row.norm not in ("pair", "mean-subtraction", "graph-size", "message", "none"):
            wrong.append(({"x": x[:, :5]}, r"x has shape \(4, 5\), expected \(nodes"))
        if isinstance(layer, OfTypes) or row.norm == "message":
            wrong = [each for each in wrong if "x" not in each[0]]
        for change, message in wrong:
            rest = {"x": x} | change
            with pytest.raises(ValueError, match=message):
                call(row, layer, rest.pop("x"), batch, 2, given, **rest)
    with pytest.raises(ValueError, match="unknown activation 'relo'"):
        row.make(CHANNELS, 2, activation="relo")
    with pytest.raises(ValueError, match=r"dropout is 1\.0"):
        row.make(CHANNELS, 2, dropout=1.0)
    if gn.CATALOG[row.norm].layer not in (
        gn.Identity,
        gn.PairNorm,
        gn.MeanSubtractionNorm,
        gn.GraphSizeNorm,
        gn.MessageNorm,
    ):
        with pytest.raises(ValueError, match="in_channels is 0, expected a positive number"):
            row.make(0, 2)


@pytest.mark.parametrize(
    "name",
    [name for name, row in ROWS.items() if gn.CATALOG[row.norm].needs and first_of_its_kind(row)],
)
@pytest.mark.parametrize("kind", ["segments", "masked"])
def test_compiles_in_one_graph(name: str, kind: str) -> None:
    """Those that need more than `test_modes.py` gives."""
    torch._dynamo.reset()
    row = ROWS[name]
    batch, size = (UNSORTED, 5) if kind == "masked" else (Segments.from_batch(UNSORTED, 5), None)
    rest = {"mask": torch.arange(16) % 3 != 1} if kind == "masked" else {}
    layer = row.make(CHANNELS, 5, activation="silu")
    twin, given = copy.deepcopy(layer), row.given(UNSORTED, 5, 16)
    results = []
    for module in (torch.compile(layer, fullgraph=True, backend="aot_eager"), twin):
        x = normal(16, CHANNELS, dtype=torch.float32).requires_grad_()
        y = call(row, module, x, batch, size, given, **rest)
        y.backward(normal(16, CHANNELS, seed=9, dtype=torch.float32))
        results.append([y.detach(), x.grad, *layer.buffers()])
    for got, want in zip(*results, strict=True):
        close(got, want, 1e-5, kind)
