"""Every planted fault is found by its name, and little in a clean model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from graphnorms.doctor import RULES, inspect
from graphnorms.layers import GraphNorm
from tests.unit.doctor.models import (
    CHANNELS,
    HIDDEN,
    Bare,
    Batch,
    Data,
    Dense,
    Head,
    Net,
    Potential,
    Sum,
    Unused,
    Vectors,
    WithoutEps,
    ZeroVectors,
    batches,
    graph,
    of_levels,
    pyg,
    trained,
)

BATCHES = batches()


def small_weights() -> nn.Module:
    norm = nn.BatchNorm1d(HIDDEN)
    with torch.no_grad():
        norm.weight[:4] = 1e-4
    return Net(norm, batch=False)


def dead() -> nn.Module:
    model = Net(nn.LayerNorm(HIDDEN), batch=False)
    with torch.no_grad():
        model.norm.bias[1:] = -20.0
    return model


def one_row() -> list[Batch]:
    generator = torch.Generator().manual_seed(3)
    return [Batch.from_data_list([graph(1 + 11 * (i % 3), generator) for i in range(30)])]


def with_zeros() -> list[Batch]:
    made = batches(1)
    made[0].x[::5] = 0
    return made


def flat() -> list[Batch]:
    """Nearly the same features at every node: a sum over neighbours is the degree."""
    made = batches()
    for part in made:
        part.x = torch.arange(CHANNELS) + 0.02 * part.x
    return made


def constant() -> Any:
    """Features of which one has no variance."""
    x = torch.randn(64, CHANNELS)
    x[:, 0] = 1
    return (x,)


def shifted() -> list[Batch]:
    return batches(seed=5, level=4.0, spread=5.0)


Fault = Callable[[], tuple[nn.Module, Any, dict[str, Any]]]
FAULTS: dict[str, Fault] = {
    "batch-missing": lambda: (Net(pyg.GraphNorm(HIDDEN), batch=False), BATCHES, {}),
    "behind-pooling": lambda: (
        Net(nn.BatchNorm1d(HIDDEN), batch=False, head=Head(pyg.InstanceNorm(HIDDEN))),
        BATCHES,
        {},
    ),
    "wrong-axis": lambda: (Net(nn.InstanceNorm1d(HIDDEN), batch=False), BATCHES, {}),
    "padding-counted": lambda: (Dense(), BATCHES, {}),
    "zero-rows": lambda: (ZeroVectors(), with_zeros(), {}),
    "not-finite": lambda: (WithoutEps(), constant(), {}),
    "overflow": lambda: (
        Bare(pyg.GraphNorm(CHANNELS)).half(),
        (torch.randn(64, CHANNELS).half() * 3e3, torch.arange(64) // 16),
        {},
    ),
    "stale-statistics": lambda: (
        trained(Net(nn.BatchNorm1d(HIDDEN), batch=False), BATCHES),
        shifted(),
        {},
    ),
    "eval-on-batch": lambda: (
        Net(nn.BatchNorm1d(HIDDEN, track_running_stats=False), batch=False),
        BATCHES,
        {},
    ),
    "one-row-graphs": lambda: (Net(pyg.InstanceNorm(HIDDEN)), one_row(), {}),
    "few-rows": lambda: (
        Net(nn.LayerNorm(HIDDEN), batch=False, head=Head(nn.BatchNorm1d(HIDDEN))),
        batches(8, graphs=4),
        {},
    ),
    "flattened": lambda: (
        Bare(pyg.InstanceNorm(CHANNELS)),
        of_levels([-2, -1, 0, 1, 2], spread=0.0),
        {},
    ),
    "dead-channels": lambda: (dead(), BATCHES, {}),
    "gamma-near-zero": lambda: (small_weights(), BATCHES, {}),
    "lost-mean": lambda: (Bare(pyg.InstanceNorm(CHANNELS)), of_levels([-2, -1, 0, 1, 2]), {}),
    "lost-scale": lambda: (
        Bare(pyg.LayerNorm(CHANNELS)),
        [
            Batch.from_data_list([one for part in parts for one in part.to_data_list()])
            for parts in zip(batches(spread=0.1), batches(spread=3.0, seed=9), strict=True)
        ],
        {},
    ),
    "lost-degree": lambda: (Sum(nn.RMSNorm(CHANNELS)), flat(), {}),
    "not-size-consistent": lambda: (Potential(GraphNorm(HIDDEN)), BATCHES, {}),
    "not-synchronized": lambda: (
        Net(nn.BatchNorm1d(HIDDEN), batch=False),
        BATCHES,
        {"ranks": 4},
    ),
    "half-precision": lambda: (Bare(pyg.GraphNorm(CHANNELS)), batches(spread=300.0), {}),
    "idle-bias": lambda: (
        Net(
            nn.LayerNorm(HIDDEN),
            batch=False,
            head=nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU()),
        ),
        BATCHES,
        {},
    ),
    "not-reached": lambda: (Unused(), (BATCHES[0].x,), {}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str) -> None:
    torch.manual_seed(0)
    model, data, arguments = FAULTS[name]()
    found = inspect(model, data, **arguments)
    names = [finding.name for finding in found.findings]
    assert name in names
    ranks = {rule.name: rule.rank for rule in RULES}
    worse = [other for other in names if ranks[other] != "note" and other != name]
    assert not worse


def test_equivariant_models() -> None:
    e3nn = pytest.importorskip("e3nn.nn")
    torch.manual_seed(0)
    broken = inspect(Vectors(nn.LayerNorm(36)), BATCHES)
    assert broken.findings[0].name == "breaks-rotation"
    assert broken.facts.unnormalized_rotation_error < 1e-4 < 0.01 < broken.facts.rotation_error
    sound = inspect(Vectors(e3nn.BatchNorm("4x0e + 4x1o + 4x2e")), BATCHES)
    assert not [finding for finding in sound.findings if finding.rank != "note"]


class Vector(nn.Module):
    """Sums of vectors to neighbours, a norm of them, and their lengths."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.norm = norm
        self.last = nn.Linear(1, 1)

    def forward(self, pos: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor) -> Any:
        edges = pos[edge_index[1]] - pos[edge_index[0]]
        y = self.norm(torch.zeros_like(pos).index_add(0, edge_index[1], edges))
        return pyg.global_add_pool(self.last(y.norm(dim=1, keepdim=True)), batch)


