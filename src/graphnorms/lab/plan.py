"""The plan of a comparison, and the checks before its first trial."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnorms.errors import one_line
from graphnorms.lab import engines
from graphnorms.lab.lookup import name_of
from graphnorms.lab.option_kinds import DEFAULT_ENGINE, REASONS
from graphnorms.lab.options import Options
from graphnorms.lab.schedule import Schedule
from graphnorms.lab.settings import Settings
from graphnorms.lab.trivial import Trivial, trivial_scores
from graphnorms.training.metrics import logged_metric

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.lab.engines import Engine
    from graphnorms.layers.own_norm import OwnNorm
    from graphnorms.models import ModelFactory
    from graphnorms.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A comparison before it runs.

    Args:
        schedule: Its trials.
        dataset: The graphs.
        options: The options, with where trials run.
        folder: The run's folder.
        command: The command that repeats the comparison.
        factory: Makes the user's own model; None for a model of the lab.
        trainer: User code that trains; None if the lab does.
        objects: The items as the user gave them, for `trainer`.
        norms: The user's own norms.
        fitted: How it was cut to fit into a time, as `graphnorms.lab.fit.Fitted.to_dict` says it;
            empty if it was not.
    """

    schedule: Schedule
    dataset: GraphSet
    options: Options
    folder: Path
    command: str
    factory: ModelFactory | None = None
    norms: Sequence[OwnNorm] = ()
    trainer: Trainer | None = None
    objects: Sequence[Any] | None = field(default=None, repr=False)
    fitted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The resolved options."""
        return self.schedule.settings

    @property
    def workers(self) -> int:
        """Trials at a time."""
        if self.options.workers is not None:
            return self.options.workers
        if self.options.engine == "slurm":
            return engines.JOBS_AT_A_TIME
        return engines.default_workers(self.settings.device)

    @cached_property
    def trivial(self) -> Trivial:
        """The scores of a constant prediction."""
        settings = self.settings
        if logged_metric(settings.metric) is not None:
            unknown = [None] * settings.all_folds
            return Trivial(
                held_out=unknown, train=unknown, folds=settings.folds, seed=settings.split_seed
            )
        splits = self.schedule.splits(self.dataset, settings.repeats)
        found = trivial_scores(self.dataset, settings.metric, splits)
        return replace(found, folds=settings.folds, seed=settings.split_seed)

    @cached_property
    def facts(self) -> dict[str, float]:
        """Facts of the graphs for reasons; none where no trial is measured."""
        from graphnorms.lab.graph_facts import graph_facts

        of_atoms = self.dataset.atoms is not None  # their graphs only say who is near
        if self.trainer is not None or self.settings.reasons == REASONS[0] or of_atoms:
            return {}
        gcn = self.settings.shared_architecture.get("name") == "gcn"
        return graph_facts(self.dataset, "gcn" if gcn else "gin")

    @property
    def function(self) -> Callable[..., Any] | None:
        """The function that makes the model, if it came as an object and has no importable name."""
        return self.factory.function if self.factory and self.factory.in_memory else None

    @property
    def norm_functions(self) -> dict[str, Callable[..., Any]]:
        """The functions that make norms, by name, if they came as objects."""
        return {norm.name: norm.function for norm in self.norms if norm.in_memory}

    @property
    def runs_own_code(self) -> bool:
        """Whether trials run the user's code, which may change its process."""
        models = self.settings.architectures.values()
        own = self.factory or self.trainer or self.norms
        return bool(own) or any(map(is_own, models))

    @property
    def work(self) -> tuple[Callable[..., Any], Any]:
        """The trial function of the engines, and the data that it gets."""
        from graphnorms.training import run_trial
        from graphnorms.training.own_training import TrialData, run_own_trial

        if self.trainer is not None:
            trainer = self.trainer if self.trainer.in_memory else None
            trial = functools.partial(
                run_own_trial,
                trainer=trainer,
                norms=self.norm_functions,
                folder=self.folder.resolve(),  # a trial may change its current folder
            )
            return trial, TrialData(self.dataset, self.objects)
        options: dict[str, Any] = {}
        if self.runs_own_code:
            options = {"factory": self.function, "norms": self.norm_functions}
        if self.settings.reasons == REASONS[0]:
            options["measured"] = False
        return functools.partial(run_trial, **options) if options else run_trial, self.dataset

    def engine(self, trials: int, timeout: float | None = None) -> Engine:
        """Return the engine for some trials; it starts nothing before the first.

        Args:
            trials: Number of trials.
            timeout: Seconds that one may take; None: as the options say.
        """
        trial, data = self.work
        return engines.make_engine(
            self.options.engine or DEFAULT_ENGINE,
            trial,
            data,
            workers=min(self.workers, trials),
            scheduler=self.options.scheduler,
            asked=self.options.engine_options,
            folder=self.folder,
            timeout=self.options.timeout if timeout is None else timeout,
            # The user's code may change its process.
            fresh=self.runs_own_code,
        )


