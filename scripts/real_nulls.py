"""How often the judgement raises a false alarm in real training: one norm against itself.

    python scripts/real_nulls.py MUTAG --norm graph --norms 2,5 --copies 5

A bank of trials is trained once, by the code and the schedule of a comparison: at every *place*,
a seed of protocol "split" or a fold of "nested", several *copies* of one norm. Copies share the
split and the order of the batches, as the norms of a comparison do, and have initial weights and
dropout masks of their own. Each copy tries every learning rate and is reported with the rate that
it chose. The bank is a journal; what is in it is not trained again.

A comparison draws places, at every place gives the names of different norms to copies drawn at
random, and is judged by the function that judges every comparison. The first is the baseline, so
that it sets the target that all are timed to. What is told apart is a false alarm. The same
trials go through tests that correct nothing, and, over seeds, through the design that chose one
rate for all seeds, from one trial per rate.

With `--noise`, every copy also sees the graphs with some node labels exchanged for others at
random, the same in all folds: equal in expectation over data, not on the data at hand. That is
the null hypothesis of a cross-validation.

Comparisons drawn from one bank share trials, so that their count varies by more than binomially.
Rows are added to a JSON file, one for each bank and number of norms.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from graphnorms.data import GraphSet, load_dataset
from graphnorms.data.onehot import OneHot
from graphnorms.files import replacing
from graphnorms.lab import resampling, speed
from graphnorms.lab.compare import prepare
from graphnorms.lab.journal import Journal
from graphnorms.lab.judge import Terms, judge
from graphnorms.lab.learning_rate import best_rate
from graphnorms.lab.options import Options
from graphnorms.lab.plan import Plan
from graphnorms.lab.trials import group_trials
from graphnorms.lab.verdict import Verdict
from graphnorms.models.initialize import derive_seed
from graphnorms.training.record import Record
from graphnorms.training.trial import run_trial
from graphnorms.training.trial_config import TrialConfig

NAMES: Final = ("none", "batch", "layer", "instance", "graph")
"""What copies are called in a comparison; the first is the baseline."""

NAIVE: Final[dict[str, Callable[..., Any]]] = {
    "paired t": stats.ttest_rel,
    "unpaired t": lambda a, b: stats.ttest_ind(a, b, equal_var=False),
    "Wilcoxon": lambda a, b: stats.wilcoxon(a, b, method="asymptotic"),
}
"""Tests that correct neither for overlapping folds nor for the number of pairs."""

LEVEL: Final = 0.05

Floats = NDArray[np.float64]
Treatment = list[Record]
"""The records of one norm in a comparison."""


@dataclass(frozen=True)
class Bank:
    """Trials of one norm, several times at every place.

    Args:
        plan: A comparison that trains the norm, whose schedule is followed.
        norm: The norm.
        copies: How many at every place.
        sets: The data that each copy sees.
        journal: Holds the records.
    """

    plan: Plan
    norm: str
    copies: int
    sets: Sequence[GraphSet]
    journal: Journal

    @property
    def by_seed(self) -> bool:
        """Whether places are seeds on one split, and not folds."""
        return self.plan.settings.by_seed

    @property
    def places(self) -> int:
        """Seeds, or folds."""
        return self.plan.settings.rate_choices

    def trial(self, stage: str, place: int, copy: int, rate: float) -> TrialConfig:
        """Return what a comparison would train, with weights and dropout of the copy's own."""
        (config,) = (
            each
            for each in self.plan.schedule.selection(place)
            if (each.norm, each.learning_rate) == (self.norm, rate)
        )
        order = derive_seed(config.seed, stage)
        return replace(
            config,
            stage=stage,
            fingerprint=self.sets[copy].fingerprint,
            seed=derive_seed(order, copy),
            order_seed=order,
        )

    def record(self, stage: str, place: int, copy: int, rate: float) -> Record:
        """Return the outcome of a trial; trains it if the journal does not have it."""
        config = self.trial(stage, place, copy, rate)
        known = self.journal.get(config.key)
        return known or self.journal.append(run_trial(config, self.sets[copy]))

    def tried(self, place: int, copy: int) -> list[Record]:
        """Return the trials that choose a copy's learning rate at a place."""
        rates = self.plan.settings.learning_rates
        return [self.record("select", place, copy, rate) for rate in rates]

    def unit(self, place: int, copy: int) -> list[Record]:
        """Return all that a norm does at a place: it chooses its rate and is reported with it."""
        tried = self.tried(place, copy)
        return [*tried, self.record("final", place, copy, best_rate(tried))]

    def fill(self) -> None:
        """Train what is missing; over seeds every rate is reported, for `with_one_rate`."""
        rates = self.plan.settings.learning_rates if self.by_seed else ()
        for place in range(self.places):
            for copy in range(self.copies):
                self.unit(place, copy)
                for rate in rates:
                    self.record("final", place, copy, rate)
            print(f"{self.plan.dataset.name}: place {place + 1} of {self.places}", flush=True)

    def draw(
        self, rng: np.random.Generator, norms: int, seeds: int, *, noisy: bool
    ) -> tuple[list[Treatment], list[Treatment]]:
        """Draw one comparison of equal norms.

        Args:
            rng: Draws places and copies.
            norms: How many.
            seeds: Of one split, how many; folds are all taken.
            noisy: Whether a copy is the same in all folds, as its data are.

        Returns:
            The records of each norm, and, over seeds, those with one rate for all seeds.
        """
        places = rng.permutation(self.places)
        chosen = places[: seeds if self.by_seed else self.places]
        fixed = rng.permutation(self.copies)
        copies = [fixed if noisy else rng.permutation(self.copies) for _ in chosen]
        judged, once = [], []
        for norm in range(norms):
            own = [(int(p), int(c[norm])) for p, c in zip(chosen, copies, strict=True)]
            judged.append([r for place, copy in own for r in self.unit(place, copy)])
            if self.by_seed:  # another place chose the rate, for all of these
                rate = best_rate(self.tried(int(places[seeds]), int(fixed[norm])))
                once.append([self.record("final", *at, rate) for at in own])
        return judged, once


