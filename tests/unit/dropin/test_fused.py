"""`replace_norms(model, "fused")`: what it replaces bit for bit, and what it leaves and why."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import graphnorms as gn
from graphnorms.bench.pyg_layers import load
from graphnorms.layers.equivariant import EquivariantRMSNorm, IrrepsBatchNorm
from tests.norms import normal, randomize

WIDTH = 6
BATCH = torch.tensor([0, 0, 0, 1, 1, 2, 2])


def pyg(name: str, **arguments: Any) -> nn.Module:
    """A norm of PyG."""
    made: nn.Module = getattr(load(), name)(WIDTH, **arguments)
    return made


EQUAL: dict[str, Callable[[], nn.Module]] = {
    "LayerNorm": lambda: nn.LayerNorm(WIDTH, eps=1e-3),
    "LayerNorm, no bias": lambda: nn.LayerNorm(WIDTH, bias=False),
    "LayerNorm, no weight": lambda: nn.LayerNorm(WIDTH, elementwise_affine=False),
    "RMSNorm": lambda: nn.RMSNorm(WIDTH, eps=1e-3),
    "RMSNorm, eps of the dtype": lambda: nn.RMSNorm(WIDTH),
    "GroupNorm": lambda: nn.GroupNorm(2, WIDTH),
    "BatchNorm1d": lambda: nn.BatchNorm1d(WIDTH, momentum=0.3),
    "BatchNorm1d, cumulative": lambda: nn.BatchNorm1d(WIDTH, momentum=None),
    "BatchNorm1d, no averages": lambda: nn.BatchNorm1d(WIDTH, track_running_stats=False),
    "PyG BatchNorm": lambda: pyg("BatchNorm"),
    "PyG LayerNorm": lambda: pyg("LayerNorm", mode="node"),
    "PyG InstanceNorm": lambda: pyg("InstanceNorm", affine=True),
    "PyG GraphNorm": lambda: pyg("GraphNorm"),
    "PyG DiffGroupNorm": lambda: pyg("DiffGroupNorm", groups=3),
}


def fused(norm: nn.Module, **options: Any) -> nn.Module:
    """What a norm is replaced by."""
    new: nn.Module = gn.replace_norms(nn.Sequential(norm), "fused", **options).model[0]
    return new


def note(norm: nn.Module) -> str:
    """What is said of a norm that is left."""
    (change,) = gn.replace_norms(nn.Sequential(norm), "fused").left
    return change.note


@pytest.mark.parametrize("batch", [(), (BATCH,)], ids=["one graph", "graphs"])
@pytest.mark.parametrize("name", EQUAL)
def test_results_averages_and_state(name: str, batch: tuple[Tensor, ...]) -> None:
    theirs = EQUAL[name]().double()
    if batch and "batch" not in theirs.forward.__code__.co_varnames:
        pytest.skip("it takes no batch")
    randomize(theirs)
    ours = fused(copy.deepcopy(theirs))
    assert type(ours).__module__.startswith("graphnorms.")
    x = normal(len(BATCH), WIDTH) * 0.1 + 0.3
    for training in (True, True, False):
        theirs.train(training)
        ours.train(training)
        torch.testing.assert_close(ours(x, *batch), theirs(x, *batch), rtol=1e-12, atol=1e-12)
    state = theirs.state_dict()
    assert ours.state_dict().keys() == state.keys()
    torch.testing.assert_close(dict(ours.state_dict()), dict(state), rtol=1e-12, atol=1e-12)
    randomize(theirs)
    ours.load_state_dict(theirs.state_dict())
    for key, value in pickle.loads(pickle.dumps(ours)).state_dict().items():
        assert torch.equal(value, state[key])
    randomize(ours)
    theirs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("shape", [(WIDTH,), (3, 4, WIDTH), (2, 0, WIDTH), (2, 3, 2, WIDTH)])
@pytest.mark.parametrize("make", [nn.LayerNorm, nn.RMSNorm])
def test_any_number_of_dimensions(make: type[nn.Module], shape: tuple[int, ...]) -> None:
    theirs = make(WIDTH).double()
    randomize(theirs)
    x = normal(*shape)
    ours = fused(copy.deepcopy(theirs))
    torch.testing.assert_close(ours(input=x), theirs(x), rtol=1e-12, atol=1e-12)
    residual, mask = normal(*shape, seed=1), normal(*shape, seed=2)[..., 0] > 0
    if len(shape) > 1:
        expected = torch.where(mask.unsqueeze(-1), theirs(x), x) + residual
        y = ours(x, residual=residual, mask=mask)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_eps_of_rms_norm_is_that_of_its_statistics(dtype: torch.dtype) -> None:
    x = (normal(5, WIDTH) * 2e-4).to(dtype)  # squares of the size of float32's eps
    theirs = nn.RMSNorm(WIDTH, dtype=dtype)
    ours = fused(copy.deepcopy(theirs))
    torch.testing.assert_close(ours(x), theirs(x))


class Own(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def overridden() -> nn.Module:
    norm = nn.LayerNorm(WIDTH)
    norm.forward = lambda x: x  # type: ignore[method-assign]
    return norm


def hooked() -> nn.Module:
    norm = nn.LayerNorm(WIDTH)
    norm.register_forward_hook(lambda *_: None)
    return norm


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.LayerNorm((2, WIDTH)), "it normalizes over the last 2 dimensions, (2, 6)"),
        (lambda: nn.SyncBatchNorm(WIDTH), "it shares its statistics over ranks; convert_sync"),
        (lambda: nn.InstanceNorm1d(WIDTH), "torch's treats (nodes, channels) as one sequence"),
        (lambda: nn.BatchNorm2d(WIDTH), "it normalizes images"),
        (lambda: pyg("LayerNorm"), "its results differ from ours by 0.0002, without a batch"),
        (
            lambda: pyg("InstanceNorm", track_running_stats=True),
            "its running averages differ from ours by 0.",
        ),
        (lambda: gn.GraphNorm(WIDTH), "it is ours, and fused already"),
        (lambda: gn.EquivariantRMSNorm(4, 1), "it is ours, and fused already"),
        (lambda: Own(WIDTH), "Own has a forward of its own"),
        (overridden, "its forward was replaced"),
        (hooked, "it has hooks; remove them first"),
        (
            lambda: parametrizations.weight_norm(nn.LayerNorm(WIDTH), dim=None),
            "its weight is computed",
        ),
        (lambda: nn.LayerNorm(WIDTH, device="meta"), "it is on the meta device"),
    ],
)
def test_what_is_left_and_why(make: Callable[[], nn.Module], reason: str) -> None:
    assert note(make()).startswith(reason)


def test_of_other_inputs_than_rows() -> None:
    model = nn.Sequential(nn.GroupNorm(2, WIDTH), nn.LayerNorm(WIDTH))
    result = gn.replace_norms(model, "fused", example=normal(2, WIDTH, WIDTH).float())
    assert [change.note for change in result.left] == [
        "its input is (2, 6, 6), not (nodes, channels)"
    ]
    assert len(result.changed) == 1


def test_options() -> None:
    model = nn.Sequential(nn.LayerNorm(WIDTH), nn.BatchNorm1d(WIDTH))
    for options in ({"keep_parameters": False}, {"single_graph": True}):
        with pytest.raises(ValueError, match="choose to='same'"):
            gn.replace_norms(model, "fused", **options)
    result = gn.replace_norms(model, "fused", where="0")
    assert [change.note for change in result.changes] == ["everything", "left by `where`"]
    assert type(result.undo()[0]) is nn.LayerNorm


def test_one_norm_in_two_places() -> None:
    norm = nn.BatchNorm1d(WIDTH)
    model = nn.ModuleList([norm, norm])
    model = gn.replace_norms(model, "fused").model
    assert model[0] is model[1]
    apart = gn.replace_norms(nn.ModuleList([norm, norm]), "fused", unshare=True).model
    assert apart[0] is not apart[1]
    assert apart.state_dict().keys() == model.state_dict().keys()


# Stand-ins of norms of rotating features; `test_fused_models.py` takes the real ones.


class EquivariantRMSNormArraySphericalHarmonicsV2(nn.Module):
    """The formula of EquiformerV2's, with its attributes, parameters and buffers."""

    __module__ = "nets.equiformer_v2.layer_norm"
    power = 2

    def __init__(self, lmax: int, num_channels: int) -> None:
        super().__init__()
        self.lmax, self.num_channels, self.eps, self.affine = lmax, num_channels, 1e-5, True
        self.normalization, self.centering, self.std_balance_degrees = "component", True, True
        self.affine_weight = nn.Parameter(torch.ones(lmax + 1, num_channels))
        self.affine_bias = nn.Parameter(torch.zeros(num_channels))
        degree = torch.arange(lmax + 1)
        self.register_buffer("expand_index", degree.repeat_interleave(2 * degree + 1))
        weight = 1 / (2 * self.expand_index + 1).double() / (lmax + 1)
        self.register_buffer("balance_degree_weight", weight.unsqueeze(1))

    def forward(self, node_input: Tensor) -> Tensor:
        first = node_input[:, :1]
        o = torch.cat((first - first.mean(2, keepdim=True), node_input[:, 1:]), 1)
        squares = o.abs() ** self.power
        s = (self.balance_degree_weight * squares).sum(1, keepdim=True).mean(2, keepdim=True)
        y = self.affine_weight[self.expand_index] * o / (s + self.eps).sqrt()
        return torch.cat((y[:, :1] + self.affine_bias, y[:, 1:]), 1)


