"""Models of energies and forces: symmetries, derivatives, the cutoff, and which norms they take."""

from __future__ import annotations

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.layers.own_norm import OwnNorm
from graphnorms.models import FORCE_MODELS, ForceModel, ForceModelConfig
from graphnorms.models.force import EQUIVARIANT_NORMS, SelfProduct, spherical_harmonics
from graphnorms.models.force.harmonics import gaunt
from graphnorms.segments import Segments
from tests.norms import normal, randomize

COUNTS = (5, 3, 1)
Z = torch.tensor([1, 6, 7, 1, 8, 6, 1, 1, 8])
SEGMENTS = Segments.from_counts(torch.tensor(COUNTS))
CUTOFF = 3.0
POS = 1.2 * normal(9, 3)
ALL_PAIRS = torch.tensor(
    [
        (j, i)
        for i in range(9)
        for j in range(9)
        if i != j and SEGMENTS.index[i] == SEGMENTS.index[j]
    ]
).T


def made(name: str, norm: str, **more: object) -> ForceModel:
    """A model in float64 whose parameters are away from their start."""
    config = ForceModelConfig(name=name, hidden=8, cutoff=CUTOFF, radial=4, **more)  # type: ignore[arg-type]
    model = ForceModel(config, norm, seed=0).double()
    for module in model.modules():
        if isinstance(module, gn.layers.base.Norm):
            randomize(module)
    return model


def energy_and_force(model: ForceModel, pos: Tensor) -> tuple[Tensor, Tensor]:
    pos = pos.clone().requires_grad_()
    energy = model(Z, pos, ALL_PAIRS, SEGMENTS)
    (gradient,) = torch.autograd.grad(energy.sum(), pos, create_graph=True)
    return energy, -gradient


def turned(seed: int = 0) -> Tensor:
    """A rotation, or a reflection for odd seeds."""
    q, _ = torch.linalg.qr(normal(3, 3, seed=seed))
    return q * torch.linalg.det(q).sign() * (-1) ** seed


def of_harmonics(rotation: Tensor) -> Tensor:
    """What a rotation does to the harmonics, solved from many directions."""
    unit = nn.functional.normalize(normal(60, 3, seed=9), dim=1)
    both = [spherical_harmonics(each) for each in (unit, unit @ rotation.T)]
    return torch.linalg.lstsq(*both).solution.T


@pytest.mark.parametrize("seed", [0, 1])
def test_products_commute_with_rotations(seed: int) -> None:
    d = of_harmonics(turned(seed))
    torch.testing.assert_close(d @ d.T, torch.eye(9, dtype=torch.float64), rtol=0, atol=1e-13)
    three = torch.einsum("ai,bj,ck,ijk->abc", d, d, d, gaunt())
    torch.testing.assert_close(three, gaunt(), rtol=0, atol=1e-13)
    product, x = SelfProduct(4).double(), normal(5, 9, 4)
    torch.testing.assert_close(product(d @ x), d @ product(x), rtol=0, atol=1e-12)


def test_gaunt() -> None:
    torch.testing.assert_close(gaunt()[0], torch.eye(9, dtype=torch.float64), rtol=0, atol=1e-14)
    # 1/4π ∫ 3 z² (√5/2)(3 z² - 1) = (3 √5 / 2)(3/5 - 1/3)
    assert float(gaunt()[2, 2, 6]) == pytest.approx(2 / 5**0.5, abs=1e-14)
    # SelfProduct leaves out pairs in the other order, and loses nothing by it.
    product, x = SelfProduct(1).double(), normal(1, 9, 1)
    nn.init.ones_(product.weight)
    whole = torch.einsum("abc,na,nb->nc", gaunt(), x[:, :, 0], x[:, :, 0])
    degree = torch.tensor([0, 1, 1, 1, 2, 2, 2, 2, 2])
    ordered = (degree[:, None] <= degree).double()
    once = torch.einsum("abc,na,nb,ab->nc", gaunt(), x[:, :, 0], x[:, :, 0], ordered)
    torch.testing.assert_close(product(x)[:, :, 0] * 8**0.5, once, rtol=0, atol=1e-13)
    assert not torch.allclose(whole, once)