def renamed(treatments: Sequence[Treatment]) -> list[Record]:
    """Return the records of a comparison in which every treatment is another norm."""
    return [
        replace(record, key=f"{name}/{record.key}", config=record.config | {"norm": name})
        for name, records in zip(NAMES, treatments, strict=False)
        for record in records
    ]


def alarms_of(verdict: Verdict) -> tuple[bool, bool]:
    """Return whether any two are told apart: by the score, by the time to target."""
    score, time = (
        any(test.told_apart for test in tests)
        for tests in (verdict.differences, verdict.speed_differences)
    )
    return score, time


def naive_alarms(records: Sequence[Record], verdict: Verdict) -> Counter[str]:
    """Return which of the tests that correct nothing find a difference in any pair."""
    trials = group_trials(records, protocol=verdict.design.protocol)
    times = speed.times_to_target(trials, verdict.target)
    tables = {"score": [of_norm.scores() for of_norm in trials.values()]}
    if verdict.target is not None:
        tables["time"] = [of_norm.log_steps() for of_norm in times.values()]
    found: Counter[str] = Counter()
    for quantity, table in tables.items():
        values = [verdict.design.values(of_norm) for of_norm in table]
        for name, test in NAIVE.items():
            pairs = itertools.combinations(values, 2)
            found[f"{quantity}, {name}"] = any(_p_value(test, *pair) <= LEVEL for pair in pairs)
    return found


def _p_value(test: Callable[..., Any], first: Floats, second: Floats) -> float:
    if np.array_equal(first, second):
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy's on ties and small samples
        return float(np.nan_to_num(test(first, second).pvalue, nan=1.0))


def count_alarms(
    bank: Bank, *, norms: int, seeds: int, comparisons: int, noisy: bool
) -> Counter[str]:
    """Count the comparisons of equal norms with a false alarm, by what raised it."""
    protocol = bank.plan.settings.protocol
    found: Counter[str] = Counter()
    for number in range(comparisons):
        rng = np.random.default_rng([number, norms])
        judged, once = bank.draw(rng, norms, seeds, noisy=noisy)
        records = renamed(judged)
        terms = Terms(trivial=bank.plan.trivial)
        verdict = judge(group_trials(records, protocol=protocol), terms)
        score, time = alarms_of(verdict)
        found.update({"score": score, "time": time, "timed": verdict.target is not None})
        found.update(naive_alarms(records, verdict))
        if once:
            score, time = alarms_of(judge(group_trials(renamed(once), protocol=protocol), terms))
            found.update({"score, one rate": score, "time, one rate": time})
    return found


