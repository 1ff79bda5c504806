"""The MLP and the GIN that are trained at one learning rate, or one gain, after another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.models import GNN, preset
from graphnorms.studies.mlp import MLP
from graphnorms.studies.study import Case, Settings
from graphnorms.studies.study_data import digits, graph_set
from graphnorms.studies.training_loops import Logits, graph_logits, minibatches, scale_weights

NORMS: Final = {"mlp": ("none", "batch", "layer"), "gin": ("none", "batch", "graph")}
DECIDING: Final = ("none", "batch")
TITLES: Final = {"mlp": "MLP, digits", "gin": "GIN, MUTAG"}
DEPTH, WIDTH = 6, 64  # of the MLP
BATCH: Final = {"mlp": 64, "gin": 94}
LAST: Final = 10  # the loss at the end is that of the last 10th of the steps


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """A model and its losses.

    Args:
        model: The model.
        losses: Computes the loss of a step on demand, as many as there are steps.
        ignorant: The loss of a guess that knows the frequencies of the classes alone.
        inner: Weights in front of a norm, or of the place of one; a unit in a row.
    """

    model: nn.Module
    losses: Iterator[Tensor]
    ignorant: float
    inner: list[Tensor]


def norms_of(model: str, settings: Settings, *, deciding: bool = False) -> tuple[str, ...]:
    """Return the norms of a model; only the deciding ones if asked for, and in planted worlds."""
    return DECIDING if deciding or settings.size == "planted" else NORMS[model]


def make_task(case: Case, steps: dict[str, int], gain: float = 1.0) -> TrainingTask:
    """Build the model of a case, with `steps[model]` steps, from weights of `gain` times He's."""
    name, norm, seed = str(case["model"]), str(case["norm"]), int(case["seed"])
    model, logits, y = (_mlp if name == "mlp" else _gin)(norm, seed)
    scale_weights(model, gain)
    frequencies = y.bincount() / len(y)
    batches = minibatches(len(y), BATCH[name], steps[name], seed)
    losses = (F.cross_entropy(logits(rows), y[rows]) for rows in batches)
    inner = [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name != "head"
    ]
    return TrainingTask(model, losses, -(frequencies * frequencies.log()).sum().item(), inner)


def _mlp(norm: str, seed: int) -> tuple[nn.Module, Logits, Tensor]:
    x, y = digits()
    model = MLP(64, 10, width=WIDTH, depth=DEPTH, norm=norm, seed=seed)
    return model, lambda rows: model(x[rows]), y


def _gin(norm: str, seed: int) -> tuple[nn.Module, Logits, Tensor]:
    molecules = graph_set("MUTAG")
    # Sums over a molecule would make the first outputs too large for any rate.
    config = replace(preset("gin"), readout="mean")
    model = GNN(config, norm, molecules.num_features, 2, seed=seed)
    return model, graph_logits(model, molecules), molecules.y


def final_loss(
    task: TrainingTask, optimizer: torch.optim.Optimizer, *, held: bool = False
) -> float:
    """Train to the end; return the mean loss of the last steps, infinite if training diverged.

    Args:
        task: What to train.
        optimizer: Of its parameters.
        held: Whether units keep the length of their weights: a step leads along the sphere, so
            that the learning rate alone sets the angle by which it turns a unit.
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
    return float(np.mean(seen[-max(1, len(seen) // LAST) :]))


def _length(weight: Tensor) -> Tensor:
    length: Tensor = weight.detach().norm(dim=1, keepdim=True)
    return length


def _make_tangent(weight: Tensor) -> None:
    """Remove from the gradient what would change the length of a unit's weights."""
    if weight.grad is not None:
        w = weight.detach() / _length(weight)
        weight.grad -= (weight.grad * w).sum(1, keepdim=True) * w
