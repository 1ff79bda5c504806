"""Ten made-up comparisons, each with the arguments of its verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graphnorms.lab.trivial import Trivial
from graphnorms.training.record import Record
from tests.records import NORMS, synthetic_records

GRID = (0.001, 0.01, 0.1)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Records of a comparison, and what is said of it beside them."""

    records: Sequence[Record]
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _shifted(records: Sequence[Record], norm: str, by: float) -> list[Record]:
    """Move every score of one norm."""

    def moved(record: Record) -> Record:
        outcome = {
            name: value + by if name.endswith("_score") else value
            for name, value in record.outcome.items()
        }
        return replace(record, outcome=outcome) if record.config["norm"] == norm else record

    return [moved(record) for record in records]


def _repeated(records: Sequence[Record]) -> list[Record]:
    """Add a second cross-validation, a little worse than the first."""

    def again(record: Record) -> Record:
        config = record.config
        split = {**config["split"], "seed": config["split"]["seed"] + 1}
        outcome = {n: v - 0.003 if n.endswith("_score") else v for n, v in record.outcome.items()}
        return replace(
            record, key=f"{record.key}/2", config={**config, "split": split}, outcome=outcome
        )

    return [*records, *map(again, records)]


def _named(records: Sequence[Record], names: Mapping[str, str]) -> list[Record]:
    """Give norms other names."""
    return [
        replace(
            record,
            key=f"{record.key}/{names[record.config['norm']]}",
            config={**record.config, "norm": names[record.config["norm"]]},
        )
        for record in records
    ]


def _several_targets(records: Sequence[Record]) -> list[Record]:
    """Give every trial the errors of two targets."""
    return [
        replace(
            record,
            target_scores={
                "test": {"energy": 0.1 * score, "gap": None if place % 7 == 0 else 3 * score}
            },
        )
        if (score := record.outcome.get("test_score")) is not None
        else record
        for place, record in enumerate(records)
    ]


def clear_winner() -> Table:
    return Table(records=synthetic_records(NORMS[:4], rates=GRID), arguments={"selection": 30})


def tie() -> Table:
    records = _shifted(synthetic_records(("none", "batch", "layer"), rates=GRID), "batch", 0.035)
    twin = [record for record in records if record.config["norm"] == "batch"]
    return Table(records=[*records, *_named(twin, {"batch": "graph"})], arguments={"margin": 0.05})


def failures() -> Table:
    records = synthetic_records(
        NORMS[:4],
        rates=GRID,
        failed=lambda norm, fold: (norm == "batch" and fold < 4) or (norm == "layer" and fold == 2),
    )
    return Table(records=records, arguments={"planned": 10, "selection": 30})


def paper() -> Table:
    records = synthetic_records(NORMS[:3], protocol="paper", rates=GRID)
    return Table(records=records, arguments={"protocol": "paper", "selection": 30})


def seeds() -> Table:
    records = synthetic_records(NORMS[:4], protocol="split", rates=GRID, seeds=12)
    return Table(records=records, arguments={"protocol": "split", "selection": 36})


def unfinished() -> Table:
    records = synthetic_records(
        NORMS, rates=GRID, missing=lambda norm, fold: fold > (7 if norm == "none" else 3)
    )
    return Table(records=records, arguments={"planned": 10, "norms": (*NORMS, "pair")})


def several_targets() -> Table:
    records = synthetic_records(NORMS[:3], metric="std_mae", rates=GRID)
    return Table(
        records=_several_targets(records),
        arguments={"unit": "eV", "trivial": Trivial(held_out=[2.5] * 10, train=[2.4] * 10, seed=9)},
    )


def missing_norm() -> Table:
    records = synthetic_records(("batch", "graph"), metric="mae", rates=GRID[:1], items=400)
    trivial = Trivial(held_out=[1.1] * 10, train=[1.0] * 10, folds=10, seed=9)
    return Table(
        records=records,
        arguments={"norms": ("none", "batch", "graph"), "unit": "kcal", "trivial": trivial},
    )


def one_norm() -> Table:
    return Table(records=synthetic_records(("graph",), metric="roc_auc", rates=GRID, folds=5))


def own_norms() -> Table:
    records = synthetic_records(NORMS[:3], rates=GRID, folds=5, runs=2)
    names = {"none": "none", "batch": "my_norms:Centred", "layer": "my_norms:Centred:scale=2"}
    return Table(
        records=_repeated(_named(records, names)),
        arguments={"repeats": 2, "trivial": Trivial(held_out=[0.5] * 10, train=[0.5] * 10)},
    )


TABLES: Sequence[Callable[[], Table]] = (
    clear_winner,
    tie,
    failures,
    paper,
    seeds,
    unfinished,
    several_targets,
    missing_norm,
    one_norm,
    own_norms,
)
