"""Trials made by hand, fold by fold."""

from __future__ import annotations

import numpy as np

from graphnorms.training.record import Record

EPOCHS, STEPS_PER_EPOCH, SECONDS_PER_EPOCH = 20, 2, 0.5
EASE = (0.0, 0.04, -0.05, 0.02, -0.01, 0.05, -0.03, 0.01, -0.04, 0.03)
"""How much easier each fold is than the average: the same for all norms, so pairing pays."""

KINDS = {"nested": "fold", "split": "given", "paper": "paper"}


def trial(
    norm: str,
    place: int,
    *,
    score: float = 0.8,
    curve: tuple[float, ...] = (),
    reaches: int = EPOCHS,
    folds: int = 10,
    run: int = 0,
    protocol: str = "nested",
    stage: str = "",
    rate: float = 0.01,
    metric: str = "accuracy",
    failed: str = "",
    key: str = "",
) -> Record:
    """Make a record of fold, or in protocol `"split"` of seed, `place`.

    Training accuracy grows evenly and is 0.9 after epoch `reaches`; a training error falls
    evenly and is then 0.1. The last validation scores are `curve`, or all are `score`.
    """
    higher = metric == "accuracy"
    stage = stage or ("paper" if protocol == "paper" else "final")
    grown = [min(0.5, 0.4 * epoch / reaches) for epoch in range(1, EPOCHS + 1)]
    flat = 0.5 if curve else score
    validation = [flat] * (EPOCHS - len(curve)) + list(curve)
    split = {"kind": KINDS[protocol], "folds": 0, "fold": 0, "seed": 9, "holdout": 0.1}
    if protocol == "split":
        run = place
    else:
        split |= {"folds": folds, "fold": place}
    best = max(validation) if higher else min(validation)
    outcome = {"epoch": validation.index(best) + 1, "validation_score": best}
    counts = {"parameters": 1000, "train_items": 81, "validation_items": 9, "test_items": 10}
    if protocol == "paper":
        counts |= {"train_items": 90, "validation_items": 10}
        del counts["test_items"]
    elif stage == "final":
        outcome["test_score"] = score
    return Record(
        key=key or f"{stage}-{norm}-{place}-{run}-{rate}",
        config={
            "norm": norm,
            "split": split,
            "stage": stage,
            "run": run,
            "metric": metric,
            "learning_rate": rate,
            "seed": place,
            "epochs": EPOCHS,
        },
        status="failed" if failed else "done",
        reason=failed,
        history={}
        if failed
        else {
            "train_loss": [1.0 - 0.01 * epoch for epoch in range(EPOCHS)],
            "train_score": [0.5 + value if higher else 0.5 - value for value in grown],
            "validation_loss": [1.0] * EPOCHS,
            "validation_score": validation,
            "learning_rate": [rate] * EPOCHS,
        },
        outcome={} if failed else outcome,
        counts=counts | {"steps_per_epoch": STEPS_PER_EPOCH},
        timing={} if failed else {"train": [SECONDS_PER_EPOCH] * EPOCHS, "total": 20.0},
    )


def trials(
    norm: str, score: float, *, places: int = 10, noise: float = 0.01, **more: object
) -> list[Record]:
    """Make the trials of one norm; `noise` is not shared with other norms."""
    own = np.random.default_rng(sum(map(ord, norm))).normal(0, noise, 30)
    return [
        trial(norm, place, score=score + EASE[place % 10] + own[place], **more)  # type: ignore[arg-type]
        for place in range(places)
    ]
