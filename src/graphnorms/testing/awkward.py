"""Inputs on which implementations of normalizations often fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AwkwardCase:
    """Features and their graphs.

    Args:
        name: What is awkward about the input.
        x: Features, `(nodes, channels)`, in the dtype asked for; may be strided.
        batch: Graph of each node, or `None` for one graph.
        batch_size: Number of graphs.
    """

    name: str
    x: Tensor
    batch: Tensor | None
    batch_size: int


def awkward_cases(dtype: torch.dtype, *, seed: int = 0) -> list[AwkwardCase]:
    """Make the cases: sizes, orders, strides and distributions that break implementations.

    Args:
        dtype: Dtype of the features. Values are rounded to it once, so that a float64 oracle gets
            the same input.
        seed: Seeds the values.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(rows: int, channels: int, mean: float = 0.0, std: float = 1.0) -> Tensor:
        x = torch.randn(rows, channels, generator=generator, dtype=torch.float64)
        return (x * std + mean).to(dtype)

    def graphs(*counts: int) -> Tensor:
        return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))

    def shuffled(batch: Tensor) -> Tensor:
        return batch[torch.randperm(batch.shape[0], generator=generator)]

    def outlier_first(rows: int, channels: int) -> Tensor:
        x = normal(rows, channels)
        x[0] = 1e3
        return x

    some = graphs(5, 1, 12, 3, 30)
    makers: dict[str, Callable[[], tuple[Tensor, Tensor | None, int]]] = {
        "one graph": lambda: (normal(40, 16), None, 1),
        "one row": lambda: (normal(1, 16), None, 1),
        "no rows": lambda: (normal(0, 16), graphs(0, 0, 0), 3),
        "one-row graphs": lambda: (normal(7, 5), torch.arange(7), 7),
        "three-row graphs": lambda: (normal(600, 24), torch.arange(600) // 3, 200),
        "empty graphs": lambda: (normal(9, 16), graphs(0, 4, 0, 0, 5, 0), 6),
        "unsorted": lambda: (normal(51, 16), shuffled(some), 5),
        "gaps and int32": lambda: (normal(51, 16), shuffled(some).int() * 3, 14),
        "one channel": lambda: (normal(51, 1), some, 5),
        "odd channels": lambda: (normal(51, 37), some, 5),
        "many channels": lambda: (normal(51, 333), some, 5),
        "giant and tiny graphs": lambda: (
            normal(3011, 8),
            graphs(3, 3000, 1, 7),
            4,
        ),
        "giant unsorted graph": lambda: (
            normal(2005, 130),
            shuffled(graphs(2000, 5)),
            2,
        ),
        "column slice": lambda: (normal(51, 40)[:, 3:19], some, 5),
        "transposed": lambda: (normal(16, 51).t(), some, 5),
        "every other row": lambda: (normal(102, 16)[::2], some, 5),
        "one row expanded": lambda: (normal(1, 16).expand(51, 16), some, 5),
        "mean 1e4": lambda: (normal(551, 16, mean=1e4), graphs(5, 1, 12, 3, 530), 5),
        "mean 1e4 giant": lambda: (normal(5000, 16, mean=-1e4), None, 1),
        "std 1e-3": lambda: (normal(51, 16, std=1e-3), some, 5),
        "first row an outlier": lambda: (outlier_first(1500, 16), None, 1),
        "constant channels": lambda: (torch.full((51, 16), 0.1).to(dtype), some, 5),
    }
    return [AwkwardCase(name, *maker()) for name, maker in makers.items()]
