"""How often the judgement raises a false alarm, and how often it sees a difference that is there.

Learners are really trained on data drawn anew for every comparison, and their records are judged
by `graphnorms.lab.judge.judge`, as those of a comparison of norms are. Writes the tables of
docs/statistics.md, a line each:

    python scripts/simulate_judgement.py null       # false alarms: 4 × 1000 comparisons
    python scripts/simulate_judgement.py power      # true differences: 300 comparisons each
    python scripts/simulate_judgement.py coverage   # of the bootstrap intervals

Two classes lie in a space of several blocks of coordinates, all blocks alike in distribution. A
learner lifts coordinates by random ReLU features, drawn from its seed, and fits a ridge regression.

- Over folds, learner j sees block j only. Which block is the better one in a sample is chance, so
  that the learners are equal in expectation over samples, the null hypothesis of
  cross-validation; the folds of one sample share it, through training sets that overlap. The
  penalty is chosen per fold on held-out data and the learner trained anew from a fresh seed, as
  in protocol "nested".
- On one split every learner sees all coordinates and differs by its random features only: equal
  in expectation over seeds, on that split. All learners of a seed train on the same resample of
  the training set, as norms share the order of the batches.

A true difference of δ is made by flipping the first learner's predictions with the probability
that costs it δ in expectation.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from graphnorms.lab.judge import judge
from graphnorms.lab.resampling import bootstrap_interval
from graphnorms.lab.statistics import holm, paired_difference
from graphnorms.lab.verdict import Verdict
from graphnorms.training.record import Record

BLOCK, FEATURES, SIGNAL = 6, 24, 0.35
PENALTIES = (0.1, 10.0, 1000.0)
FOLDS, HOLDOUT = 10, 0.1
NAMES = ("none", "batch", "layer", "instance", "graph")

Correct = NDArray[np.bool_]
"""Which predictions are right, `(learners, folds or seeds, items tested)`."""


def draw_sample(
    rng: np.random.Generator, items: int, blocks: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw coordinates `(blocks, items, BLOCK)` and classes 0 and 1 `(items,)`."""
    labels = rng.permutation(np.arange(items) % 2)
    x = rng.standard_normal((blocks, items, BLOCK)) + SIGNAL * (2 * labels[:, None] - 1)
    return x, labels


def fit_and_predict(
    rng: np.random.Generator,
    x: NDArray[np.float64],
    labels: NDArray[np.int64],
    train: NDArray[np.int64],
    tests: Sequence[NDArray[np.int64]],
    penalty: NDArray[np.float64],
) -> list[Correct]:
    """Train every learner from a fresh seed and say which predictions are right.

    Args:
        rng: Draws the random features.
        x: Coordinates, `(learners, items, BLOCK)`.
        labels: `(items,)`.
        train: Ids of the items trained on.
        tests: Ids of the items of each part that is predicted.
        penalty: One per learner.
    """
    weight = rng.standard_normal((len(x), BLOCK, FEATURES)) / np.sqrt(BLOCK)
    bias = rng.standard_normal((len(x), 1, FEATURES))
    lifted = np.maximum(x @ weight + bias, 0)  # (learners, items, FEATURES)
    z, target = lifted[:, train], 2.0 * labels[train] - 1
    center = z.mean(axis=1, keepdims=True)
    z = z - center
    gram = z.transpose(0, 2, 1) @ z + penalty[:, None, None] * np.eye(FEATURES)
    solution = np.linalg.solve(gram, z.transpose(0, 2, 1) @ (target - target.mean())[:, None])
    return [
        (((lifted[:, test] - center) @ solution)[..., 0] + target.mean() > 0) == labels[test]
        for test in tests
    ]


