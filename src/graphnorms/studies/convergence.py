"""Do GIN and GCN train faster with a norm, and fastest with GraphNorm?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
import torch.nn.functional as F

from graphnorms.data import SplitConfig
from graphnorms.lab.plan import code_versions
from graphnorms.lab.statistics import Estimate, mean_interval
from graphnorms.models import MLP, derive_seed, preset
from graphnorms.studies.drawing import (
    label_axes,
    legend_below,
    line_with_band,
    look_of,
    mean_band,
    new_figure,
)
from graphnorms.studies.material import digits, graphs, minibatches
from graphnorms.studies.ratios import as_numbers, written
from graphnorms.studies.study import (
    Case,
    Finding,
    Measurement,
    Settings,
    Study,
    Values,
    decide,
    where,
)
from graphnorms.training import TrialConfig, run_trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ON_GRAPHS: Final = ("none", "batch", "layer", "instance", "graph")
NORMS: Final = {"gin": ON_GRAPHS, "gcn": ON_GRAPHS, "mlp": ("none", "batch")}
SURER: Final = 5  # 99% for 95%: one of nine differences must not be below 0 by chance
FASTER: Final = (
    *((model, "graph", norm) for model in ("gin", "gcn") for norm in ON_GRAPHS[:-1]),
    ("mlp", "batch", "none"),
)
"""What is claimed: model, norm, and the norm that it trains faster than."""


def cases(settings: Settings) -> list[Case]:
    """Every model with every norm of its; the seed says which fold is held out, too."""
    name = "MUTAG" if settings.data is None else "PROTEINS"
    return [
        {"model": model, "data": "digits" if model == "mlp" else name, "norm": norm, "seed": seed}
        for seed in settings.seeds(default=6, full=10)
        for model in NORMS
        for norm in NORMS[model]
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train, and return the accuracy on the training data epoch by epoch."""
    train = _train_mlp if case["model"] == "mlp" else _train_gnn
    steps, accuracies = train(case, settings)
    return {"steps": steps, "accuracy": [round(value, 5) for value in accuracies]}


def _train_gnn(case: Case, settings: Settings) -> tuple[list[int], list[float]]:
    """Train as the authors of GraphNorm do: of ten folds nine train, and Adam's rate falls."""
    name, seed = str(case["data"]), int(case["seed"])
    dataset = graphs(name, settings.data)
    config = TrialConfig(
        dataset=name,
        fingerprint=dataset.fingerprint,
        model=preset(str(case["model"]), "graphnorm-paper").to_dict(),
        norm=str(case["norm"]),
        split=SplitConfig(kind="paper", folds=10, fold=seed % 10, seed=9).to_dict(),
        stage="paper",  # training accuracy is evaluated after every epoch
        run=0,
        metric="accuracy",
        epochs=settings.pick(tiny=4, default=200, full=400),
        batch_size=128,
        learning_rate=0.01,
        schedule="linear",
        weight_decay=0.0,
        seed=derive_seed(seed, "convergence"),
        device="cpu",
        dtype="float32",
        **code_versions(),
    )
    record = run_trial(config, dataset)
    accuracies = record.history["train_score"]
    # A loss that is not finite ends a trial: from there on it has learned nothing.
    accuracies = accuracies + [0.0] * (config.epochs - len(accuracies))
    per_epoch = record.counts["steps_per_epoch"]
    return [per_epoch * epoch for epoch in range(1, config.epochs + 1)], accuracies


