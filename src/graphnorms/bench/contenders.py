"""The contenders: layers of the catalogue, PyG's, torch's own, and a plain copy."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.bench import pyg_layers
from graphnorms.bench.bench_settings import Shape
from graphnorms.layers.factory import make_norm
from graphnorms.layers.normalization import Normalization

COPY: Final = "copy"
LAYER_NORM: Final = "nn.LayerNorm"
BATCH_NORM: Final = "nn.BatchNorm1d"
BASELINES: Final = (COPY, LAYER_NORM)
"""What the times of layers are divided by."""


@dataclass(frozen=True)
class Problem:
    """Features and the graphs they belong to, on which contenders meet.

    Args:
        shape: The sizes.
        x: Features, `(rows, channels)`.
        batch: Graph of each row.
    """

    shape: Shape
    x: Tensor
    batch: Tensor

    @classmethod
    def make(cls, shape: Shape, dtype: torch.dtype, device: str, seed: int = 0) -> Problem:
        """Draw normal features, the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(shape.rows, shape.channels, generator=generator)
        return cls(shape, x.to(device, dtype), shape.batch(device))

    @property
    def longest(self) -> int:
        """Rows of the longest graph."""
        return int(torch.bincount(self.batch).max())


@dataclass(frozen=True)
class Contender:
    """One way to compute something, as a function of the features.

    Args:
        name: What tables call it.
        call: The forward pass.
        module: The layer behind it, if any: its gradients are dropped between calls.
        trained: Whether there is a backward pass to time.
    """

    name: str
    call: Callable[[Tensor], Tensor]
    module: nn.Module | None = None
    trained: bool = True

    def parameters(self) -> list[nn.Parameter]:
        """Return what the backward pass gives gradients besides the features."""
        return [] if self.module is None else list(self.module.parameters())


def accepts(row: Normalization, argument: str) -> bool:
    """Whether the layer of a row takes an argument of that name."""
    return argument in inspect.signature(row.layer).parameters


def activations_of(row: Normalization, wanted: tuple[str, ...]) -> Iterator[str | None]:
    """Go through the activations asked for that the layer can fuse; `None` is none."""
    for name in wanted:
        if name == "none":
            yield None
        elif accepts(row, "activation"):
            yield name


def title(row: Normalization, activation: str | None = None) -> str:
    """Return what tables call a layer: `GraphNorm + relu`."""
    return row.title if activation is None else f"{row.title} + {activation}"


def ours(row: Normalization, activation: str | None, problem: Problem) -> Contender:
    """Build a layer of the catalogue as it is used: `layer(x, batch, batch_size)`."""
    layer = build(row, problem, problem.x.dtype, activation=activation)
    batch, graphs = problem.batch, problem.shape.graphs
    return Contender(title(row, activation), lambda x: layer(x, batch, graphs), layer)


def build(row: Normalization, problem: Problem, dtype: torch.dtype, **arguments: Any) -> nn.Module:
    """Build a layer of the catalogue for a problem, leaving out arguments that are `None`.

    On a problem of few channels there are fewer groups, see `groups_of`.
    """
    arguments |= groups_of(row, problem)
    given = {name: value for name, value in arguments.items() if value is not None}
    return make_norm(row.name, problem.shape.channels, **given).to(problem.x.device, dtype)


def groups_of(row: Normalization, problem: Problem) -> dict[str, int]:
    """Return the argument of a layer with groups, of which each has two channels or more."""
    if "num_groups" not in row.arguments:
        return {}
    return {"num_groups": math.gcd(problem.shape.channels // 2, row.arguments["num_groups"])}


def theirs(row: Normalization, problem: Problem, *, compiled: bool = False) -> Contender | None:
    """Build PyG's twin of a layer, eager or compiled; `None` where there is none."""
    layer = pyg_layers.twin(row, problem.shape.channels) if pyg_layers.is_installed() else None
    if layer is None:
        return None
    layer = layer.to(problem.x.device, problem.x.dtype)
    forward = torch.compile(layer) if compiled else None
    call = pyg_layers.bind(layer, problem.batch, problem.shape.graphs, forward)
    return Contender(f"PyG {row.title}{' compiled' * compiled}", call, layer)


def torchs_own(problem: Problem) -> list[Contender]:
    """Build the copy and torch's layers, which know of no graphs."""
    channels, x = problem.shape.channels, problem.x
    norms = {
        LAYER_NORM: nn.LayerNorm(channels),
        BATCH_NORM: nn.BatchNorm1d(channels),
    }
    layers = {name: layer.to(x.device, x.dtype) for name, layer in norms.items()}
    return [
        Contender(COPY, torch.clone, trained=False),
        *(Contender(name, layer, layer) for name, layer in layers.items()),
    ]


def then_relu(contender: Contender) -> Contender:
    """Put a ReLU of its own behind a contender that cannot fuse one."""
    call = contender.call
    return Contender(f"{contender.name} + relu", lambda x: F.relu(call(x)), contender.module)
