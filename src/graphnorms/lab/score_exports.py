"""What programs write of their results: GraphNetz, GraphGym, Weights & Biases, and our own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from graphnorms.errors import GraphnormsError
from graphnorms.lab.phrases import listing, several
from graphnorms.lab.score_metric import higher_is_better
from graphnorms.lab.score_tables import ScoreTable

_WANDB: Final = {"Name", "State", "Created", "Runtime"}
"""Columns of every table that W&B exports; others are the config and the summary of a run."""

_WANDB_OWN: Final = (
    *_WANDB,
    *("ID", "Notes", "User", "Tags", "Sweep", "Updated", "End Time", "Hostname", "Description"),
    *("Commit", "GitHub", "Group", "Job Type", "Github"),
)

_GRAPHNETZ: Final = ("test_acc", "test_auc", "test_mae", "val_acc", "val_auc", "val_mae")
"""The series that GraphNetz reports, the first that there is."""


def from_export(table: ScoreTable) -> ScoreTable:
    """Recognize the columns that a program writes, and leave out what it says is no result."""
    if table.columns.keys() >= _WANDB:
        return _from_wandb(table)
    if {"model_a", "model_b"} <= table.columns.keys():
        raise ValueError(
            "these are tests of pairs, as GraphNetz writes them, and not scores; judge the report "
            "that its to_json writes"
        )
    if {"key", "norm", "stage", "status", "test_score"} <= table.columns.keys():
        return _from_frame(table)
    return table


def _from_wandb(table: ScoreTable) -> ScoreTable:
    """Leave out the columns of W&B itself; runs that did not finish have failed."""
    states = [str(state).lower() for state in table.columns["State"]]
    going = [row for row, state in enumerate(states) if state in ("running", "pending")]
    kept = [row for row in range(len(table)) if row not in set(going)]
    table = table.kept(kept)
    states = [states[row] for row in kept]
    columns = {
        name: values
        for name, values in table.columns.items()
        if name not in _WANDB_OWN or name == "Name"
    }
    columns["failure"] = ["" if state == "finished" else state for state in states]
    lost = [state for state in states if state != "finished"]
    notes = []
    if going:
        notes.append(f"Left out, as still running: {several(len(going), 'run')}.")
    if lost:
        kinds = listing(f"{lost.count(kind)} {kind}" for kind in dict.fromkeys(lost))
        notes.append(f"Runs that did not finish count as failed: {kinds}.")
    return replace(
        table,
        columns=columns,
        source="a table of runs of Weights & Biases",
        roles={"failure": "failure"},
        notes=(*table.notes, *notes),
    )


def _from_frame(table: ScoreTable) -> ScoreTable:
    """Recognize `Comparison.to_frame()`: trials that choose the learning rate give no score."""
    stages = [str(stage) for stage in table.columns["stage"]]
    if "paper" in stages:
        raise ValueError(
            "these are trials of protocol 'paper', whose score is chosen from their curves, which "
            "the table lacks; graphnorms show judges the run itself"
        )
    final = [row for row, stage in enumerate(stages) if stage == "final"]
    table = table.kept(final)
    columns = table.columns
    given = "given" in {str(kind) for kind in columns.get("split_kind", [])}
    splits = {str(fold) for fold in columns.get("fold", [])}
    design = "folds" if not given else "resampled" if len(splits) > 1 else "seeds"
    failures = [
        (str(reason or "failed") if status == "failed" else "")
        for status, reason in zip(columns["status"], columns["reason"], strict=True)
    ]
    columns["failure"] = failures
    roles = {"method": "norm", "score": "test_score", "seed": "run", "failure": "failure"}
    choosing = len(stages) - len(final)
    chose = [f"Left out, as they choose the learning rate: {several(choosing, 'trial')}."]
    if not choosing:
        chose = []
    roles |= {"dataset": "dataset", "metric": "metric"}
    if design != "seeds":
        roles["fold"] = "fold"
    if "split_seed" in columns and design == "folds":
        roles["repeat"] = "split_seed"
    return replace(
        table,
        columns=columns,
        source="the trials of graphnorms compare",
        roles={role: name for role, name in roles.items() if name in columns},
        design=design,
        reason="as its trials say",
        noun="norm",
        notes=(*table.notes, *chose),
    )


def is_graphnetz(data: Any) -> bool:
    """Whether JSON is what `BenchmarkReport.to_json` of GraphNetz writes."""
    return isinstance(data, Mapping) and {"schema", "seeds", "histories"} <= data.keys()


def from_graphnetz(data: Mapping[str, Any], path: Path) -> ScoreTable:
    """Take the score of every task, model and seed out of a report of GraphNetz.

    The series is the first of GraphNetz's that the task has, at the last epoch, or, where the
    report says so, at the best epoch by the validation series.

    Raises:
        GraphnormsError: The report is damaged, or of another version.
    """
    if data["schema"] != 1:
        raise GraphnormsError(
            f"{path} is a GraphNetz report of schema {data['schema']!r}, expected 1"
        )
    selection = (data.get("options") or {}).get("epoch_selection", "final")
    rows = []
    try:
        for task, models in data["histories"].items():
            for model, histories in models.items():
                for seed, history in zip(data["seeds"], histories, strict=True):
                    name = next(key for key in _GRAPHNETZ if key in history)
                    place = _graphnetz_epoch(history, name, selection)
                    rows.append((model, task, seed, name, history[name][place]))
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise GraphnormsError(
            f"{path} is a GraphNetz report without a score for every model and seed "
            f"({type(error).__name__}: {error})"
        ) from None
    names = ("model", "task", "seed", "metric", "score")
    epoch = "the best epoch by validation" if selection == "best_val" else "the last epoch"
    return ScoreTable(
        columns={name: [row[place] for row in rows] for place, name in enumerate(names)},
        source="a report of GraphNetz",
        roles={"method": "model", "dataset": "task", "seed": "seed", "metric": "metric"}
        | {"score": "score"},
        design="resampled",
        reason=(
            "as GraphNetz draws the split of graphs anew with every seed (that of nodes is fixed: "
            "--design seeds)"
        ),
        test_share=1 / 9,  # a tenth of all graphs, where eight are trained on and one validates
        notes=(f"Scores are those of {epoch}.",),
    )


def _graphnetz_epoch(history: Mapping[str, Sequence[float]], name: str, selection: str) -> int:
    source = name.replace("test_", "val_")
    if selection != "best_val" or source == name or source not in history:
        return -1
    values = history[source]
    best = max if higher_is_better(name) else min
    return values.index(best(values))


def read_graphgym(folder: Path) -> ScoreTable:
    """Read a folder of GraphGym's results: of one experiment, or of a grid of them.

    An experiment has a folder per seed, with `test/stats.json`, or `val/stats.json` where nothing
    was tested, a line per epoch. The score of a seed is that of the epoch with the best validation
    score, as GraphGym's own `agg` takes it. What is in `agg` itself are means, without repeats.

    Raises:
        ValueError: There are no such files.
        GraphnormsError: A file is damaged.
        OSError: A file cannot be read.
    """
    runs = sorted(path for path in folder.iterdir() if path.is_dir() and path.name != "agg")
    alone = [path for path in runs if path.name.isdigit()]
    experiments = [folder] if alone else runs
    rows: list[dict[str, Any]] = []
    parts = set()
    for experiment in experiments:
        settings = {} if alone else _grid_of(experiment.name)
        for seed in sorted(path for path in experiment.iterdir() if path.name.isdigit()):
            part = "test" if (seed / "test" / "stats.json").exists() else "val"
            file = seed / part / "stats.json"
            if not file.exists():
                continue
            name, score = _graphgym_score(seed, part)
            rows.append({**settings, "seed": int(seed.name), "metric": name, "score": score})
            parts.add(part)
    if not rows:
        raise ValueError(
            f"{folder} has no results of GraphGym: expected folders of seeds with "
            "test/stats.json or val/stats.json, or folders of experiments with these"
        )
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name, "") for row in rows] for name in names}
    varied = [
        name
        for name in names
        if name not in ("seed", "metric", "score", "dataset") and len(set(columns[name])) > 1
    ]
    roles = {"seed": "seed", "metric": "metric", "score": "score"}
    if varied:
        roles["method"] = ",".join(varied)
    part = listing(sorted(parts))
    return ScoreTable(
        columns=columns,
        source="results of GraphGym",
        roles=roles,
        notes=(f"Scores are those of the {part} part at the best epoch by validation.",),
    )


def _grid_of(name: str) -> dict[str, str]:
    """Return the settings in the name of an experiment: `grid-layer=gcn-depth=2`."""
    parts = name.split("-", 1)[-1].split("=")
    if len(parts) == 1:
        return {"experiment": name}
    keys, values = [parts[0]], []
    for part in parts[1:-1]:
        value, _, key = part.rpartition("-")
        values.append(value)
        keys.append(key)
    return dict(zip(keys, [*values, parts[-1]], strict=True))


def _graphgym_score(seed: Path, part: str) -> tuple[str, float]:
    """Return the metric and the score of one seed, at the best epoch by validation."""
    validation = seed / "val" / "stats.json"
    chosen = _stats(validation if validation.exists() else seed / part / "stats.json")
    known = chosen[0].keys()
    name = next((name for name in ("auc", "accuracy", "mae", "rmse", "loss") if name in known), "")
    if not name:
        raise GraphnormsError(f"{seed}: stats.json has neither auc, accuracy, mae, rmse nor loss")
    best = max if higher_is_better(name) else min
    epoch = best(chosen, key=lambda row: _real(row[name], name)).get("epoch")
    for row in _stats(seed / part / "stats.json"):
        if row.get("epoch") == epoch and name in row:
            return name, float(row[name])
    raise GraphnormsError(f"{seed / part / 'stats.json'} has no {name} of epoch {epoch}")


def _real(value: Any, name: str) -> float:
    """Return a number that loses against all others where it is none."""
    number = float(value)
    worst = -math.inf if higher_is_better(name) else math.inf
    return worst if math.isnan(number) else number


def _stats(file: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError:
                raise GraphnormsError(f"{file}: line {number} is no JSON") from None
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise GraphnormsError(f"{file} has no results")
    return rows
