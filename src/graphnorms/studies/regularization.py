"""Does BatchNorm regularize, and is it the noise of the batches that does it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.lab.statistics import paired_difference
from graphnorms.models import MLP
from graphnorms.studies.drawing import (
    PALETTE,
    label_axes,
    legend_below,
    line_with_band,
    look_of,
    mean_band,
    new_figure,
)
from graphnorms.studies.material import digits, minibatches, scale_weights
from graphnorms.studies.ratios import as_numbers, by_seed, held_below, written
from graphnorms.studies.study import (
    Case,
    Finding,
    Measurement,
    Settings,
    Study,
    Values,
    decide,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS: Final = ("none", "batch", "dataset")
TITLES: Final = {
    "none": "none",
    "batch": "BatchNorm",
    "dataset": "BatchNorm, statistics of the data set",
}
BATCHES: Final = (8, 32, 128)
DROPOUTS: Final = (0.0, 0.3)
TRAINED_ON: Final = 256
RATE: Final = 0.05  # of a batch of 32; in proportion to the batch


def cases(settings: Settings) -> list[Case]:
    """Every normalization with every batch size, without and with dropout."""
    return [
        {"norm": norm, "batch": batch, "dropout": dropout, "seed": seed}
        for seed in settings.seeds(default=6, full=30)
        for dropout in DROPOUTS
        for batch in BATCHES
        for norm in ARMS
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train an MLP on few digits; return loss and accuracy on those and on all others."""
    seed, size = int(case["seed"]), int(case["batch"])
    epochs = settings.pick(tiny=2, default=40, full=200)
    x, y = digits()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, validation = order[:TRAINED_ON], order[TRAINED_ON:]
    x_train, y_train = x[train], y[train]
    norm = "none" if case["norm"] == "none" else "batch"
    model = MLP(64, 10, width=100, depth=3, norm=norm, seed=seed)
    scale_weights(model)
    for layer in model.layers:
        placed: Any = layer.norm
        placed.activation = nn.Sequential(placed.activation, nn.Dropout(float(case["dropout"])))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE * size / 32)
    torch.manual_seed(seed)  # of the dropout
    model.train()
    for rows in minibatches(TRAINED_ON, size, epochs * TRAINED_ON // size, seed):
        # With the statistics of the data set all samples pass the norms, and those of the batch
        # are learned from: so are the gradients through the statistics those of the whole set.
        whole = case["norm"] == "dataset"
        logits = model(x_train)[rows] if whole else model(x_train[rows])
        optimizer.zero_grad()
        F.cross_entropy(logits, y_train[rows]).backward()
        optimizer.step()
    model.eval()
    training_loss, training_accuracy = _judged(model, x_train, y_train)
    loss, accuracy = _judged(model, x[validation], y[validation])
    return {
        "training loss": training_loss,
        "training accuracy": training_accuracy,
        "validation loss": loss,
        "validation accuracy": accuracy,
        "gap": loss - training_loss,
        "accuracy gap": training_accuracy - accuracy,
    }


def _judged(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    with torch.no_grad():
        logits = model(x)
    loss = float(F.cross_entropy(logits, y))
    return loss, float((logits.argmax(1) == y).double().mean())


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Compare the gap with BatchNorm with that of none and of the statistics of the data set."""
    numbers: dict[str, float | None] = {}
    smallest = BATCHES[0]
    for what in ("gap", "accuracy gap", "training loss"):
        for dropout in DROPOUTS:
            for batch in BATCHES:
                for norm in ARMS:
                    values = by_seed(measurements, what, norm=norm, batch=batch, dropout=dropout)
                    name = f"{what}, {norm}, batch {batch}, dropout {dropout:g}"
                    numbers[name] = sum(values) / len(values)
    found = {}
    for other in ("none", "dataset"):
        for batch in BATCHES:
            gaps = [
                by_seed(measurements, "gap", norm=norm, batch=batch, dropout=0.0)
                for norm in ("batch", other)
            ]
            found[other, batch] = paired_difference(*gaps).estimate
            numbers |= as_numbers(f"gap, batch - {other}, batch {batch}", found[other, batch])
    deciding = [found[other, smallest] for other in ("none", "dataset")]
    verdict = decide(
        confirmed=all(each.high < 0 for each in deciding),
        refuted=any(each.low > 0 for each in deciding),
    )
    parts = [
        f"at batch {batch} less that of none {written(each, 3)} ({held_below(each, 0)}), "
        f"less that with the data set's statistics {written(other, 3)} ({held_below(other, 0)})"
        for batch in BATCHES
        for each, other in [(found["none", batch], found["dataset", batch])]
    ]
    return Finding(
        verdict,
        "Gap of BatchNorm between validation and training loss, in nats, without dropout, below 0: "
        f"{'; '.join(parts)}.",
        numbers,
    )


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw gaps and losses against the batch size, without and with dropout."""
    figure, axes = new_figure(4, columns=2, sharex=True)
    for row, dropout in enumerate(DROPOUTS):
        gap, loss = axes[2 * row : 2 * row + 2]
        for norm in ARMS:
            for what, axis in (("gap", gap), ("validation loss", loss)):
                runs = [
                    by_seed(measurements, what, norm=norm, batch=batch, dropout=dropout)
                    for batch in BATCHES
                ]
                band = mean_band([list(run) for run in zip(*runs, strict=True)])
                line_with_band(axis, BATCHES, band, **_look(norm))
        title = f"dropout {dropout:g}" if dropout else "no dropout"
        label_axes(gap, "batch size", "validation - training loss", y_unit="nats", title=title)
        label_axes(loss, "batch size", "validation loss", y_unit="nats", title=title)
        for axis in (gap, loss):
            axis.set_xscale("log", base=2)
            axis.set_xticks(BATCHES, [str(batch) for batch in BATCHES])
            axis.set_ylim(bottom=0)
    legend_below(figure, axes[0])
    return figure


def _look(norm: str) -> dict[str, Any]:
    if norm == "dataset":
        return {"color": PALETTE[6], "marker": "o", "linestyle": "--", "label": TITLES[norm]}
    return look_of(norm)


STUDY: Final = Study(
    name="regularization",
    claim="BatchNorm regularizes, by the noise of the batches' statistics: the gap between "
    "training and validation is smaller with it, the more so the smaller the batch.",
    source="Luo et al. 2019, https://arxiv.org/abs/1809.00846; Ioffe & Szegedy 2015, section 3.4.",
    prediction="With batches of 8 the gap of the losses is smaller with BatchNorm than without a "
    "norm, and smaller than with a BatchNorm that takes the statistics of the whole training set.",
    protocol="MLP of 3 hidden layers of 100 on 256 of the digits, validated on the other 1541; "
    "ReLU, weights of He's size, SGD with a rate of 0.05 per 32 samples, 40 epochs; batches of 8, "
    "32 and 128; without and with dropout 0.3 behind every activation. No norm, BatchNorm, and "
    "BatchNorm with the statistics of all 256 samples while the batch alone gives the loss. Losses "
    "in eval mode after the last epoch; 6 seeds, each with its own samples.",
    rule="The difference of the gaps (validation less training loss) with its 95% interval over "
    "seeds, at batch 8 without dropout: confirmed if that of BatchNorm less none, and that of "
    "BatchNorm less the data set's statistics, lie below 0. Not confirmed if one lies above 0.",
    seconds=60,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
