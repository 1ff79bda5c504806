"""Models and losses whose derivatives are known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import graphnorms as gn


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def symmetric(values: list[float], seed: int = 0) -> Tensor:
    """A symmetric matrix with these eigenvalues."""
    q = torch.linalg.qr(draw(len(values), len(values), seed=seed))[0]
    return q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ q.T


class Quadratic(nn.Module):
    """L = ½ wᵀAw with w in two parameters, one of them a matrix."""

    def __init__(self, matrix: Tensor, w: Tensor) -> None:
        super().__init__()
        self.matrix = matrix
        self.first = nn.Parameter(w[:4].reshape(2, 2).clone())
        self.second = nn.Parameter(w[4:].clone())

    def forward(self) -> Tensor:
        w = torch.cat([self.first.reshape(-1), self.second])
        return w @ self.matrix @ w / 2


def noisy_network() -> tuple[nn.Module, Callable[[], Tensor]]:
    """Running averages and random numbers, in training: what a probe could disturb."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(5, 8),
        gn.BatchNorm(8, activation="relu"),
        nn.Dropout(0.5),
        nn.Linear(8, 8),
        gn.GraphNorm(8),
        nn.Tanh(),
        gn.PowerNorm(8),
        nn.Linear(8, 3),
    ).double()
    x, y = draw(12, 5, seed=1), torch.arange(12) % 3
    return model, lambda: nn.functional.cross_entropy(model(x), y)


def state(model: nn.Module) -> dict[str, Tensor]:
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kept["random numbers"] = torch.get_rng_state()
    return kept


def unchanged(model: nn.Module, before: dict[str, Tensor]) -> bool:
    """Bit by bit, no gradients left behind and no hooks."""
    same = all(torch.equal(before[name], tensor) for name, tensor in state(model).items())
    bare = all(parameter.grad is None for parameter in model.parameters())
    hooks = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return same and bare and not hooks


SIZES = [1, 2, 3, 5, 8, 13, 4]


def random_edges(sizes: list[int], seed: int, directed: bool) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    edges, first = [], 0
    for size in sizes:
        drawn = torch.randint(0, size, (2, 2 * size), generator=generator) + first
        edges.append(drawn if directed else torch.cat([drawn, drawn.flip(0)], 1))
        first += size
    return torch.cat(edges, 1)


def complete(nodes: int) -> gn.Adjacency:
    pairs = [(i, j) for i in range(nodes) for j in range(nodes) if i != j]
    return gn.Adjacency.from_edge_index(torch.tensor(pairs).reshape(-1, 2).T, nodes)
