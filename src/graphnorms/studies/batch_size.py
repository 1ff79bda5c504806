"""Does BatchNorm depend on the size of the batch, and LayerNorm not?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.lab.statistics import Estimate
from graphnorms.models import MLP
from graphnorms.studies.drawing import (
    geometric_band,
    label_axes,
    legend_below,
    line_with_band,
    look_of,
    mark_level,
    new_figure,
)
from graphnorms.studies.material import digits, minibatches
from graphnorms.studies.ratios import as_numbers, by_seed, paired_ratio, written
from graphnorms.studies.study import (
    CONFIDENCE,
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

NORMS = ("none", "batch", "layer")
SMALL, LARGE = 4, 128
LOWEST, HIGHEST = 0.75, 1.25  # LayerNorm lies between
HARMED = 1.3  # BatchNorm lies above
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
TRAINED_ON, VALIDATED_ON = 7 * LARGE, 400

Labelled = tuple[Tensor, Tensor]
"""Items, `(items, channels)`, and their classes, `(items,)`."""


@dataclass(frozen=True, slots=True)
class Material:
    """What is trained, and on what.

    Args:
        model: Makes the model as it is before training.
        train: What it learns from.
        validation: What its learning rate is chosen by.
        test: What it is judged by.
    """

    model: Callable[[], nn.Module]
    train: Labelled
    validation: Labelled
    test: Labelled


def cases(settings: Settings) -> list[Case]:
    """Every norm with both batch sizes; all rates are in one case."""
    return [
        {"norm": norm, "batch": batch, "seed": seed}
        for seed in settings.seeds(planted=4, default=8, full=20)
        for norm in NORMS
        for batch in (SMALL, LARGE)
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train an MLP on digits at every rate."""
    x, y = digits()
    seed = int(case["seed"])
    shuffled = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    parts = shuffled.tensor_split((TRAINED_ON, TRAINED_ON + VALIDATED_ON))
    train, validation, test = ((x[part], y[part]) for part in parts)
    width = settings.pick(tiny=16, default=256, full=256)

    def model() -> nn.Module:
        return MLP(64, 10, width=width, depth=2, norm=str(case["norm"]), seed=seed)

    return observe(Material(model, train, validation, test), case, settings)


