from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphnorms.training.record import Record

NORMS = ("none", "batch", "layer", "instance", "graph")


def synthetic_records(
    norms: tuple[str, ...] = NORMS,
    *,
    folds: int = 10,
    epochs: int = 30,
    failed: Callable[[str, int], bool] = lambda norm, fold: False,
    missing: Callable[[str, int], bool] = lambda norm, fold: False,
    dataset: str = "MUTAG",
    reason: str = "the loss is not finite in epoch 3",
) -> list[Record]:
    """Make records whose curves look like training: later norms are better and faster."""
    records = []
    for place, norm in enumerate(norms):
        for fold in range(folds):
            if missing(norm, fold):
                continue
            rng = np.random.default_rng([place, fold])
            progress = 1 - np.exp(-(place + 1) * np.arange(1, epochs + 1) / epochs)
            noise = rng.normal(0, 0.01, (2, epochs))
            history = {
                "train_loss": 0.7 - 0.6 * progress + abs(noise[0]),
                "train_accuracy": np.minimum(1, 0.6 + 0.4 * progress),
                "validation_loss": 0.7 - 0.3 * progress + abs(noise[1]),
                "validation_accuracy": np.clip(0.6 + 0.25 * progress + noise[1], 0, 1),
                "learning_rate": np.linspace(0.01, 0, epochs),
            }
            has_failed = failed(norm, fold)
            record = Record(
                key=f"{norm}/{fold}",
                config={
                    "dataset": dataset,
                    "model": {"name": "gin", "hidden": 64},
                    "norm": norm,
                    "fold": fold,
                    "folds": folds,
                    "split_seed": 9,
                    "seed": 0,
                    "epochs": epochs,
                },
                status="failed" if has_failed else "done",
                reason=reason if has_failed else "",
                history={
                    name: ([] if has_failed else values.tolist())
                    for name, values in history.items()
                },
                counts={
                    "parameters": 20_000,
                    "train_graphs": 169,
                    "validation_graphs": 19,
                    "steps_per_epoch": 2,
                },
                environment={"python": "3.11.7", "torch": "2.13.0", "threads": 1},
                timing={"train": [] if has_failed else [0.02] * epochs, "total": 1.0},
            )
            records.append(record)
    return records


@pytest.fixture(scope="session")
def make_records() -> Callable[..., list[Record]]:
    return synthetic_records
