"""How much each norm depends on its learning rate.

A search tries other rates in every fold, and more of them where a norm did well. There the rates
are divided into thirds of their range, on the logarithmic scale, and only those proposals count
that every norm had: a third is then averaged over the same values of the other options for all.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from graphnorms.lab.design import Pair
from graphnorms.lab.trials import NormTrials, pair_of
from graphnorms.training.metrics import Metric

if TYPE_CHECKING:
    from graphnorms.training.record import Record


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """How the validation score of one norm depends on the learning rate.

    Scores are means over the trials of a rate that choose the learning rate, so the best of them is
    optimistic; only their differences are used.

    Args:
        norm: Catalogue name.
        rates: Every learning rate of the grid, ascending.
        scores: Mean validation score per rate; None where no trial of it was done.
        done, failed: Trials per rate.
        best: The rate with the best mean, among those with the most trials done.
        near: Number of rates without a failed trial and with a mean within the tolerance (`NEAR`
            margins) of the *leader's* best, or better. (Every rate of a norm that learns nothing is
            near that norm's own best.)
        neighbour_loss: How much worse the rates next to the best are, on average, in the unit of
            the score; None if there is none with a score.
        grid_loss: The same over the whole grid but the best.
        chosen: The rates of the final trials, and how many have each; ascending.
        at_edge: Whether the best is the lowest or the highest of the grid; a rate beyond it may be
            better.
        thirds: Whether `rates` are the middles of the thirds of what was searched.
    """

    norm: str
    rates: tuple[float, ...]
    scores: tuple[float | None, ...]
    done: tuple[int, ...]
    failed: tuple[int, ...]
    best: float | None = None
    near: int = 0
    neighbour_loss: float | None = None
    grid_loss: float | None = None
    chosen: tuple[tuple[float, int], ...] = ()
    at_edge: bool = False
    thirds: bool = False

    @property
    def judged(self) -> bool:
        """Whether two rates at least were tried."""
        return len(self.rates) > 1 and self.best is not None

    @property
    def share(self) -> float:
        """Part of the grid that is near the best."""
        return self.near / len(self.rates) if self.rates else 0.0


NEAR = 2.0
"""Margins from the leader's best within which a learning rate is called near: grids are coarse."""


def sensitivities(
    trials: Mapping[str, NormTrials], tolerance: float, leader: str | None = None
) -> dict[str, Sensitivity]:
    """Describe every norm's dependence on the learning rate, over one grid for all.

    Args:
        trials: Trials per norm.
        tolerance: What counts as near the best, in the unit of the score.
        leader: The norm to compare with; None: each norm with its own best.
    """
    tried = {norm: _tried(of_norm) for norm, of_norm in trials.items()}
    searched = any("searched" in record.config for of_norm in tried.values() for record in of_norm)
    if searched:
        shared = set.intersection(*(set(map(_point, of_norm)) for of_norm in tried.values()))
        tried = {norm: [r for r in found if _point(r) in shared] for norm, found in tried.items()}
    if any(_is_halved(record) for found in tried.values() for record in found):
        # The first round alone has tried all rates alike.
        tried = {norm: _shortest(found) for norm, found in tried.items()}
    rates = sorted({_rate(record) for of_norm in tried.values() for record in of_norm})
    grid, thirds = tuple(rates), searched and len(rates) > len(_EDGES)
    if thirds:
        grid = tuple(_between(rates, share) for share in _MIDDLES)
    found = {
        norm: _sensitivity(of_norm, tried[norm], grid, rates if thirds else [])
        for norm, of_norm in trials.items()
    }
    return {
        norm: replace(one, near=_near(one, found[leader or norm], trials[norm].metric, tolerance))
        for norm, one in found.items()
    }


def _near(one: Sensitivity, leader: Sensitivity, metric: Metric, tolerance: float) -> int:
    """Count the rates without failures at which a norm comes near the leader's best."""
    if leader.best is None:
        return 0
    best = leader.scores[leader.rates.index(leader.best)] or 0.0
    sign = 1 if metric.higher_is_better else -1
    # Up to the rounding of means of fractions.
    most = tolerance + 1e-9 * max(abs(best), tolerance)
    return sum(
        score is not None and not failed and sign * (best - score) <= most
        for score, failed in zip(one.scores, one.failed, strict=True)
    )


