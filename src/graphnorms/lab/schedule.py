"""The trials of a comparison, all of them paired, and the order in which they run.

`Schedule` lists the trials as a function of the settings. `Agenda` is sent records and returns the
trials that follow: the next proposal of a search; once a fold has tried all learning rates, or all
proposals, its reported trials.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from graphnorms.lab.halving import survivors
from graphnorms.lab.learning_rate import best_rate, place_of
from graphnorms.lab.search import Search, Values
from graphnorms.lab.search_space import RATE, fixed_of
from graphnorms.lab.settings import Settings
from graphnorms.training.trial_config import treatment_of

if TYPE_CHECKING:
    from graphnorms.data import GraphSet, Split, SplitConfig
    from graphnorms.training import Record, TrialConfig


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
        first: dict[str, Values] = {} if settings.selects else {n: {} for n in settings.treatments}
        self._chosen: list[dict[str, Values]] = [dict(first) for _ in choices]
        self._places: dict[str, tuple[str, int]] = {}  # by key: treatment and choice
        self._tried: dict[tuple[str, int], list[TrialConfig]] = defaultdict(list)
        # By treatment and hash of what they were proposed after: the values in the records.
        self._proposed: dict[tuple[str, str], list[Values]] = defaultdict(list)
        for choice in choices:
            for config in schedule.selection(choice):
                self._try(config, choice)
        self._asks = False  # what is there is listed without Optuna
        for record in records:
            self._keep(record)
        self._follow_all()

    def send(self, record: Record) -> list[TrialConfig]:
        """Take a record, and return the trials that are to be run because of it.

        A record may be sent twice; of two records of one trial the later counts.
        """
        before = self._records.get(record.key)
        self._keep(record)
        self._asks = True
        if record.key not in self._places:
            return []
        treatment, choice = self._places[record.key]
        if before is not None and before != record:
            self._forget_proposals(treatment, choice)
        return self._follow(treatment, choice)

    def _keep(self, record: Record) -> None:
        self._records[record.key] = record
        if (after := record.config.get("proposed_after")) is not None:
            place = treatment_of(record.config), after
            self._proposed[place].append(record.config["searched"])

    def _follow_all(self) -> None:
        for treatment, choice in list(self._tried):
            self._follow(treatment, choice)

    def _try(self, config: TrialConfig, choice: int) -> None:
        self._places[config.key] = config.treatment, choice
        self._tried[config.treatment, choice].append(config)

    def _forget_proposals(self, treatment: str, choice: int) -> None:
        """Drop the proposals that followed from an outcome which is another one now."""
        tried = self._tried[treatment, choice]
        settings = self.schedule.settings
        if not (settings.search or settings.halving):
            return
        fixed = fixed_of(settings.space, settings.proposals or 0)
        for config in tried[len(settings.learning_rates) if settings.halving else fixed :]:
            del self._places[config.key]
            tried.remove(config)
        self._chosen[choice].pop(treatment, None)

    def _follow(self, treatment: str, choice: int) -> list[TrialConfig]:
        """Return the trials that follow once everything tried so far for a choice has ended."""
        settings, tried = self.schedule.settings, self._tried[treatment, choice]
        while all(config.key in self._records for config in tried):
            ended = [self._records[config.key] for config in tried]
            values = [config.searched or {} for config in tried]
            places = [place_of([record]) for record in ended]
            if len(tried) == settings.tries:
                best = values[places.index(min(places))]
                if settings.halving:
                    best = {RATE: survivors(ended[-settings.rounds[-1][0] :])[0]}
                self._chosen[choice][treatment] = best or {RATE: best_rate(ended)}
                return self._reported(choice)
            if settings.halving:
                self._try_round(treatment, choice, ended)
                continue
            proposed = self._next(treatment, choice, values, places)
            if proposed is None:
                return []
            self._try(proposed, choice)
        if settings.halving:
            later = tried[len(settings.learning_rates) :]
            return [config for config in later if config.key not in self._records]
        return [config for config in tried[-1:] if config.proposed_after is not None]

    def _try_round(self, treatment: str, choice: int, ended: Sequence[Record]) -> None:
        """Add the next round of a halving, given the records of those that have ended."""
        sizes = [size for size, _ in self.schedule.settings.rounds]
        first = len(ended)
        last = next(n for n in range(len(sizes)) if sum(sizes[: n + 1]) == first)
        rates = survivors(ended[-sizes[last] :])
        for number in range(first, first + len(rates)):
            self._try(self.schedule.halved(treatment, choice, number, rates), choice)

    def _next(
        self, treatment: str, choice: int, tried: list[Values], places: Sequence[Any]
    ) -> TrialConfig | None:
        """Return the trial of the next proposal: that in the records, or a new one."""
        search = self.schedule.search(treatment, choice)
        proposal = len(tried), search.after(places)
        for values in self._proposed[treatment, proposal[1]]:
            config = self.schedule.tried(treatment, choice, values, proposal)
            if config.key in self._records:
                return config
        if not self._asks:
            return None
        return self.schedule.tried(treatment, choice, search.next(tried, places), proposal)

    def known(self) -> list[TrialConfig]:
        """List every trial that is known so far, in the order in which they should run."""
        self._asks = True
        self._follow_all()
        return self._listed()

    def _listed(self) -> list[TrialConfig]:
        return [
            config
            for choice in range(len(self._chosen))
            for config in (*self._selection(choice), *self._reported(choice))
        ]

    def records(self) -> list[Record]:
        """List the records in the order of the schedule, not of arrival."""
        keys = (config.key for config in self._listed())
        return [self._records[key] for key in keys if key in self._records]

    def _selection(self, choice: int) -> Iterator[TrialConfig]:
        """Yield the trials tried so far for a choice, norms in step."""
        columns = [self._tried.get((n, choice), []) for n in self.schedule.settings.treatments]
        for row in itertools.zip_longest(*columns):
            yield from filter(None, row)

    def _reported(self, choice: int) -> list[TrialConfig]:
        """List the trials that scores come from.

        Until the choices for all treatments are known, only those with an outcome: one that joins a
        run later must not hide what is done.
        """
        chosen = self._chosen[choice]
        found = self.schedule.reported(choice, chosen)
        if len(chosen) < len(self.schedule.settings.treatments):
            return [config for config in found if config.key in self._records]
        return found


def code_versions() -> CodeVersions:
    """Return the versions of the code that runs."""
    import torch

    from graphnorms.version import __version__

    return {"graphnorms_version": __version__, "torch_version": torch.__version__}
