"""What is trained again and again, at one setting after another: an MLP and a GIN."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.models import GNN, MLP, preset
from graphnorms.studies.material import digits, graphs, minibatches, scale_weights
from graphnorms.studies.study import Case, Settings

NORMS: Final = {"mlp": ("none", "batch", "layer"), "gin": ("none", "batch", "graph")}
DECIDING: Final = ("none", "batch")
TITLES: Final = {"mlp": "MLP, digits", "gin": "GIN, MUTAG"}


@dataclass(frozen=True, slots=True)
class Task:
    """A model and what trains it.

    Args:
        model: It.
        losses: Computes the loss of a step when it is asked for, as many as there are steps.
        ignorant: The loss of knowing only how frequent the classes are.
        inner: Weights that have a norm behind them in models with one, a unit in a row.
    """

    model: nn.Module
    losses: Iterator[Tensor]
    ignorant: float
    inner: list[Tensor]


def norms_of(model: str, settings: Settings, *, deciding: bool = False) -> tuple[str, ...]:
    """Return the norms of a model; planted, or where only they are asked for, those that decide."""
    return DECIDING if deciding or settings.size == "planted" else NORMS[model]


def make_task(case: Case, steps: dict[str, int], gain: float = 1.0) -> Task:
    """Build the model of a case, of `steps[model]` steps, from weights of `gain` times He's."""
    make = _mlp if case["model"] == "mlp" else _gin
    model, losses, labels = make(str(case["norm"]), int(case["seed"]), steps[str(case["model"])])
    scale_weights(model, gain)
    frequencies = labels.bincount() / len(labels)
    inner = [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name != "head"
    ]
    return Task(model, losses, -(frequencies * frequencies.log()).sum().item(), inner)


def _mlp(norm: str, seed: int, steps: int) -> tuple[nn.Module, Iterator[Tensor], Tensor]:
    x, y = digits()
    model = MLP(64, 10, width=64, depth=6, norm=norm, seed=seed)
    losses = (
        F.cross_entropy(model(x[rows]), y[rows]) for rows in minibatches(len(x), 64, steps, seed)
    )
    return model, losses, y


def _gin(norm: str, seed: int, steps: int) -> tuple[nn.Module, Iterator[Tensor], Tensor]:
    molecules = graphs("MUTAG", None)
    # Sums over a molecule would make the first outputs too large for any rate.
    config = replace(preset("gin"), readout="mean")
    model = GNN(config, norm, molecules.num_features, 2, seed=seed)

    def losses() -> Iterator[Tensor]:
        for rows in minibatches(len(molecules), 94, steps, seed):
            batch = molecules.batch(rows)
            yield F.cross_entropy(model(batch.x, batch.adjacency, batch.segments), batch.y)

    return model, losses(), molecules.y


def final_loss(task: Task, optimizer: torch.optim.Optimizer, *, held: bool = False) -> float:
    """Train to the end, and return the mean loss over the last tenth of steps.

    Args:
        task: What.
        optimizer: Of its parameters.
        held: Whether units keep the length of their weights: a step leads along the sphere, so
            that the angle by which it turns a unit is the rate's, whatever came before.
    """
    torch.manual_seed(0)  # of the dropout of the GIN
    lengths = [_length(weight) for weight in task.inner]
    seen = []
    for loss in task.losses:
        optimizer.zero_grad()
        loss.backward()
        if held:
            for weight in task.inner:
                _make_tangent(weight)
        optimizer.step()
        if held:
            for weight, length in zip(task.inner, lengths, strict=True):
                weight.data.mul_(length / _length(weight))
        seen.append(loss.item())
        if not math.isfinite(seen[-1]):
            return math.inf
    return float(np.mean(seen[-max(1, len(seen) // 10) :]))


def _length(weight: Tensor) -> Tensor:
    length: Tensor = weight.detach().norm(dim=1, keepdim=True)
    return length


def _make_tangent(weight: Tensor) -> None:
    """Take out of the gradient what would change the length of a unit's weights."""
    if weight.grad is not None:
        w = weight.detach() / _length(weight)
        weight.grad -= (weight.grad * w).sum(1, keepdim=True) * w
