"""Norms of the user's own: how their layers are called, found and named."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graphnorms
from graphnorms.layers.own_norm import OwnNorm, is_own
from graphnorms.models import GraphContext, NormSlot
from graphnorms.segments import Segments

HERE = __name__
X = torch.arange(30, dtype=torch.float32).view(10, 3).sin()
COUNTS = [4, 5, 1]
SEGMENTS = Segments.from_counts(torch.tensor(COUNTS))


class ByBatch(nn.Module):
    """Every graph's mean taken off, times a gain."""

    def __init__(self, channels: int, gain: float = 2.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), gain))

    def forward(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        sums = x.new_zeros(batch_size, x.shape[1]).index_add(0, batch, x)
        counts = torch.bincount(batch, minlength=batch_size)[:, None]
        return (x - (sums / counts)[batch]) * self.weight


class ByPtr(ByBatch):
    def forward(self, h: Tensor, ptr: Tensor, *, num_graphs: int, unused: int = 3) -> Tensor:
        parts = h.split(ptr.diff().tolist())
        assert len(parts) == num_graphs
        return torch.cat([part - part.mean(0) for part in parts]) * self.weight


class BySegments(ByBatch):
    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        return super().forward(x, segments.index, segments.num_segments)


class Alone(nn.LayerNorm):
    """Its forward takes the features only."""


class Asking(ByBatch):
    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        return x + message


class Narrow(ByBatch):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2]


class Wordy(ByBatch):
    def forward(self, x: Tensor) -> Any:
        return "x"


class WithoutChannels(nn.Identity):
    def __init__(self) -> None:
        super().__init__()


class WithDefault(nn.Identity):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()


def number(channels: int) -> int:
    return channels


def failing(channels: int) -> nn.Module:
    raise RuntimeError("not\ntoday")


def centred(gain: float = 2.0) -> Tensor:
    return gain * torch.cat([part - part.mean(0) for part in X.split(COUNTS)])


@pytest.mark.parametrize("kind", [ByBatch, ByPtr, BySegments])
@pytest.mark.parametrize("given", ["segments", "batch"])
def test_a_layer_is_given_what_its_forward_names(kind: type[nn.Module], given: str) -> None:
    layer = OwnNorm.of(kind).layer(3)
    batch = SEGMENTS if given == "segments" else SEGMENTS.index
    assert layer.per_graph
    torch.testing.assert_close(layer(X, batch), centred())
    torch.testing.assert_close(layer(X, batch, batch_size=3), centred())


def test_a_layer_of_features_alone_is_given_these_alone() -> None:
    layer = OwnNorm.of(Alone).layer(3)
    assert not layer.per_graph
    expected = (X - X.mean(1, keepdim=True)) / (X.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(X, SEGMENTS), expected)


@pytest.mark.parametrize("place", ["before-activation", "after-activation"])
def test_activation_and_residual_follow_as_behind_our_layers(place: str) -> None:
    slot = NormSlot(OwnNorm.of(ByBatch), 3, place=place)
    context = GraphContext(adjacency=None, segments=SEGMENTS)  # type: ignore[arg-type]
    residual = torch.ones_like(X)
    found = slot(X, context, residual=residual)
    if place == "before-activation":
        expected = centred().relu() + 1
    else:
        parts = X.relu().split(COUNTS)
        expected = 2 * torch.cat([part - part.mean(0) for part in parts]) + 1
    torch.testing.assert_close(found, expected)


def test_norms_of_pyg_are_ours() -> None:
    pyg = pytest.importorskip("torch_geometric.nn.norm")
    norm = OwnNorm.of("torch_geometric.nn.norm:GraphNorm:eps=0.1")
    assert norm.name == "torch_geometric.nn.norm:GraphNorm:eps=0.1"
    ours = graphnorms.GraphNorm(3, eps=0.1)
    torch.testing.assert_close(norm.layer(3)(X, SEGMENTS), ours(X, SEGMENTS))
    assert OwnNorm.of(pyg.GraphNorm).name == "torch_geometric.nn:GraphNorm"
    refused = {
        pyg.PairNorm: "first argument of torch_geometric.nn:PairNorm is scale=1.0",
        pyg.GraphSizeNorm: "GraphSizeNorm cannot be called with the channels alone",
    }
    for kind, message in refused.items():
        with pytest.raises(ValueError, match=message):
            OwnNorm.of(kind).layer(3)


def test_a_class_that_can_be_imported_is_its_name() -> None:
    by_name = OwnNorm.of(f"{HERE}:ByBatch:gain=0.5")
    same = OwnNorm.of(functools.partial(ByBatch, gain=0.5))
    assert (same.name, same.source) == (by_name.name, by_name.source)
    assert not same.in_memory
    torch.testing.assert_close(same.layer(3)(X, SEGMENTS), centred(0.5))
    again = OwnNorm.found(by_name.name, by_name.source)
    torch.testing.assert_close(again.layer(3)(X, SEGMENTS), centred(0.5))
    with pytest.raises(ValueError, match="is not what it was when the run began"):
        OwnNorm.found(by_name.name, "0" * 16)


def test_a_function_in_memory_has_a_name_and_a_source() -> None:
    def halves(channels: int, gain: float = 0.5) -> nn.Module:
        return ByBatch(channels, gain)

    norm = OwnNorm.of(halves)
    other = OwnNorm.of(functools.partial(halves, gain=3.0))
    assert (norm.name, norm.in_memory) == ("halves", True)
    assert (other.name, other.in_memory) == ("halves:gain=3.0", True)
    assert norm.source != other.source
    torch.testing.assert_close(other.layer(3)(X, SEGMENTS), centred(3.0))
    with pytest.raises(ValueError, match="halves was made in memory, and is not given"):
        OwnNorm.found(norm.name, norm.source)


WRONG = {
    "no attribute": (f"{HERE}:Nothing", "has no 'Nothing'"),
    "no module": ("nowhere_at_all:Norm", "no module 'nowhere_at_all'"),
    "not callable": (f"{HERE}:HERE", "is of type str, expected a function that makes a norm"),
    "a module made": (nn.Identity(), "an? Identity that is made already, expected a class"),
    "no channels": (WithoutChannels, "cannot be called with the channels alone"),
    "another argument": (WithDefault, "is scale=1.0, expected the channels"),
    "no such argument": (f"{HERE}:ByBatch:gian=2", "unknown argument of .*did you mean gain"),
    "no value": (f"{HERE}:ByBatch:gain", "has 'gain', expected argument=value"),
    "not a module": (number, "makes something of type int, expected a torch.nn.Module"),
    "another shape": (Narrow, r"gives a tensor of shape \(5, 2\), expected that of x, \(5, 8\)"),
    "no tensor": (Wordy, "gives something of type str, expected a tensor"),
    "another input": (Asking, "asks for 'message', expected the features, and behind them"),
    "an exception": (failing, "8 channels on two small graphs, raised RuntimeError: not today"),
    "a catalogue name": ("graph.py:Norm", "graph is a norm of the catalogue"),
    "a file elsewhere": ("../norms.py:Norm", "not a module below the current directory"),
}


@pytest.mark.parametrize(("norm", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_norm_is_refused_in_one_line(norm: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        OwnNorm.of(norm).check(8)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("my_norms:Norm", True),
        ("a.b:C.d:eps=1", True),
        ("my_norms.py:Norm", True),
        ("graph", False),
        ("pair:scale=2", False),
        ("custom:center=graph", False),
        ("pair:scale", False),
        ("grpah", False),
    ],
)
def test_which_texts_name_a_norm_of_ones_own(text: str, own: bool) -> None:
    assert is_own(text) == own
