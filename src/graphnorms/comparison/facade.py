"""From what a user asks for to trials that run, one record after the other."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphnorms.comparison.outcome import Comparison, ComparisonInterrupted, ReportError
from graphnorms.comparison.progress import Clock, Outcomes, Status
from graphnorms.comparison.repeat import choices_of, command_of
from graphnorms.comparison.sources import Dataset, asked_of_data, load_again, load_source
from graphnorms.errors import GraphnormsError, one_line
from graphnorms.interrupts import how_ended, terminable
from graphnorms.lab import engines
from graphnorms.lab.choices import (
    DEFAULT_PRESET,
    DEFAULT_PROTOCOL,
    Choices,
    chosen_model,
    chosen_norms,
    default_model,
    name_of,
    resolve,
    said,
)
from graphnorms.lab.plan import Plan, Schedule, code_versions, require_possible
from graphnorms.lab.protocol import CompareSettings, require_integer, require_number
from graphnorms.lab.runs import Run, default_folder, read_config
from graphnorms.lab.shelf import settings_of

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
    on validation data and its score taken on test data with fresh seeds. Trials run in worker
    processes with one thread each; where the model or a norm is your own in a new process each, so
    that none finds what another has left behind. What is done is kept in the run's folder: the same
    call after an interruption continues there, and after the end it trains nothing and gives the
    same answer. A call for more norms, runs or repeats goes on from what is there, and one with
    another margin judges it anew.

    Args:
        dataset: Name of an embedded set (MUTAG if nothing is said, nci5k) or of a TUDataset, the
            path of a folder in TU format, a powerful-gnns text file or an `.npz` file,
            `"module:factory"`, a `GraphSet`, or a sequence of PyG `Data`.
        norms: Normalizations as text, or one text with commas in between: catalogue names (see
            `graphnorms.CATALOG`), arguments behind a colon as in `"pair:scale=2"`. Norms of your
            own are `"module:function"`, arguments behind a further colon, or in a list the class
            or function itself, also in a `functools.partial`: it makes a layer, given the number
            of channels; see `graphnorms.layers.own_norm`. `"none"` is always among them. Default:
            none, batch, layer, instance and graph.
        protocol: `"nested"` (cross-validation with validation data inside each fold; default),
            `"split"` (one given or random split, several seeds) or `"paper"` (epoch and learning
            rate chosen by the score that is reported, as in the GIN and GraphNorm papers:
            optimistic).
        budget: `"quick"` (default), `"standard"` or `"full"`: learning rates, epochs, seeds.
        model: `"gin"`, `"gine"` (with edge features) or `"gcn"`; default: gine where edges have
            features, else gin; gcn for nodes. Or a model of your own: a function or class that
            makes it, or `"module:function"`; see `graphnorms.models.build_own`.
        preset: Named architecture and training settings; what is None below comes from it.
        norm_place: Each norm `"before-activation"` or `"after-activation"`.
        residual: Whether every convolution but the first adds its input, and where: `"none"`,
            `"after-norm"` or `"before-norm"`.
        layers, hidden: Number of convolutions, and their channels.
        task: What is learned, where the data can be read in several ways: `"classification"`,
            `"binary"` or `"regression"`.
        features: What node features are made of: `"labels"`, `"attributes"`, `"degree"`,
            `"constant"`, or by default whatever the data suggest.
        edge_features: Likewise of edges: `"labels"`, `"attributes"` or `"none"`.
        keep_loops, keep_repeats: Whether self loops and edges listed again stay; default: as
            the format is read elsewhere, see `graphnorms.data.Reading`.
        drop_empty: Leave out graphs without nodes, which are an error otherwise.
        drop_rare: Leave out classes of fewer items than this.
        metric: The score compared, see `graphnorms.training.METRICS`; default: accuracy, ROC-AUC
            or MAE, by the task; of several numbers the mean of MAE/σ.
        split: `"given"`, `"random"`, or for molecules with SMILES `"scaffold:hashed"` or another
            rule of `graphnorms.data.ScaffoldSplit`; for the protocol `"split"`.
        folds: Folds of a cross-validation; default 10, or as many as it takes to judge so many
            norms.
        repeats: Cross-validations, each of other folds; default 1. The first is the same whatever
            the number.
        group_twins: Keep isomorphic graphs, features included, in one fold, or in one part of a
            random split. Where there are any the folds are others than without.
        runs: Trials that are reported per fold, or on one split the seeds; default by the budget.
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
        timeout: Seconds that a trial may take; one that takes longer is ended and has failed, and
            is tried again when the run is continued. None: as many as it needs.
        out: The run's folder; None is `runs/<dataset>-<model>`.
        resume: Continue the run in that folder, with its settings where nothing else is said.
        progress: Called with a `Status` before anything is trained, a few times per second from
            then on, and after the last trial.

    Raises:
        ValueError: A value is not possible, a name is not known, the data set is malformed
            (`DatasetError`), or `out` holds a run with other settings, or with more
            (`RunExistsError`).
        GraphnormsError: There is no run to resume, or no worker process can be started.
        ReportError: Everything is done and kept, but the page cannot be written; it knows the
            comparison.
        ComparisonInterrupted: Ctrl-C or SIGTERM; a `KeyboardInterrupt` that knows what was done.
        OSError: The run's folder cannot be written.
    """
    plan, config = prepare(
        dataset, task=task, features=features, edge_features=edge_features,
        keep_loops=keep_loops, keep_repeats=keep_repeats, drop_empty=drop_empty,
        drop_rare=drop_rare, engine=engine, scheduler=scheduler, workers=workers,
        timeout=timeout, out=out, resume=resume,
        choices=Choices(
            norms=norms, protocol=protocol, budget=budget, model=model, preset=preset,
            norm_place=norm_place, residual=residual, layers=layers, hidden=hidden,
            metric=metric, split=split, folds=folds, repeats=repeats, group_twins=group_twins,
            runs=runs, epochs=epochs, learning_rate=learning_rate, weight_decay=weight_decay,
            batch_size=batch_size, margin=margin, seed=seed, device=device,
        ),
    )  # fmt: skip
    with terminable(), Run(plan.folder, config) as run:
        try:
            _train(plan, run, scheduler, progress or _say_nothing)
        except KeyboardInterrupt as error:
            comparison = _comparison(plan, run)
            problem = ""
            if comparison.judgeable:
                # A user does not want to wait for figures, and after SIGTERM there is little time.
                problem = _problem_of(lambda: comparison.report(figures=False))
            raise ComparisonInterrupted(comparison, problem, how_ended(error)) from None
        comparison = _comparison(plan, run)
    if problem := _problem_of(comparison.report):
        raise ReportError(comparison, problem)
    return comparison


