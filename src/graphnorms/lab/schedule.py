"""The trials of a comparison, all of them paired, and which of them can run now."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict

from graphnorms.lab.learning_rate import best_rate
from graphnorms.lab.settings import Settings

if TYPE_CHECKING:
    from graphnorms.data import GraphSet, Split, SplitConfig
    from graphnorms.training import Record, TrialConfig

Find = Callable[[str], "Record | None"]
"""Gives the record of a trial by its key, if the trial has an outcome that counts."""


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
        settings: Everything that was asked for, resolved.
        fingerprint: Content hash of the data.
        versions: Of the code, see `code_versions`.
    """

    settings: Settings
    fingerprint: str
    versions: CodeVersions

    def selection(self, choice: int) -> list[TrialConfig]:
        """List the trials that choose learning rates; empty where there is nothing to choose.

        Args:
            choice: What the rates are for: the fold, counted on through the repeats, or on a split
                the run.
        """
        settings = self.settings
        if not settings.selects:
            return []
        return [
            self._tried(norm, choice, rate)
            for rate in settings.learning_rates
            for norm in settings.norms
        ]

    def reported(self, choice: int, find: Find) -> list[TrialConfig]:
        """List the trials that scores come from.

        Until all norms' rates are known, those that have an outcome: norms that join a run later
        take nothing from it.

        Args:
            choice: As in `selection`.
            find: Gives the records there are.
        """
        settings = self.settings
        if settings.protocol == "paper":
            grid = itertools.product(range(settings.runs), settings.learning_rates)
            return [
                self._trial(norm, "paper", choice, run, rate)
                for run, rate in grid
                for norm in settings.norms
            ]
        rates = {norm: self.rate(norm, choice, find) for norm in settings.norms}
        places = [(choice, run) for run in range(settings.runs)]
        found = [
            self._trial(norm, "final", fold, run, rate)
            for fold, run in ([(0, choice)] if settings.by_seed else places)
            for norm, rate in rates.items()
            if rate is not None
        ]
        if None in rates.values():
            return [config for config in found if find(config.key) is not None]
        return found

    def following(self, record: Record, find: Find) -> list[TrialConfig]:
        """List the trials that are to be run because of a record and of the others there are."""
        if record.config["stage"] != "select":
            return []
        config = record.config
        if self.settings.by_seed:
            return self.reported(config["run"], find)
        repeat = config["split"]["seed"] - self.settings.split_seed
        return self.reported(repeat * self.settings.folds + config["split"]["fold"], find)

    def rate(self, norm: str, choice: int, find: Find) -> float | None:
        """Return the learning rate that a norm gets in a fold, or on a split for a run.

        None while it is not known.
        """
        settings = self.settings
        if not settings.selects:
            return settings.learning_rates[0]
        rates = settings.learning_rates
        tried = [find(self._tried(norm, choice, rate).key) for rate in rates]
        known = [record for record in tried if record is not None]
        return best_rate(known) if len(known) == len(tried) else None

    def known(self, find: Find) -> list[TrialConfig]:
        """List every trial that is known so far, in the order in which they should run."""
        return [
            config
            for choice in range(self.settings.rate_choices)
            for config in (*self.selection(choice), *self.reported(choice, find))
        ]

    def records(self, find: Find) -> Iterator[Record]:
        """Iterate over the records there are, in the order of the plan, not that of arrival."""
        for config in self.known(find):
            record = find(config.key)
            if record is not None:
                yield record

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

    def _tried(self, norm: str, choice: int, rate: float) -> TrialConfig:
        """Return the trial that tells how good a rate is for a fold, or on a split for a run."""
        fold, run = (0, choice) if self.settings.by_seed else (choice, 0)
        return self._trial(norm, "select", fold, run, rate)

    def _trial(self, norm: str, stage: str, fold: int, run: int, rate: float) -> TrialConfig:
        which = (norm, stage, fold, run, rate)
        if which not in self._made:
            self._made[which] = self._make(*which)
        return self._made[which]

    @cached_property
    def _made(self) -> dict[tuple[str, str, int, int, float], TrialConfig]:
        return {}  # the plan is gone through several times a second while trials run

    def _make(self, norm: str, stage: str, fold: int, run: int, rate: float) -> TrialConfig:
        from graphnorms.models import derive_seed
        from graphnorms.training import TrialConfig

        settings = self.settings
        return TrialConfig(
            dataset=settings.dataset,
            fingerprint=self.fingerprint,
            model=settings.architecture,
            norm=norm,
            split=self.split(fold).to_dict(),
            stage=stage,
            run=run,
            metric=settings.metric,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=rate,
            schedule=settings.schedule,
            weight_decay=settings.weight_decay,
            # Fresh seeds for what is reported: what chose the rate must not measure it.
            seed=derive_seed(settings.seed, stage, fold, run),
            device=settings.device,
            dtype=settings.dtype,
            norm_source=settings.own_norms.get(norm, {}).get("source"),
            **self.versions,
        )


def code_versions() -> CodeVersions:
    """Return the versions of the code that runs."""
    import torch

    from graphnorms.version import __version__

    return {"graphnorms_version": __version__, "torch_version": torch.__version__}
