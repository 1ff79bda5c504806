"""How often the judgement raises a false alarm, sees a true difference, and recommends well.

Learners are really trained on data drawn anew for every comparison, and their records are judged
by the functions that judge a comparison of norms. Writes the tables of docs/statistics.md and
docs/checked.md, a line each:

    python scripts/simulate_judgement.py null       # false alarms over folds: 4 × 1000 comparisons
    python scripts/simulate_judgement.py splits     # over splits drawn anew: 6 × 1000
    python scripts/simulate_judgement.py choice     # over seeds, with the choice: 6 × 1000
    python scripts/simulate_judgement.py further    # 1000 more of the last of these
    python scripts/simulate_judgement.py flips      # max-t beside Holm, on drawn numbers
    python scripts/simulate_judgement.py equal      # the same for "practically equal"
    python scripts/simulate_judgement.py power      # true differences: 300 comparisons each
    python scripts/simulate_judgement.py recommend  # how good the recommended norm is
    python scripts/simulate_judgement.py coverage   # of the bootstrap intervals

Two classes lie in a space of several blocks of coordinates, all blocks alike in distribution. A
learner lifts coordinates by random ReLU features, drawn from its seed, and fits a linear model.

- Over folds, learner j sees block j only. Which block is the better one in a sample is chance, so
  that the learners are equal in expectation over samples, the null hypothesis of
  cross-validation; the folds of one sample share it, through training sets that overlap. A ridge
  penalty is chosen per fold on held-out data and the learner trained anew from a fresh seed, as
  in protocol "nested". Repeats cut the same sample into other folds.
- Over splits drawn anew from one sample, the same with one penalty, and without a validation part.
- On one split every learner sees all coordinates and differs by its random features only: equal
  in expectation over seeds, on that split. It is trained by gradient descent; the rate is chosen
  on the validation part from trials of another seed, the epoch as well, as in protocol "split".
  All learners of a seed train on the same resample of the training set, as norms share the order
  of the batches.

A true difference of δ is made by flipping a learner's predictions with the probability that costs
it δ in expectation.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from graphnorms.lab import speed
from graphnorms.lab.budgets import BUDGETS
from graphnorms.lab.equivalence import equivalence_by_flips, joint_equivalence_by_flips
from graphnorms.lab.judge import MARGIN, judge
from graphnorms.lab.resampling import bootstrap_interval, joint_sign_flips, sign_flip
from graphnorms.lab.statistics import holm, paired_difference
from graphnorms.lab.trials import group_trials
from graphnorms.lab.verdict import Verdict
from graphnorms.training.record import Record

BLOCK, FEATURES, SIGNAL = 6, 24, 0.35
PENALTIES = (0.1, 10.0, 1000.0)
RATES = {3: (0.05, 0.2, 0.8), 5: (0.02, 0.06, 0.2, 0.6, 1.8)}
"""Steps of gradient descent in units of the inverse largest curvature, by the size of the grid."""
EPOCHS = 12
ONCE = {"quick": 1, "standard": 2, "full": 3}
"""Seeds per rate that chose one rate for all seeds, in the design that this one replaced."""
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


def over_folds(rng: np.random.Generator, items: int, learners: int, repeats: int = 1) -> Correct:
    """Do nested cross-validations of all learners on one sample, each of other folds."""
    x, labels = draw_sample(rng, items, learners)
    found = []
    for fold in range(repeats * FOLDS):
        if fold % FOLDS == 0:
            order = rng.permutation(items)
        test = order[fold % FOLDS :: FOLDS]
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


def over_splits(
    rng: np.random.Generator, items: int, learners: int, splits: int, share: float
) -> Correct:
    """Train all learners on splits of one sample, each drawn anew; `share` of it is tested."""
    x, labels = draw_sample(rng, items, learners)
    tested = round(share * items)
    penalty = np.full(learners, PENALTIES[1])
    found = []
    for _ in range(splits):
        order = rng.permutation(items)
        train, test = order[tested:], order[:tested]
        found += fit_and_predict(rng, x, labels, train, [test], penalty)
    return np.stack(found, axis=1)


def descend(
    rng: np.random.Generator,
    x: NDArray[np.float64],
    labels: NDArray[np.int64],
    learners: int,
    rates: NDArray[np.float64],
    parts: Sequence[str],
) -> list[Correct]:
    """Train learners from a fresh seed by gradient descent, at every rate of a row.

    A third of the items is trained on (resampled, the same for all), one validates, one tests.
    The squared loss of a linear model is quadratic, so that epoch t is known in closed form.

    Args:
        rng: Draws the resample and the random features.
        x: Coordinates, `(items, BLOCK)`.
        labels: `(items,)`.
        learners: How many.
        rates: `(learners, rates)`.
        parts: Of `"train"`, `"validation"` and `"test"`, those whose items are predicted.

    Returns:
        For each part which predictions are right, `(learners, rates, epochs, items)`.
    """
    third = len(labels) // 3
    train = rng.choice(third, third)
    weight = rng.standard_normal((learners, BLOCK, FEATURES)) / np.sqrt(BLOCK)
    bias = rng.standard_normal((learners, 1, FEATURES))
    lifted = np.maximum(x @ weight + bias, 0)  # (learners, items, FEATURES)
    lifted -= lifted[:, train].mean(axis=1, keepdims=True)
    z, target = lifted[:, train], 2.0 * labels[train] - 1
    curvature, basis = np.linalg.eigh(z.transpose(0, 2, 1) @ z / third)
    curvature = np.maximum(curvature, 1e-9)[:, None, None]  # (learners, 1, 1, FEATURES)
    pull = (z @ basis).transpose(0, 2, 1) @ (target - target.mean()) / third
    step = rates[..., None, None] / curvature[..., -1:]  # (learners, rates, 1, 1)
    done = 1 - (1 - step * curvature) ** np.arange(1, EPOCHS + 1)[:, None]
    solution = done / curvature * pull[:, None, None]  # (learners, rates, epochs, FEATURES)
    weights = basis @ solution.reshape(learners, -1, FEATURES).transpose(0, 2, 1)
    where = {
        "train": train,
        "validation": np.arange(third, 2 * third),
        "test": np.arange(2 * third, len(labels)),
    }
    found = []
    for part in parts:
        outputs = lifted[:, where[part]] @ weights + target.mean()  # (learners, items, …)
        right = (outputs > 0) == (labels[where[part]] == 1)[:, None]
        found.append(right.transpose(0, 2, 1).reshape(*solution.shape[:3], -1))
    return found


def on_one_split(
    rng: np.random.Generator,
    items: int,
    learners: int,
    seeds: int,
    rates: int = 3,
    once: int = 0,
) -> tuple[Correct, NDArray[np.float64]]:
    """Train all learners from several seeds on one split.

    Args:
        rng: Draws everything.
        items: Trained on, validated and tested with, a third each.
        learners, seeds: How many.
        rates: Size of the grid of rates.
        once: Choose one rate for all seeds, from so many seeds. 0: for every seed anew, from one.

    Returns:
        Which predictions are right at the epoch chosen, and the training scores
        `(learners, seeds, epochs)`.
    """
    x, labels = draw_sample(rng, items, 1)
    grid = np.broadcast_to(RATES[rates], (learners, rates))
    everyone = np.arange(learners)

    def chosen(trials: int) -> NDArray[np.float64]:
        tried = [
            descend(rng, x[0], labels, learners, grid, ["validation"])[0] for _ in range(trials)
        ]
        means = np.mean([right.mean(axis=3).max(axis=2) for right in tried], axis=0)
        return grid[everyone, means.argmax(axis=1)][:, None]  # (learners, 1)

    for_all = chosen(once) if once else None
    found, curves = [], []
    for _ in range(seeds):
        rate = chosen(1) if for_all is None else for_all
        parts = ["train", "validation", "test"]
        train, validation, test = descend(rng, x[0], labels, learners, rate, parts)
        epoch = validation[:, 0].mean(axis=2).argmax(axis=1)
        found.append(test[everyone, 0, epoch])
        curves.append(train[:, 0].mean(axis=2))
    return np.stack(found, axis=1), np.stack(curves, axis=1)


def worsen(rng: np.random.Generator, correct: Correct, difference: float) -> Correct:
    """Make the first learner worse by `difference` in expectation."""
    accuracy = correct[0].mean()
    chance = difference / (2 * accuracy - 1)
    result = correct.copy()
    result[0] ^= rng.random(correct[0].shape) < chance
    return result


def records_of(
    correct: Correct,
    protocol: str,
    train_items: int,
    curves: NDArray[np.float64] | None = None,
) -> list[Record]:
    """Write the outcomes, and training scores if there are any, down as records of final trials."""
    records = []
    learners, pairs, tested = correct.shape
    for learner in range(learners):
        for pair in range(pairs):
            nested = protocol == "nested"
            split = {"kind": "fold" if nested else "given", "seed": 0, "folds": 0, "fold": 0}
            if nested:
                split |= {"seed": pair // FOLDS, "folds": FOLDS, "fold": pair % FOLDS}
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
                        "epochs": EPOCHS,
                    },
                    status="done",
                    history={} if curves is None else {"train_score": [*curves[learner, pair]]},
                    outcome={"test_score": float(correct[learner, pair].mean())},
                    counts={"train_items": train_items, "test_items": tested},
                )
            )
    return records


def simulate(
    protocol: str, *, items: int, learners: int, seeds: int, seed: int, repeats: int = 1
) -> tuple[Correct, int]:
    """Do one comparison; returns what is right, and the items trained on."""
    rng = np.random.default_rng([seed, items, learners, seeds])
    if protocol == "nested":
        train = round(items * (1 - 1 / FOLDS) * (1 - HOLDOUT))
        return over_folds(rng, items, learners, repeats), train
    return on_one_split(rng, items, learners, seeds)[0], items // 3


def verdict_on(records: list[Record], protocol: str) -> Verdict:
    """Judge some records."""
    return judge(group_trials(records, protocol=protocol))


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
    protocol: str,
    *,
    items: int,
    learners: int,
    seeds: int = 10,
    repeats: int = 1,
    rounds: int,
    first: int = 0,
) -> tuple[int, int]:
    """Count comparisons with a false alarm: of the judgement, and of ordinary t-tests."""
    judged = naive = 0
    for seed in range(first, first + rounds):
        correct, train = simulate(
            protocol, items=items, learners=learners, seeds=seeds, seed=seed, repeats=repeats
        )
        judged += false_alarm(verdict_on(records_of(correct, protocol, train), protocol))
        naive += naive_alarm(correct)
    return judged, naive


def paired(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the differences of all pairs of rows, `(learners, n) -> (pairs, n)`."""
    return np.stack([values[i] - values[j] for i in range(len(values)) for j in range(i)])


