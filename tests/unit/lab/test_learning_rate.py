"""The choice of a learning rate, and of the trial whose model is kept."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from tests.faults import make_config

from graphnorms.lab.learning_rate import best_rate, best_trial
from graphnorms.training import Record


def tried(rate, score=0.5, loss=1.0, *, run=0, metric="accuracy", **changes) -> Record:
    config = make_config(run, learning_rate=rate, metric=metric)
    found = {"validation_score": score, "validation_loss": loss, "epoch": 1}
    fields = {"status": "done", "outcome": found, "history": {"train_loss": [1.0] * 3}}
    return Record(key=config.key, config=config.to_dict(), **(fields | changes))


def failed(rate, epochs=0, run=0, **changes) -> Record:
    history = {"train_loss": [1.0] * epochs} if epochs else {}
    return tried(
        rate, run=run, status="failed", reason="no", outcome={}, history=history, **changes
    )


CASES = {
    "the best score": ([tried(0.1, 0.6), tried(0.2, 0.8), tried(0.3, 0.7)], 0.2),
    "whatever its loss": ([tried(0.1, 0.6, 0.1), tried(0.2, 0.8, 9.0)], 0.2),
    "of equals the lower loss": ([tried(0.1, 0.8, 0.5), tried(0.2, 0.8, 0.4)], 0.2),
    "then the lower rate": ([tried(0.2, 0.8), tried(0.1, 0.8), tried(0.3, 0.8)], 0.1),
    "one rate": ([tried(0.7, 0.0)], 0.7),
    "an error is better small": (
        [tried(0.1, 3.0, metric="mae"), tried(0.2, 2.0, metric="mae")],
        0.2,
    ),
    "so is the other": ([tried(0.1, 2.0, metric="rmse"), tried(0.2, 3.0, metric="rmse")], 0.1),
    "the mean over the trials of a rate": (
        [tried(0.1, 0.9), tried(0.1, 0.5, run=1), tried(0.2, 0.8), tried(0.2, 0.7, run=1)],
        0.2,
    ),
    "the mean of the losses": (
        [
            tried(0.1, 0.8, 0.1),
            tried(0.1, 0.8, 0.9, run=1),
            tried(0.2, 0.8, 0.4),
            tried(0.2, 0.8, 0.5, run=1),
        ],
        0.2,
    ),
    "one failure puts a rate behind": (
        [tried(0.1, 0.9), failed(0.1, run=1), tried(0.2, 0.1), tried(0.2, 0.1, run=1)],
        0.2,
    ),
    "all failed, the furthest": ([failed(0.1, 2), failed(0.2, 7), failed(0.3, 5)], 0.2),
    "all failed at once": ([failed(0.3), failed(0.1), failed(0.2)], 0.1),
    "all with a failure, the furthest": (
        [tried(0.1, 0.9), failed(0.1, 1, run=1), failed(0.2, 2), tried(0.2, 0.1, run=1)],
        0.2,
    ),
    "a score that is not a number comes last": ([tried(0.1, math.nan), tried(0.2, 0.1)], 0.2),
    "as a journal gives it back": ([tried(0.1, None, None), tried(0.2, 0.1)], 0.2),
    "also of a metric that is better small": (
        [tried(0.1, math.nan, metric="mae"), tried(0.2, 99.0, metric="mae")],
        0.2,
    ),
    "a loss that is not a number comes last": (
        [tried(0.1, 0.8, math.nan), tried(0.2, 0.8, 5.0)],
        0.2,
    ),
    "no number is still before a failure": ([failed(0.1, 9), tried(0.2, math.nan)], 0.2),
    "one number of two": (
        [tried(0.1, 0.9), tried(0.1, None, run=1), tried(0.2, 0.1), tried(0.2, 0.1, run=1)],
        0.2,
    ),
}


@pytest.mark.parametrize(("records", "expected"), CASES.values(), ids=CASES)
def test_the_chosen_rate(records, expected):
    for order in itertools.permutations(records):
        assert best_rate(order) == expected


def test_without_trials_there_is_nothing_to_choose():
    with pytest.raises(ValueError, match="no trial tells"):
        best_rate([])


@pytest.mark.parametrize(("metric", "sign"), [("roc_auc", 1), ("mae", -1)])
def test_no_rate_beats_the_chosen_one(metric, sign):
    """Pairwise, from the words of the docstring, on scores with many ties."""
    draw = random.Random(0)
    for _ in range(300):
        rates = draw.sample([0.001, 0.003, 0.01, 0.03], draw.randint(1, 4))
        records = []
        for rate, run in itertools.product(rates, range(2)):
            if draw.random() < 0.15:
                records.append(failed(rate, draw.randint(0, 3), run, metric=metric))
            else:
                score, loss = draw.choice([0.25, 0.5, 0.75]), draw.choice([0.5, 1.0])
                records.append(tried(rate, score, loss, run=run, metric=metric))
        chosen = best_rate(records)

        def beats(one, other, records=records):
            first, second = (
                [r for r in records if r.config["learning_rate"] == rate] for rate in (one, other)
            )
            sound = [all(r.status == "done" for r in of) for of in (first, second)]
            if sound[0] != sound[1]:
                return sound[0]
            if not sound[0]:
                epochs = [
                    sum(len(r.history.get("train_loss", [])) for r in of) for of in (first, second)
                ]
                return (-epochs[0], one) < (-epochs[1], other)
            score, loss = (
                [sum(r.outcome[f"validation_{name}"] for r in of) / 2 for of in (first, second)]
                for name in ("score", "loss")
            )
            if score[0] != score[1]:
                return sign * score[0] > sign * score[1]
            return loss[0] < loss[1] if loss[0] != loss[1] else one < other

        assert not any(beats(rate, chosen) for rate in rates)


def test_the_best_trial_is_that_of_the_best_validation():
    low, high = tried(0.1, 0.6), tried(0.2, 0.8, 0.9)
    lower_loss = tried(0.3, 0.8, 0.5)
    assert best_trial([low, high, failed(0.4), lower_loss]) is lower_loss
    errors = [tried(0.1, 0.6, metric="mae"), tried(0.2, 0.8, metric="mae")]
    assert best_trial(errors) is errors[0]
    unknown = tried(0.1, None, None)
    assert best_trial([unknown, low]) is low
    assert best_trial([unknown]) is unknown


def test_where_no_trial_was_done_none_is_best():
    assert best_trial([]) is None
    assert best_trial([failed(0.1)]) is None
