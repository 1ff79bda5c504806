"""What tests of layers share: building any of the catalogue, and inputs for it."""

from __future__ import annotations

import importlib
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.layers import lookup
from graphnorms.layers.super_norm import subgraph_factors
from graphnorms.segments import Segments

TYPES, CONDITION = 3, 5
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def build_norm(norm: str, channels: int, **arguments: Any) -> nn.Module:
    """`make_norm`, with groups that divide the channels and the sizes that some layers ask for."""
    row = lookup(norm)
    if row.layer is gn.GroupNorm:
        arguments.setdefault("num_groups", math.gcd(channels, 8))
    if row.layer is gn.QKNorm:
        arguments.setdefault("heads", math.gcd(channels, 2))
    if "types" in row.needs:
        arguments.setdefault("num_types", TYPES)
    if "condition" in row.needs:
        arguments.setdefault("condition_channels", CONDITION)
    return gn.make_norm(norm, channels, **arguments)


def inputs_of(
    norm: str, x: Tensor, batch: Any, size: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the layer is called with, besides what can be made up from the features."""
    rows = x.shape[0]
    ring = torch.stack([torch.arange(rows), (torch.arange(rows) + 1) % max(rows, 1)])
    adjacency = gn.Adjacency.from_edge_index(ring, rows)
    row = lookup(norm)
    needs = row.needs
    given: dict[str, Any] = {}
    if "adjacency" in (*needs, *row.takes):
        given["adjacency"] = adjacency
    if "factors" in needs:
        given["factors"] = subgraph_factors(adjacency)
    if "condition" in needs:
        generator = torch.Generator().manual_seed(0)
        graphs = batch.num_segments if isinstance(batch, Segments) else size
        given["condition"] = torch.randn(graphs, CONDITION, generator=generator).to(x.dtype)
    if "types" in needs:
        return (x, torch.arange(rows) % TYPES), given
    if "message" in needs:
        return (x.detach().roll(1, 0), x), given
    return (x, batch, size), given


def randomize(layer: nn.Module, seed: int | torch.Generator = 1) -> None:
    """Move the parameters away from their defaults."""
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            values = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.5 + values)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers, the same for every dtype up to its rounding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def close(got: Tensor, exact: Tensor, allowed: float, what: str) -> None:
    """Compare relative to the largest entry, or to 1, and name what is off."""
    assert got.shape == exact.shape, what
    assert not torch.isnan(got).any(), f"{what} has NaN"
    if exact.numel():
        error = float((got.detach().double() - exact.detach()).abs().max())
        allowed *= max(1.0, float(exact.detach().abs().max()))
        assert error <= allowed, f"{what}: error {error:.2e}, allowed {allowed:.2e}"


def import_pyg() -> Any:
    """`torch_geometric.nn`; importing it calls what torch has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("torch_geometric.nn")


def edges_within(batch: Tensor | None, rows: int, seed: int = 3) -> Tensor:
    """Directed edges between nodes of one graph, some of them loops or twice there."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randint(0, max(rows, 1), (2, 4 * rows), generator=generator)
    return pairs if batch is None else pairs[:, batch[pairs[0]] == batch[pairs[1]]]


class Wrapped(nn.Module):
    """A layer that is called in another way than `layer(x, batch, batch_size)`."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def reset_parameters(self) -> None:
        self.layer.reset_parameters()


class OfTypes(Wrapped):
    """Takes the graphs of the nodes for their types."""

    def forward(
        self, x: Tensor, batch: Any = None, batch_size: int | None = None, **more: Any
    ) -> Tensor:
        if batch is None:
            batch = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
        elif isinstance(batch, Segments):
            batch = batch.index
        y: Tensor = self.layer(x, batch % self.layer.num_types, **more)
        return y


class OfMessages(Wrapped):
    """Takes the features for the messages, and others for the nodes'."""

    def forward(
        self,
        x: Tensor,
        batch: Any = None,
        batch_size: int | None = None,
        nodes: Tensor | None = None,
        **more: Any,
    ) -> Tensor:
        y: Tensor = self.layer(torch.cos(x) if nodes is None else nodes, x, **more)
        return y


OF_ROWS = (
    *("none", "batch", "layer", "diff-group", "rms", "group", "node", "ada", "power", "qk"),
    *("dyt", "derf"),
)
"""Names in the catalogue of norms that, in `eval()`, treat every row by itself."""
