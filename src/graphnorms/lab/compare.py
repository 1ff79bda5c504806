"""Run a comparison: resolve its options, train its trials, keep every record, write the page."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnorms.errors import GraphnormsError, one_line
from graphnorms.interrupts import how_ended, terminable
from graphnorms.lab import engines
from graphnorms.lab.comparison import Comparison, ComparisonInterrupted, ReportError
from graphnorms.lab.options import (
    DEFAULT_PRESET,
    DEFAULT_PROTOCOL,
    Options,
    command_of,
    name_of,
)
from graphnorms.lab.plan import Plan, require_possible
from graphnorms.lab.progress import Clock, Outcomes, Status
from graphnorms.lab.resolve import default_model, looked_up, resolve
from graphnorms.lab.run import Run, default_folder, read_config
from graphnorms.lab.run_list import settings_of
from graphnorms.lab.schedule import Agenda, Schedule, code_versions
from graphnorms.lab.sources import Dataset, Source, load_again, load_source

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.training import Record, TrialConfig


def compare(
    dataset: Dataset = None,
    *,
    norms: Sequence[str | Callable[..., Any]] | str | None = None,
    protocol: str | None = None,
    budget: str | None = None,
    model: str | Callable[..., Any] | None = None,
    preset: str | None = None,
    norm_place: str | None = None,
    residual: str | None = None,
    layers: int | None = None,
    hidden: int | None = None,
    task: str | None = None,
    features: str | None = None,
    edge_features: str | None = None,
    keep_loops: bool | None = None,
    keep_repeats: bool | None = None,
    drop_empty: bool | None = None,
    drop_rare: int | None = None,
    smiles: str | None = None,
    target: str | None = None,
    edges: str | None = None,
    root: str | None = None,
    split_file: str | None = None,
    metric: str | None = None,
    split: str | None = None,
    folds: int | None = None,
    repeats: int | None = None,
    group_twins: bool | None = None,
    runs: int | None = None,
    epochs: int | None = None,
    learning_rate: float | Sequence[float] | None = None,
    weight_decay: float | None = None,
    batch_size: int | None = None,
    margin: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    engine: str = "local",
    scheduler: str | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Callable[[Status], None] | None = None,
) -> Comparison:
    """Train one model with each normalization, all else equal, and judge the difference.

    Every norm gets the same splits, seeds, learning rates and budget; its learning rate is chosen
    on validation data and its score is taken on test data with fresh seeds. Trials run in worker
    processes with one thread each; each trial of your own model or norm has a new process, so that
    it finds nothing that another trial has left behind. Every finished trial is kept in the run's
    folder. The same call continues there after an interruption; after the end it trains nothing and
    gives the same answer. A call for more norms, runs or repeats adds the missing trials, and one
    with another margin judges the same trials again.

    Args:
        dataset: Name of an embedded set (MUTAG, the default, or nci5k), of a TUDataset, or of any
            data set of PyG (`"pyg:Planetoid/Cora"`); a path, such as a table of molecules, a folder
            in TU format or of OGB, see `graphnorms.load_dataset`; `"module:factory"`, a `GraphSet`,
            a sequence of PyG `Data` or a PyG or OGB data set, or NetworkX graphs.
        norms: Normalizations as a list of texts, or as one text with commas: catalogue names (see
            `graphnorms.CATALOG`), with arguments after a colon as in `"pair:scale=2"`. Your own
            norm is `"module:function"`, with arguments after a second colon, or in a list the class
            or function itself, also as a `functools.partial`: it gets the number of channels and
            returns a layer, see `graphnorms.layers.own_norm`. `"none"` is always included. Default:
            none, batch, layer, instance and graph.
        protocol: `"nested"` (cross-validation with validation data inside each fold; default),
            `"split"` (one given or random split, several seeds) or `"paper"` (epoch and learning
            rate chosen by the score that is reported, as in the GIN and GraphNorm papers:
            optimistic).
        budget: `"quick"` (default), `"standard"` or `"full"`: learning rates, epochs, seeds.
        model: `"gin"`, `"gine"` (with edge features) or `"gcn"`; default: gine where edges have
            features, else gin; gcn for nodes. Or your own model: a function or class that makes it,
            or `"module:function"`; see `graphnorms.models.build_own`.
        preset: Named architecture and training settings: the source of what is None below.
        norm_place: Each norm `"before-activation"` or `"after-activation"`.
        residual: Whether every convolution but the first adds its input, and where: `"none"`,
            `"after-norm"` or `"before-norm"`.
        layers, hidden: Number of convolutions, and their channels.
        task: What is predicted, if the data can be read in several ways: `"classification"`,
            `"binary"` or `"regression"`.
        features: Source of the node features: `"labels"`, `"attributes"`, `"degree"` or
            `"constant"`; default: what the data have.
        edge_features: Source of the edge features: `"labels"`, `"attributes"` or `"none"`.
        keep_loops, keep_repeats: Whether self loops and repeated edges stay; the default depends on
            the format, see `graphnorms.data.Reading`.
        drop_empty: Leave out graphs without nodes, which are an error otherwise.
        drop_rare: Leave out classes of fewer items than this.
        smiles: The column of SMILES in a table of molecules; default: guessed, and told.
        target: What is predicted: columns of a table, separated by commas, or attributes of
            NetworkX graphs; default: guessed, and told.
        edges: The table of edges, for a table of the nodes of one graph.
        root: The folder of the data sets of PyG, also for downloads; default `data`.
        split_file: A file with one or several splits, see `graphnorms.data.read_split_file`; for
            the protocol `"split"`.
        metric: The score compared, see `graphnorms.training.METRICS`; default: the official metric
            of a public set, or accuracy, ROC-AUC
            or MAE, by the task; of several numbers the mean of MAE/σ.
        split: `"given"`, `"random"`, or for molecules with SMILES `"scaffold:hashed"` or another
            rule of `graphnorms.data.ScaffoldSplit`; for the protocol `"split"`.
        folds: Folds of a cross-validation; default 10, or as many as it takes to judge so many
            norms.
        repeats: Cross-validations, each with other folds; default 1. The first one does not depend
            on the number.
        group_twins: Keep isomorphic graphs, features included, in one fold, or in one part of a
            random split. If the data have twins, this changes the folds.
        runs: Reported trials per fold, or seeds on one split; default by the budget.
        epochs: Passes over the training data.
        learning_rate: Adam's step size in the first epoch: one for all norms, or a grid of them.
        weight_decay: Adam's L2 penalty.
        batch_size: Graphs in a minibatch.
        margin: Differences of scores below this are of no practical interest.
        seed: Seeds weights, batch order and dropout.
        device: Where the models are trained, e.g. `"cpu"` or `"cuda:0"`.
        engine: `"local"` worker processes, or `"dask"`.
        scheduler: Address of the dask scheduler.
        workers: Local trials at a time; None is one per usable core.
        timeout: Seconds that a trial may take; one that takes longer is stopped and has failed, and
            is tried again when the run is continued. None: no limit.
        out: The run's folder; None is `runs/<dataset>-<model>`.
        resume: Continue the run in that folder; its settings are the defaults of the options.
        progress: Called with a `Status` before anything is trained, a few times per second from
            then on, and after the last trial.

    Raises:
        ValueError: A value is not possible, a name is not known, the data set is malformed
            (`DatasetError`), or `out` holds a run with other settings, or with more
            (`RunExistsError`).
        GraphnormsError: There is no run to resume, or no worker process can be started.
        ReportError: Every trial is done and kept, but the page cannot be written; its `comparison`
            has the outcome.
        ComparisonInterrupted: Ctrl-C or SIGTERM; a `KeyboardInterrupt` with a `comparison` of the
            finished trials.
        OSError: The run's folder cannot be written.
    """
    given = locals()
    options = Options(**{each.name: given[each.name] for each in fields(Options)})
    plan, config = prepare(dataset, options)
    with terminable(), Run(plan.folder, config) as run:
        try:
            _train(plan, run, progress or _say_nothing)
        except KeyboardInterrupt as error:
            comparison = _comparison(plan, run)
            problem = ""
            if comparison.judgeable:
                # Figures take seconds, and a process has little time left after SIGTERM.
                problem = _problem_of(lambda: comparison.report(figures=False))
            raise ComparisonInterrupted(comparison, problem, how_ended(error)) from None
        comparison = _comparison(plan, run)
    if problem := _problem_of(comparison.report):
        raise ReportError(comparison, problem)
    return comparison


def _problem_of(write_page: Callable[[], object]) -> str:
    """Write the page; return the reason if that fails, else nothing."""
    try:
        write_page()
    except Exception as error:  # a failed page must not hide the outcome
        return one_line(error)
    return ""


def prepare(dataset: Dataset, options: Options) -> tuple[Plan, dict[str, Any]]:
    """Resolve the options of `compare`, without touching the run's folder.

    Returns:
        The plan, and the config that the run's folder keeps.

    Raises:
        ValueError, GraphnormsError: As `compare` does, apart from errors of worker processes.
    """
    from graphnorms.layers.own_norm import OwnNorm
    from graphnorms.models import ModelFactory

    options.check()
    engines.check_engine(options.engine, options.scheduler)
    folder = None if options.out is None else Path(options.out)
    if options.resume:
        if folder is None:
            folder = _folder_of(load_source(dataset, options.reading).graphs, options)
        options, source = _continued(options, dataset, folder)
    else:
        source = load_source(dataset, options.reading)
        folder = _folder_of(source.graphs, options) if folder is None else folder
    graphs = source.graphs
    options = looked_up(options)
    settings = resolve(options, graphs, source.name)
    factory = options.model if isinstance(options.model, ModelFactory) else None
    model_in_memory = factory is not None and factory.in_memory
    versions = code_versions()
    plan = Plan(
        schedule=Schedule(settings=settings, fingerprint=graphs.fingerprint, versions=versions),
        dataset=graphs,
        options=options,
        folder=folder,
        command=command_of(
            settings, source.reading, in_memory=source.in_memory, model_in_memory=model_in_memory
        ),
        factory=factory,
        norms=[norm for norm in options.norms or () if isinstance(norm, OwnNorm)],
    )
    require_possible(plan)
    data = {
        "reading": source.reading,
        "in_memory": source.in_memory,
        "fingerprint": graphs.fingerprint,
        "trivial": plan.trivial.to_dict(),
        **({"model_in_memory": True} if model_in_memory else {}),
    }
    return plan, settings.to_dict() | versions | data


def _folder_of(graphs: GraphSet, options: Options) -> Path:
    """Return the folder of a run when none is named."""
    preset = options.preset or DEFAULT_PRESET
    model: Any = looked_up(options).model or default_model(graphs, preset)
    protocol = options.protocol or DEFAULT_PROTOCOL
    return default_folder(graphs.name, name_of(model), preset, protocol)


def _continued(options: Options, dataset: Dataset, folder: Path) -> tuple[Options, Source]:
    """Complete options with those of the run to continue, and read its data.

    Raises:
        GraphnormsError: There is no such run, or its data, model or norms were objects in memory.
    """
    from graphnorms.data import GraphSet

    stored = read_config(folder)
    settings = settings_of(stored, folder)
    lost = [name for name, kept in settings.own_norms.items() if kept.get("in_memory")]
    if options.model is None and stored.get("model_in_memory"):
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
    options = options.or_those_of(Options.of(settings, reading))
    return options, load_again(stored, folder, dataset, options.reading)


def _train(plan: Plan, run: Run, progress: Callable[[Status], None]) -> None:
    """Run the trials without an outcome, and keep each record at once."""
    from graphnorms.training import run_trial

    agenda = Agenda(plan.schedule, run.journal)
    known = agenda.known()
    norms = {config.key: config.norm for config in known}
    outcomes = Outcomes(agenda.records())
    total = plan.settings.planned - len(outcomes)
    clock = Clock(epochs=plan.settings.epochs * total)
    running: Mapping[str, int] = {}  # by key
    ended = 0

    def tell(latest: Record | None = None) -> None:
        # Called often: the cost must not grow with the number of trials.
        clock.note(plan.settings.epochs * ended + sum(running.values()))
        by_norm: Counter[str] = Counter()
        for key, epochs in running.items():
            by_norm[norms[key]] += epochs
        progress(
            Status(
                plan=plan,
                changes=run.changes,
                outcomes=outcomes,
                ended=len(outcomes),
                tallies=dict(outcomes.tallies),
                latest=latest,
                running=by_norm,
                elapsed=clock.elapsed,
                remaining=clock.remaining,
            )
        )

    def following(record: Record) -> list[TrialConfig]:
        found = agenda.send(record)
        norms.update((config.key, config.norm) for config in found)
        return found

    def on_progress(epochs: Mapping[str, int]) -> None:
        nonlocal running
        running = epochs
        tell()

    tell()
    if not total:
        return
    trial: Any = run_trial
    if plan.runs_own_code:
        trial = functools.partial(run_trial, factory=plan.function, norms=plan.norm_functions)
    engine = engines.make_engine(
        plan.options.engine,
        trial,
        plan.dataset,
        workers=min(plan.workers, total),
        scheduler=plan.options.scheduler,
        timeout=plan.options.timeout,
        # The user's code may change its process.
        fresh=plan.runs_own_code,
    )
    records = run.complete(engine, known, on_progress, following)
    with engine, closing(records):
        for record in records:
            ended += 1
            outcomes.add(record)
            running = {key: epochs for key, epochs in running.items() if key != record.key}
            tell(record)


def _comparison(plan: Plan, run: Run) -> Comparison:
    return Comparison(
        settings=plan.settings,
        records=tuple(Agenda(plan.schedule, run.journal).records()),
        folder=plan.folder,
        command=plan.command,
        dataset=plan.dataset,
        factory=plan.function,
        norm_functions=plan.norm_functions,
        trivial=plan.trivial,
    )


def _say_nothing(status: Status) -> None:
    pass
