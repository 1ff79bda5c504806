"""The records of a comparison, grouped by norm and purpose."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from graphnorms.errors import unknown_name
from graphnorms.lab.curves import CURVES, Curve, column_mean, curve_of, padded
from graphnorms.lab.design import Design, Pair
from graphnorms.lab.learning_rate import select_as_papers_do
from graphnorms.training.metrics import METRICS, Metric, metric_named
from graphnorms.training.trial_config import treatment_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from graphnorms.training.record import Record

STAGES = {"nested": ("select", "final"), "split": ("select", "final"), "paper": ("paper", "paper")}
"""By protocol: the stage that tries the learning rates, and the one that gives the scores."""


@dataclass(frozen=True, kw_only=True)
class NormTrials:
    """The trials of one norm, or of one treatment with it.

    Args:
        norm: Its name, or that of the treatment.
        metric: What scores them.
        done, failed: The trials that give its scores, by ascending pair. In protocol `"paper"`
            those of the selected learning rate. A pair for which no learning rate could be
            chosen, because every one failed, counts as failed.
        tried, tried_failed: The trials that choose the learning rate, by rate and pair; of a search
            by the number of the proposal and pair.
        selected: In protocol `"paper"`, the learning rate and the epoch (from 1) whose mean
            validation score over the folds is best.
    """

    norm: str
    metric: Metric
    done: dict[Pair, Record] = field(default_factory=dict)
    failed: dict[Pair, Record] = field(default_factory=dict)
    tried: dict[tuple[float, Pair], Record] = field(default_factory=dict)
    tried_failed: dict[tuple[float, Pair], Record] = field(default_factory=dict)
    selected: tuple[float, int] | None = None

    def records(self) -> list[Record]:
        """Return those done and those that failed, not those that choose the rate."""
        return [*self.done.values(), *self.failed.values()]

    @property
    def epochs(self) -> int:
        """Those of the longest trial that was done."""
        curves = (record.history.get(each, ()) for record in self.done.values() for each in CURVES)
        return max(map(len, curves), default=0)

    def curves(self, quantity: str) -> NDArray[np.float64]:
        """Return `history[quantity]` of the done trials, NaN where an epoch is missing.

        Shape `(trials, epochs)`.
        """
        return padded([record.history.get(quantity, []) for record in self.done.values()])

    def curve(self, quantity: str) -> Curve:
        """Return the mean of `curves(quantity)` with its band.

        Losses of 0 are left out: they have no place on a logarithmic axis.
        """
        values = self.curves(quantity)
        if quantity.endswith("loss"):
            values[values <= 0] = math.nan
        return curve_of(values)

    def seconds(self) -> NDArray[np.float64]:
        """Return the training seconds up to the end of each epoch, evaluation not included.

        Shape `(trials, epochs)`.
        """
        times = padded([record.timing.get("train", []) for record in self.done.values()])
        elapsed: NDArray[np.float64] = np.cumsum(times, axis=1)
        return elapsed

    def mean_seconds(self) -> NDArray[np.float64]:
        """Return the mean of `seconds()` over the trials; NaN where none is known. `(epochs,)`."""
        return column_mean(self.seconds())

    def last(self, quantity: str) -> dict[Pair, float]:
        """Return `quantity` after the last epoch; trials that lack it are left out."""
        return _known({pair: _last(record, quantity) for pair, record in self.done.items()})

    def scores(self) -> dict[Pair, float]:
        """Return the scores that the norm is judged by; trials that lack one are left out.

        Of data that chose nothing: `outcome["test_score"]`. In protocol `"paper"`, which has no
        such data, the validation score at the selected epoch.
        """
        if self.selected is None:
            return self.outcome("test_score")
        epoch = self.selected[1] - 1
        curves = self.curves("validation_score")
        return _known(
            {pair: float(curves[index, epoch]) for index, pair in enumerate(self.done)}
            if epoch < curves.shape[1]
            else {}
        )

    def other_scores(self, pairs: Container[Pair]) -> dict[str, dict[Pair, float]]:
        """Return the test scores of some trials by every metric but the one that judges.

        At the same epoch; a trial without a score, such as one of an earlier version, is left out.
        Empty in protocol `"paper"`, which has no test data.
        """
        found = {name: dict[Pair, float]() for name in METRICS if name != self.metric.name}
        for pair, record in self.done.items():
            for name, score in record.scores.get("test", {}).items():
                if pair in pairs and name in found and score is not None:
                    found[name][pair] = score
        known = {name: _known(of_name) for name, of_name in found.items()}
        return {name: of_name for name, of_name in known.items() if of_name}

    def outcome(self, name: str) -> dict[Pair, float]:
        """Return `outcome[name]` of the done trials; those that lack it are left out."""
        return _known({pair: _number(record, name) for pair, record in self.done.items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Trials(Mapping[str, NormTrials]):
    """The trials of a comparison by norm: in the order asked for, then of first appearance.

    Args:
        protocol: `"nested"`, `"split"` or `"paper"`.
        metric: What scores them.
        by_norm: The trials of each norm.
    """

    protocol: str
    metric: Metric
    by_norm: Mapping[str, NormTrials]

    def __getitem__(self, norm: str) -> NormTrials:
        return self.by_norm[norm]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_norm)

    def __len__(self) -> int:
        return len(self.by_norm)

    @cached_property
    def records(self) -> list[Record]:
        """The records of the trials that scores come from, done and failed."""
        return [record for of_norm in self.values() for record in of_norm.records()]

    @cached_property
    def every(self) -> list[Record]:
        """The records of all trials, those that choose the learning rate among them."""
        found: dict[str, Record] = {}
        for of_norm in self.values():
            tried = (*of_norm.tried.values(), *of_norm.tried_failed.values())
            for record in (*tried, *of_norm.records()):
                found.setdefault(record.key, record)
        return list(found.values())

    @property
    def failures(self) -> int:
        """How many of all trials failed."""
        return sum(record.status == "failed" for record in self.every)

    @property
    def total_seconds(self) -> float:
        """The time of all trials together."""
        return sum(record.timing.get("total") or 0.0 for record in self.every)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What all trials ran in; a key with different values has a list of them."""
        values: dict[str, list[Any]] = {}
        for record in self.every:
            for key, value in record.environment.items():
                if value not in values.setdefault(key, []):
                    values[key].append(value)
        return {key: found[0] if len(found) == 1 else found for key, found in values.items()}

    @cached_property
    def pairs(self) -> set[Pair]:
        """The pairs of the trials that scores come from."""
        return {pair for of_norm in self.values() for pair in (*of_norm.done, *of_norm.failed)}

    @property
    def splits(self) -> set[tuple[int, int]]:
        """The seed and the number of each split."""
        return {pair[:2] for pair in self.pairs}

    @cached_property
    def folds(self) -> int:
        """Into how many folds, or given splits, the data were cut."""
        return max((record.config["split"].get("folds", 0) for record in self.records), default=0)

    @property
    def repeats(self) -> int:
        """Cross-validations, each of other folds."""
        return len({seed for seed, _ in self.splits})

    @property
    def runs(self) -> int:
        """Trainings per fold of a cross-validation."""
        return len({run for _, _, run in self.pairs})

    @property
    def learning_rates(self) -> set[float]:
        """Those of all trials that have one."""
        rates = (record.config.get("learning_rate") for record in self.every)
        return {rate for rate in rates if rate is not None}

    @property
    def item_count(self) -> int:
        """Items in all parts of a split, or 0 where no trial counted them."""
        parts = ("train_items", "validation_items", "test_items")
        counts = (record.counts for record in self.every if record.counts.get("train_items"))
        return max((sum(count.get(part, 0) for part in parts) for count in counts), default=0)

    @property
    def held_out(self) -> str:
        """The part of the data that scores come from."""
        return "validation" if self.protocol == "paper" else "test"

    @property
    def planned(self) -> int:
        """Trials per norm of the comparison, as far as the records show."""
        runs, seeds = len({pair[2] for pair in self.pairs}), len({pair[0] for pair in self.pairs})
        return max(len(self.pairs), self.folds * runs * seeds)

    @cached_property
    def design(self) -> Design:
        """How these trials are paired and tested.

        Raises:
            ValueError: They are of several comparisons.
        """
        if self.protocol == "split" and self.repeats > 1:
            raise ValueError(
                "protocol 'split' judges seeds on one split, or given splits, and these trials "
                f"have {self.repeats} splits of other seeds; judge the records of one comparison "
                "at a time"
            )
        folds = 0 if self.protocol == "split" else self.folds
        return Design(protocol=self.protocol, test_ratio=self._test_ratio(), folds=folds)

    def _test_ratio(self) -> float:
        """Return n_test / n_train over the records that count them, else 1 / (folds − 1)."""
        if self.protocol == "split" and len(self.splits) < 2:
            return 0.0
        train, held_out = "train_items", f"{self.held_out}_items"
        counts = [r.counts for r in self.records if r.counts.get(train) and r.counts.get(held_out)]
        if counts:
            tested = sum(count[held_out] for count in counts)
            return tested / sum(count[train] for count in counts)
        return 1 / max(1, self.folds - 1)