@pytest.mark.parametrize("norm", EQUIVARIANT_NORMS)
@pytest.mark.parametrize("name", FORCE_MODELS)
def test_symmetries_and_finite_differences(name: str, norm: str) -> None:
    model = made(name, norm, edge_norm="layer")
    energy, force = energy_and_force(model, POS)
    assert energy.shape == (3, 1)
    for seed in (0, 1):
        q = turned(seed)
        other, its = energy_and_force(model, POS @ q.T + normal(1, 3))
        torch.testing.assert_close(other, energy, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(its, force @ q.T, rtol=1e-12, atol=1e-11)
    order = torch.tensor([3, 0, 4, 1, 2, 7, 5, 6, 8])  # within the graphs
    swapped = model(Z[order], POS[order], ALL_PAIRS.flip(1), SEGMENTS)
    torch.testing.assert_close(swapped, energy, rtol=1e-12, atol=1e-12)
    for seed in (2, 3):
        step = 1e-5 * normal(9, 3, seed=seed)
        pos = POS.clone().requires_grad_()
        (first,) = torch.autograd.grad(
            model(Z, pos, ALL_PAIRS, SEGMENTS).sum(), pos, create_graph=True
        )
        (second,) = torch.autograd.grad(first.square().sum(), pos)
        # The force against the energy, and what a loss of forces differentiates.
        ahead, behind = (energy_and_force(model, POS + sign * step) for sign in (1, -1))
        pairs = [
            (ahead[0].sum() - behind[0].sum(), -force),
            (ahead[1].square().sum() - behind[1].square().sum(), second),
        ]
        for change, gradient in pairs:
            expected = (gradient * step).sum().item()
            assert change.item() / 2 == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("norm", EQUIVARIANT_NORMS)
def test_features_rotate(norm: str) -> None:
    """Not only the energy: every component of the features of every block."""
    model, seen = made("equivariant", norm), []
    for block in model.blocks:
        block.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    for q in (torch.eye(3, dtype=torch.float64), turned(1)):
        model(Z, POS @ q.T, ALL_PAIRS, SEGMENTS)
    d = of_harmonics(turned(1))
    for before, after in zip(seen[:2], seen[2:], strict=True):
        torch.testing.assert_close(after, d @ before, rtol=1e-12, atol=1e-12)
    assert seen[1][:8, 1:].abs().amax() > 0.01


@pytest.mark.parametrize("norm", ["none", "layer", "rms"])
@pytest.mark.parametrize("name", FORCE_MODELS)
def test_the_cutoff(name: str, norm: str) -> None:
    """Energy and force are continuous there, and an atom beyond it has no effect."""
    model = made(name, norm, edge_norm="rms")
    far = [POS.clone() for _ in range(3)]
    for pos, distance in zip(far, (CUTOFF - 1e-4, CUTOFF, 50.0), strict=True):
        pos[:5] = torch.tensor([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (-distance, 0, 0)])
    near, at, beyond = (energy_and_force(model, pos) for pos in far)
    torch.testing.assert_close(at, beyond, rtol=0, atol=1e-12)
    torch.testing.assert_close(near, at, rtol=0, atol=1e-5)
    inside = (POS[ALL_PAIRS[0]] - POS[ALL_PAIRS[1]]).norm(dim=1) < CUTOFF
    assert not inside.all()
    torch.testing.assert_close(
        model(Z, POS, ALL_PAIRS[:, inside], SEGMENTS),
        model(Z, POS, ALL_PAIRS, SEGMENTS),
        rtol=0,
        atol=1e-13,
    )


@pytest.mark.parametrize("name", FORCE_MODELS)
def test_periodic_images(name: str) -> None:
    model, edges = made(name, "layer"), torch.tensor([[1, 0], [0, 1]])
    one = Segments.single(2)
    pos = torch.tensor([(0.0, 0.0, 0.0), (0.0, 0.0, 9.0)], dtype=torch.float64)
    shifts = torch.tensor([(0.0, 0.0, -10.0), (0.0, 0.0, 10.0)], dtype=torch.float64)
    image = pos - torch.tensor([[0.0], [10.0]]) * torch.tensor([0.0, 0.0, 1.0])
    torch.testing.assert_close(
        model(Z[:2], pos, edges.flip(1), one, shifts.flip(0)),
        model(Z[:2], image, edges, one),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("name", FORCE_MODELS)
def test_every_other_norm_runs_or_is_refused_in_words(name: str) -> None:
    refused = {}
    for norm in gn.CATALOG:
        try:
            energy, force = energy_and_force(made(name, norm), POS)
        except ValueError as error:
            refused[norm] = str(error)
        else:
            assert torch.isfinite(energy).all()
            assert torch.isfinite(force).all()
    always = {"adja", "united", "contra", "super", "granola", "ada", "power"}
    if name == "painn":
        assert set(refused) == always
        assert "jump at the cutoff" in refused["adja"]
        assert "no derivative" in refused["power"]
    else:
        assert set(refused) == set(gn.CATALOG) - set(EQUIVARIANT_NORMS)
        assert "does not commute with rotations" in refused["pair"]


def test_refusals() -> None:
    def config(**more: object) -> ForceModelConfig:
        return ForceModelConfig(**{"name": "painn", "hidden": 4, **more})  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="unknown model 'pain'; did you mean"):
        config(name="pain")
    for cutoff in (0, float("inf"), float("nan"), "5"):
        with pytest.raises(ValueError, match="expected a positive distance"):
            config(cutoff=cutoff)
    for norm in ("graph", "batch", "graph-size", "pair"):
        with pytest.raises(ValueError, match="statistics span edges"):
            ForceModel(config(edge_norm=norm), "none", seed=0)
    for norm in ("layer", "dyt", "hetero-layer"):
        ForceModel(config(edge_norm=norm), "none", seed=0)
    with pytest.raises(ValueError, match="unexpected keyword"):
        ForceModel(config(name="equivariant"), "rms:degrees=each", seed=0)
    model = ForceModel(config(name="equivariant"), "layer:degrees=scalars-and-rest", seed=0)
    assert {m.degrees for m in model.modules() if isinstance(m, gn.EquivariantLayerNorm)} == {
        "scalars-and-rest"
    }
    given = config(norm_eps={"rms": 1e-3}, edge_norm="rms:eps=0.1")
    assert ForceModelConfig(**given.to_dict()) == given
    norms = [m for m in ForceModel(given, "rms", seed=0).modules() if isinstance(m, gn.RMSNorm)]
    assert sorted({m.eps for m in norms}) == [1e-3, 0.1]


def test_norms_of_ones_own() -> None:
    config = ForceModelConfig(name="equivariant", hidden=4)
    with pytest.raises(ValueError, match="does not commute with rotations"):
        ForceModel(config, OwnNorm.of(nn.LayerNorm), seed=0)
    with pytest.raises(ValueError, match=r"features \(6, 9, 4\), raised RuntimeError"):
        ForceModel(config, OwnNorm.of(nn.BatchNorm1d), seed=0)
    own = OwnNorm.of(lambda channels: gn.EquivariantRMSNorm(channels, 2))
    theirs = ForceModel(config, own, seed=0)
    ours = ForceModel(config, "rms", seed=0)
    values = [model(Z, POS, ALL_PAIRS, SEGMENTS) for model in (theirs, ours)]
    torch.testing.assert_close(*values)


@pytest.mark.full("compiled models")
@pytest.mark.parametrize("name", FORCE_MODELS)
def test_a_loss_of_forces_compiles_in_one_graph(name: str) -> None:
    model = made(name, "rms")
    parameters = list(model.parameters())

    def loss(pos: Tensor) -> Tensor:
        energy = model(Z, pos, ALL_PAIRS, SEGMENTS)
        (gradient,) = torch.autograd.grad(energy.sum(), pos, create_graph=True)
        return energy.square().mean() + gradient.square().mean()

    torch.compiler.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        eager, other = (
            torch.autograd.grad(f(POS.clone().requires_grad_()), parameters, materialize_grads=True)
            for f in (loss, compiled)
        )
    torch.testing.assert_close(other, eager, rtol=1e-12, atol=1e-12)