def log_steps(curves: NDArray[np.float64], correct: Correct) -> NDArray[np.float64]:
    """Return the logarithms of the steps to the common target, `(learners, seeds)`."""
    trials = group_trials(records_of(correct, "split", 1, curves), protocol="split")
    times = speed.times_to_target(trials, speed.common_target(trials, NAMES[0]))
    return np.array([[*times[norm].log_steps().values()] for norm in NAMES[: len(correct)]])


def count_alarms_by_seeds(
    budget: str, *, learners: int, rounds: int, anew: bool = True, first: int = 0
) -> tuple[int, int]:
    """Count comparisons of equal learners on a split with a false alarm: of score, and of time.

    The tests are those of the verdict; what else `judge` computes is left out, for speed.
    """
    about = BUDGETS[budget]
    found = np.zeros(2, dtype=int)
    for seed in range(first, first + rounds):
        rng = np.random.default_rng([seed, learners, about.seeds])
        correct, curves = on_one_split(
            rng, 240, learners, about.seeds, len(about.learning_rates), 0 if anew else ONCE[budget]
        )
        for place, values in enumerate((correct.mean(axis=2), log_steps(curves, correct))):
            found[place] += min(joint_sign_flips(paired(values))) <= 0.05
    return int(found[0]), int(found[1])


