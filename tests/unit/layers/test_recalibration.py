"""`recalibrate` against averages by hand and `update_bn` of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from tests.norms import import_pyg, normal

BATCHES = [normal(20 + 5 * seed, 3, seed=seed) * (1 + seed) + seed for seed in range(4)]
MEAN = torch.stack([x.mean(0) for x in BATCHES]).mean(0)
VAR = torch.stack([x.var(0) for x in BATCHES]).mean(0)


class OfOneType(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x, torch.zeros(x.shape[0], dtype=torch.long))
        return y


class AsSequence(nn.Module):
    """torch's InstanceNorm, the nodes of one graph as the positions of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm1d(3, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x.t().unsqueeze(0))
        return y


def spoiled(model: nn.Module) -> nn.Module:
    model = model.double()
    with torch.no_grad():
        for buffer in model.buffers():
            buffer.add_(7)
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm": lambda: gn.BatchNorm(3),
    "InstanceNorm": lambda: gn.InstanceNorm(3, track_running_stats=True),
    "HeteroBatchNorm": lambda: OfOneType(gn.HeteroBatchNorm(3, 1)),
    "DiffGroupNorm of one group": lambda: gn.DiffGroupNorm(3, 1),
    "torch's BatchNorm1d": lambda: nn.BatchNorm1d(3),
    "torch's InstanceNorm1d": AsSequence,
    "PyG's BatchNorm": lambda: import_pyg().BatchNorm(3),
    "PyG's InstanceNorm": lambda: import_pyg().InstanceNorm(3, track_running_stats=True),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [True, False])
def test_plain_averages(name: str, training: bool) -> None:
    model = spoiled(MODELS[name]()).train(training)
    momenta = [getattr(module, "momentum", None) for module in model.modules()]
    gn.recalibrate(model, BATCHES)
    found = {key.rpartition(".")[2]: value for key, value in model.named_buffers()}
    torch.testing.assert_close(found["running_mean"].flatten(), MEAN)
    torch.testing.assert_close(found["running_var"].flatten(), VAR)
    assert [getattr(module, "momentum", None) for module in model.modules()] == momenta
    assert all(module.training is training for module in model.modules())
    model.train()
    model(BATCHES[0])  # no hook is left that would move the momentum
    assert [getattr(module, "momentum", None) for module in model.modules()] == momenta


def test_pygs_hetero_batch_norm() -> None:
    model = spoiled(OfOneType(import_pyg().HeteroBatchNorm(3, 1)))
    gn.recalibrate(model, BATCHES)
    torch.testing.assert_close(model.norm.running_mean[0], MEAN)
    # Its variance is the biased one.
    biased = torch.stack([x.var(0, unbiased=False) for x in BATCHES]).mean(0)
    torch.testing.assert_close(model.norm.running_var[0], biased)


def test_power_norm_keeps_its_gradient_and_warm_up() -> None:
    model = spoiled(gn.PowerNorm(3, warmup=5))
    before = {key: value.clone() for key, value in model.named_buffers()}
    gn.recalibrate(model, BATCHES)
    assert isinstance(model, gn.PowerNorm)
    moment = torch.stack([x.square().mean(0) for x in BATCHES]).mean(0)
    torch.testing.assert_close(model.running_moment, moment)
    assert torch.equal(model.running_gradient, before["running_gradient"])
    assert torch.equal(model.num_batches_tracked, before["num_batches_tracked"])
    assert (model.warmup, model.forward_decay) == (5, 0.9)


def test_as_update_bn_of_a_deep_model() -> None:
    torch.manual_seed(0)
    models = [
        spoiled(nn.Sequential(nn.Linear(3, 5), norm, nn.ReLU(), nn.Linear(5, 3), last))
        for norm, last in (
            (nn.BatchNorm1d(5), nn.BatchNorm1d(3)),
            (gn.BatchNorm(5), gn.BatchNorm(3)),
        )
    ]
    theirs, ours = models
    state = dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True))
    ours.load_state_dict(state)
    torch.optim.swa_utils.update_bn(BATCHES, theirs)
    gn.recalibrate(ours, BATCHES)
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_norm_that_is_called_twice_averages_all_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = AsSequence()

        def forward(self, x: Tensor) -> None:
            self.norm(x)
            self.norm(2 * x)

    model = spoiled(Twice())
    gn.recalibrate(model, BATCHES)
    torch.testing.assert_close(model.norm.norm.running_mean, 1.5 * MEAN)


def test_flags_come_back_one_by_one_and_frozen_norms_stay() -> None:
    model = spoiled(nn.Sequential(gn.BatchNorm(3), gn.BatchNorm(3), nn.Dropout(0.5)))
    model[1].track_running_stats = False
    model[0].eval()
    before = [buffer.clone() for buffer in model[1].buffers()]
    gn.recalibrate(model, BATCHES)
    assert [module.training for module in model] == [False, True, True]
    assert all(map(torch.equal, model[1].buffers(), before))
    torch.testing.assert_close(model[0].module.running_mean, MEAN)


@pytest.mark.parametrize("kind", ["data", "call", "tuple", "tuple, moved", "list, call"])
def test_ways_to_give_batches(kind: str) -> None:
    geometric = pytest.importorskip("torch_geometric")
    del geometric
    from torch_geometric.data import Data
    from torch_geometric.loader import DataLoader

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = gn.BatchNorm(3).double()

        def forward(self, given: Any) -> None:
            self.norm(given if isinstance(given, Tensor) else given.x)

    model = Model()
    graphs = [Data(x=x) for x in BATCHES]
    if kind == "data":
        gn.recalibrate(model, DataLoader(graphs, batch_size=1), device="cpu")
    elif kind == "call":
        loader = DataLoader(graphs, batch_size=1)
        gn.recalibrate(model, loader, call=lambda data: model.norm(data.x, data.batch))
    elif kind == "tuple":
        gn.recalibrate(model, [(x, None) for x in BATCHES])
    elif kind == "tuple, moved":
        gn.recalibrate(model, [(x, "name") for x in BATCHES], device=torch.device("cpu"))
    else:
        gn.recalibrate(model, [[1, x] for x in BATCHES], call=lambda pair: model(pair[1]))
    torch.testing.assert_close(model.norm.module.running_mean, MEAN)


def test_nothing_to_do_and_nothing_to_go_by() -> None:
    model = nn.Sequential(gn.GraphNorm(3), gn.BatchNorm(3, track_running_stats=False))
    gn.recalibrate(model, iter(()))
    model = spoiled(gn.BatchNorm(3)).eval()
    before = [buffer.clone() for buffer in model.buffers()]
    with pytest.raises(ValueError, match="the loader has no batch, expected one or more"):
        gn.recalibrate(model, [])
    assert all(map(torch.equal, model.buffers(), before))
    assert not model.training
