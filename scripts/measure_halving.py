"""Judge successive halving over the learning rates (`--search halving`) against the full grid.

    python scripts/measure_halving.py RECORDS.jsonl MUTAG data/PTC/PTC.txt …      # trains; goes on
    python scripts/measure_halving.py RECORDS.jsonl                               # the table alone

For each data set, norm and fold, the trials of the halving are trained, and those of every rate of
the grid at full length, on the same split from the same seed. From these the rates follow that the
grid and the halving choose. They agree if they are the same, or if the validation score of the
halving's, in its trial of full length, is less than the margin of one point below the grid's.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
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


def table(records: Sequence[Record]) -> str:
    """Return a row per data set: choices, same rate, agreement, epochs spent."""
    places: dict[str, dict[tuple[Any, ...], list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        config = record.config
        places[config["dataset"]][config["norm"], config["split"]["fold"]].append(record)
    lines = ["| data | choices | same rate | same or within a point | epochs |"]
    lines.append("|---|---|---|---|---|")
    total = [0, 0, 0]
    for dataset, choices in places.items():
        counts, share = [0, 0, 0], 0.0
        for tried in choices.values():
            found = choice_of(tried)
            if found is not None:
                same, near, share = found
                counts = [counts[0] + 1, counts[1] + same, counts[2] + near]
        total = [a + b for a, b in zip(total, counts, strict=True)]
        if counts[0]:
            lines.append(_row(Path(dataset).stem, counts) + f" {share:.0%} |")
    lines.append(_row("all", total) + " |")
    return "\n".join(lines)


def _row(name: str, counts: Sequence[int]) -> str:
    number, same, near = counts
    return f"| {name} | {number} | {same / max(1, number):.0%} | {near / max(1, number):.0%} |"


def choice_of(tried: Sequence[Record]) -> tuple[bool, bool, float] | None:
    """Return whether both choose one rate, whether they agree, and the share of epochs spent.

    None if trials are missing.
    """
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
    grid = best_rate([record for record in every if record is not None])
    chosen, best = (at[full, rate].outcome.get("validation_score") for rate in (rates[0], grid))
    near = chosen is not None and best is not None and best - chosen < MARGIN
    return rates[0] == grid, rates[0] == grid or near, spent / (full * len(RATES))


if __name__ == "__main__":
    main()
