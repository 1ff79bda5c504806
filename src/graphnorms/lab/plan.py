"""The trials of a comparison, all of them paired, and which of them can run now."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from graphnorms.errors import one_line
from graphnorms.lab.choices import name_of
from graphnorms.lab.protocol import CompareSettings
from graphnorms.lab.selection import best_rate
from graphnorms.lab.trivial import Trivial, trivial_scores

if TYPE_CHECKING:
    from graphnorms.data import GraphSet, Split, SplitConfig
    from graphnorms.layers.own_norm import OwnNorm
    from graphnorms.models import ModelFactory
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

    settings: CompareSettings
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
        factory: What makes the model, if it is the user's own.
        norms: What makes the layers of norms of the user's own.
        timeout: Seconds that a trial may take; None: as many as it needs.
    """

    schedule: Schedule
    dataset: GraphSet
    workers: int
    engine: str
    folder: Path
    command: str
    factory: ModelFactory | None = None
    norms: Sequence[OwnNorm] = ()
    timeout: float | None = None

    @property
    def settings(self) -> CompareSettings:
        """Everything that was asked for, resolved."""
        return self.schedule.settings

    @cached_property
    def trivial(self) -> Trivial:
        """What a predictor scores that looks at no graph."""
        settings = self.settings
        splits = self.schedule.splits(self.dataset, settings.repeats)
        found = trivial_scores(self.dataset, settings.metric, splits)
        return replace(found, folds=settings.folds, seed=settings.split_seed)

    @property
    def function(self) -> Callable[..., Any] | None:
        """What makes the model where it came as an object, which nobody finds by its name."""
        return self.factory.function if self.factory and self.factory.in_memory else None

    @property
    def norm_functions(self) -> dict[str, Callable[..., Any]]:
        """What makes the layers of norms that came as objects, by name."""
        return {norm.name: norm.function for norm in self.norms if norm.in_memory}

    @property
    def runs_own_code(self) -> bool:
        """Whether trials run code of the user's, which may leave anything behind."""
        return self.factory is not None or bool(self.norms)


def require_possible(plan: Plan) -> None:
    """Raise what every trial would raise, before the first of them runs.

    Raises:
        ValueError: The data cannot be divided so, or a model cannot be built for them.
    """
    from graphnorms.data import split_items
    from graphnorms.models import ModelConfig
    from graphnorms.training.minibatches import require_several
    from graphnorms.training.trial_model import build_model

    settings, graphs = plan.settings, plan.dataset
    _require_targets(graphs)
    if graphs.same_inputs:
        raise ValueError(
            f"all {len(graphs)} graphs of {graphs.name} have the same input ({graphs.features}), "
            "so there is nothing to learn from; choose other features"
        )
    for fold in range(settings.folds if settings.split == "given" else 1):
        require_several(split_items(graphs, plan.schedule.split(fold)).train, graphs)
    hidden = settings.architecture.get("hidden") or ModelConfig(name="gin").hidden
    for own in plan.norms:
        own.check(hidden)
    if plan.factory is not None:
        _require_one(plan, plan.factory)
        return
    for norm in _norms(plan):
        try:
            build_model(settings.architecture, norm, graphs, seed=0)
        except TypeError as error:  # a layer that is given a word for a number, say
            raise ValueError(f"norm {name_of(norm)!r} cannot be made: {error}") from None


def _norms(plan: Plan) -> list[str | OwnNorm]:
    own = {norm.name: norm for norm in plan.norms}
    return [own.get(name, name) for name in plan.settings.norms]


def _require_targets(graphs: GraphSet) -> None:
    """Refuse targets that are all the same, of which there is nothing to learn.

    Raises:
        ValueError: They are.
    """
    y = graphs.y.cpu()
    known = (~y.isnan() if y.is_floating_point() else y >= 0).view(len(y), -1)
    found = [
        column[there].unique() for column, there in zip(y.view(len(y), -1).T, known.T, strict=True)
    ]
    if all(len(values) < 2 for values in found):
        (value, *_) = (values[0] for values in found if len(values))
        names = graphs.task.targets
        named = names[int(value)] if graphs.task.kind == "classification" else f"{value:g}"
        raise ValueError(f"every target of {graphs.name} is {named}, so there is nothing to learn")


def _require_one(plan: Plan, factory: ModelFactory) -> None:
    """Make a model of the user's own with every norm and run it on a few graphs.

    Where that fails with some norms, their trials tell why.

    Raises:
        ValueError: It fails with all of them.
    """
    import torch

    from graphnorms.training.predictor import apply
    from graphnorms.training.trial_model import build_model
    from graphnorms.user_code import no_exit

    architecture, graphs = plan.settings.architecture, plan.dataset
    batch = graphs.batch(torch.arange(min(2, len(graphs))))
    first: Exception | None = None
    for norm in _norms(plan):
        try:
            with no_exit(factory.name):
                model = build_model(architecture, norm, graphs, seed=0, factory=factory.function)
                with torch.no_grad():
                    apply(model.eval(), batch)
            return
        except Exception as error:  # what the user's code does, nobody knows
            first = first or error
    assert first is not None
    text = one_line(first)
    if isinstance(first, ValueError):
        text = text.removeprefix(f"{type(first).__name__}: ")
    else:
        text = f"{factory.name} raised {text}"
    raise ValueError(text) from first


def code_versions() -> CodeVersions:
    """Return the versions of the code that runs."""
    import torch

    from graphnorms.version import __version__

    return {"graphnorms_version": __version__, "torch_version": torch.__version__}
