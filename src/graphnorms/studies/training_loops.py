"""Training as the studies need it: one step, a loop of steps, a learning curve, minibatches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.data import GraphSet
from graphnorms.models import GNN, derive_seed
from graphnorms.models.convolutions import GlorotLinear

Logits = Callable[[Tensor], Tensor]
"""Applies a model to items by number, `(items, classes)`."""


def graph_logits(model: GNN, given: GraphSet) -> Logits:
    """Return the function that applies a model to graphs of a set by number."""

    def logits(ids: Tensor) -> Tensor:
        batch = given.batch(ids)
        y: Tensor = model(batch.x, batch.adjacency, batch.segments)
        return y

    return logits


def take_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    """Take one step of descent; return the loss before it."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def descend(
    optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], steps: int
) -> list[float]:
    """Take steps of descent, each on a new loss; return the losses."""
    return [take_step(optimizer, loss()) for _ in range(steps)]


def by_tenths(curve: Sequence[float]) -> list[float]:
    """Return the mean of each tenth of a curve."""
    return [float(part.mean()) for part in np.array_split(np.array(curve), 10)]


def correct(logits: Tensor, y: Tensor) -> float:
    """Return the share of items whose class is named; results that are not finite name none."""
    right = (logits.argmax(1) == y) & logits.isfinite().all(1)
    return float(right.double().mean())


def accuracy(model: nn.Module, logits: Logits, y: Tensor) -> float:
    """Return the share of all items whose class a model names in eval mode."""
    model.eval()
    with torch.no_grad():
        result = logits(torch.arange(len(y)))
    model.train()
    return correct(result, y)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a classifier is trained.

    Args:
        steps, size: Number of steps, and of items in each; see `minibatches`.
        looks: How often the accuracy is taken, at equal distances, the last time at the end.
        seed: Seeds the order of the items, and dropout.
        falling: Whether the learning rate falls linearly to 0.
    """

    steps: int
    size: int
    looks: int
    seed: int
    falling: bool = False


def learning_curve(
    model: nn.Module,
    logits: Logits,
    y: Tensor,
    optimizer: torch.optim.Optimizer,
    course: Course,
) -> list[float]:
    """Train a classifier; return its accuracy on all its training items, look by look.

    Args:
        model: The model to train.
        logits: Applies it.
        y: The classes of all items.
        optimizer: Of its parameters.
        course: How long, and on how many items.
    """
    torch.manual_seed(course.seed)
    steps, looks = course.steps, course.looks
    first = optimizer.param_groups[0]["lr"]
    found = []
    batches = minibatches(len(y), course.size, steps, course.seed)
    for step, ids in enumerate(batches, start=1):
        if course.falling:
            optimizer.param_groups[0]["lr"] = first * (1 - (step - 1) / steps)
        take_step(optimizer, F.cross_entropy(logits(ids), y[ids]))
        if step * looks // steps > (step - 1) * looks // steps:
            found.append(accuracy(model, logits, y))
    return found


def minibatches(items: int, size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Draw the items of each step, every epoch in a new order; an incomplete batch is dropped.

    The order depends on the seed alone, so that all norms see the same batches.
    """
    random = torch.Generator().manual_seed(derive_seed(seed, "order"))
    chosen: list[Tensor] = []
    for _ in range(steps):
        if not chosen:
            order = torch.randperm(items, generator=random)
            chosen = list(order[: items // size * size].split(size))
        yield chosen.pop(0)


def scale_weights(model: nn.Module, gain: float = 1.0) -> None:
    r"""Scale the initial weights of every Linear to `gain` times He's, and set biases to 0.

    He's have the variance $2/n$, $n$ the inputs, which keeps the size of signals from one ReLU
    layer to the next. torch draws those of a Linear with $1/(3n)$, Glorot's of a `GCNConv` have
    $2/(n + m)$, $m$ the outputs.

    Source: He et al. 2015, https://arxiv.org/abs/1502.01852.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                outputs, inputs = module.weight.shape
                glorot = isinstance(module, GlorotLinear)
                drawn = 2 / (inputs + outputs) if glorot else 1 / (3 * inputs)
                module.weight.mul_((2 / inputs / drawn) ** 0.5 * gain)
                if module.bias is not None:
                    module.bias.zero_()
