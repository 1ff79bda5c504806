"""Run a comparison: resolve its options, train its trials, keep every record, write the page."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnorms.interrupts import how_ended, terminable
from graphnorms.lab.agenda import Agenda
from graphnorms.lab.comparison import Comparison
from graphnorms.lab.comparison_errors import ComparisonInterrupted, ReportError
from graphnorms.lab.judgement import keep_judgement
from graphnorms.lab.live_page import LivePage, problem_of
from graphnorms.lab.log_trials import Logging, trackers_of
from graphnorms.lab.option_kinds import TESTED
from graphnorms.lab.options import Options
from graphnorms.lab.plan import Plan
from graphnorms.lab.prepare import prepare
from graphnorms.lab.progress import Clock, Outcomes, Status, log_trial
from graphnorms.lab.reason_trials import run_reason_trials
from graphnorms.lab.repeat import RUN_FILE, write_run_file
from graphnorms.lab.run import Run
from graphnorms.lab.run_list import tests_among
from graphnorms.lab.sources import Dataset
from graphnorms.lab.trial_data import SameScores

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig

_log = logging.getLogger(__name__)


def compare(
    dataset: Dataset = None,
    *,
    norms: Sequence[str | Callable[..., Any]] | str | None = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    protocol: str | None = None,
    budget: str | None = None,
    model: str | Callable[..., Any] | None = None,
    trial: str | Callable[..., Any] | None = None,
    preset: str | None = None,
    norm_place: str | None = None,
    residual: str | None = None,
    edge_norm: str | None = None,
    qk_norm: str | None = None,
    heads: int | None = None,
    layers: int | None = None,
    hidden: int | None = None,
    dropout: float | None = None,
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
    cutoff: float | None = None,
    root: str | None = None,
    split_file: str | None = None,
    metric: str | None = None,
    split: str | None = None,
    folds: int | None = None,
    repeats: int | None = None,
    group_twins: bool | None = None,
    runs: int | None = None,
    time: str | float | None = None,
    epochs: int | None = None,
    optimizer: str | None = None,
    learning_rate: float | Sequence[float] | None = None,
    search: Mapping[str, str] | Sequence[str] | str | None = None,
    proposals: int | None = None,
    schedule: str | None = None,
    warmup: int | None = None,
    weight_decay: float | None = None,
    clip: float | None = None,
    force_weight: float | None = None,
    patience: int | None = None,
    batch_size: int | None = None,
    num_neighbors: int | Sequence[int] | None = None,
    margin: float | None = None,
    reasons: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    engine: str | None = None,
    engine_options: Mapping[str, Any] | str | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    config: str | Path | None = None,
    log: str | Sequence[str] | None = None,
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
        dataset: Name of an embedded set (MUTAG, the default, nci5k or clusters), of a TUDataset, or
            of any data set of PyG (`"pyg:Planetoid/Cora"`); a path, such as a table of molecules,
            frames of atoms with energies and forces in extended XYZ (`.xyz`), a folder in TU format
            or of OGB, see `graphnorms.load_dataset`; `"module:factory"`, a `GraphSet`, a sequence
            of PyG `Data` or a PyG or OGB data set, or NetworkX graphs.
        norms: Normalizations as a list of texts, or as one text with commas: catalogue names (see
            `graphnorms.CATALOG`), with arguments after a colon as in `"pair:scale=2"`. Your own
            norm is `"module:function"`, with arguments after a second colon, or in a list the class
            or function itself, also as a `functools.partial`: it gets the number of channels and
            returns a layer, see `graphnorms.layers.own_norm`. `"none"` is always included. Default:
            none, batch, layer, instance and graph.
        vary: Values of options, as in `{"layers": [2, 4, 8]}`: each combination of them with each
            norm is a treatment that is trained and judged as a norm is, see
            `graphnorms.lab.treatments`. Then `"none"` is not among the norms unless it is named,
            and without `norms` there is one, batch.
        protocol: `"nested"` (cross-validation with validation data inside each fold), `"split"`
            (one given or random split, several seeds, or several given splits) or `"paper"` (epoch
            and learning rate chosen by the score that is reported, as in the GIN and GraphNorm
            papers: optimistic). Default: split where the data carry a split or `split` is given,
            unless `folds`, `repeats` or `group_twins` is; else nested.
        budget: `"quick"` (default), `"standard"` or `"full"`: learning rates, epochs, seeds.
        model: `"gin"`, `"gine"` (with edge features), `"gcn"`, `"sage"`, `"gat"`, `"gatedgcn"` or
            `"gps"`, see `graphnorms.models.ModelConfig`; default: gine where edges have features,
            else gin; gcn for nodes. For energies and forces `"painn"` (default) or `"equivariant"`,
            see `graphnorms.models.ForceModelConfig`. Or your own model: a function or class that
            makes it, or `"module:function"`; see `graphnorms.models.build_own`. A LightningModule
            is trained by a Trainer of Lightning with its own steps and optimizers; see
            `graphnorms.training.lightning_trial`.
        trial: Your own training in place of the lab's: a function `train(norm, split, seed,
            report)`, or `"module:function"`, that trains however it likes and returns the score;
            see `graphnorms.training.own_training`. The data can then also be a list of objects with
            a target `y`, a list of targets, or a number of items.
        preset: Named architecture and training settings: the source of what is None below.
        norm_place: Each norm `"before-activation"` or `"after-activation"`; in the blocks of gps
            `"post"`, `"pre"` or `"sandwich"`.
        residual: Whether every convolution but the first adds its input, and where: `"none"`,
            `"after-norm"` or `"before-norm"`; or how: `"rezero"` or `"deepnorm"`. The parts of
            gps always have a sum.
        edge_norm: The norm of gatedgcn's edges: `"same"` as of the nodes (default), `"none"`, or
            the text of a norm, which all norms compared then share. Of painn and equivariant
            that of the network of their radial functions, by default none.
        qk_norm: The norm of gps's queries and keys: `"none"` (default), `"layer"`, `"rms"` or
            `"l2"`.
        heads: Attention heads of gat and gps; default 4.
        layers, hidden: Number of convolutions or blocks, and their channels.
        dropout: Probability of dropout: at the end of the model, and of gps also in its blocks. Of
            your own model the argument of that name.
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
            NetworkX graphs; of extended XYZ the names of energy and forces, such as
            `"REF_energy,REF_forces"`; default: guessed, and told.
        edges: The table of edges, for a table of the nodes of one graph.
        cutoff: Radius in Å within which the atoms of an extended-XYZ file are joined; default 5.
        root: The folder of the data sets of PyG, also for downloads; default `data`.
        split_file: A file with one or several splits, see `graphnorms.data.read_split_file`; for
            the protocol `"split"`.
        metric: The score compared, see `graphnorms.training.METRICS`; default: the official metric
            of a public set, or accuracy, ROC-AUC or MAE, by the task (of energies and forces that
            of the forces); of several numbers the mean of MAE/σ. Of your own training any value
            with its direction: `"f1:max"`, `"val_loss:min"`.
        split: `"given"`, `"random"`, or for molecules with SMILES `"scaffold:hashed"` or another
            rule of `graphnorms.data.ScaffoldSplit`; asks for the protocol `"split"`.
        folds: Folds of a cross-validation; default 10, or as many as it takes to judge so many
            norms.
        repeats: Cross-validations, each with other folds; default 1. The first one does not depend
            on the number.
        group_twins: Keep isomorphic graphs, features included, in one fold, or in one part of a
            random split. If the data have twins, this changes the folds.
        runs: Reported trials per fold, or seeds on one split; default by the budget.
        time: Plan what fits into a time, such as `"1h"`, `"90m"` or seconds as a number: what is
            not given is cut, in the order of `graphnorms.lab.fit`. It is an estimate, not a limit.
        epochs: Passes over the training data.
        optimizer: `"adam"` (default), `"adamw"` or `"sgd"` (momentum 0.9), with further arguments
            of torch's class after a colon: `"sgd:momentum=0.95,nesterov=true"`.
        learning_rate: The step size after the warm-up: one for all norms, or a grid of them.
        search: Options that are chosen for each norm, as the learning rate is and with it: on
            validation data, anew in every fold or for every seed. `"dropout"`, `"weight_decay"`,
            `"layers"`, `"hidden"` and `"batch_size"`, as a list or one text with commas; what they
            are searched among follows as in `"dropout=0:0.5,layers=2|4|8"`, or as a mapping of such
            texts. The learning rate is searched between the lowest and the highest of
            `learning_rate`. See `graphnorms.lab.search`; needs Optuna. Or `"halving"`: the learning
            rate alone, by successive halving, see `graphnorms.lab.halving`.
        proposals: Values of what is searched that are tried for each norm and fold; default 10, 20
            or 30 by the budget.
        schedule: The learning rate after the warm-up: `"constant"`, or decaying to 0, `"linear"`
            or `"cosine"`; from epoch to epoch.
        warmup: Epochs in which the learning rate rises linearly from 0, step by step.
        weight_decay: The L2 penalty; of `"adamw"` the decay apart from the gradient, by default
            0.01. It applies to all parameters, those of norms as well, as torch does.
        clip: Largest norm of the gradient of all parameters; a longer one is shortened to it.
        force_weight: Weight of the mean squared error of forces in the loss, beside that of the
            energy per atom; default 10. See `graphnorms.training.force_objective.ForceObjective`.
        patience: End a trial after so many epochs without a better validation score. Not for the
            protocol `"paper"`, which chooses one epoch for all folds.
        batch_size: Graphs in a minibatch.
        num_neighbors: Train on one large graph with targets of nodes in minibatches of `batch_size`
            nodes with so many sampled neighbours of a node: for each layer or one for all, -1 for
            all neighbours, as in PyG's `NeighborLoader`. Evaluation, and without it training, is of
            the whole graph.
        margin: Differences of scores below this are of no practical interest.
        reasons: Why norms differ: `"measured"` (default) in the models of the run; `"tested"` as
            well by trials with one thing changed, after those of the verdict; `"none"`. See
            `Comparison.reasons`.
        seed: Seeds weights, batch order and dropout.
        device: Where the models are trained, e.g. `"cpu"` or `"cuda:0"`.
        engine: `"local"` worker processes (default), `"dask"` or `"slurm"`.
        engine_options: What Slurm is asked for in every job, by the names of sbatch, as a mapping
            or as one text: `"partition=gpu,time=60,mem=8G"`; see `graphnorms.lab.engines.slurm`.
        scheduler: Address of the dask scheduler.
        workers: Trials at a time: local ones, where None is one per usable core, or Slurm jobs,
            where None is 16.
        timeout: Seconds that a trial may take; one that takes longer is stopped and has failed, and
            is tried again when the run is continued. None: no limit.
        config: A TOML file of options, see `graphnorms.lab.repeat`; arguments win over it. Every
            run writes its own, `run.toml`.
        log: Log every trial to `"tensorboard"`, `"wandb"` or `"mlflow"`, each with its place after
            a colon if that is not the default, see `graphnorms.lab.trackers`.
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
    plan, config_of_run = prepare(dataset, options)
    trackers = trackers_of(plan.options.log, plan.folder)
    with terminable(), Run(plan.folder, config_of_run) as run:
        _write_run_file(plan, config_of_run)
        _log.info("%s", plan.command)
        try:
            with Logging(trackers) as logging_trials:
                for record in Agenda(plan.schedule, run.journal).records():
                    logging_trials.add(record)
                _train(plan, run, progress or _say_nothing, logging_trials)
            if plan.settings.reasons == TESTED:
                run_reason_trials(plan, run, _comparison(plan, run), progress or _say_nothing)
        except KeyboardInterrupt as error:
            comparison = _comparison(plan, run)
            problem = ""
            if comparison.judgeable:
                # Figures take seconds, and a process has little time left after SIGTERM.
                problem = problem_of(lambda: comparison.report(figures=False))
            raise ComparisonInterrupted(comparison, problem, how_ended(error)) from None
        comparison = _comparison(plan, run)
        problem_of(lambda: keep_judgement(comparison))  # the page says what cannot be judged
    if problem := problem_of(comparison.report):
        raise ReportError(comparison, problem)
    _log.info(
        "%d of %d trials, kept in %s",
        len(comparison.records),
        comparison.planned,
        plan.folder,
        extra={"displayed": True},
    )
    return comparison


def _write_run_file(plan: Plan, config: Mapping[str, Any]) -> None:
    """Write the file that repeats the comparison, unless it was given objects."""
    settings = plan.settings
    own = settings.own_norms.values()
    if config["in_memory"] or config.get("model_in_memory") or any(n.get("in_memory") for n in own):
        return
    options = Options.of(settings, config["reading"]).said()
    write_run_file(plan.folder / RUN_FILE, settings.dataset, options)


def _train(
    plan: Plan, run: Run, progress: Callable[[Status], None], logging_trials: Logging
) -> None:
    """Run the trials without an outcome, and keep each record at once."""
    agenda = Agenda(plan.schedule, run.journal)
    known = agenda.known()
    trials = {config.key: config for config in known}
    outcomes = Outcomes(agenda.records())
    total = plan.settings.planned - len(outcomes)
    ended: Counter[str] = Counter()  # epochs of trials with an outcome, by treatment
    for record in outcomes.first(len(outcomes)):
        ended[trials[record.key].treatment] += trials[record.key].epochs
    kept = ended.total()
    clock = Clock(epochs=plan.settings.epochs_of_norm * len(plan.settings.treatments) - kept)
    running: Mapping[str, int] = {}  # by key
    scores = SameScores(outcomes.first(len(outcomes)))

    def tell(latest: Record | None = None) -> None:
        # Called often: the cost must not grow with the number of trials.
        # User code reports as often as it likes.
        done = ended.copy()
        for key, epochs in running.items():
            done[trials[key].treatment] += min(epochs, trials[key].epochs)
        clock.note(done.total() - kept)
        status = Status(
            plan=plan,
            changes=run.changes,
            outcomes=outcomes,
            ended=len(outcomes),
            tallies=dict(outcomes.tallies),
            latest=latest,
            epochs=done,
            elapsed=clock.elapsed,
            remaining=clock.remaining,
        )
        log_trial(_log, status)
        progress(status)

    def following(record: Record) -> list[TrialConfig]:
        found = agenda.send(record)
        trials.update((config.key, config) for config in found)
        return found

    def on_progress(epochs: Mapping[str, int]) -> None:
        nonlocal running
        running = epochs
        tell()

    tell()
    if not total:
        return
    engine = plan.engine(total)
    page = LivePage(lambda: _comparison(plan, run))
    records = run.complete(engine, known, on_progress, following)
    with engine, closing(records):
        for record in records:
            ended[trials[record.key].treatment] += trials[record.key].epochs
            outcomes.add(record)
            if plan.trainer is not None:
                scores.check(record)
            running = {key: epochs for key, epochs in running.items() if key != record.key}
            tell(record)
            logging_trials.add(record)
            page.write_if_due(len(outcomes))


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
        tests=tests_among(run.journal),
        facts=plan.facts,
    )


def _say_nothing(status: Status) -> None:
    pass