def _problem_of(write_page: Callable[[], object]) -> str:
    """Write the page; say why it cannot be written, if so."""
    try:
        write_page()
    except Exception as error:  # the outcome is worth more than its page
        return one_line(error)
    return ""


def prepare(
    dataset: Dataset = None,
    *,
    choices: Choices,
    engine: str = "local",
    scheduler: str | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    **reading: Any,
) -> tuple[Plan, dict[str, Any]]:
    """Resolve what `compare` was asked for, without touching the run's folder.

    Returns:
        The plan, and what the run's folder keeps of it.

    Raises:
        ValueError, GraphnormsError: As `compare` does, but for what other processes do.
    """
    from graphnorms.layers.own_norm import OwnNorm
    from graphnorms.models import ModelFactory

    for name in _TEXTS:
        _require_kind(name, getattr(choices, name), str, "a text")
    for name, text in (
        ("engine", engine), ("scheduler", scheduler),
        *((name, reading.get(name)) for name in ("task", "features", "edge_features")),
    ):  # fmt: skip
        _require_kind(name, text, str, "a text")
    _require_kind("out", out, (str, Path), "a folder")
    norms = choices.norms
    _require_kind("norms", norms, (str, Sequence), "a text, or a list of texts")
    for norm in norms or ():
        if not callable(norm):
            expected = "a text, such as 'graph' or 'pair:scale=2', or what makes a norm"
            _require_kind("a norm", norm, (str, OwnNorm), expected)
    if choices.model is not None and not callable(choices.model):
        kinds = (str, ModelFactory)
        _require_kind("model", choices.model, kinds, "a name, or a function that makes a model")
    engines.check_engine(engine, scheduler)
    if workers is not None:
        require_integer("workers", workers, at_least=1)
    if timeout is not None:
        require_number("timeout", timeout, "a number > 0, in seconds", lambda value: value > 0)
    choices = replace(choices, model=chosen_model(choices))
    choices, asked = asked_of_data(choices, reading)
    folder = None if out is None else Path(out)
    if resume:
        if folder is None:
            folder = _folder_of(load_source(dataset, asked).graphs, choices)
        stored = read_config(folder)
        if choices.model is None and stored.get("model_in_memory"):
            raise GraphnormsError(
                f"the run in {folder} trains a model made by a function in memory; call compare() "
                "with it"
            )
        kept = settings_of(stored, folder)
        lost = [name for name, about in kept.own_norms.items() if about.get("in_memory")]
        if choices.norms is None and lost:
            raise GraphnormsError(
                f"the run in {folder} has a norm that was made in memory, {lost[0]}; call "
                "compare() with it"
            )
        choices = _continued(choices, kept)
        choices = replace(choices, model=chosen_model(choices))
        source = load_again(stored, folder, dataset, asked)
    else:
        source = load_source(dataset, asked)
        folder = _folder_of(source.graphs, choices) if folder is None else folder
    graphs = source.graphs
    norms = chosen_norms(choices)
    choices = replace(choices, norms=norms)
    settings = resolve(graphs, source.name, choices)
    versions = code_versions()
    factory = choices.model if isinstance(choices.model, ModelFactory) else None
    model_in_memory = factory is not None and factory.in_memory
    plan = Plan(
        schedule=Schedule(settings=settings, fingerprint=graphs.fingerprint, versions=versions),
        dataset=graphs,
        workers=engines.default_workers(settings.device) if workers is None else workers,
        engine=engine,
        folder=folder,
        command=command_of(
            settings, source.reading, in_memory=source.in_memory, model_in_memory=model_in_memory
        ),
        factory=factory,
        norms=[norm for norm in norms if not isinstance(norm, str)],
        timeout=timeout,
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


_TEXTS: Final = (
    "protocol", "budget", "preset", "norm_place", "residual", "metric", "split", "device",
)  # fmt: skip
"""Choices that are texts."""


def _require_kind(name: str, value: object, kind: Any, expected: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{name} is {value!r:.100}, expected {expected}")


def _folder_of(graphs: GraphSet, choices: Choices) -> Path:
    """Return the folder of a run when none is named."""
    preset = choices.preset or DEFAULT_PRESET
    model = chosen_model(choices) or default_model(graphs, preset)
    return default_folder(graphs.name, name_of(model), preset, choices.protocol or DEFAULT_PROTOCOL)


def _continued(choices: Choices, stored: CompareSettings) -> Choices:
    """Complete choices with those of the run that is continued."""
    kept = choices_of(stored)
    if choices.protocol not in (None, stored.protocol):
        # A contradiction, which the folder will tell; these would only be in the way.
        kept = replace(kept, folds=None, repeats=None, split=None)
    return replace(kept, **said(choices))


def _train(plan: Plan, run: Run, scheduler: str | None, progress: Callable[[Status], None]) -> None:
    """Run the trials that have no outcome yet and keep each record as soon as it is there."""
    from graphnorms.training import run_trial

    schedule, find = plan.schedule, run.journal.get
    known = schedule.known(find)
    norms = {config.key: config.norm for config in known}
    outcomes = Outcomes(record for config in known if (record := find(config.key)) is not None)
    total = plan.settings.planned - len(outcomes)
    clock = Clock(epochs=plan.settings.epochs * total)
    running: Mapping[str, int] = {}  # by key
    ended = 0

    def tell(latest: Record | None = None) -> None:
        # Told often: nothing here may take the longer the more trials there are.
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
        found = schedule.following(record, find)
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
        plan.engine,
        trial,
        plan.dataset,
        workers=min(plan.workers, total),
        scheduler=scheduler,
        timeout=plan.timeout,
        # The user's code may leave anything behind in its process.
        fresh=plan.runs_own_code,
    )
    with engine, closing(
        run.complete(engine, known, on_progress, following)
    ) as records:  # fmt: skip
        for record in records:
            ended += 1
            outcomes.add(record)
            running = {key: epochs for key, epochs in running.items() if key != record.key}
            tell(record)


def _comparison(plan: Plan, run: Run) -> Comparison:
    return Comparison(
        settings=plan.settings,
        records=tuple(plan.schedule.records(run.journal.get)),
        folder=plan.folder,
        command=plan.command,
        dataset=plan.dataset,
        factory=plan.function,
        norm_functions=plan.norm_functions,
        trivial=plan.trivial,
    )


def _say_nothing(status: Status) -> None:
    pass