Array = EquivariantRMSNormArraySphericalHarmonicsV2


class Block(nn.Module):
    """A model that finds its norms by class, as fairchem's do."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = Array(2, 4)
        self.norm_l0 = nn.LayerNorm(4)

    def no_weight_decay(self) -> set[str]:
        return {
            f"{name}.{key}"
            for name, part in self.named_modules()
            if isinstance(part, Array)
            for key, _ in part.named_parameters()
        }


def test_checkpoints_with_tables_load_both_ways() -> None:
    model = Block().double()
    randomize(model)
    state = copy.deepcopy(model.state_dict())
    x = normal(5, 9, 4)
    expected = model.norm(x)
    result = gn.replace_norms(model, "fused")
    assert isinstance(model.norm, EquivariantRMSNorm)
    torch.testing.assert_close(model.norm(node_input=x), expected, rtol=1e-12, atol=1e-12)
    assert model.norm.num_channels == 4
    kept = model.state_dict()
    assert kept.keys() == state.keys()
    assert all(torch.equal(kept[key], state[key]) for key in state)
    Block().double().load_state_dict(kept)
    model.load_state_dict(state)
    plain = {key: value for key, value in state.items() if "affine" in key or "l0" in key}
    model.load_state_dict(plain)  # fairchem 2 keeps no tables
    text = str(result)
    assert "nets: EquivariantRMSNormArraySphericalHarmonicsV2(4)" in text
    assert "graphnorms: EquivariantRMSNorm(4)" in text
    assert "no_weight_decay() finds norms by their class and now misses 2 parameters" in text
    assert "ours return bfloat16" in text


def test_another_formula_under_a_known_name_is_left() -> None:
    norm = Array(2, 4)
    norm.power = 4
    assert re.match(r"its results differ from ours by \d", note(norm))
    norm = Array(2, 4)
    del norm.centering
    assert "it is of an unknown version: " in note(norm)
    norm = Array(2, 4)
    norm.register_buffer("other", torch.ones(1))
    assert note(norm).startswith("its state is not that of ours: ")
    norm = Array(2, 4)
    norm.num_channels = 5
    assert note(norm).startswith("its state is not that of ours: size mismatch")


def test_other_names_leave_norms_of_rotating_features() -> None:
    model = nn.ModuleDict(
        {"a": Array(2, 4), "b": gn.EquivariantLayerNorm(4, 2), "c": nn.LayerNorm(4)}
    )
    model["b"].norm_l0 = gn.LayerNorm(4)
    result = gn.replace_norms(model, "same")
    assert [change.name for change in result.changes] == ["c"]


def test_e3nns_batch_norm() -> None:
    norms = pytest.importorskip("e3nn.nn")
    kept = norms.BatchNorm("2x0e+1x1o", reduce="max", include_bias=False)
    new = fused(kept)
    assert isinstance(new, IrrepsBatchNorm)
    assert str(new.irreps) == str(kept.irreps)
    assert new.reduce == "max"
    assert note(norms.BatchNorm("2x0e+1x1o", instance=True)).startswith("instance=True takes")
