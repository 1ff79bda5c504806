"""Records made by hand, whose outcome is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphnorms.training.metrics import metric_named
from graphnorms.training.record import Record

NORMS = ("none", "batch", "layer", "instance", "graph")
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
STAGES = {"nested": ("select", "final"), "split": ("select", "final"), "paper": ("paper",)}
KINDS = {"nested": "fold", "split": "given", "paper": "paper"}


def synthetic_records(
    norms: Sequence[str] = NORMS,
    *,
    protocol: str = "nested",
    metric: str = "accuracy",
    folds: int = 10,
    runs: int = 1,
    seeds: int = 10,
    rates: Sequence[float] = RATES,
    epochs: int = 30,
    items: int = 188,
    failed: Callable[[str, int], bool] = lambda norm, place: False,
    missing: Callable[[str, int], bool] = lambda norm, place: False,
    dataset: str = "MUTAG",
    reason: str = "the loss is not finite in epoch 3",
) -> list[Record]:
    """Make the records of a whole comparison, whose curves look like training.

    Later norms are better and faster. `failed` and `missing` are asked with the norm and the
    fold (the seed, in protocol `"split"`) of the trials that give scores.
    """
    records = []
    pairs = (
        [(0, seed) for seed in range(seeds)]
        if protocol == "split"
        else [(fold, run) for fold in range(folds) for run in range(runs)]
    )
    for place, norm in enumerate(norms):
        best = len(rates) // 2 + (place % 2 if len(rates) > 2 else 0)
        for stage in STAGES[protocol]:
            tried = rates if stage != "final" else [rates[best]]
            chosen = [(f, r) for f, r in pairs if r < 2] if stage == "select" else pairs
            for rate in tried:
                for fold, run in chosen:
                    asked = run if protocol == "split" else fold
                    scoring = stage != "select" and (stage == "final" or rate == rates[best])
                    if stage != "select" and missing(norm, asked):
                        continue
                    loss = 0.015 * abs(tried.index(rate) - best) if len(tried) > 1 else 0.0
                    records.append(
                        make_record(
                            norm,
                            place,
                            fold,
                            run,
                            protocol=protocol,
                            metric=metric,
                            stage=stage,
                            rate=rate,
                            loss=loss,
                            epochs=epochs,
                            folds=folds,
                            items=items,
                            reason=reason if scoring and failed(norm, asked) else "",
                            dataset=dataset,
                        )
                    )
    return records


def make_record(
    norm: str,
    place: int,
    fold: int,
    run: int,
    *,
    protocol: str,
    metric: str,
    stage: str,
    rate: float,
    loss: float,
    epochs: int,
    folds: int,
    items: int,
    reason: str,
    dataset: str,
) -> Record:
    """Make one record; `loss` is how much worse its scores are, as a fraction."""
    rng = np.random.default_rng([place, fold, run, ["select", "final", "paper"].index(stage)])
    shared = np.random.default_rng([fold, run if protocol == "split" else 0]).normal(0, 0.02)
    progress = 1 - np.exp(-(place + 1) * np.arange(1, epochs + 1) / epochs)
    noise = rng.normal(0, 0.01, (2, epochs))
    good = 0.6 + 0.25 * progress + shared - loss
    scores = {
        "train_score": np.minimum(1, 0.6 + 0.4 * progress - loss),
        "validation_score": np.clip(good + noise[1], 0, 1),
        "test_score": np.clip(good + rng.normal(0, 0.015, epochs), 0, 1),
    }
    about = metric_named(metric)
    if not about.fraction:  # the larger the fraction, the smaller the error
        scores = {name: 2.0 * (1.1 - values) for name, values in scores.items()}
    losses = {
        "train_loss": 0.7 - 0.6 * progress + abs(noise[0]),
        "validation_loss": 0.7 - 0.3 * progress + abs(noise[1]),
    }
    curve = scores["validation_score"]
    epoch = int(np.argmax(curve) if about.higher_is_better else np.argmin(curve))
    tested = items // folds
    split = {"kind": KINDS[protocol], "folds": 0, "fold": 0, "seed": 0, "holdout": 0.1}
    if protocol != "split":
        split |= {"folds": folds, "fold": fold, "seed": 9}
    counts = {"parameters": 20_000 + 256 * (place > 0), "validation_items": tested}
    if protocol != "paper":
        counts["test_items"] = tested
    counts["train_items"] = items - sum(counts.values()) + counts["parameters"]
    outcome = {"epoch": epoch + 1, "validation_score": float(curve[epoch])}
    outcome["validation_loss"] = float(losses["validation_loss"][epoch])
    if protocol != "paper":
        outcome |= {"test_score": float(scores["test_score"][epoch]), "test_loss": 0.5}
    history = {
        "train_loss": losses["train_loss"],
        "train_score": scores["train_score"],
        "validation_loss": losses["validation_loss"],
        "validation_score": curve,
        "learning_rate": np.linspace(rate, 0, epochs),
    }
    return Record(
        key=f"{stage}/{norm}/{fold}/{run}/{rate:g}",
        config={
            "dataset": dataset,
            "model": {"name": "gin", "hidden": 64},
            "norm": norm,
            "split": split,
            "stage": stage,
            "run": run,
            "metric": metric,
            "learning_rate": rate,
            "seed": 1000 * (stage == "final") + 10 * fold + run,
            "epochs": epochs,
        },
        status="failed" if reason else "done",
        reason=reason,
        history={name: [] if reason else values.tolist() for name, values in history.items()},
        outcome={} if reason else outcome,
        counts=counts | {"steps_per_epoch": 2},
        environment={"python": "3.11.7", "torch": "2.13.0", "threads": 1},
        timing={"train": [] if reason else [0.02] * epochs, "total": 1.0},
    )
