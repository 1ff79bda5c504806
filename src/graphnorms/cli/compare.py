"""The command that compares: its options, and what it does with them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from graphnorms import interrupts
from graphnorms.cli import complain, completion, reading
from graphnorms.cli.completion import one_of
from graphnorms.cli.terminal import terminal
from graphnorms.lab.budgets import BUDGETS
from graphnorms.lab.choices import DEFAULT_NORMS
from graphnorms.models.model_config import MODELS, PRESETS

_OF_PRESET, _OF_BUDGET = "the preset's", "the budget's"


def compare(
    dataset: reading.Dataset = None,
    norms: Annotated[
        str | None,
        typer.Option(
            help="Normalizations, with commas in between; module:function is one of your own; "
            "none is always among them.",
            show_default=",".join(DEFAULT_NORMS),
            autocompletion=completion.norms,
        ),
    ] = None,
    protocol: reading.Protocol = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="quick, standard or full: learning rates, epochs and seeds.",
            show_default="quick",
            autocompletion=one_of(*BUDGETS),
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="gin, gine (with edge features), gcn, or module:function, a model of your own.",
            show_default="by the data",
            autocompletion=one_of(*MODELS),
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="default, or graphnorm-paper: architecture and training of the GraphNorm paper.",
            show_default="default",
            autocompletion=one_of(*PRESETS),
        ),
    ] = None,
    norm_place: Annotated[
        str | None,
        typer.Option(
            help="before-activation or after-activation.",
            show_default=_OF_PRESET,
            autocompletion=one_of("before-activation", "after-activation"),
        ),
    ] = None,
    residual: Annotated[
        str | None,
        typer.Option(
            help="Residual connections: none, or added after-norm or before-norm.",
            show_default=_OF_PRESET,
            autocompletion=one_of("none", "after-norm", "before-norm"),
        ),
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="Convolutions.", show_default=_OF_PRESET)
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(help="Channels of each.", show_default=_OF_PRESET)
    ] = None,
    task: reading.Task = None,
    features: reading.Features = None,
    edge_features: reading.EdgeFeatures = None,
    keep_loops: reading.KeepLoops = None,
    keep_repeats: reading.KeepRepeats = None,
    drop_empty: reading.DropEmpty = False,
    drop_rare: reading.DropRare = None,
    metric: reading.Metric = None,
    split: reading.Split = None,
    folds: reading.Folds = None,
    repeats: reading.Repeats = None,
    group_twins: reading.GroupTwins = False,
    runs: Annotated[
        int | None,
        typer.Option(
            help="Reported trials per fold; on one split, the seeds.", show_default=_OF_BUDGET
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training data.", show_default=_OF_BUDGET)
    ] = None,
    lr: Annotated[
        str | None,
        typer.Option(
            help="Adam's learning rate in the first epoch: one, or several with commas in between.",
            show_default=_OF_BUDGET,
        ),
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Adam's L2 penalty.", show_default=_OF_PRESET)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Graphs in a minibatch.", show_default=_OF_PRESET)
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="Differences of scores below this are of no practical interest.",
            show_default="one point, or 1% of the score",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seeds weights, batch order and dropout.", show_default="0")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where to train, e.g. cpu or cuda:0.", show_default="cpu")
    ] = None,
    engine: Annotated[str, typer.Option(help="Where trials run: local or dask.")] = "local",
    scheduler: Annotated[
        str | None, typer.Option(help="Of dask, e.g. tcp://localhost:8786.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Local trials at a time.", show_default="one per core")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            help="Seconds that a trial may take; one that takes longer has failed.",
            show_default="no limit",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", help="The run's folder.", show_default="runs/<dataset>-<model>"
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the run in that folder, with the settings that it has."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be done and for how long; train nothing."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the outcome as JSON, and nothing else.")
    ] = False,
) -> int:
    """Train a model with each normalization, all else equal, and judge the difference.

    Each norm gets the learning rate that is best for it on validation data; scores are those of
    test data, with fresh seeds. What is done is kept in the run's folder: the same command, or
    --resume, goes on after an interruption.
    """
    with interrupts.loading():
        import graphnorms.training  # noqa: F401 - what follows loads it, and all else there is
        from graphnorms.cli.display import Display
        from graphnorms.comparison import ComparisonInterrupted, ReportError
        from graphnorms.comparison import compare as run

    choices: dict[str, Any] = {
        "norms": norms, "protocol": protocol, "budget": budget, "model": model, "preset": preset,
        "norm_place": norm_place, "residual": residual, "layers": layers, "hidden": hidden,
        "metric": metric, "split": split, "folds": folds, "repeats": repeats,
        "group_twins": group_twins or None, "runs": runs, "epochs": epochs,
        "learning_rate": None if lr is None else _rates(lr), "weight_decay": weight_decay,
        "batch_size": batch_size, "margin": margin, "seed": seed, "device": device,
    }  # fmt: skip
    asked: dict[str, Any] = {
        "task": task, "features": features, "edge_features": edge_features,
        "keep_loops": keep_loops, "keep_repeats": keep_repeats,
        "drop_empty": drop_empty or None, "drop_rare": drop_rare,
    }  # fmt: skip
    where: dict[str, Any] = {
        "engine": engine, "scheduler": scheduler, "workers": workers,
        "timeout": timeout, "out": out, "resume": resume,
    }  # fmt: skip
    if dry_run:
        _show_plan(dataset, choices, {**where, **asked}, as_json=as_json)
        return 0
    with Display(terminal(stderr=as_json), quiet_in_pipes=as_json) as display:
        problem, code = "", 0
        try:
            comparison = run(dataset, **choices, **asked, **where, progress=display)
        except (ComparisonInterrupted, ReportError) as caught:
            comparison, problem = caught.comparison, str(caught)
            code = caught.code if isinstance(caught, ComparisonInterrupted) else 1
    if as_json:
        print(json.dumps(comparison.to_dict(), indent=2, allow_nan=False))
    else:
        display.show_outcome(comparison)
    if problem:
        complain(problem)
        return code
    return 0 if any(record.status == "done" for record in comparison.records) else 1


def _show_plan(
    dataset: str | None, choices: dict[str, Any], where: dict[str, Any], *, as_json: bool
) -> None:
    """Say what a comparison would do; nothing of it is kept."""
    from graphnorms.cli.plan import kept_lines, plan_lines
    from graphnorms.cli.stopwatch import duration
    from graphnorms.comparison import prepare
    from graphnorms.lab.choices import Choices
    from graphnorms.lab.estimate import estimate
    from graphnorms.lab.runs import standing

    plan, config = prepare(dataset, choices=Choices(**choices), **where)
    there = standing(plan.folder, config)
    kept = list(plan.schedule.records(there.records.get))
    if as_json:
        found = estimate(plan, kept)
        outcome = {
            "settings": config,
            "trials": plan.settings.planned,
            "there": len(kept),
            "changes": there.change.words,
            "refused": there.change.refusal,
            "seconds": found.seconds,
            "failing": dict(found.failing),
            "folder": str(plan.folder),
            "command": plan.command,
        }
        print(json.dumps(outcome, indent=2, allow_nan=False))
        return
    console = terminal(highlight=False)
    said = kept_lines(plan.folder, there.change.words, len(kept), plan.settings.planned)
    console.print("\n".join([*plan_lines(plan), *said]), markup=False)
    if there.change.refusal:
        console.print(f"Refused as it is: {there.change.refusal}", markup=False)
    if len(kept) == plan.settings.planned:
        return
    found = estimate(plan, kept)
    console.print(
        f"About {duration(found.seconds)}, from {found.steps} training steps of every norm: "
        f"{found.quickest * 1e3:.1f} to {found.slowest * 1e3:.1f} ms a step.",
        markup=False,
    )
    for norm, reason in found.failing.items():
        console.print(f"The model does not run with {norm}: {reason}", markup=False)


def _rates(text: str) -> list[float]:
    """Read learning rates with commas in between."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"lr is {text!r}, expected numbers with commas in between") from None