def noisy_copies(graphs: GraphSet, copies: int, share: float) -> list[GraphSet]:
    """Return the set once per copy, with a share of the node labels drawn anew.

    Raises:
        ValueError: There is noise to add, and the features are not one-hot labels.
    """
    if not share:
        return [graphs] * copies
    features = graphs.kept_x
    if not isinstance(features, OneHot) or features.columns.shape[1] != 1:
        raise ValueError(f"noise is for one-hot node labels; {graphs.name} has {graphs.features}")
    sets = []
    for copy in range(copies):
        draw = torch.Generator().manual_seed(copy)
        shape = features.columns.shape
        other = torch.randint(features.width, shape, generator=draw)
        kept = torch.rand(shape, generator=draw) >= share
        columns = torch.where(kept, features.columns.long(), other)
        sets.append(
            GraphSet(
                name=graphs.name,
                x=OneHot.from_columns(columns, features.width),
                ptr=graphs.ptr,
                edge_ptr=graphs.edge_ptr,
                edge_index=graphs.edge_index,
                y=graphs.y,
                task=graphs.task,
                features=graphs.features,
                split=graphs.split,
            )
        )
    return sets


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", help="a name or path, as of `graphnorms compare`")
    parser.add_argument("--graphs", type=int, help="take so many, drawn at random")
    parser.add_argument("--norm", default="graph", help="the norm that is trained")
    parser.add_argument("--protocol", choices=("split", "nested"), default="split")
    parser.add_argument("--norms", default="2", help="norms of a comparison, e.g. 2,5")
    parser.add_argument("--seeds", type=int, default=10, help="seeds of a comparison on a split")
    parser.add_argument("--places", type=int, default=30, help="seeds in the bank; folds are 10")
    parser.add_argument("--copies", type=int, default=2, help="of the norm, at every place")
    parser.add_argument("--noise", type=float, default=0.0, help="share of labels drawn anew")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--comparisons", type=int, default=200)
    parser.add_argument("--bank", type=Path, help="journal of the trials; default by the options")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).with_suffix(".json"), help="where rows are added"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Train a bank, judge comparisons drawn from it, and add a row for each number of norms."""
    options = parsed(arguments)
    resampling.RESAMPLES = 500  # of intervals, which no alarm depends on
    graphs = load_dataset(options.data)
    if options.graphs is not None:
        order = np.random.default_rng(0).permutation(len(graphs))
        graphs = graphs.subset(order[: options.graphs].tolist())
    on_a_split = options.protocol == "split"
    plan, _ = prepare(
        graphs,
        Options(
            norms=("none", options.norm),
            protocol=options.protocol,
            epochs=options.epochs,
            layers=options.layers,
            hidden=options.hidden,
            runs=options.places if on_a_split else 1,
        ),
    )
    bank_file = options.bank or Path(
        f"{graphs.name}-{options.protocol}-{options.norm}-{options.noise:g}.jsonl"
    )
    with Journal(bank_file) as journal:
        sets = noisy_copies(graphs, options.copies, options.noise)
        bank = Bank(plan, options.norm, options.copies, sets, journal)
        start = time.process_time()
        bank.fill()
        print(f"trained for {time.process_time() - start:.0f} s")
        for norms in map(int, options.norms.split(",")):
            found = count_alarms(
                bank,
                norms=norms,
                seeds=options.seeds,
                comparisons=options.comparisons,
                noisy=options.noise > 0,
            )
            row = {
                "command": "python scripts/real_nulls.py " + " ".join(arguments),
                "data": graphs.name,
                "graphs": len(graphs),
                "protocol": options.protocol,
                "norms": norms,
                "trials": len(journal),
                "comparisons": options.comparisons,
                "alarms": {name: int(count) for name, count in found.items()},
            }
            print(json.dumps(row), flush=True)
            add_row(options.out, row)


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row to the file, in the place of one of the same command and norms."""
    rows = json.loads(path.read_text()) if path.exists() else []
    same = ("command", "norms")
    rows = [each for each in rows if any(each[name] != row[name] for name in same)]
    with replacing(path) as temporary:
        temporary.write_text(json.dumps([*rows, row], indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