def told_by_seeds(values: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pairs max-t over joint flips tells apart, and which Holm on flips does."""
    differences = paired(values)
    joint = np.array(joint_sign_flips(differences))
    alone = np.array(holm([sign_flip(row) for row in differences]))
    return joint <= 0.05, alone <= 0.05


def equal_by_seeds(
    values: NDArray[np.float64], margin: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pairs max-t over joint flips shows to be equal, and which Holm on flips does."""
    differences = paired(values)
    joint = np.array(joint_equivalence_by_flips(differences, margin))
    alone = np.array(holm([equivalence_by_flips(row, margin) for row in differences]))
    return joint <= 0.05, alone <= 0.05


def count_detections(
    protocol: str,
    *,
    items: int,
    learners: Sequence[int],
    seeds: int = 10,
    differences: Sequence[float],
    rounds: int,
) -> NDArray[np.int64]:
    """Count comparisons in which the first learner is told from the second.

    Returns:
        Counts `(2, number of learners, differences)`: with the adjustment of the verdict, and,
        over seeds, with Holm's.
    """
    found = np.zeros((2, len(learners), len(differences)), dtype=np.int64)
    for seed in range(rounds):
        correct, train = simulate(
            protocol, items=items, learners=max(learners), seeds=seeds, seed=100_000 + seed
        )
        rng = np.random.default_rng([seed, 7])
        for column, difference in enumerate(differences):
            worse = worsen(rng, correct, difference)
            for row, count in enumerate(learners):
                if protocol == "split":  # the pair of the first two is the first of all pairs
                    told = told_by_seeds(worse[:count].mean(axis=2))
                    found[:, row, column] += told[0][0], told[1][0]
                    continue
                verdict = verdict_on(records_of(worse[:count], protocol, train), protocol)
                found[0, row, column] += any(
                    test.told_apart and test.involves(*NAMES[:2]) for test in verdict.differences
                )
    return found


def recommended_losses(protocol: str, *, items: int, seeds: int, rounds: int) -> list[float]:
    """Recommend one of five learners of known truth; return how far it is from the best.

    Each of the five is made worse by 0, 0.3, 1, 2 and 5 points, in an order drawn anew. NaN where
    nothing is recommended.
    """
    losses = []
    for seed in range(rounds):
        correct, train = simulate(
            protocol, items=items, learners=len(NAMES), seeds=seeds, seed=200_000 + seed
        )
        rng = np.random.default_rng([seed, 8])
        handicap = rng.permutation([0.0, 0.003, 0.01, 0.02, 0.05])
        for place, difference in enumerate(handicap):
            order = np.roll(np.arange(len(NAMES)), -place)
            correct[order] = worsen(rng, correct[order], difference)
        found = verdict_on(records_of(correct, protocol, train), protocol).recommendation
        losses.append(math.nan if found is None else handicap[NAMES.index(found.norm)])
    return losses


def null_table(rounds: int) -> None:
    """Print the rates of false alarms over folds."""
    print("| design | norms | false alarms, % | ordinary paired t-tests, % |")
    print("|---|---:|---:|---:|")
    for repeats, learners in itertools.product((1, 3), (2, 5)):
        start = time.monotonic()
        judged, naive = count_false_alarms(
            "nested", items=150, learners=learners, repeats=repeats, rounds=rounds
        )
        rates = f"{100 * judged / rounds:.1f} | {100 * naive / rounds:.1f}"
        times = f"{repeats} × " * (repeats > 1)
        print(f"| {times}10 folds of 150 items | {learners} | {rates} |", flush=True)
        print(f"<!-- {rounds} comparisons, {time.monotonic() - start:.0f} s -->", flush=True)


def alarms_over_splits(
    rounds: int, splits: int, share: float, learners: int = 2
) -> tuple[int, int, int]:
    """Count false alarms over splits drawn anew: corrected, ordinary t-tests, and sign flips."""
    found = np.zeros(3, dtype=int)
    for seed in range(rounds):
        rng = np.random.default_rng([seed, splits, round(100 * share), learners])
        scores = over_splits(rng, 150, learners, splits, share).mean(axis=2)
        differences = paired(scores)
        nothing = np.zeros(splits)
        for place, ratio in enumerate((share / (1 - share), 0.0)):
            p_values = [
                paired_difference(row, nothing, test_ratio=ratio).p_value for row in differences
            ]
            found[place] += min(holm(p_values)) <= 0.05
        found[2] += min(joint_sign_flips(differences)) <= 0.05
    return int(found[0]), int(found[1]), int(found[2])


def splits_table(rounds: int) -> None:
    """Print the rates of false alarms over splits of 150 items that are drawn anew."""
    print("| splits, part tested | corrected, % | ordinary paired t-test, % | sign flips, % |")
    print("|---|---:|---:|---:|")
    for share, splits in itertools.product((0.1, 0.2), (10, 30, 100)):
        counts = alarms_over_splits(rounds, splits, share)
        cells = " | ".join(f"{100 * count / rounds:.1f}" for count in counts)
        print(f"| {splits}, {share:.0%} | {cells} |", flush=True)


def choice_table(rounds: int) -> None:
    """Print the rates of false alarms over seeds, where every seed has a rate of its own.

    And beside them those with one rate for all seeds, from a fifth of the comparisons.
    """
    print("| budget | norms | score, % | time to target, % | one rate: score, % | time, % |")
    print("|---|---:|---:|---:|---:|---:|")
    for budget, about in BUDGETS.items():
        for learners in (2, 5):
            start = time.monotonic()
            alarms = []
            for anew, times in ((True, rounds), (False, max(1, rounds // 5))):
                found = count_alarms_by_seeds(budget, learners=learners, rounds=times, anew=anew)
                alarms += [f"{100 * count / times:.{1 if anew else 0}f}" for count in found]
            cells = " | ".join(alarms)
            print(f"| {budget}, {about.seeds} seeds | {learners} | {cells} |", flush=True)
            print(f"<!-- {rounds} comparisons, {time.monotonic() - start:.0f} s -->", flush=True)


def further_table(rounds: int) -> None:
    """Print the rates of comparisons that follow the last line of `choice_table`."""
    found = count_alarms_by_seeds("full", learners=5, rounds=rounds, first=1000)
    cells = " | ".join(f"{100 * count / rounds:.1f}" for count in found)
    print("| budget | norms | score, % | time to target, % |")
    print("|---|---:|---:|---:|")
    print(f"| full, 30 seeds | 5 | {cells} |")


def flips_table(rounds: int) -> None:
    """Print false alarms and power of max-t and of Holm, on drawn scores of equal spread.

    One norm is better by 1 or 2 standard deviations of a score; seen is its pair with the second.
    """
    print("| norms | seeds | alarms: max-t, % | Holm, % | one skewed: max-t, % | Holm, % | "
          "1 sd seen: max-t, % | Holm, % | 2 sd: max-t, % | Holm, % |")  # fmt: skip
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for norms, seeds in ((2, 6), (2, 10), (2, 15), (5, 6), (5, 10), (5, 15), (12, 6), (12, 10)):
        counts = np.zeros((4, 2), dtype=int)
        for seed in range(rounds):
            rng = np.random.default_rng([seed, norms, seeds])
            scores = rng.standard_normal((norms, seeds))
            skewed = scores.copy()
            skewed[0] = rng.standard_exponential(seeds) - 1
            for row, (values, shift) in enumerate(
                ((scores, 0.0), (skewed, 0.0), (scores, 1.0), (scores, 2.0))
            ):
                told = told_by_seeds(values + shift * (np.arange(norms) == 0)[:, None])
                counts[row] += [one[0] if shift else one.any() for one in told]
        cells = " | ".join(f"{100 * count / rounds:.1f}" for count in counts.ravel())
        print(f"| {norms} | {seeds} | {cells} |", flush=True)


def equal_table(rounds: int) -> None:
    """Print how often norms are called practically equal, by max-t and by Holm, on drawn scores.

    In error, where half of the norms are better by just the margin: any pair across the halves.
    Rightly, where all are alike: the pair of the first two.
    """
    margins = (1.0, 1.5, 2.0)  # standard deviations of a score
    print("| norms | seeds | false: max-t, % | Holm, % | one skewed: max-t, % | Holm, % | "
          "within 1 sd: max-t, % | Holm, % | 1.5 sd: max-t, % | Holm, % | "
          "2 sd: max-t, % | Holm, % |")  # fmt: skip
    print("|---:" * 12 + "|")
    for norms, seeds in ((2, 6), (2, 10), (2, 15), (5, 6), (5, 8), (5, 10), (5, 15), (12, 10)):
        better = np.arange(norms) < norms // 2
        across = np.array([better[i] != better[j] for i in range(norms) for j in range(i)])
        counts = np.zeros((5, 2), dtype=int)
        for seed in range(rounds):
            rng = np.random.default_rng([seed, norms, seeds])
            scores = rng.standard_normal((norms, seeds))
            skewed = scores.copy()
            skewed[0] = rng.standard_exponential(seeds) - 1
            for row, values in enumerate((scores, skewed)):
                told = equal_by_seeds(values + margins[-1] * better[:, None], margins[-1])
                counts[row] += [one[across].any() for one in told]
            for row, margin in enumerate(margins, start=2):
                counts[row] += [one[0] for one in equal_by_seeds(scores, margin)]
        cells = " | ".join(f"{100 * count / rounds:.1f}" for count in counts.ravel())
        print(f"| {norms} | {seeds} | {cells} |", flush=True)


def power_table(rounds: int) -> None:
    """Print how often differences are seen; over seeds, from a third, with Holm's as well."""
    differences = (0.01, 0.02, 0.05, 0.1)
    print("| design | norms | 1 point | 2 points | 5 points | 10 points |")
    print("|---|---:|---:|---:|---:|---:|")
    designs = [("nested", items, 0, f"10 folds of {items} items") for items in (200, 1000, 4000)]
    designs += [("split", 1500, n, f"{n} seeds, 500 items tested") for n in (6, 10, 15)]
    for protocol, items, seeds, name in designs:
        times = rounds if protocol == "nested" else max(1, rounds // 3)
        found = count_detections(
            protocol,
            items=items,
            learners=(2, 5),
            seeds=seeds,
            differences=differences,
            rounds=times,
        )
        for place, learners in enumerate((2, 5)):
            for kind in range(2 if protocol == "split" and learners > 2 else 1):
                cells = " | ".join(f"{100 * count / times:.0f}" for count in found[kind, place])
                print(f"| {name}{', Holm' * kind} | {learners} | {cells} |", flush=True)


def recommend_table(rounds: int) -> None:
    """Print how far the recommended learner is from the best of five."""
    print("| design | recommended, % | within the margin, % | the best, % | mean loss, points |")
    print("|---|---:|---:|---:|---:|")
    for protocol, items, seeds, name in (
        ("nested", 200, 0, "10 folds of 200 items"),
        ("nested", 1000, 0, "10 folds of 1000 items"),
        ("split", 1500, 6, "6 seeds, 500 items tested"),
        ("split", 1500, 10, "10 seeds, 500 items tested"),
        ("split", 1500, 30, "30 seeds, 500 items tested"),
    ):
        losses = np.array(recommended_losses(protocol, items=items, seeds=seeds, rounds=rounds))
        known = losses[~np.isnan(losses)]
        shares = [
            len(known) / rounds, (known <= MARGIN * (1 + 1e-9)).mean(), (known == 0).mean(),
        ]  # fmt: skip
        cells = " | ".join(f"{100 * share:.0f}" for share in shares)
        print(f"| {name} | {cells} | {100 * known.mean():.2f} |", flush=True)


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
    tables = {
        "null": (null_table, 1000), "splits": (splits_table, 1000), "choice": (choice_table, 1000),
        "further": (further_table, 1000), "flips": (flips_table, 1000),
        "equal": (equal_table, 1000),
        "power": (power_table, 300), "recommend": (recommend_table, 100),
        "coverage": (coverage_table, 4000),
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=tables)
    parser.add_argument("--rounds", type=int, help="comparisons per line")
    options = parser.parse_args()
    table, rounds = tables[options.table]
    table(options.rounds or rounds)


if __name__ == "__main__":
    main()
