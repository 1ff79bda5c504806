"""Judge successive halving over the learning rates (`--search halving`) against the full grid.

    python scripts/measure_halving.py RECORDS.jsonl MUTAG data/PTC/PTC.txt …      # trains; goes on
    python scripts/measure_halving.py RECORDS.jsonl                               # the table alone

For each data set, norm and fold, the trials of the halving are trained, and those of every rate of
the grid at full length, on the same split from the same seed. From these the rates follow that the
grid and the halving choose. They agree if they are the same, or if the validation score of the
halving's, in its trial of full length, is less than the margin of one point below the grid's. How
many points it is below on average is listed beside those that a rate drawn at random would be.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from graphnorms.lab.halving import lengths, survivors
from graphnorms.lab.learning_rate import best_rate
from graphnorms.lab.options import Options
from graphnorms.lab.plan import Plan
from graphnorms.lab.prepare import prepare
from graphnorms.training import Record, TrialConfig, run_trial, threads

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
NORMS = ("none", "batch", "graph")
FOLDS = 10
MARGIN = 0.01


def main() -> None:
    """Train what is missing, fold by fold over all data sets, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", type=Path, help="where the records are kept")
    parser.add_argument("datasets", nargs="*", help="the data sets to train on")
    arguments = parser.parse_args()
    records = list(read(arguments.records))
    if arguments.datasets:
        train(arguments.records, arguments.datasets, {record.key: record for record in records})
        records = list(read(arguments.records))
    print(table(records))


def read(path: Path) -> Iterator[Record]:
    """Read the records that there are."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield Record.from_json(line)


def train(path: Path, datasets: Sequence[str], done: dict[str, Record]) -> None:
    """Run the trials without a record."""
    options = Options(norms=NORMS, learning_rate=RATES, protocol="nested", reasons="none")
    plans = [prepare(dataset, options)[0] for dataset in datasets]
    with path.open("a", encoding="utf-8") as file, threads(1):
        for fold in range(FOLDS):
            for plan, norm in itertools.product(plans, NORMS):
                rates = {
                    c.learning_rate: c for c in plan.schedule.selection(fold) if c.norm == norm
                }
                _train_choice(plan, rates, done, file)


def _train_choice(
    plan: Plan, rates: Mapping[float, TrialConfig], done: dict[str, Record], file: IO[str]
) -> None:
    """Run the trials of one choice: those of the halving, and of the whole grid."""

    def outcome(rate: float, epochs: int) -> Record:
        config = replace(rates[rate], epochs=epochs)
        if config.key not in done:
            done[config.key] = run_trial(config, plan.dataset, measured=False)
            file.write(done[config.key].to_json() + "\n")
            file.flush()
        return done[config.key]

    left = list(rates)
    for epochs in lengths(plan.settings.epochs, len(rates)):
        left = survivors([outcome(rate, epochs) for rate in left])
    for rate in rates:
        outcome(rate, plan.settings.epochs)


@dataclass(frozen=True)
class Choice:
    """A rate that the halving chose, against that of the grid.

    Args:
        same: Whether they are one rate.
        lost: Validation score at full length of the grid's rate, less that of the halving's.
        lost_at_random: The same of the mean of all rates.
        epochs: Share of the grid's epochs that were spent.
        judging: Items that choose.
    """

    same: bool
    lost: float
    lost_at_random: float
    epochs: float
    judging: int


def table(records: Sequence[Record]) -> str:
    """Return a row per data set, of the choices whose trials are all there."""
    places: dict[str, dict[tuple[Any, ...], list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        config = record.config
        places[config["dataset"]][config["norm"], config["split"]["fold"]].append(record)
    lines = [
        "| set | items that choose | choices | the same rate | within a point | points lost "
        "| lost by a random rate | epochs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    every: list[Choice] = []
    for dataset, tried in places.items():
        found = [each for each in map(choice_of, tried.values()) if each is not None]
        if found:
            lines.append(_row(Path(dataset).stem, found))
        every += found
    return "\n".join([*lines, _row("all", every)]) if every else "no choice is complete yet"


def _row(name: str, choices: Sequence[Choice]) -> str:
    def mean(of: Callable[[Choice], float]) -> float:
        return sum(map(of, choices)) / len(choices)

    cells = (
        name,
        f"{mean(lambda each: each.judging):.0f}",
        str(len(choices)),
        f"{mean(lambda each: each.same):.0%}",
        f"{mean(lambda each: each.lost < MARGIN):.0%}",
        f"{100 * mean(lambda each: each.lost):.1f}",
        f"{100 * mean(lambda each: each.lost_at_random):.1f}",
        f"{mean(lambda each: each.epochs):.0%}",
    )
    return f"| {' | '.join(cells)} |"


def choice_of(tried: Sequence[Record]) -> Choice | None:
    """Return what both choose; None if trials are missing or failed."""
    at = {(r.config["epochs"], r.config["learning_rate"]): r for r in tried}
    full = max(epochs for epochs, _ in at)
    spent, rates = 0, list(RATES)
    for epochs in lengths(full, len(RATES)):
        rung = [at.get((epochs, rate)) for rate in rates]
        if None in rung:
            return None
        spent += epochs * len(rates)
        rates = survivors([record for record in rung if record is not None])
    every = [at.get((full, rate)) for rate in RATES]
    if None in every:
        return None
    done = [record for record in every if record is not None]
    if any(record.status != "done" for record in done):
        return None
    scores = {r.config["learning_rate"]: r.outcome["validation_score"] for r in done}
    grid = best_rate(done)
    return Choice(
        same=rates[0] == grid,
        lost=scores[grid] - scores[rates[0]],
        lost_at_random=scores[grid] - sum(scores.values()) / len(scores),
        epochs=spent / (full * len(RATES)),
        judging=done[0].counts["validation_items"],
    )


if __name__ == "__main__":
    main()
