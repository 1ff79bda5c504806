"""The choice of a learning rate, or of searched values: on validation data, by the same rule."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from graphnorms.lab.curves import column_mean, padded

if TYPE_CHECKING:
    from graphnorms.lab.design import Pair
    from graphnorms.lab.trials import NormTrials
    from graphnorms.training import Record


def best_rate(records: Iterable[Record]) -> float:
    """Choose among learning rates, given trials on the same splits with the same seeds.

    The rate with the best validation score, each trial at its best epoch, averaged over the
    trials of the rate; of equals the lower validation loss, then the lower rate. A rate with a
    failed trial comes after those without. If every rate has one, the rate that trained for the
    most epochs is taken: the next trial then shows how the norm fails.

    Args:
        records: Trials of one norm in stage `"select"`.

    Raises:
        ValueError: There are no records.
    """
    by_rate: dict[float, list[Record]] = defaultdict(list)
    for record in records:
        by_rate[record.config["learning_rate"]].append(record)
    if not by_rate:
        raise ValueError("no trial tells one learning rate from another")

    return min(by_rate, key=lambda rate: (*place_of(by_rate[rate]), rate))


def place_of(tried: Sequence[Record]) -> tuple[float, ...]:
    """Return what orders trials of different values, the best first, see `best_rate`.

    Args:
        tried: The trials of one learning rate, or of one proposal.
    """
    from graphnorms.training import metric_named

    if any(record.status != "done" for record in tried):
        epochs = sum(len(record.history.get("train_loss", ())) for record in tried)
        return (1, -epochs, 0)
    higher = metric_named(tried[0].config["metric"]).higher_is_better
    score = _mean(record.outcome.get("validation_score") for record in tried)
    loss = _mean(record.outcome.get("validation_loss") for record in tried)
    return (0, _last_if_unknown(-score if higher else score), _last_if_unknown(loss))


def best_trial(records: Iterable[Record]) -> Record | None:
    """Return the trial that did best on its own validation data; None if none was done.

    By the validation score at its best epoch, of equals by the loss there.

    Args:
        records: Trials of one comparison.
    """
    from graphnorms.training import metric_named

    done = [record for record in records if record.status == "done" and record.outcome]
    if not done:
        return None
    higher = metric_named(done[0].config["metric"]).higher_is_better

    def place(record: Record) -> tuple[float, float]:
        score = _mean([record.outcome.get("validation_score")])
        loss = _mean([record.outcome.get("validation_loss")])
        return (_last_if_unknown(-score if higher else score), _last_if_unknown(loss))

    return min(done, key=place)


def _mean(values: Iterable[float | None]) -> float:
    known = [math.nan if value is None else value for value in values]
    return sum(known) / len(known)


def _last_if_unknown(value: float) -> float:
    return math.inf if math.isnan(value) else value


def select_as_papers_do(of_norm: NormTrials) -> NormTrials:
    """Select as the GIN and GraphNorm papers do: the rate and epoch with the best fold mean.

    Only the learning rates with the most trials done take part: a rate must not win because it
    fails on the hard folds.
    """
    rates: dict[float, dict[Pair, Record]] = {}
    for (rate, pair), record in of_norm.tried.items():
        rates.setdefault(rate, {})[pair] = record
    most = max(map(len, rates.values()), default=0)
    best: tuple[float, float, int] | None = None
    for rate, done in sorted(rates.items()):
        if len(done) < most:
            continue
        means = column_mean(padded([r.history.get("validation_score", []) for r in done.values()]))
        if not np.isfinite(means).any():
            continue
        epoch = int(np.nanargmax(means) if of_norm.metric.higher_is_better else np.nanargmin(means))
        if best is None or of_norm.metric.better(float(means[epoch]), best[0]):
            best = float(means[epoch]), rate, epoch + 1
    if best is not None:
        chosen = best[1]
    else:  # nothing to choose from: every trial failed, or has no validation score
        chosen = min((rate for rate, _ in {**of_norm.tried, **of_norm.tried_failed}), default=0.0)
    return replace(
        of_norm,
        done=_at_rate(of_norm.tried, chosen),
        failed=_at_rate(of_norm.tried_failed, chosen),
        selected=None if best is None else best[1:],
    )


def _at_rate(records: Mapping[tuple[float, Pair], Record], chosen: float) -> dict[Pair, Record]:
    return {pair: record for (rate, pair), record in records.items() if rate == chosen}
