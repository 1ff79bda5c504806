"""A normalization before or after the activation, before or after the residual sum."""

from __future__ import annotations

import pytest
import torch

import graphnorms as gn
from graphnorms.layers import lookup
from graphnorms.models import GNN, MODELS, GraphContext, ModelConfig, NormSlot
from graphnorms.segments import Segments

EDGES = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 3]])
CONTEXT = GraphContext(
    gn.Adjacency.from_edge_index(EDGES, 6),
    Segments.from_batch(torch.tensor([0, 0, 0, 1, 1, 1])),
)


@pytest.mark.parametrize("residual_place", ["after-norm", "before-norm"])
@pytest.mark.parametrize("place", ["before-activation", "after-activation"])
def test_the_four_orders(place: str, residual_place: str) -> None:
    slot = NormSlot("graph", 4, place=place, residual_place=residual_place)
    with torch.no_grad():
        slot.norm.mean_scale.fill_(0.3)
    norm = gn.GraphNorm(4)
    norm.load_state_dict(slot.norm.state_dict())
    generator = torch.Generator().manual_seed(0)
    x, r = torch.randn(2, 6, 4, generator=generator)
    expected = {
        ("before-activation", "after-norm"): lambda: norm(x, CONTEXT.segments).relu() + r,
        ("before-activation", "before-norm"): lambda: norm(x + r, CONTEXT.segments).relu(),
        ("after-activation", "after-norm"): lambda: norm(x.relu(), CONTEXT.segments) + r,
        ("after-activation", "before-norm"): lambda: norm(x.relu() + r, CONTEXT.segments),
    }[place, residual_place]()
    torch.testing.assert_close(slot(x, CONTEXT, residual=r), expected)
    before = norm(x, CONTEXT.segments).relu() if place == "before-activation" else None
    if before is not None:
        torch.testing.assert_close(slot(x, CONTEXT), before)


@pytest.mark.parametrize("norm", [*gn.CATALOG, "graph:eps=0.5"])
@pytest.mark.parametrize("model", MODELS)
def test_every_norm_stands_in_every_model(model: str, norm: str) -> None:
    """On edges too, except for norms that need neighbours."""
    places: dict[str, object] = {
        "residual": True, "norm_place": "after-activation", "residual_place": "before-norm"
    }  # fmt: skip
    if model == "gps":
        places = {"norm_place": "sandwich"}
    elif model == "gatedgcn" and "adjacency" in lookup(norm).needs:
        with pytest.raises(ValueError, match="which edges do not have"):
            GNN(ModelConfig(name=model), norm, 5, 3, seed=0)
        places["edge_norm"] = "layer"
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(6, 5, generator=generator).requires_grad_()
    edges = torch.rand(6, 4, generator=generator)
    edge_norm = {"edge_norm": places.get("edge_norm")}
    for chosen in ({"residual": True, "head": "node", **edge_norm}, places):
        gnn = GNN(ModelConfig(name=model, **chosen), norm, 5, 3, edge_channels=4, seed=0)  # type: ignore[arg-type]
        logits = gnn(x, CONTEXT.adjacency, CONTEXT.segments, edges)
        assert logits.shape == (6 if "head" in chosen else 2, 3)
        (grad,) = torch.autograd.grad(logits.square().sum(), x)
        assert grad.isfinite().all()


def test_the_arguments_of_a_text_arrive() -> None:
    model = GNN(ModelConfig(name="gin", norm_eps={"graph": 1e-3}), "graph:eps=0.5", 5, 3, seed=0)
    assert {m.eps for m in model.modules() if isinstance(m, gn.GraphNorm)} == {0.5}
    model = GNN(ModelConfig(name="gin", norm_eps={"graph": 1e-3}), "graph", 5, 3, seed=0)
    assert {m.eps for m in model.modules() if isinstance(m, gn.GraphNorm)} == {1e-3}


def test_contra_norm_is_given_the_edges() -> None:
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    layer = gn.ContraNorm(8, scale=1.0, activation="relu")
    masked = layer(x, CONTEXT.segments, adjacency=CONTEXT.adjacency)
    everybody = layer(x, CONTEXT.segments)
    torch.testing.assert_close(NormSlot("contra", 8)(x, CONTEXT), masked)
    transformers = NormSlot("contra:mask_neighbours=false", 8)
    torch.testing.assert_close(transformers(x, CONTEXT), everybody)
    assert not torch.allclose(masked, everybody)


@pytest.mark.parametrize(
    ("norm", "head", "standardized"),
    [
        ("super", "graph", False),
        ("super", "node", True),
        ("super:standardize_rows=false", "node", False),
        ("super:standardize_rows=none", "graph", None),
    ],
)
def test_super_norm_standardizes_rows_in_tasks_on_nodes(
    norm: str, head: str, standardized: bool | None
) -> None:
    model = GNN(ModelConfig(name="gin", head=head), norm, 5, 3, seed=0)
    found = {m.standardize_rows for m in model.modules() if isinstance(m, gn.SuperNorm)}
    assert found == {standardized}


def test_unknown_places_are_named() -> None:
    with pytest.raises(ValueError, match="norm_place 'after'; did you mean after-activation"):
        ModelConfig(name="gin", norm_place="after")
    with pytest.raises(ValueError, match="unknown residual_place 'first'"):
        NormSlot("graph", 4, residual_place="first")
