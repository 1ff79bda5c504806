"""The MLP is its formula, in every order, and refuses what looks at graphs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import graphnorms as gn
from graphnorms.models import ACTIVATIONS, PlacedNorm
from graphnorms.studies.mlp import MLP
from tests.norms import OF_ROWS


def samples(rows: int = 7, channels: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, channels, generator=generator, dtype=torch.float64) * 2 + 1


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_mlp_is_its_formula(norm: str) -> None:
    """Layer by layer with torch's own norms, at parameters away from their defaults."""
    mlp = MLP(5, 3, width=8, depth=3, norm=norm, activation="sigmoid", seed=0).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in mlp.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    h = x = samples()
    for layer in mlp.layers:
        own: nn.Module = nn.Identity()
        if norm == "batch":
            own = nn.BatchNorm1d(8).double()
            own.load_state_dict(layer.norm.norm.module.state_dict())
        elif norm == "layer":
            own = nn.LayerNorm(8).double()
            own.load_state_dict(layer.norm.norm.state_dict())
        h = own(h @ layer.linear.weight.T + layer.linear.bias).sigmoid()
    expected = h @ mlp.head.weight.T + mlp.head.bias
    torch.testing.assert_close(mlp(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("residual_place", ["after-norm", "before-norm"])
@pytest.mark.parametrize("place", ["before-activation", "after-activation"])
def test_the_orders_of_a_placed_norm(place: str, residual_place: str) -> None:
    own = nn.LayerNorm(5).double()
    placed = PlacedNorm(own, "sigmoid", place=place, residual_place=residual_place)
    x, r = samples(), samples().flip(0)
    want = {
        ("before-activation", "before-norm"): own(x + r).sigmoid(),
        ("before-activation", "after-norm"): own(x).sigmoid() + r,
        ("after-activation", "before-norm"): own(x.sigmoid() + r),
        ("after-activation", "after-norm"): own(x.sigmoid()) + r,
    }
    torch.testing.assert_close(placed(x, r), want[place, residual_place])


def test_a_hook_sees_what_goes_into_the_activation() -> None:
    mlp = MLP(5, 3, width=8, depth=3, norm="batch", activation="sigmoid", seed=0).double()
    seen = []
    for layer in mlp.layers:
        layer.norm.activation.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    mlp(samples(50))
    assert len(seen) == 3
    for inputs in seen:
        torch.testing.assert_close(inputs.mean(0), torch.zeros(8, dtype=torch.float64))


@pytest.mark.parametrize("norm", gn.CATALOG)
def test_every_norm_keeps_samples_apart_or_is_refused(norm: str) -> None:
    """In `eval()` no sample tells of another one."""
    if norm not in OF_ROWS:
        with pytest.raises(ValueError, match="try 'batch', 'layer' or 'rms'"):
            MLP(5, 3, width=16, norm=norm, seed=0)
        return
    mlp = MLP(5, 3, width=16, norm=norm, seed=0)
    x = samples().float()
    mlp(x)
    mlp.eval()
    other = x.clone()
    other[1:] *= -3
    torch.testing.assert_close(mlp(x)[:1], mlp(other)[:1])


def test_initial_weights_do_not_depend_on_the_norm() -> None:
    models = [MLP(5, 3, norm=norm, seed=7) for norm in ("none", "batch", "layer", "rms")]
    weights = [
        {name: value for name, value in model.named_parameters() if ".norm." not in name}
        for model in models
    ]
    for other in weights[1:]:
        assert list(other) == list(weights[0])
        assert all(torch.equal(other[name], weights[0][name]) for name in other)
    assert not torch.equal(MLP(5, 3, seed=8).head.weight, models[0].head.weight)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_torch(name: str) -> None:
    x = samples()
    expected = x if name == "identity" else getattr(nn.functional, name)(x)
    assert torch.equal(ACTIVATIONS[name]()(x), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "instance"}, "'instance' is over graphs, but a sample of an MLP is one"),
        ({"norm": "adja"}, "'adja' needs adjacency, which only a graph neural network has; try"),
        ({"norm": "batchh"}, "unknown norm 'batchh'; did you mean batch"),
        ({"activation": "sigmoidd"}, "unknown activation 'sigmoidd'; did you mean sigmoid"),
        ({"depth": 0}, "depth is 0, expected a positive number"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLP(5, 3, seed=0, **arguments)


def test_unknown_orders_are_named() -> None:
    with pytest.raises(ValueError, match="unknown norm_place 'before'; did you mean before-act"):
        PlacedNorm(nn.Identity(), place="before")
    with pytest.raises(ValueError, match="unknown residual_place 'first'"):
        PlacedNorm(nn.Identity(), residual_place="first")


def test_a_placed_norm_without_a_residual() -> None:
    x = samples()
    placed = PlacedNorm(nn.LayerNorm(5).double(), "tanh", residual_place="before-norm")
    assert torch.equal(placed(x), nn.functional.layer_norm(x, (5,)).tanh())
