"""The trials of a comparison, all of them paired, and which of them can run now."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from graphnorms.lab.protocol import CompareSettings
from graphnorms.lab.selection import best_rate

if TYPE_CHECKING:
    from graphnorms.data import GraphSet, SplitConfig
    from graphnorms.training import Record, TrialConfig

Find = Callable[[str], "Record | None"]
"""Gives the record of a trial by its key, if the trial has an outcome that counts."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The trials of a comparison, as a function of its settings.

    Trials come fold by fold, within a fold run by run, and then norm by norm: whenever a
    comparison is interrupted, the norms have been tried on the same splits but for the last.

    Args:
        settings: Everything that was asked for, resolved.
        fingerprint: Content hash of the data.
        versions: Of the code, see `code_versions`.
    """

    settings: CompareSettings
    fingerprint: str
    versions: Mapping[str, str]

    def selection(self) -> list[TrialConfig]:
        """List the trials that choose learning rates; empty where there is nothing to choose."""
        settings = self.settings
        if not settings.selects:
            return []
        rates = settings.learning_rates
        return [
            self._trial(norm, "select", fold, run, rate)
            for fold in range(settings.folds)
            for run, rate in itertools.product(range(settings.selection_runs), rates)
            for norm in settings.norms
        ]

    def reported(self, find: Find) -> list[TrialConfig]:
        """List the trials that scores come from, as far as their learning rates are known.

        Args:
            find: Gives the records there are.
        """
        settings = self.settings
        if settings.protocol == "paper":
            return [
                self._trial(norm, "paper", fold, run, rate)
                for fold in range(settings.folds)
                for run, rate in itertools.product(range(settings.runs), settings.learning_rates)
                for norm in settings.norms
            ]
        rates = {
            (fold, norm): self.rate(norm, fold, find)
            for fold in range(settings.folds)
            for norm in settings.norms
        }
        return [
            self._trial(norm, "final", fold, run, rate)
            for fold in range(settings.folds)
            for run in range(settings.runs)
            for norm in settings.norms
            if (rate := rates[fold, norm]) is not None
        ]

    def rate(self, norm: str, fold: int, find: Find) -> float | None:
        """Return the learning rate that a norm gets in a fold; None while it is not known."""
        settings = self.settings
        if not settings.selects:
            return settings.learning_rates[0]
        grid = itertools.product(range(settings.selection_runs), settings.learning_rates)
        tried = [find(self._trial(norm, "select", fold, run, rate).key) for run, rate in grid]
        known = [record for record in tried if record is not None]
        return best_rate(known) if len(known) == len(tried) else None

    def known(self, find: Find) -> list[TrialConfig]:
        """List every trial that is known so far, in the order in which they should run."""
        return [*self.selection(), *self.reported(find)]

    def records(self, find: Find) -> Iterator[Record]:
        """Iterate over the records there are, in the order of the plan, not that of arrival."""
        for config in self.known(find):
            record = find(config.key)
            if record is not None:
                yield record

    def split(self, fold: int) -> SplitConfig:
        """Return how the data are divided in a fold."""
        from graphnorms.data import SplitConfig

        settings = self.settings
        if settings.protocol == "split":
            return SplitConfig(
                kind=settings.split, seed=settings.split_seed, holdout=settings.holdout
            )
        kind = "paper" if settings.protocol == "paper" else "fold"
        return SplitConfig(
            kind=kind, folds=settings.folds, fold=fold, seed=settings.split_seed,
            holdout=settings.holdout,
        )  # fmt: skip

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
            **self.versions,
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a comparison is going to do.

    Args:
        schedule: Its trials.
        dataset: The graphs.
        workers: Trials at a time.
        engine: Where they run, by name.
        folder: Where the records go.
        command: What repeats the comparison.
    """

    schedule: Schedule
    dataset: GraphSet
    workers: int
    engine: str
    folder: Path
    command: str

    @property
    def settings(self) -> CompareSettings:
        """Everything that was asked for, resolved."""
        return self.schedule.settings


def code_versions() -> dict[str, str]:
    """Return the versions of the code that a trial depends on, as `TrialConfig` names them."""
    import torch

    from graphnorms.version import __version__

    return {"graphnorms_version": __version__, "torch_version": torch.__version__}
