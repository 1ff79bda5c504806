"""Models with one fault each, and models without, with batches of graphs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphnorms.bench.pyg_layers import load

pyg, data, utils = load(), load("data"), load("utils")
Batch, Data = data.Batch, data.Data

CHANNELS = 8
HIDDEN = 16


def graph(nodes: int, generator: torch.Generator, level: float = 0.0, spread: float = 1.0) -> Data:
    """A random graph with about four neighbours a node."""
    pairs = torch.randint(0, nodes, (2, 2 * nodes), generator=generator)
    pairs = pairs[:, pairs[0] != pairs[1]]
    edges = torch.unique(torch.cat((pairs, pairs.flip(0)), 1), dim=1)
    x = level + spread * torch.randn(nodes, CHANNELS, generator=generator)
    pos = torch.randn(nodes, 3, generator=generator) * torch.tensor([3.0, 2.0, 0.5])
    z = torch.randint(1, 9, (nodes,), generator=generator)
    return Data(x=x, edge_index=edges, pos=pos, z=z, y=torch.tensor([nodes % 2]))


def batches(count: int = 4, graphs: int = 32, seed: int = 0, **features: Any) -> list[Batch]:
    """Batches of random graphs of 8 to 23 nodes."""
    generator = torch.Generator().manual_seed(seed)

    def size() -> int:
        return int(torch.randint(8, 24, (1,), generator=generator))

    return [
        Batch.from_data_list([graph(size(), generator, **features) for _ in range(graphs)])
        for _ in range(count)
    ]


def of_levels(levels: list[float], **features: Any) -> list[Batch]:
    """Batches of graphs whose features have different means."""
    generator = torch.Generator().manual_seed(1)
    made = [graph(12, generator, level, **features) for level in levels * 4]
    return [Batch.from_data_list(made) for _ in range(4)]


class Net(nn.Module):
    """A convolution, a norm that is called as given, a pooling, and a head."""

    def __init__(self, norm: nn.Module, *, batch: bool = True, head: nn.Module | None = None):
        super().__init__()
        self.conv = pyg.GraphConv(CHANNELS, HIDDEN, bias=False)
        self.norm = norm
        self.head = nn.Linear(HIDDEN, 2) if head is None else head
        self.gives_batch = batch

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        x = self.conv(x, edge_index)
        x = (self.norm(x, batch) if self.gives_batch else self.norm(x)).relu()
        return self.head(pyg.global_mean_pool(x, batch))


class Bare(nn.Module):
    """A norm of the features themselves."""

    def __init__(self, norm: nn.Module, *, batch: bool = True):
        super().__init__()
        self.norm = norm
        self.last = nn.Linear(CHANNELS, 2)
        self.gives_batch = batch

    def forward(self, x: Tensor, batch: Tensor) -> Tensor:
        x = self.norm(x, batch) if self.gives_batch else self.norm(x)
        return self.last(pyg.global_add_pool(x, batch))


class Head(nn.Module):
    """A norm of graphs behind the pooling."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.first = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.first(x))


class Dense(nn.Module):
    """Graphs padded to the size of the largest, and the padding normalized with the nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(CHANNELS, HIDDEN, bias=False)
        self.norm = nn.BatchNorm1d(HIDDEN)

    def forward(self, x: Tensor, batch: Tensor) -> Tensor:
        dense, mask = utils.to_dense_batch(x, batch)
        y = self.first(dense)
        y = self.norm(y.flatten(0, 1)).view_as(y)
        return (y * mask.unsqueeze(-1)).sum(1)


class ZeroVectors(nn.Module):
    """Vectors divided by their length, without an eps; some are 0."""

    class UnitNorm(nn.Module):
        def forward(self, v: Tensor) -> Tensor:
            return v / v.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-12)

    def __init__(self) -> None:
        super().__init__()
        self.norm = self.UnitNorm()
        self.last = nn.Linear(CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(x))


class WithoutEps(nn.Module):
    """A norm of our own without an eps."""

    class StdNorm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - x.mean(0)) / x.std(0)

    def __init__(self) -> None:
        super().__init__()
        self.norm = self.StdNorm()
        self.last = nn.Linear(CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(x))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(CHANNELS)
        self.spare = nn.LayerNorm(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x)
        return y


class Sum(nn.Module):
    """A sum over a node and its neighbours, and a norm of what comes of it."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.conv = pyg.SimpleConv(aggr="sum")
        self.norm = norm

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        y: Tensor = self.norm(x + self.conv(x, edge_index))
        return y


class Vectors(nn.Module):
    """A model of e3nn: spherical harmonics of edges, summed, a norm, and an invariant."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        from e3nn import o3

        self.harmonics = o3.SphericalHarmonics("0e + 1o + 2e", normalize=True)
        self.mix = o3.Linear("1x0e + 1x1o + 1x2e", "4x0e + 4x1o + 4x2e")
        self.norm = norm
        self.invariant = o3.FullyConnectedTensorProduct(
            *("4x0e + 4x1o + 4x2e", "4x0e + 4x1o + 4x2e", "1x0e")
        )

    def forward(self, pos: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        y = self.harmonics(pos[edge_index[1]] - pos[edge_index[0]])
        y = self.norm(self.mix(pos.new_zeros(pos.shape[0], 9).index_add(0, edge_index[1], y)))
        return pyg.global_add_pool(self.invariant(y, y), batch)


class Potential(nn.Module):
    """Energies of atoms from distances, with a norm of them."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.first = nn.Linear(4, HIDDEN)
        self.norm = norm
        self.last = nn.Linear(HIDDEN, 1)

    def forward(self, pos: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        length = (pos[edge_index[1]] - pos[edge_index[0]]).norm(dim=1, keepdim=True)
        terms = torch.cat([(-length * k).exp() for k in (0.3, 1.0, 2.0, 4.0)], 1)
        atoms = pos.new_zeros(pos.shape[0], 4).index_add(0, edge_index[1], terms)
        return pyg.global_add_pool(self.last(self.norm(self.first(atoms), batch)), batch)


def trained(model: nn.Module, data: list[Batch], steps: int = 40) -> nn.Module:
    """Run a model in train() on batches, so that its running statistics follow."""
    model.train()
    with torch.no_grad():
        for step in range(steps):
            part = data[step % len(data)]
            model(part.x, part.edge_index, part.batch)
    return model
