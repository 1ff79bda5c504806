"""What several studies measure on: data that every installation has, and how it is cut up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.data import GraphSet, load_dataset
from graphnorms.errors import DatasetError
from graphnorms.models import GNN, derive_seed
from graphnorms.models.convolutions import GlorotLinear

Logits = Callable[[Tensor], Tensor]
"""What a model makes of items by number, `(items, classes)`."""


def digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's digits: images `(1797, 64)` from 0 to 1, and labels from 0 to 9.

    Source: Alpaydin & Kaynak 1998, UCI, https://archive.ics.uci.edu/dataset/80.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return torch.from_numpy(pixels / 16).float(), torch.from_numpy(labels).long()


def graphs(name: str, folder: Path | None) -> GraphSet:
    """Load a graph set: an embedded one, or `NAME/NAME.txt` in a folder, plain or gzip.

    Raises:
        DatasetError: There is no such file in the folder, or it is malformed.
    """
    if folder is None:
        return load_dataset(name)
    path = folder / name / f"{name}.txt"
    packed = path.with_suffix(".txt.gz")
    if packed.is_file() and not path.is_file():
        return load_dataset(packed)
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; --data is the folder that has {name}/{name}.txt")
    return load_dataset(path)


def own_part(given: GraphSet, size: int, seed: int) -> GraphSet:
    """Return so many graphs of a set; seeds of the same thousand have none in common.

    Raises:
        ValueError: The set is too small for a part of this seed.
    """
    thousand, place = divmod(seed, 1000)
    order = torch.randperm(len(given), generator=torch.Generator().manual_seed(thousand))
    ids = order[place * size : (place + 1) * size]
    if len(ids) < size:
        raise ValueError(f"{len(given)} graphs have no part {place + 1} of {size} graphs")
    return given.subset(ids)


def graph_logits(model: GNN, given: GraphSet) -> Logits:
    """Return the function that applies a model to graphs of a set by number."""

    def logits(ids: Tensor) -> Tensor:
        batch = given.batch(ids)
        y: Tensor = model(batch.x, batch.adjacency, batch.segments)
        return y

    return logits


def accuracy(model: nn.Module, logits: Logits, y: Tensor) -> float:
    """Return the share of all items whose class a model names, in eval mode.

    Where a result is not finite the class is not named.
    """
    model.eval()
    with torch.no_grad():
        result = logits(torch.arange(len(y)))
    model.train()
    right = (result.argmax(1) == y) & result.isfinite().all(1)
    return float(right.double().mean())


def learning_curve(
    model: nn.Module,
    logits: Logits,
    y: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    size: int,
    looks: int,
    seed: int,
    falling: bool = False,
) -> list[float]:
    """Train a classifier; return its accuracy on all items that it is trained on, look by look.

    Args:
        model: What is trained.
        logits: Applies it.
        y: The classes of all items.
        optimizer: Of its parameters.
        steps, size: How many, of how many items each; see `minibatches`.
        looks: How often the accuracy is taken, at equal distances, the last time at the end.
        seed: Draws the order of the items, and dropout.
        falling: Whether the rate falls linearly to 0.
    """
    torch.manual_seed(seed)
    first = optimizer.param_groups[0]["lr"]
    found = []
    for step, ids in enumerate(minibatches(len(y), size, steps, seed), start=1):
        if falling:
            optimizer.param_groups[0]["lr"] = first * (1 - (step - 1) / steps)
        optimizer.zero_grad()
        F.cross_entropy(logits(ids), y[ids]).backward()
        optimizer.step()
        if step * looks // steps > (step - 1) * looks // steps:
            found.append(accuracy(model, logits, y))
    return found


def minibatches(items: int, size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Draw the items of each step, epoch by epoch in a new order; what is left over is dropped.

    The order follows from the seed alone, so that all norms see the same of it.
    """
    random = torch.Generator().manual_seed(derive_seed(seed, "order"))
    chosen: list[Tensor] = []
    for _ in range(steps):
        if not chosen:
            order = torch.randperm(items, generator=random)
            chosen = list(order[: items // size * size].split(size))
        yield chosen.pop(0)


def scale_weights(model: nn.Module, gain: float = 1.0) -> None:
    r"""Take the initial weights of every Linear to `gain` times He's, and the biases to 0.

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
