"""What several studies measure on: data that every installation has, and how it is cut up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from graphnorms.data import GraphSet, load_dataset
from graphnorms.errors import DatasetError
from graphnorms.models import derive_seed
from graphnorms.models.convolutions import GlorotLinear


def digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's digits: images `(1797, 64)` from 0 to 1, and labels from 0 to 9.

    Source: Alpaydin & Kaynak 1998, UCI, https://archive.ics.uci.edu/dataset/80.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return torch.from_numpy(pixels / 16).float(), torch.from_numpy(labels).long()


def graphs(name: str, folder: Path | None) -> GraphSet:
    """Load a graph set: an embedded one, or `NAME/NAME.txt` in the folder of larger ones.

    Raises:
        DatasetError: There is no such file in the folder, or it is malformed.
    """
    if folder is None:
        return load_dataset(name)
    path = folder / name / f"{name}.txt"
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; --data is the folder that has {name}/{name}.txt")
    return load_dataset(path)


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