_EDGES: Final = (1 / 3, 2 / 3)
_MIDDLES: Final = (1 / 6, 1 / 2, 5 / 6)


def _is_halved(record: Record) -> bool:
    return "proposal" in record.config and "searched" not in record.config


def _shortest(tried: list[Record]) -> list[Record]:
    fewest = min((record.config["epochs"] for record in tried), default=0)
    return [record for record in tried if record.config["epochs"] == fewest]


def _tried(of_norm: NormTrials) -> list[Record]:
    """Return the trials that chose, done and failed."""
    return [*of_norm.tried.values(), *of_norm.tried_failed.values()]


def _rate(record: Record) -> float:
    rate: float = record.config["learning_rate"]
    return rate


def _point(record: Record) -> tuple[Pair, str]:
    """Return the fold of a proposal, and its values."""
    return pair_of(record), str(record.config.get("searched"))


def _between(rates: Sequence[float], share: float) -> float:
    """Return a rate so far from the lowest to the highest, with two digits."""
    return float(f"{rates[0] * (rates[-1] / rates[0]) ** share:.2g}")


def _sensitivity(
    of_norm: NormTrials, tried: Sequence[Record], grid: tuple[float, ...], searched: list[float]
) -> Sensitivity:
    """Describe one norm.

    Args:
        of_norm: Its trials.
        tried: Those of them that choose, and that count.
        grid: The learning rates, or the middles of their thirds.
        searched: Where there are thirds, all learning rates.
    """
    edges = [
        searched[0] * (searched[-1] / searched[0]) ** share for share in _EDGES * bool(searched)
    ]

    def place_of(rate: float) -> float:
        return grid[bisect(edges, rate)] if edges else rate

    higher = of_norm.metric.higher_is_better
    found: dict[float, list[float]] = {rate: [] for rate in grid}
    for record in tried:
        value = record.outcome.get("validation_score") if record.status == "done" else None
        if value is not None and value == value:
            found[place_of(_rate(record))].append(float(value))
    done = Counter(place_of(_rate(record)) for record in tried if record.status == "done")
    failed = Counter(place_of(_rate(record)) for record in tried if record.status != "done")
    scores = tuple(sum(found[rate]) / len(found[rate]) if found[rate] else None for rate in grid)
    rates = (record.config.get("learning_rate") for record in of_norm.done.values())
    # A table of scores has none.
    chosen = Counter(place_of(rate) for rate in rates if rate is not None)
    result = Sensitivity(
        norm=of_norm.norm,
        rates=grid,
        scores=scores,
        done=tuple(done[rate] for rate in grid),
        failed=tuple(failed[rate] for rate in grid),
        chosen=tuple(sorted(chosen.items())),
        thirds=bool(searched),
    )
    most = max((len(values) for values in found.values()), default=0)
    # A rate must not lead because it fails where it is hard.
    places = [
        i
        for i, rate in enumerate(grid)
        if found[rate] and (not failed[rate] if searched else len(found[rate]) == most)
    ]
    if not places:
        return result

    def loss(place: int, best: int) -> float | None:
        score, top = scores[place], scores[best]
        if score is None or top is None:
            return None
        return (top - score) if higher else (score - top)

    means = {place: sum(found[grid[place]]) / len(found[grid[place]]) for place in places}
    best = max(places, key=lambda place: means[place] if higher else -means[place])
    losses = {place: loss(place, best) for place in range(len(grid)) if place != best}
    known = {place: amount for place, amount in losses.items() if amount is not None}
    beside = [known[place] for place in (best - 1, best + 1) if place in known]
    return replace(
        result,
        best=grid[best],
        neighbour_loss=sum(beside) / len(beside) if beside else None,
        grid_loss=sum(known.values()) / len(known) if known else None,
        at_edge=not searched and len(grid) > 1 and best in (0, len(grid) - 1),
    )