def group_trials(records: Iterable[Record], norms: Sequence[str] = (), *, protocol: str) -> Trials:
    """Sort the records of one comparison.

    Args:
        records: Of several for one config the last counts: a trial that failed may have been run
            again.
        norms: Norms that were asked for; they get an entry even without records.
        protocol: What the records were made by.

    Raises:
        ValueError: There are no records, they have different metrics, a norm has two different
            configs for one trial, a record belongs to another protocol, or there is no such
            protocol.
    """
    if protocol not in STAGES:
        raise unknown_name("protocol", protocol, STAGES)
    latest = _latest(records, protocol)
    if not latest:
        raise ValueError("no trial has an outcome yet, so there is nothing to judge")
    metrics = sorted({record.config["metric"] for record in latest.values()})
    if len(metrics) > 1:
        raise ValueError(
            f"the records are scored by {', '.join(metrics)}; judge the records of one comparison "
            "at a time"
        )
    metric = metric_named(metrics[0])
    order = dict.fromkeys([*norms, *(norm for norm, _, _, _ in latest)])
    found = {norm: NormTrials(norm=norm, metric=metric) for norm in order}
    selection, final = STAGES[protocol]
    for (norm, stage, pair, rate), record in sorted(latest.items(), key=lambda item: item[0]):
        of_norm, done = found[norm], record.status == "done"
        if stage == selection:
            (of_norm.tried if done else of_norm.tried_failed)[rate, pair] = record
        if stage == final != selection:
            (of_norm.done if done else of_norm.failed)[pair] = record
    if protocol == "paper":
        found = {norm: select_as_papers_do(of_norm) for norm, of_norm in found.items()}
    else:
        _fail_where_no_rate_worked(found, protocol)
    return Trials(protocol=protocol, metric=metric, by_norm=found)