def over_folds(rng: np.random.Generator, items: int, learners: int) -> Correct:
    """Do one nested cross-validation of all learners."""
    x, labels = draw_sample(rng, items, learners)
    order = rng.permutation(items)
    found = []
    for fold in range(FOLDS):
        test = order[fold::FOLDS]
        rest = np.setdiff1d(order, test)
        rng.shuffle(rest)
        held = round(HOLDOUT * len(rest))
        validation, train = rest[:held], rest[held:]
        scores = np.stack(
            [
                fit_and_predict(rng, x, labels, train, [validation], np.full(learners, penalty))[
                    0
                ].mean(axis=1)
                for penalty in PENALTIES
            ]
        )  # (penalties, learners)
        chosen = np.array(PENALTIES)[scores.argmax(axis=0)]
        found.append(fit_and_predict(rng, x, labels, train, [test], chosen)[0])
    least = min(correct.shape[1] for correct in found)
    return np.stack([correct[:, :least] for correct in found], axis=1)


def on_one_split(rng: np.random.Generator, items: int, learners: int, seeds: int) -> Correct:
    """Train all learners from several seeds on one split."""
    x, labels = draw_sample(rng, items, 1)
    everything = np.broadcast_to(x, (learners, items, BLOCK))
    half = items // 2
    found = []
    for _ in range(seeds):
        train = rng.choice(half, half)
        test = np.arange(half, items)
        found.append(
            fit_and_predict(rng, everything, labels, train, [test], np.full(learners, 10.0))[0]
        )
    return np.stack(found, axis=1)


def worsen(rng: np.random.Generator, correct: Correct, difference: float) -> Correct:
    """Make the first learner worse by `difference` in expectation."""
    accuracy = correct[0].mean()
    chance = difference / (2 * accuracy - 1)
    result = correct.copy()
    result[0] ^= rng.random(correct[0].shape) < chance
    return result


def records_of(correct: Correct, protocol: str, train_items: int) -> list[Record]:
    """Write the outcomes down as the records of final trials."""
    records = []
    learners, pairs, tested = correct.shape
    for learner in range(learners):
        for pair in range(pairs):
            nested = protocol == "nested"
            split = {"kind": "fold" if nested else "given", "seed": 0}
            split |= {"folds": pairs, "fold": pair} if nested else {"folds": 0, "fold": 0}
            records.append(
                Record(
                    key=f"{learner}/{pair}",
                    config={
                        "norm": NAMES[learner],
                        "split": split,
                        "stage": "final",
                        "run": 0 if nested else pair,
                        "metric": "accuracy",
                        "learning_rate": 0.01,
                        "epochs": 1,
                    },
                    status="done",
                    outcome={"test_score": float(correct[learner, pair].mean())},
                    counts={"train_items": train_items, "test_items": tested},
                )
            )
    return records


def simulate(
    protocol: str, *, items: int, learners: int, seeds: int, seed: int
) -> tuple[Correct, int]:
    """Do one comparison; returns what is right, and the items trained on."""
    rng = np.random.default_rng([seed, items, learners, seeds])
    if protocol == "nested":
        return over_folds(rng, items, learners), round(items * (1 - 1 / FOLDS) * (1 - HOLDOUT))
    return on_one_split(rng, items, learners, seeds), items // 2


def false_alarm(verdict: Verdict) -> bool:
    """Whether any two learners are told apart."""
    return any(test.told_apart for test in verdict.differences)


def naive_alarm(correct: Correct) -> bool:
    """Whether ordinary paired t-tests with Holm's adjustment tell any two apart."""
    scores = correct.mean(axis=2)
    p_values = [
        paired_difference(scores[i], scores[j]).p_value
        for i in range(len(scores))
        for j in range(i)
    ]
    return min(holm(p_values)) <= 0.05


def count_false_alarms(
    protocol: str, *, items: int, learners: int, seeds: int = 10, rounds: int, first: int = 0
) -> tuple[int, int]:
    """Count comparisons with a false alarm: of the judgement, and of ordinary t-tests."""
    judged = naive = 0
    for seed in range(first, first + rounds):
        correct, train = simulate(protocol, items=items, learners=learners, seeds=seeds, seed=seed)
        judged += false_alarm(judge(records_of(correct, protocol, train), protocol=protocol))
        naive += naive_alarm(correct)
    return judged, naive


