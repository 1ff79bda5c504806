"""The trials of a comparison, all of them paired, and the order in which they run.

`Schedule` lists the trials as a function of the settings. `Agenda` is sent records and returns the
trials that follow: once a fold has tried all learning rates, its reported trials.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict

from graphnorms.lab.learning_rate import best_rate
from graphnorms.lab.settings import Settings

if TYPE_CHECKING:
    from graphnorms.data import GraphSet, Split, SplitConfig
    from graphnorms.training import Record, TrialConfig


class CodeVersions(TypedDict):
    """The versions of the code that a trial depends on, as `TrialConfig` names them."""

    graphnorms_version: str
    torch_version: str


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The trials of a comparison, as a function of its settings.

    Trials come choice by choice: fold by fold through the repeats, or on a split seed by seed.
    First those that choose the learning rates; once all norms' rates are known, those that are
    reported, run by run and in a run norm by norm. Whenever a comparison is interrupted, every fold
    (seed) before the last ones is complete, and the norms have been tried equally often but for the
    trials that were running.

    Args:
        settings: The resolved options.
        fingerprint: Content hash of the data.
        versions: Of the code, see `code_versions`.
    """

    settings: Settings
    fingerprint: str
    versions: CodeVersions

    def selection(self, choice: int) -> list[TrialConfig]:
        """List the trials that choose learning rates; empty with a single rate.

        Args:
            choice: The fold that the rates are chosen for, counted through the repeats; on one
                split the run.
        """
        settings = self.settings
        if not settings.selects:
            return []
        fold, run = (0, choice) if settings.by_seed else (choice, 0)
        return [
            self._trial(treatment, "select", fold, run, rate)
            for rate in settings.learning_rates
            for treatment in settings.treatments
        ]

    def reported(self, choice: int, rates: Mapping[str, float]) -> list[TrialConfig]:
        """List the trials that scores come from.

        Args:
            choice: As in `selection`.
            rates: The learning rates that treatments get; one without has no trial yet. Protocol
                `"paper"` reports every rate.
        """
        settings = self.settings
        if settings.protocol == "paper":
            grid = itertools.product(range(settings.runs), settings.learning_rates)
            return [
                self._trial(treatment, "paper", choice, run, rate)
                for run, rate in grid
                for treatment in settings.treatments
            ]
        places = [(choice, run) for run in range(settings.runs)]
        return [
            self._trial(treatment, "final", fold, run, rates[treatment])
            for fold, run in ([(0, choice)] if settings.by_seed else places)
            for treatment in settings.treatments
            if treatment in rates
        ]

    def split(self, fold: int) -> SplitConfig:
        """Return how the data are divided in a fold, counted on through the repeats.

        Repeats differ by the seed of the shuffling: the first has `split_seed`, the next the next.
        """
        from graphnorms.data import SplitConfig

        settings = self.settings
        if settings.protocol == "split":
            of_several = {"folds": settings.folds, "fold": fold} if settings.folds > 1 else {}
            return SplitConfig(
                kind=settings.split,
                seed=settings.split_seed,
                holdout=settings.holdout,
                group_twins=settings.group_twins,
                **of_several,
            )
        repeat, fold = divmod(fold, settings.folds)
        return SplitConfig(
            kind="paper" if settings.protocol == "paper" else "fold",
            folds=settings.folds,
            fold=fold,
            seed=settings.split_seed + repeat,
            holdout=settings.holdout,
            group_twins=settings.group_twins,
        )

    def splits(self, graphs: GraphSet, repeats: int = 1) -> list[Split]:
        """Divide the data as every fold of the first repeats does.

        Raises:
            ValueError: They cannot be divided so.
        """
        from graphnorms.data import split_items

        folds = range(repeats * self.settings.folds)
        return [split_items(graphs, self.split(fold)) for fold in folds]

    def _trial(self, treatment: str, stage: str, fold: int, run: int, rate: float) -> TrialConfig:
        which = (treatment, stage, fold, run, rate)
        if which not in self._made:
            self._made[which] = self._make(*which)
        return self._made[which]

    @cached_property
    def _made(self) -> dict[tuple[str, str, int, int, float], TrialConfig]:
        return {}  # a key is a hash, and the trials are listed more than once

    def _make(self, treatment: str, stage: str, fold: int, run: int, rate: float) -> TrialConfig:
        from graphnorms.models import derive_seed
        from graphnorms.training import TrialConfig

        settings = self.settings
        norm, varied = settings.treatments[treatment].norm, settings.treatments[treatment].varied
        return TrialConfig(
            dataset=settings.dataset,
            fingerprint=self.fingerprint,
            model=settings.of_treatment(treatment, "architecture"),
            norm=norm,
            split=self.split(fold).to_dict(),
            stage=stage,
            run=run,
            metric=settings.metric,
            epochs=settings.epochs,
            batch_size=settings.of_treatment(treatment, "batch_size"),
            learning_rate=rate,
            schedule=settings.schedule,
            weight_decay=settings.of_treatment(treatment, "weight_decay"),
            # Reported trials have fresh seeds: the trial that chose a rate must not measure it.
            seed=derive_seed(settings.seed, stage, fold, run),
            device=settings.device,
            dtype=settings.dtype,
            norm_source=settings.own_norms.get(norm, {}).get("source"),
            varied=dict(varied) or None,
            optimizer=settings.optimizer,
            warmup=settings.warmup,
            clip=settings.clip,
            patience=settings.patience,
            num_neighbors=settings.num_neighbors,
            **self.versions,
        )


