"""Prepare a comparison: read its data, resolve its options, and check that it is possible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnorms.errors import GraphnormsError
from graphnorms.lab import engines
from graphnorms.lab.lookup import looked_up, name_of, trainer_of
from graphnorms.lab.option_kinds import DEFAULT_PRESET, PROTOCOLS
from graphnorms.lab.options import Options
from graphnorms.lab.plan import Plan, require_possible
from graphnorms.lab.repeat import command_of, with_file
from graphnorms.lab.resolve import default_model, protocol_of, resolve
from graphnorms.lab.run import CONFIG, default_folder, read_config
from graphnorms.lab.run_list import settings_of
from graphnorms.lab.schedule import Schedule, code_versions
from graphnorms.lab.settings import Settings
from graphnorms.lab.sources import Dataset, Load, Source, load_again, load_source
from graphnorms.lab.trial_data import load_trial_source, with_monitored
from graphnorms.lab.values import seconds_of

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.models import ModelFactory
    from graphnorms.training.trainer import Trainer


def prepare(dataset: Dataset, options: Options) -> tuple[Plan, dict[str, Any]]:
    """Resolve the options of `compare`, without touching the run's folder.

    Returns:
        The plan, and the config that the run's folder keeps.

    Raises:
        ValueError, GraphnormsError: As `compare` does, apart from errors of worker processes.
    """
    from graphnorms.layers.own_norm import OwnNorm
    from graphnorms.models import ModelFactory

    dataset, options = with_file(dataset, options)
    options.check()
    if options.time is not None and options.resume:
        raise ValueError("time plans a new run, and resume continues one as planned; leave one out")
    engines.check_engine(options.engine, options.scheduler, options.engine_options)
    folder = None if options.out is None else Path(options.out)
    if options.resume:
        if folder is None:
            folder = _folder_to_resume(_load(options)(dataset, options.reading).graphs, options)
        options, source = _continued(options, dataset, folder)
    else:
        source = _load(options)(dataset, options.reading)
        folder = _folder_of(source.graphs, options) if folder is None else folder
    graphs = source.graphs
    options = looked_up(options)
    trainer = trainer_of(options)
    if trainer is not None and trainer.by == "lightning":
        options = with_monitored(options, source, trainer)
    settings = resolve(options, graphs, source.name)
    factory = options.model if isinstance(options.model, ModelFactory) else None
    plan = Plan(
        schedule=Schedule(
            settings=settings, fingerprint=graphs.fingerprint, versions=code_versions()
        ),
        dataset=graphs,
        options=options,
        folder=folder,
        command=_command(settings, source, factory or trainer),
        factory=factory,
        norms=[norm for norm in options.norms or () if isinstance(norm, OwnNorm)],
        trainer=trainer,
        objects=source.objects,
    )
    require_possible(plan)
    if options.time is not None:
        plan = _fitted(plan, source, seconds_of(options.time))
    elif options.resume:
        plan = replace(plan, fitted=read_config(folder).get("fitted", {}))
    data = {
        "reading": source.reading,
        "in_memory": source.in_memory,
        "fingerprint": graphs.fingerprint,
        "trivial": plan.trivial.to_dict(),
        **({"model_in_memory": True} if _in_memory(factory or trainer) else {}),
        **({"fitted": plan.fitted} if plan.fitted else {}),
        **({"facts": plan.facts} if plan.facts else {}),
    }
    return plan, plan.settings.to_dict() | plan.schedule.versions | data


def _in_memory(maker: ModelFactory | Trainer | None) -> bool:
    return maker is not None and maker.in_memory


def _command(settings: Settings, source: Source, maker: ModelFactory | Trainer | None) -> str:
    return command_of(
        settings,
        source.reading,
        in_memory=source.in_memory,
        model_in_memory=_in_memory(maker),
    )


def _fitted(plan: Plan, source: Source, limit: float) -> Plan:
    """Cut a plan until it fits into a time, or as it was cut before.

    A second measurement gives another time and so other cuts. The same call must continue the run
    that is in the folder: there it is cut as the run is.

    Raises:
        ValueError: The least that can be judged takes longer.
    """
    from graphnorms.lab.fit import fit
    from graphnorms.training import content_hash

    request = content_hash(
        {**plan.settings.to_dict(), "limit": limit, "given": sorted(plan.options.said())}
    )
    stored = read_config(plan.folder) if (plan.folder / CONFIG).exists() else {}
    before = stored.get("fitted", {})
    if before.get("request") == request:
        settings, found = settings_of(stored, plan.folder), before
    else:
        fitted = fit(plan, limit)
        settings, found = fitted.settings, {"request": request, **fitted.to_dict()}
    return replace(
        plan,
        schedule=replace(plan.schedule, settings=settings),
        command=_command(settings, source, plan.factory),
        fitted=found,
    )


def _folder_of(graphs: GraphSet, options: Options) -> Path:
    """Return the folder of a run when none is named."""
    preset = options.preset or DEFAULT_PRESET
    vary = tuple(options.vary or ())
    found = looked_up(options)
    model: Any = found.trial or found.model or default_model(graphs, preset)
    named = "" if "model" in vary else name_of(model)
    return default_folder(graphs.name, named, preset, protocol_of(options, graphs), vary)


def _folder_to_resume(graphs: GraphSet, options: Options) -> Path:
    """Return the folder of the run to resume when none is named.

    Where no protocol is named and there is no run of that which the data suggest, one of another.
    """
    if options.protocol is not None:
        return _folder_of(graphs, options)
    protocols = dict.fromkeys((protocol_of(options, graphs), *PROTOCOLS))
    folders = [_folder_of(graphs, replace(options, protocol=protocol)) for protocol in protocols]
    return next((folder for folder in folders if (folder / CONFIG).exists()), folders[0])


def _continued(options: Options, dataset: Dataset, folder: Path) -> tuple[Options, Source]:
    """Complete options with those of the run to continue, and read its data.

    Raises:
        GraphnormsError: There is no such run, or its data, model or norms were objects in memory.
    """
    from graphnorms.data import GraphSet

    stored = read_config(folder)
    settings = settings_of(stored, folder)
    lost = [name for name, kept in settings.own_norms.items() if kept.get("in_memory")]
    if options.model is None and options.trial is None and stored.get("model_in_memory"):
        raise GraphnormsError(
            f"the run in {folder} trains a model made by a function in memory; call compare() "
            "with it"
        )
    if options.norms is None and lost:
        raise GraphnormsError(
            f"the run in {folder} has a norm that was made in memory, {lost[0]}; call "
            "compare() with it"
        )
    reading = {} if isinstance(dataset, GraphSet) else stored.get("reading", {})
    kept = Options.of(settings, reading)
    if stored.get("model_in_memory"):  # its name finds nothing
        kept = replace(kept, model=None, trial=None)
    options = options.or_those_of(kept)
    return options, load_again(stored, folder, dataset, options.reading, _load(options))


def _load(options: Options) -> Load:
    """Return what reads the data: user code that trains may have data of its own."""
    return load_source if trainer_of(looked_up(options)) is None else load_trial_source