def count_detections(
    protocol: str,
    *,
    items: int,
    learners: Sequence[int],
    seeds: int = 10,
    differences: Sequence[float],
    rounds: int,
) -> NDArray[np.int64]:
    """Count comparisons that tell the worse learner from the second: `(learners, differences)`."""
    found = np.zeros((len(learners), len(differences)), dtype=np.int64)
    for seed in range(rounds):
        correct, train = simulate(
            protocol, items=items, learners=max(learners), seeds=seeds, seed=100_000 + seed
        )
        rng = np.random.default_rng([seed, 7])
        for column, difference in enumerate(differences):
            worse = worsen(rng, correct, difference)
            for row, count in enumerate(learners):
                verdict = judge(records_of(worse[:count], protocol, train), protocol=protocol)
                found[row, column] += any(
                    test.told_apart and test.involves(*NAMES[:2]) for test in verdict.differences
                )
    return found


def null_table(rounds: int) -> None:
    """Print the rates of false alarms."""
    print("| design | norms | false alarms, % | ordinary paired t-tests, % |")
    print("|---|---:|---:|---:|")
    for protocol, name in (("nested", "10 folds of 150 items"), ("split", "10 seeds on a split")):
        for learners in (2, 5):
            start = time.monotonic()
            items = 150 if protocol == "nested" else 600
            judged, naive = count_false_alarms(
                protocol, items=items, learners=learners, rounds=rounds
            )
            rates = f"{100 * judged / rounds:.1f} | {100 * naive / rounds:.1f}"
            print(f"| {name} | {learners} | {rates} |", flush=True)
            print(f"<!-- {rounds} comparisons, {time.monotonic() - start:.0f} s -->", flush=True)


def power_table(rounds: int) -> None:
    """Print how often differences are seen."""
    differences = (0.01, 0.02, 0.05, 0.1)
    print("| design | norms | 1 point | 2 points | 5 points | 10 points |")
    print("|---|---:|---:|---:|---:|---:|")
    designs = [("nested", items, 0, f"10 folds of {items} items") for items in (200, 1000, 4000)]
    designs += [("split", 1000, n, f"{n} seeds, 500 items tested") for n in (6, 10, 15, 30)]
    for protocol, items, seeds, name in designs:
        found = count_detections(
            protocol,
            items=items,
            learners=(2, 5),
            seeds=seeds,
            differences=differences,
            rounds=rounds,
        )
        for learners, row in zip((2, 5), found, strict=True):
            cells = " | ".join(f"{100 * count / rounds:.0f}" for count in row)
            print(f"| {name} | {learners} | {cells} |", flush=True)


def coverage_table(rounds: int) -> None:
    """Print how often the bootstrap interval of a mean covers it."""
    print("| seeds | normal, % | skewed (exponential), % | plain BCa, normal, % | skewed, % |")
    print("|---:|---:|---:|---:|---:|")
    rng = np.random.default_rng(0)
    for count in (5, 6, 10, 15, 20, 30):
        cells = []
        # The level at which the expanded interval is the plain one of 95%.
        plain = 2 * special.stdtr(count - 1, special.ndtri(0.975) * math.sqrt(1 - 1 / count)) - 1
        for confidence in (0.95, plain):
            for draw, mean in ((rng.standard_normal, 0.0), (rng.standard_exponential, 1.0)):
                intervals = [
                    bootstrap_interval(draw(count), confidence=confidence) for _ in range(rounds)
                ]
                covered = sum(one.low <= mean <= one.high for one in intervals)
                cells.append(f"{100 * covered / rounds:.1f}")
        print(f"| {count} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print one of the tables."""
    tables = {"null": (null_table, 1000), "power": (power_table, 300)}
    tables["coverage"] = coverage_table, 4000
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=tables)
    parser.add_argument("--rounds", type=int, help="comparisons per line")
    options = parser.parse_args()
    table, rounds = tables[options.table]
    table(options.rounds or rounds)


if __name__ == "__main__":
    main()
