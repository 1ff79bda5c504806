from __future__ import annotations

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.probes import mean_information
from tests.unit.probes.common import draw


def graphs(number: int = 60) -> tuple[gn.Segments, Tensor]:
    """Graphs of 3 to 7 nodes, two of three of class 1."""
    counts = 3 + torch.arange(number) % 5
    return gn.Segments.from_counts(counts), (torch.arange(number) % 3 > 0).long()


def test_a_mean_that_is_the_class_tells_everything() -> None:
    segments, y = graphs()
    x = draw(segments.num_rows, 4)
    x = gn.MeanSubtractionNorm()(x, segments)
    x[:, 2] += y[segments.index]
    found = mean_information(x, segments, y)
    assert found.accuracy == 1
    assert found.folds == (1.0,) * 5
    assert found.chance == pytest.approx(2 / 3)
    assert found.share == 1
    assert found.rank == 1


def test_without_a_mean_there_is_chance_exactly() -> None:
    """Behind an InstanceNorm the means are rounding errors, of which the probe must not learn."""
    segments, y = graphs()
    x = draw(segments.num_rows, 4).float() + 10 * y[segments.index].unsqueeze(1)
    assert mean_information(x, segments, y).accuracy == 1
    for norm in (gn.InstanceNorm(4), gn.MeanSubtractionNorm()):
        found = mean_information(norm(x, segments), segments, y)
        assert found.accuracy == found.chance
        assert found.share == 0
        assert found.rank == 0


def test_a_mean_that_knows_nothing_is_at_chance() -> None:
    segments, _ = graphs(400)
    y = torch.arange(400) % 2
    y = y[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    found = mean_information(draw(segments.num_rows, 3), segments, y, folds=10)
    assert found.chance == 0.5
    assert abs(found.accuracy - 0.5) < 0.1  # four standard errors
    assert found.rank == 3


def test_graphs_are_held_out() -> None:
    """As many features as graphs: on the graphs it has seen the probe knows every class."""
    segments, y = graphs(), torch.arange(60) % 2
    y = y[torch.randperm(60, generator=torch.Generator().manual_seed(0))]
    found = mean_information(draw(segments[0].num_rows, 60), segments[0], y, penalty=1e-3)
    assert found.accuracy < 0.75


def test_a_known_share_of_the_graphs_can_be_told() -> None:
    """Three classes, equally many; the mean tells class 0 from the rest: accuracy 2/3."""
    y = torch.arange(90) % 3
    segments = gn.Segments.from_counts(torch.full((90,), 2))
    x = (y == 0).double()[segments.index].unsqueeze(1)
    found = mean_information(x, segments, y)
    assert found.chance == pytest.approx(1 / 3)
    assert found.accuracy == pytest.approx(2 / 3, abs=1e-12)
    assert found.share == pytest.approx(1 / 2)


def test_the_same_seed_gives_the_same_folds() -> None:
    segments, y = graphs()
    x = draw(segments.num_rows, 4) + 0.3 * y[segments.index].unsqueeze(1)
    first = mean_information(x, segments, y, seed=1)
    assert first == mean_information(x, segments, y, seed=1)
    assert first.folds != mean_information(x, segments, y, seed=2).folds


def test_errors() -> None:
    segments, y = graphs()
    x = draw(segments.num_rows, 4)
    for change, words in (
        ({"y": y[:5]}, r"y is \(5,\)"),
        ({"y": y.float()}, "integers"),
        ({"y": y * 0}, "1 class"),
        ({"folds": 25}, "smallest class has 20"),
        ({"folds": 1}, "folds is 1"),
        ({"penalty": 0.0}, "penalty is 0"),
        ({"x": x[:3]}, "x has 3"),
    ):
        with pytest.raises(ValueError, match=words):
            mean_information(**({"x": x, "segments": segments, "y": y} | change))