def _latest(records: Iterable[Record], protocol: str) -> dict[tuple[str, str, Pair, float], Record]:
    """Return the last record of each trial, by norm, stage, pair and learning rate, or proposal."""
    selection, final = STAGES[protocol]
    latest: dict[tuple[str, str, Pair, float], Record] = {}
    for record in records:
        norm, stage, pair = treatment_of(record.config), record.config["stage"], pair_of(record)
        if stage not in (selection, final):
            raise ValueError(
                f"a record of stage {stage!r} among those of protocol {protocol!r}; judge the "
                "records of one comparison at a time"
            )
        # The final stage has one learning rate per norm and trial.
        config = record.config
        rate = config.get("proposal", config["learning_rate"]) if stage == selection else 0.0
        earlier = latest.get((norm, stage, pair, rate))
        if earlier is not None and earlier.key != record.key:
            raise ValueError(
                f"norm {norm!r} has two trials of fold {pair[1]} with different settings "
                f"({earlier.key} and {record.key}); judge the records of one comparison at a time"
            )
        latest[norm, stage, pair, rate] = record
    return latest


def completed_by_all(scores: Mapping[str, Mapping[Pair, float]], norms: Iterable[str]) -> set[Pair]:
    """Return the trials that all of some norms have a score of."""
    found = [set(scores[norm]) for norm in norms]
    return set.intersection(*found) if found else set()


def pair_of(record: Record) -> Pair:
    """Return the pair of a trial: seed of the split, fold and run."""
    split = record.config["split"]
    return split.get("seed", 0), split.get("fold", 0), record.config["run"]


def _fail_where_no_rate_worked(trials: Mapping[str, NormTrials], protocol: str) -> None:
    """Count as failed the trials that could not be run, as every learning rate had failed."""
    every = {pair for of_norm in trials.values() for pair in (*of_norm.done, *of_norm.failed)}
    by_seed = protocol == "split" and len({pair[:2] for pair in every}) < 2
    grid = {r for of_norm in trials.values() for r, _ in (*of_norm.tried, *of_norm.tried_failed)}

    def same(pair: Pair, other: Pair) -> bool:
        return pair == other if by_seed else pair[:2] == other[:2]

    for of_norm in trials.values():
        for pair in sorted(every - of_norm.done.keys() - of_norm.failed.keys()):
            worked = any(same(pair, other) for _, other in of_norm.tried)
            failed = {n: r for (n, other), r in of_norm.tried_failed.items() if same(pair, other)}
            if failed and failed.keys() == grid and not worked:
                first = next(iter(failed.values()))
                what = "proposal" if "searched" in first.config else "learning rate"
                reason = f"no {what} worked: {first.reason}"
                of_norm.failed[pair] = replace(first, reason=reason)


def _known(values: Mapping[Pair, float]) -> dict[Pair, float]:
    return {pair: value for pair, value in values.items() if not math.isnan(value)}


def _number(record: Record, name: str) -> float:
    value = record.outcome.get(name)
    return math.nan if value is None else float(value)


def _last(record: Record, quantity: str) -> float:
    values = record.history.get(quantity) or [math.nan]
    return math.nan if values[-1] is None else float(values[-1])