class Agenda:
    """The trials of a comparison that are known, given the records so far.

    Args:
        schedule: All trials.
        records: Outcomes, in any order; those of other trials are ignored.
    """

    def __init__(self, schedule: Schedule, records: Iterable[Record] = ()) -> None:
        settings = schedule.settings
        self.schedule = schedule
        self._records: dict[str, Record] = {}
        choices = range(settings.rate_choices)
        first = (
            {}
            if settings.selects
            else dict.fromkeys(settings.treatments, next(iter(settings.learning_rates), 0.0))
        )
        self._rates: list[dict[str, float]] = [dict(first) for _ in choices]
        self._places: dict[str, tuple[str, int]] = {}  # by key: treatment and choice
        self._tried: dict[tuple[str, int], dict[str, Record | None]] = defaultdict(dict)
        for choice in choices:
            for config in schedule.selection(choice):
                self._places[config.key] = config.treatment, choice
                self._tried[config.treatment, choice][config.key] = None
        for record in records:
            self.send(record)

    def send(self, record: Record) -> list[TrialConfig]:
        """Take a record, and return the trials that are to be run because of it.

        A record may be sent twice; of two records of one trial the later counts.
        """
        self._records[record.key] = record
        if record.key not in self._places:
            return []
        treatment, choice = self._places[record.key]
        tried = self._tried[treatment, choice]
        tried[record.key] = record
        known = [record for record in tried.values() if record is not None]
        if len(known) < len(tried):
            return []
        self._rates[choice][treatment] = best_rate(known)
        return self._reported(choice)

    def known(self) -> list[TrialConfig]:
        """List every trial that is known so far, in the order in which they should run."""
        return [
            config
            for choice in range(len(self._rates))
            for config in (*self.schedule.selection(choice), *self._reported(choice))
        ]

    def records(self) -> list[Record]:
        """List the records in the order of the schedule, not of arrival."""
        keys = (config.key for config in self.known())
        return [self._records[key] for key in keys if key in self._records]

    def _reported(self, choice: int) -> list[TrialConfig]:
        """List the trials that scores come from.

        Until the rates of all treatments are known, only those with an outcome: one that joins a
        run later must not hide what is done.
        """
        rates = self._rates[choice]
        found = self.schedule.reported(choice, rates)
        if len(rates) < len(self.schedule.settings.treatments):
            return [config for config in found if config.key in self._records]
        return found


def code_versions() -> CodeVersions:
    """Return the versions of the code that runs."""
    import torch

    from graphnorms.version import __version__

    return {"graphnorms_version": __version__, "torch_version": torch.__version__}
