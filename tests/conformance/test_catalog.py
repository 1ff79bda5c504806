"""Every row of the catalogue, with whatever its layer needs."""

from __future__ import annotations

import copy
import inspect
import re

import pytest
import torch

import graphnorms as gn
from graphnorms.layers import lookup
from tests.conformance.rows import ROWS
from tests.norms import build_norm, inputs_of

BATCH = torch.tensor([2, 0, 2, 1, 0, 2, 2, 1, 2, 0, 1, 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", gn.CATALOG)
def test_keeps_shape_and_dtype_and_has_gradients(name: str, dtype: torch.dtype) -> None:
    layer = build_norm(name, 8, dtype=torch.promote_types(dtype, torch.float32))
    x = torch.randn(12, 8, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    arguments, given = inputs_of(name, x, BATCH, 3)
    y = layer(*arguments, **given)
    assert (y.shape, y.dtype) == (x.shape, dtype)
    grads = torch.autograd.grad(
        y, [x, *(p for p in layer.parameters() if p.requires_grad)], torch.ones_like(y)
    )
    assert all(grad.isfinite().all() for grad in grads)


def test_every_row_has_a_formula_in_float64() -> None:
    """It is what `test_layers.py` compares the layer with."""
    assert {row.norm for row in ROWS.values()} == set(gn.CATALOG)


@pytest.mark.parametrize("name", gn.CATALOG)
def test_epilogue_and_residual(name: str) -> None:
    """What is fused is what follows in plain torch, and masked rows pass."""
    plain, fused = build_norm(name, 8), build_norm(name, 8, activation="silu")
    fused.load_state_dict(plain.state_dict())
    x = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    residual = torch.randn(12, 8, generator=torch.Generator().manual_seed(1))
    arguments, given = inputs_of(name, x, BATCH, 3)
    torch.manual_seed(0)
    expected = torch.nn.functional.silu(plain(*arguments, **given)) + residual
    torch.manual_seed(0)
    got = fused(*arguments, **given, residual=residual)
    torch.testing.assert_close(got, expected)
    mask = torch.arange(12) % 3 != 0
    y = fused(*arguments, **given, mask=mask)
    assert torch.equal(y[~mask], x[~mask])


@pytest.mark.parametrize("name", gn.CATALOG)
def test_copies_and_checkpoints(name: str) -> None:
    layer = build_norm(name, 8).eval()
    x = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    arguments, given = inputs_of(name, x, BATCH, 3)
    fresh = build_norm(name, 8).eval()
    fresh.load_state_dict(layer.state_dict())
    results = []
    for twin in (layer, copy.deepcopy(layer), fresh):
        torch.manual_seed(0)
        results.append(twin(*arguments, **given))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    layer.reset_parameters()
    assert repr(layer).startswith(type(layer).__name__)


@pytest.mark.parametrize("name", gn.CATALOG)
def test_the_row_says_what_there_is_to_say(name: str) -> None:
    row = lookup(name)
    assert row.name == name
    for words in (row.title, row.summary, row.formula, row.invariant, row.loses, row.use):
        assert words
        assert not words.endswith(" ")
    assert row.source or name in ("none", "custom")
    assert "$" in (inspect.getdoc(row.layer) or "")
    needed = {"adjacency", "condition", "factors"} & set(row.needs)
    assert needed <= set(inspect.signature(row.layer.forward).parameters)


@pytest.mark.parametrize("name", [name for name, row in gn.CATALOG.items() if row.needs])
def test_what_is_needed_and_not_given_is_named(name: str) -> None:
    with pytest.raises((ValueError, TypeError), match=r"type_vec|adjacency|condition|factors|msg"):
        build_norm(name, 8)(torch.zeros(12, 8))


@pytest.mark.parametrize("name", gn.CATALOG)
def test_the_layer_says_what_was_followed(name: str) -> None:
    """A paper, and the code at a commit; or torch's layer, or that there was none to read."""
    layer = gn.CATALOG[name].layer
    if layer in (gn.Identity, gn.CustomNorm):
        return
    source = " ".join((inspect.getdoc(layer) or "").partition("Source: ")[2].split())
    assert "https://arxiv.org/abs/" in source
    code = r"at [0-9a-f]{7}\b|torch_geometric 2\.8 \(726310a\)|`torch\.nn\.|no code of the authors"
    assert re.search(code, source)
