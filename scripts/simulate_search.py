"""How often equal learners are told apart when options of theirs are searched, and where.

The learners, the samples and the judgement are those of `simulate_judgement.py`; here the search
of the lab chooses three options of each learner, from validation scores: `weight_decay`, the ridge
penalty; `layers`, three random features each; and `dropout`, the share of features that are left
out of the training. It is done as `graphnorms compare --search` does it, for every learner and fold
(seed) anew, and beside it once, in the first fold (with the first seed), for all of them. Writes
the table of docs/checked.md:

    python scripts/simulate_search.py                   # both lines, for two norms
    python scripts/simulate_search.py split 5 --rounds 500
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from simulate_judgement import (
    BLOCK,
    FEATURES,
    FOLDS,
    HOLDOUT,
    Correct,
    draw_sample,
    false_alarm,
    paired,
    records_of,
    verdict_on,
)

from graphnorms.lab.resampling import joint_sign_flips
from graphnorms.lab.search import Search, Values
from graphnorms.lab.search_space import ranges_of

SPACE: Final = ranges_of("dropout,layers,weight_decay=0.1:1000")
PROPOSALS: Final = 10
SEEDS: Final = 10
ITEMS: Final = {"nested": 150, "split": 240}

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Learners:
    """What learners draw from one seed.

    Args:
        lifted: Random features of all items, `(learners, items, FEATURES)`.
        luck: What decides by dropout which are left out, of the same shape.
    """

    lifted: NDArray[np.float64]
    luck: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, x: NDArray[np.float64]) -> Self:
        """Draw those of a fresh seed for coordinates `(learners, items, BLOCK)`."""
        weight = rng.standard_normal((len(x), BLOCK, FEATURES)) / np.sqrt(BLOCK)
        bias = rng.standard_normal((len(x), 1, FEATURES))
        lifted = np.maximum(x @ weight + bias, 0)
        return cls(lifted, rng.random(lifted.shape))

    def outputs(
        self, chosen: Sequence[Values], labels: Ids, train: Ids, test: Ids
    ) -> NDArray[np.float64]:
        """Train every learner with values of its own; `(learners, items tested)`."""
        options = {name: np.array([each[name] for each in chosen]) for name in SPACE}
        there = np.arange(FEATURES) < 3 * options["layers"][:, None]
        lifted = self.lifted * there[:, None]
        left = 1 - options["dropout"][:, None, None]
        z = lifted[:, train] * (self.luck[:, train] < left) / left
        target = 2.0 * labels[train] - 1
        center = z.mean(axis=1, keepdims=True)
        z = z - center
        penalty = options["weight_decay"][:, None, None] * np.eye(FEATURES)
        pull = z.transpose(0, 2, 1) @ (target - target.mean())[:, None]
        solution = np.linalg.solve(z.transpose(0, 2, 1) @ z + penalty, pull)
        return ((lifted[:, test] - center) @ solution)[..., 0] + target.mean()


def search(drawn: Learners, seed: int, labels: Ids, train: Ids, validation: Ids) -> list[Values]:
    """Choose the values of every learner in one fold, by the accuracy and then the loss there."""
    made = Search(space=SPACE, proposals=PROPOSALS, seed=seed, usual={})
    fixed, learners = made.fixed(), range(len(drawn.lifted))
    tried: list[list[Values]] = [[] for _ in learners]
    places: list[list[tuple[float, float]]] = [[] for _ in learners]
    for number in range(made.count):
        for j in learners:
            known = number < len(fixed)
            tried[j].append(fixed[number] if known else made.next(tried[j], places[j]))
        outputs = drawn.outputs([each[-1] for each in tried], labels, train, validation)
        right = (outputs > 0) == labels[validation]
        loss = ((outputs - (2.0 * labels[validation] - 1)) ** 2).mean(axis=1)
        for j in learners:
            places[j].append((-float(right[j].mean()), float(loss[j])))
    return [tried[j][places[j].index(min(places[j]))] for j in learners]


def compare_once(protocol: str, learners: int, seed: int, *, anew: bool) -> Correct:
    """Do one comparison of equal learners; return which predictions are right.

    Args:
        protocol: `"nested"` or `"split"`.
        learners: How many.
        seed: Of everything.
        anew: Whether every fold, or seed, is searched, not the first alone.
    """
    rng = np.random.default_rng([seed, learners, len(protocol)])
    items, nested = ITEMS[protocol], protocol == "nested"
    x, labels = draw_sample(rng, items, learners if nested else 1)
    x = np.broadcast_to(x, (learners, items, BLOCK))
    order = rng.permutation(items)
    chosen: list[Values] = []
    found = []
    for place in range(FOLDS if nested else SEEDS):
        if nested:
            test = order[place::FOLDS]
            rest = rng.permutation(np.setdiff1d(order, test))
            held = round(HOLDOUT * len(rest))
            validation, train = rest[:held], rest[held:]
        else:  # a resample for every seed, the same for all, as norms share the batches
            third = items // 3
            validation, test = np.arange(third, 2 * third), np.arange(2 * third, items)
            train = rng.choice(third, third)
        if anew or not chosen:
            fold = FOLDS * seed + place
            chosen = search(Learners.draw(rng, x), fold, labels, train, validation)
        outputs = Learners.draw(rng, x).outputs(chosen, labels, train, test)
        found.append((outputs > 0) == labels[test])
    return np.stack(found, axis=1)


def alarm(protocol: str, correct: Correct) -> bool:
    """Whether a comparison tells any two learners apart, by the tests of the verdict."""
    if protocol == "split":
        return min(joint_sign_flips(paired(correct.mean(axis=2)))) <= 0.05
    train = round(ITEMS[protocol] * (1 - 1 / FOLDS) * (1 - HOLDOUT))
    return false_alarm(verdict_on(records_of(correct, protocol, train), protocol))


def count_alarms(
    protocol: str,
    learners: int,
    rounds: int,
    *,
    anew: bool,
    first: int = 0,
    tell: Callable[[int, int], None] = lambda done, found: None,
) -> int:
    """Count comparisons with a false alarm, from a seed on; `tell` gets the count so far."""
    found = 0
    for done in range(1, rounds + 1):
        found += alarm(protocol, compare_once(protocol, learners, first + done - 1, anew=anew))
        if done % 250 == 0:
            tell(done, found)
    return found


def line(protocol: str, learners: int, rounds: int) -> str:
    """Return a line of the table."""
    cells = []
    for anew in (False, True):
        start = time.monotonic()

        def tell(done: int, found: int, anew: bool = anew, start: float = start) -> None:
            how = "anew" if anew else "once"
            seconds = time.monotonic() - start
            print(f"<!-- {protocol} {learners} {how}: {found} of {done}, {seconds:.0f} s -->",
                  flush=True)  # fmt: skip

        found = count_alarms(protocol, learners, rounds, anew=anew, tell=tell)
        cells.append(f"{100 * found / rounds:.1f}")
    design = f"10 {'folds' if protocol == 'nested' else 'seeds'} of {ITEMS[protocol]} items"
    return f"| {design} | {learners} | {cells[1]} | {cells[0]} |"


def main() -> None:
    """Print the table, or one line of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("protocol", choices=ITEMS, nargs="?")
    parser.add_argument("learners", type=int, nargs="?", default=2)
    parser.add_argument("--rounds", type=int, default=2000, help="comparisons per line")
    options = parser.parse_args()
    print("| design | norms | searched in every fold or seed, % | searched once, % |")
    print("|---|---:|---:|---:|")
    for protocol in [options.protocol] if options.protocol else ITEMS:
        print(line(protocol, options.learners, options.rounds), flush=True)


if __name__ == "__main__":
    main()
