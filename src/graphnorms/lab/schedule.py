"""The trials of a comparison as a function of its settings, all of them paired."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from graphnorms.lab.search import Search, Values
from graphnorms.lab.search_space import RATE
from graphnorms.lab.settings import Settings

if TYPE_CHECKING:
    from graphnorms.data import GraphSet, Split, SplitConfig
    from graphnorms.training import TrialConfig


Proposal: TypeAlias = tuple[int | None, str | None]
"""`proposal` and `proposed_after` of a trial."""


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
        """List the trials that choose learning rates, as far as they need no outcome.

        Of a search they are its fixed proposals; with a single rate there are none.

        Args:
            choice: The fold that the rates are chosen for, counted through the repeats; on one
                split the run.
        """
        settings = self.settings
        if not settings.selects:
            return []
        if settings.halving:
            return [
                config
                for number in range(len(settings.learning_rates))
                for treatment in settings.treatments
                if (config := self.halved(treatment, choice, number, settings.learning_rates))
            ]
        if settings.search:
            found = {name: self.search(name, choice).fixed() for name in settings.treatments}
            return [
                self.tried(treatment, choice, values, (number, None))
                for number, of_all in enumerate(zip(*found.values(), strict=True))
                for treatment, values in zip(found, of_all, strict=True)
            ]
        return [
            self.tried(treatment, choice, {RATE: rate})
            for rate in settings.learning_rates
            for treatment in settings.treatments
        ]

    def search(self, treatment: str, choice: int) -> Search:
        """Return the search of a treatment; all have the same seed, see `graphnorms.lab.search`.

        Args:
            treatment: Its name.
            choice: As in `selection`.
        """
        from graphnorms.models import derive_seed

        settings = self.settings
        return Search(
            space=settings.space,
            proposals=settings.proposals or 0,
            seed=derive_seed(settings.seed, "search", *self._place(choice)),
            usual=settings.usual_values(treatment),
        )

    def tried(
        self, treatment: str, choice: int, values: Values, proposal: Proposal = (None, None)
    ) -> TrialConfig:
        """Return the trial that tries some values for a choice.

        Args:
            treatment: Its name.
            choice: As in `selection`.
            values: By option.
            proposal: Of a search the number of the proposal, and what it was proposed after.
        """
        return self._trial(treatment, "select", *self._place(choice), values, proposal)

    def halved(
        self, treatment: str, choice: int, number: int, rates: Sequence[float]
    ) -> TrialConfig:
        """Return a trial of a round of the halving.

        Args:
            treatment: Its name.
            choice: As in `selection`.
            number: That of the trial, counted through the rounds.
            rates: The rates of its round.
        """
        rounds = self.settings.rounds
        places = [(epochs, place) for size, epochs in rounds for place in range(size)]
        epochs, place = places[number]
        values: Values = {RATE: rates[place], "epochs": epochs}
        return self.tried(treatment, choice, values, (number, None))

    def reported(self, choice: int, chosen: Mapping[str, Values]) -> list[TrialConfig]:
        """List the trials that scores come from.

        Args:
            choice: As in `selection`.
            chosen: The values that treatments get, such as a learning rate; one without has no
                trial yet. Protocol `"paper"` reports every rate.
        """
        settings = self.settings
        if settings.protocol == "paper":
            grid = itertools.product(range(settings.runs), settings.learning_rates)
            return [
                self._trial(treatment, "paper", choice, run, {RATE: rate})
                for run, rate in grid
                for treatment in settings.treatments
            ]
        places = [(choice, run) for run in range(settings.runs)]
        return [
            self._trial(treatment, "final", fold, run, chosen[treatment])
            for fold, run in ([(0, choice)] if settings.by_seed else places)
            for treatment in settings.treatments
            if treatment in chosen
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

    def _place(self, choice: int) -> tuple[int, int]:
        """Return the fold and the run that a choice is made by."""
        return (0, choice) if self.settings.by_seed else (choice, 0)

    def _trial(
        self,
        treatment: str,
        stage: str,
        fold: int,
        run: int,
        values: Values,
        proposal: Proposal = (None, None),
    ) -> TrialConfig:
        which = (treatment, stage, fold, run, *values.items(), proposal)
        if which not in self._made:
            made = self._make(treatment, stage, fold, run, values)
            self._made[which] = replace(made, proposal=proposal[0], proposed_after=proposal[1])
        return self._made[which]

    @cached_property
    def _made(self) -> dict[tuple[Any, ...], TrialConfig]:
        return {}  # a key is a hash, and the trials are listed more than once

    def _make(self, treatment: str, stage: str, fold: int, run: int, values: Values) -> TrialConfig:
        from graphnorms.models import derive_seed
        from graphnorms.training import TrialConfig

        settings = self.settings
        rates = settings.learning_rates
        norm, varied = settings.treatments[treatment].norm, settings.treatments[treatment].varied
        return TrialConfig(
            dataset=settings.dataset,
            fingerprint=self.fingerprint,
            model=_with_sizes(settings.of_treatment(treatment, "architecture"), values),
            norm=norm,
            split=self.split(fold).to_dict(),
            stage=stage,
            run=run,
            metric=settings.metric,
            epochs=int(values.get("epochs", settings.epochs)),
            batch_size=int(
                values.get("batch_size", settings.of_treatment(treatment, "batch_size"))
            ),
            learning_rate=values.get(RATE, rates[0] if rates else 0.0),
            schedule=settings.schedule,
            weight_decay=values.get(
                "weight_decay", settings.of_treatment(treatment, "weight_decay")
            ),
            # Reported trials have fresh seeds: the trial that chose a rate must not measure it.
            seed=derive_seed(settings.seed, stage, fold, run),
            device=settings.device,
            dtype=settings.dtype,
            norm_source=settings.own_norms.get(norm, {}).get("source"),
            varied=dict(varied) or None,
            optimizer=settings.optimizer,
            warmup=settings.warmup,
            clip=settings.clip,
            force_weight=settings.force_weight,
            patience=settings.patience,
            num_neighbors=settings.num_neighbors,
            searched=dict(values) if settings.search else None,
            **self.versions,
        )


def _with_sizes(architecture: dict[str, Any], values: Values) -> dict[str, Any]:
    """Return an architecture with the values that a search has for it."""
    of_model = ("layers", "hidden", "dropout")
    sizes: dict[str, Any] = {name: values[name] for name in of_model if name in values}
    if "dropout" in sizes and "layer_dropout" in architecture:
        sizes["layer_dropout"] = sizes["dropout"]  # as the option sets both
    return architecture | sizes


def code_versions() -> CodeVersions:
    """Return the versions of the code that runs."""
    import torch

    from graphnorms.version import __version__

    return {"graphnorms_version": __version__, "torch_version": torch.__version__}