def _train_mlp(case: Case, settings: Settings) -> tuple[list[int], list[float]]:
    """Train by SGD; the accuracy is that of the ten batches before."""
    seed = int(case["seed"])
    x, y = digits()
    model = MLP(64, 10, width=100, depth=3, norm=str(case["norm"]), activation="sigmoid", seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    right = []
    for rows in minibatches(len(x), 60, settings.pick(tiny=40, default=1000, full=10_000), seed):
        optimizer.zero_grad()
        logits = model(x[rows])
        F.cross_entropy(logits, y[rows]).backward()
        optimizer.step()
        right.append((logits.argmax(1) == y[rows]).float().mean().item())
    means = np.reshape(right, (-1, 10)).mean(1)
    return list(range(10, len(right) + 1, 10)), means.tolist()


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Compare the training accuracy, averaged over training, paired by seed."""
    area = {
        (model, norm): [
            float(np.mean(each.values["accuracy"]))
            for each in where(measurements, model=model, norm=norm)
        ]
        for model, norms in NORMS.items()
        for norm in norms
    }
    ahead = {
        (model, norm, other): mean_interval(
            np.subtract(area[model, norm], area[model, other]),
            confidence=1 - (1 - settings.confidence) / SURER,
        )
        for model, norm, other in FASTER
    }
    verdict = decide(
        confirmed=all(each.low > 0 for each in ahead.values()),
        refuted=any(each.high < 0 for each in ahead.values()),
    )
    means = "; ".join(
        f"{model.upper()}: " + ", ".join(f"{n} {np.mean(area[model, n]):.3f}" for n in norms)
        for model, norms in NORMS.items()
    )
    (model, norm, other), closest = min(ahead.items(), key=lambda item: item[1].low)
    return Finding(
        verdict,
        f"Training accuracy, averaged over training: {means}. The closest: {model.upper()}, {norm} "
        f"less {other}, {written(closest, 3)}.",
        _numbers(ahead) | _at_steps(measurements),
    )


def _numbers(ahead: dict[tuple[str, str, str], Estimate]) -> dict[str, float | None]:
    return {
        name: value
        for (model, norm, other), each in ahead.items()
        for name, value in as_numbers(
            f"mean accuracy, {model.upper()}, {norm} − {other}", each
        ).items()
    }


def _at_steps(measurements: Sequence[Measurement]) -> dict[str, float | None]:
    """Return the mean accuracies half way and at the end, to be read beside others' tables."""
    found: dict[str, float | None] = {}
    for model in ("gin", "gcn"):
        for norm in NORMS[model]:
            chosen = where(measurements, model=model, norm=norm)
            steps = chosen[0].values["steps"]
            for place in (len(steps) // 2 - 1, -1):
                mean = float(np.mean([each.values["accuracy"][place] for each in chosen]))
                found[f"accuracy at step {steps[place]}, {model.upper()}, {norm}"] = mean
    return found


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the accuracy over the steps, a panel per model."""
    figure, axes = new_figure(3, size=(3.1, 2.7))
    for axis, (model, norms) in zip(axes, NORMS.items(), strict=True):
        for norm in norms:
            chosen = where(measurements, model=model, norm=norm)
            curves = [each.values["accuracy"] for each in chosen]
            line_with_band(axis, chosen[0].values["steps"], mean_band(curves), **look_of(norm))
        title = f"{model.upper()}, {chosen[0].case['data']}"
        label_axes(axis, "step", "training accuracy", title=title)
        axis.set_ylim(top=1.02)
    legend_below(figure, *axes)
    return figure


STUDY: Final = Study(
    name="convergence",
    claim="Networks train faster with normalization, graph neural networks fastest with GraphNorm.",
    source="Cai et al. 2021, figure 5, https://arxiv.org/abs/2009.03294; for the MLP, Ioffe & "
    "Szegedy 2015, figure 1 (a), https://arxiv.org/abs/1502.03167.",
    prediction="Averaged over training, the accuracy on the training data is higher with GraphNorm "
    "than with InstanceNorm, BatchNorm, LayerNorm and no norm, in GIN and in GCN, and higher with "
    "BatchNorm than without in an MLP.",
    protocol="GIN and GCN of the authors (4 × 64, residuals; Adam 0.01 falling linearly, batches "
    "of 128) on MUTAG, 200 epochs of 2 steps, 6 folds of 10 held out in turn, accuracy in eval "
    "mode after each epoch; with --data, on PROTEINS, 200 epochs of 8 steps. MLP of 3 × 100 "
    "sigmoids on digits, SGD 0.1 with momentum 0.9, batches of 60, 1000 steps, 6 seeds.",
    rule="Confirmed if the 99% intervals of all nine paired differences lie above 0; not confirmed "
    "if one of them lies below 0.",
    seconds=130,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
