"""The batteries find what they should, and nothing where there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.testing import ConformanceError, check_backend, check_norm

# Dynamo makes an instance of a Function.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


class Mean(nn.Module):
    """MeanSubtraction in plain torch, right or with one of several mistakes."""

    def __init__(self, channels: int, mistake: str) -> None:
        super().__init__()
        self.mistake = mistake
        self.weight = nn.Parameter(torch.ones(channels))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)

    def forward(
        self, x: Tensor, batch: Tensor | None = None, batch_size: int | None = None
    ) -> Tensor:
        if x.shape[1] != self.weight.shape[0] or (
            batch is not None and batch.shape[0] != x.shape[0]
        ):
            raise ValueError("wrong shape")
        index = x.new_zeros(x.shape[0], dtype=torch.int64) if batch is None else batch.long()
        size = 1 if batch_size is None else batch_size
        if self.mistake == "sorted":
            index = index.sort().values
        if self.mistake == "batch None" and batch is None:
            return x * self.weight
        wide = x if self.mistake == "half" else x.to(torch.promote_types(x.dtype, torch.float32))
        count = wide.new_zeros(size).index_add(0, index, wide.new_ones(x.shape[0])).clamp(min=1)
        if self.mistake == "leak":
            wide = wide + 0 * wide.sum()
        if self.mistake == "in place":
            x.add_(0.1)
        mean = wide.new_zeros(size, x.shape[1]).index_add(0, index, wide) / count.unsqueeze(1)
        if self.mistake == "detached":
            mean = mean.detach()
        y = (wide - mean[index]) * self.weight.to(wide.dtype)
        return y if self.mistake == "dtype" else y.to(x.dtype)


def test_a_right_norm_of_somebody_else_passes() -> None:
    # Its plain sums lose digits where the mean is large: that is what the check is for.
    with pytest.raises(ConformanceError, match=r"Mean violates \d+:\n  awkward: mean 1e4"):
        check_norm(lambda c: Mean(c, ""))
    check_norm(lambda c: Mean(c, ""), skip=("awkward", "half"))


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("sorted", "order: an unsorted batch is off"),
        ("batch None", "batch: no batch is off from a batch of zeros"),
        ("half", "half: 3000 rows of mean 30 in torch.float16: off"),
        ("leak", "nan: nan in one graph changes others"),
        ("in place", "call: the input is changed"),
        ("detached", "gradients: the first derivative is off"),
        ("dtype", "half: one graph: the result of torch.bfloat16 is torch.float32"),
    ],
)
def test_every_mistake_is_named(mistake: str, words: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_norm(lambda c: Mean(c, mistake))
    assert words in str(caught.value)


def test_a_norm_that_mixes_graphs_is_told() -> None:
    with pytest.raises(ConformanceError, match="graphs: graph 0 of the batch is off"):
        check_norm(gn.BatchNorm)


def test_unknown_checks_are_named() -> None:
    with pytest.raises(ValueError, match="unknown check 'gradient'; did you mean gradients"):
        check_norm(gn.GraphNorm, skip=("gradient",))


def test_every_backend_passes(backend: str) -> None:
    check_backend(backend, dtypes=(torch.float32, torch.float64, torch.bfloat16, torch.float16))


Change = Callable[[Tensor], Tensor]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y: y * 1.001, "equation: one graph in torch.float32, center none, scale none"),
        (lambda y: y.detach().requires_grad_() * 1, "raises RuntimeError"),
        (lambda y: y + torch.rand_like(y) * 1e-3, "repeats: the second call gives other bits"),
        (lambda y: torch.nan_to_num(y), "mask: masked rows in torch.float32"),
    ],
)
def test_a_wrong_backend_is_told(change: Change, words: str) -> None:
    right = partial(gn.segment_normalize, backend="reference")

    def wrong(x: Tensor, segments: gn.Segments, **choices: object) -> Tensor:
        return change(right(x, segments, **choices))  # type: ignore[arg-type]

    with pytest.raises(ConformanceError, match="wrong violates") as caught:
        check_backend(wrong, dtypes=(torch.float32,))
    assert words in str(caught.value)