def test_a_norm_that_breaks_the_symmetry() -> None:
    torch.manual_seed(0)
    assert inspect(Vector(nn.BatchNorm1d(3)), BATCHES).findings[0].name == "breaks-rotation"
    assert not inspect(Vector(nn.RMSNorm(3, elementwise_affine=False)), BATCHES).findings


class Zoo(nn.Module):
    """A model of PyG for nodes, a pooling, and a head."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.gnn = model
        self.head = nn.Linear(HIDDEN, 2)

    def forward(self, x: Any, edge_index: Any, batch: Any) -> Any:
        return self.head(pyg.global_add_pool(self.gnn(x, edge_index, batch=batch), batch))


class GPS(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(CHANNELS, HIDDEN)
        mlp = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN))
        self.blocks = nn.ModuleList(
            pyg.GPSConv(HIDDEN, pyg.GINConv(mlp), heads=2, norm="batch_norm") for _ in range(2)
        )

    def forward(self, x: Any, edge_index: Any, batch: Any) -> Any:
        x = self.first(x)
        for block in self.blocks:
            x = block(x, edge_index, batch)
        return pyg.global_add_pool(x, batch)


def zoo(kind: Any, norm: str | None = "BatchNorm", **arguments: Any) -> nn.Module:
    return Zoo(kind(CHANNELS, HIDDEN, 3, HIDDEN, norm=norm, **arguments))


DEGREES = torch.bincount(torch.bincount(BATCHES[0].edge_index[1]))
CLEAN: dict[str, Callable[[], nn.Module]] = {
    "GCN": lambda: zoo(pyg.GCN),
    "GraphSAGE": lambda: zoo(pyg.GraphSAGE, "LayerNorm", norm_kwargs={"mode": "node"}),
    "GIN": lambda: zoo(pyg.GIN),
    "GAT": lambda: zoo(pyg.GAT, heads=2),
    "GATv2, GraphNorm": lambda: zoo(pyg.GAT, "GraphNorm", v2=True),
    "PNA": lambda: zoo(pyg.PNA, aggregators=["mean", "max"], scalers=["identity"], deg=DEGREES),
    "EdgeCNN": lambda: zoo(pyg.EdgeCNN),
    "GPSConv": GPS,
    "DeepGCNLayer": lambda: Zoo(Deep()),
    "MLP": lambda: Zoo(WithoutEdges(pyg.MLP([CHANNELS, HIDDEN, HIDDEN], norm="batch_norm"))),
    "GCN, DiffGroupNorm": lambda: zoo(pyg.GCN, "DiffGroupNorm", norm_kwargs={"groups": 4}),
}


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(CHANNELS, HIDDEN)
        self.layers = nn.ModuleList(
            pyg.DeepGCNLayer(
                pyg.GENConv(HIDDEN, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), block="res+"
            )
            for _ in range(3)
        )

    def forward(self, x: Any, edge_index: Any, batch: Any) -> Any:
        x = self.first(x)
        for layer in self.layers:
            x = layer(x, edge_index)
        return x


class WithoutEdges(nn.Module):
    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, x: Any, edge_index: Any, batch: Any) -> Any:
        return self.mlp(x, batch=batch)


@pytest.mark.parametrize("name", CLEAN)
def test_little_is_found_in_clean_models(name: str) -> None:
    torch.manual_seed(0)
    found = inspect(trained(CLEAN[name](), BATCHES), BATCHES)
    assert len(found.findings) <= 1
    assert all(finding.rank == "note" for finding in found.findings)


def test_a_data_object_is_taken_by_name() -> None:
    single = Data(x=torch.randn(9, CHANNELS), edge_index=torch.zeros(2, 0, dtype=torch.long))
    single.batch = torch.zeros(9, dtype=torch.long)
    assert not inspect(Net(pyg.GraphNorm(HIDDEN)), single).findings