def is_own(architecture: Mapping[str, Any]) -> bool:
    """Whether an architecture is a model of the user's own."""
    return "source" in architecture


def require_possible(plan: Plan) -> None:
    """Raise the error that every trial would raise, before the first one runs.

    Raises:
        ValueError: The data cannot be divided so, or a model cannot be built for them.
    """
    from graphnorms.data import split_items
    from graphnorms.models import ModelConfig, NormMaker
    from graphnorms.training.minibatches import require_several, sizes_of
    from graphnorms.training.trial_model import build_model

    settings, graphs = plan.settings, plan.dataset
    if plan.trainer is None:
        _require_targets(graphs)
    if plan.trainer is None and graphs.same_inputs:
        raise ValueError(
            f"all {len(graphs)} graphs of {graphs.name} have the same input ({graphs.features}), "
            "so there is nothing to learn from; choose other features"
        )
    for fold in range(settings.folds if settings.split == "given" else 1):
        require_several(split_items(graphs, plan.schedule.split(fold)).train, graphs)
    if plan.trainer is not None:
        hidden = settings.architecture.get("hidden") or ModelConfig(name="gin").hidden
        for own in plan.norms:
            own.check(hidden)
        for norm in _norms(plan):
            NormMaker(norm).require_usable()
        return
    for architecture in settings.architectures.values() or [settings.architecture]:
        if settings.num_neighbors is not None:
            sizes_of(settings.num_neighbors, architecture.get("layers"), graphs)
        hidden = architecture.get("hidden") or ModelConfig(name="gin").hidden
        for own in plan.norms:
            own.check(hidden)
        if is_own(architecture):
            _require_one(plan, architecture)
            continue
        for norm in _norms(plan):
            try:
                build_model(architecture, norm, graphs, seed=0)
            except TypeError as error:  # a layer that is given a word for a number, say
                raise ValueError(f"norm {name_of(norm)!r} cannot be made: {error}") from None


def _norms(plan: Plan) -> list[str | OwnNorm]:
    own = {norm.name: norm for norm in plan.norms}
    return [own.get(name, name) for name in plan.settings.norms]


def _require_targets(graphs: GraphSet) -> None:
    """Refuse targets that are all equal, or all missing: a model has nothing to learn.

    Raises:
        ValueError: They are.
    """
    y = graphs.y.cpu()
    known = (~y.isnan() if y.is_floating_point() else y >= 0).view(len(y), -1)
    found = [
        column[there].unique() for column, there in zip(y.view(len(y), -1).T, known.T, strict=True)
    ]
    if not any(len(values) for values in found):
        raise ValueError(f"every target of {graphs.name} is missing, so there is nothing to learn")
    if all(len(values) < 2 for values in found):
        (value, *_) = (values[0] for values in found if len(values))
        names = graphs.task.targets
        named = names[int(value)] if graphs.task.kind == "classification" else f"{value:g}"
        raise ValueError(f"every target of {graphs.name} is {named}, so there is nothing to learn")


def _require_one(plan: Plan, architecture: Mapping[str, Any]) -> None:
    """Make the user's own model with every norm and run it on a few graphs.

    If that fails with some norms only, their failed trials give the reason.

    Raises:
        ValueError: It fails with all of them.
    """
    import torch

    from graphnorms.models import ModelFactory
    from graphnorms.training.predictor import apply
    from graphnorms.training.trial_model import build_model
    from graphnorms.user_code import no_exit

    factory = plan.factory or ModelFactory.of(str(architecture["name"]))
    graphs = plan.dataset
    batch = graphs.batch(torch.arange(min(2, len(graphs))))
    first: Exception | None = None
    for norm in _norms(plan):
        try:
            with no_exit(factory.name):
                model = build_model(architecture, norm, graphs, seed=0, factory=factory.function)
                with torch.no_grad():
                    apply(model.eval(), batch)
            return
        except Exception as error:  # the user's code may raise anything
            first = first or error
    assert first is not None
    text = one_line(first)
    if isinstance(first, ValueError) and _is_ours(first):
        text = text.removeprefix(f"{type(first).__name__}: ")
    else:
        text = f"{factory.name} raised {text}"
    raise ValueError(text) from first


def _is_ours(error: Exception) -> bool:
    """Whether a function of graphnorms raised it, whose message says all."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
    return name.partition(".")[0] == __name__.partition(".")[0]