def observe(material: Material, case: Case, settings: Settings) -> Values:
    """Train on as many examples, in the same order, whatever the batch size, at every rate.

    Returns:
        `"validation 0.001"`, `"test 0.001"`: the losses in eval mode after training, by the rate.
    """
    x, y = material.train
    batch = int(case["batch"])
    epochs = settings.pick(tiny=1, planted=6, default=8, full=40)
    steps = epochs * (len(x) // batch)
    found: Values = {}
    for rate in rates(settings):
        model = material.model()
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        for step, chosen in enumerate(minibatches(len(x), batch, steps, int(case["seed"]))):
            optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
            optimizer.zero_grad()
            F.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for name, (items, classes) in (
                ("validation", material.validation),
                ("test", material.test),
            ):
                found[f"{name} {rate:g}"] = F.cross_entropy(model(items), classes).item()
    return found


def rates(settings: Settings) -> tuple[float, ...]:
    """Return the learning rates that are tried."""
    return settings.pick(tiny=RATES[1:3], planted=RATES[::2], default=RATES, full=RATES)


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Compare what a small batch costs with what it costs without a norm."""
    harm = {norm: _harm(measurements, norm, settings.confidence) for norm in ("batch", "layer")}
    layer, batch = harm["layer"], harm["batch"]
    kept = layer.low >= LOWEST and layer.high <= HIGHEST
    changed = layer.high < LOWEST or layer.low > HIGHEST
    numbers = as_numbers("LayerNorm", layer) | as_numbers("BatchNorm", batch)
    said = []
    for norm in NORMS:
        means = []
        for size in (LARGE, SMALL):
            rate = best_rate(measurements, norm, size)
            means.append(
                float(np.mean(by_seed(measurements, f"test {rate}", norm=norm, batch=size)))
            )
            numbers[f"best rate, {norm}, batch {size}"] = float(rate)
            numbers[f"test loss, {norm}, batch {size}"] = means[-1]
        said.append(f"{norm} {means[0]:.3f} → {means[1]:.3f}")
    return Finding(
        decide(
            confirmed=kept and batch.low > HARMED,
            refuted=changed or batch.high < HARMED,
        ),
        f"From batches of {LARGE} to batches of {SMALL}, each at its best rate, the test loss "
        f"grows by a factor that is, over that without a norm, {written(layer)} with LayerNorm "
        f"and {written(batch)} with BatchNorm. Mean losses: {', '.join(said)} nats.",
        numbers,
    )


def best_rate(measurements: Sequence[Measurement], norm: str, batch: int) -> str:
    """Return the rate of the lowest validation loss, geometric mean over seeds, as it is written.

    A rate at which the loss of some seed is not a number is the best one only if all are like it.
    """

    def loss(rate: str) -> float:
        losses = by_seed(measurements, f"validation {rate}", norm=norm, batch=batch)
        mean = statistics.fmean(map(math.log, losses))
        return math.inf if math.isnan(mean) else mean

    return min(_tried(measurements), key=loss)


def _tried(measurements: Sequence[Measurement]) -> list[str]:
    names = (name.partition(" ") for name in measurements[0].values)
    return [rate for which, _, rate in names if which == "test"]


def _harm(
    measurements: Sequence[Measurement], norm: str, confidence: float = CONFIDENCE
) -> Estimate:
    """Return loss(small) / loss(large) of a norm, divided by the same without one."""
    grown = []
    for each in (norm, "none"):
        small, large = (
            np.array(by_seed(measurements, f"test {rate}", norm=each, batch=size))
            for size in (SMALL, LARGE)
            for rate in [best_rate(measurements, each, size)]
        )
        grown.append(small / large)
    return paired_ratio(*grown, confidence=confidence)


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the loss over the rates with either batch size, and what the rule looks at."""
    figure, (*sizes, right) = new_figure(3, size=(2.6, 2.7))
    tried = _tried(measurements)
    for axis, size in zip(sizes, (LARGE, SMALL), strict=True):
        for norm in NORMS:
            columns = [
                by_seed(measurements, f"test {rate}", norm=norm, batch=size) for rate in tried
            ]
            band = geometric_band(list(zip(*columns, strict=True)))
            line_with_band(axis, [float(rate) for rate in tried], band, **look_of(norm))
            best = tried.index(best_rate(measurements, norm, size))
            axis.plot(float(tried[best]), band.center[best], marker="*", ms=11,
                      color=look_of(norm)["color"], linestyle="")  # fmt: skip
        label_axes(
            axis, "learning rate", "test loss", y_unit="nats", x_log=True, y_log=True,
            title=f"batches of {size}",
        )  # fmt: skip
    for place, norm in enumerate(("layer", "batch")):
        found, look = _harm(measurements, norm), look_of(norm)
        right.errorbar(
            place, found.mean, [[found.mean - found.low], [found.high - found.mean]],
            color=look["color"], marker=look["marker"],
        )  # fmt: skip
    right.axhspan(LOWEST, HIGHEST, color="#E69F00", alpha=0.12, linewidth=0)
    right.annotate("LayerNorm: within", (1.45, 1), ha="right", va="center", fontsize=7)
    mark_level(right, HARMED, "BatchNorm: above")
    title = f"BatchNorm × {_harm(measurements, 'batch').mean:.2g}"
    label_axes(right, "", f"loss({SMALL}) / loss({LARGE}), none = 1", title=title)
    right.set_xticks((0, 1), ("LayerNorm", "BatchNorm"))
    right.set_xlim(-0.5, 1.5)
    legend_below(figure, sizes[0])
    return figure


STUDY = Study(
    name="batch-size",
    claim="LayerNorm does not depend on the batch, BatchNorm does and fails in small ones.",
    source="Ba et al. 2016, sections 3 and 6.6, https://arxiv.org/abs/1607.06450.",
    prediction=f"Let r be the test loss after training in batches of {SMALL} over that in batches "
    f"of {LARGE}, each at its best learning rate, divided by the same ratio without a norm. "
    f"LayerNorm has r within {LOWEST} … {HIGHEST}, BatchNorm r > {HARMED}. That LayerNorm computes "
    "the same of a sample whatever the batch holds by construction; what training makes of it "
    "does not.",
    protocol="MLP 64-256-256-10 with ReLU on scikit-learn's digits: 896 images to learn from, 400 "
    "to choose the rate by, 501 for the test, by seed. Adam with the rates 3e-4, 1e-3, … 3e-2, "
    "falling linearly to 0; 8 epochs in an order that does not depend on the batch size (56 steps "
    "at 128, 1792 at 4). Losses in eval mode after training, where BatchNorm has its running "
    "averages. The best rate of a norm and a batch size is that of the lowest geometric mean over "
    "seeds of the validation loss. Eight seeds; ratios are paired by seed.",
    rule=f"Confirmed if the 95% interval of r of LayerNorm lies within {LOWEST} … {HIGHEST} and "
    f"that of BatchNorm above {HARMED}; not confirmed if the first lies outside altogether or the "
    f"second below {HARMED}.",
    seconds=140,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    changed="At first inconclusive, r = 1.58 [1.11, 2.25] with LayerNorm and 2.21 [1.11, 4.40] "
    "with BatchNorm, at one rate, 1e-3, for both batch sizes: with 32 times as many steps of Adam "
    "r measured whether that rate suits few or many steps, which a norm changes. Each norm has its "
    "best rate at either size now, of a grid fixed beforehand. The rate falls to 0, so that "
    "the noise of the last steps is not what is compared.",
)
