"""Does BatchNorm depend on the size of the batch, and LayerNorm not?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.lab.statistics import Estimate
from graphnorms.models import derive_seed
from graphnorms.report.style import display_name
from graphnorms.report.text_table import TextTable
from graphnorms.studies import drawing
from graphnorms.studies.evidence import (
    CONFIDENCE,
    concluded,
    decide,
    numbers_of,
    paired_ratio,
    written,
)
from graphnorms.studies.measured_values import by_seed, mean_by_seed
from graphnorms.studies.mlp import MLP
from graphnorms.studies.study import Case, Figure, Finding, Measured, Settings, Study, Values, World
from graphnorms.studies.study_data import digits
from graphnorms.studies.training_loops import minibatches, take_step

NORMS = ("none", "batch", "layer")
SMALL, LARGE = 4, 128
LOWEST, HIGHEST = 0.75, 1.25  # LayerNorm lies between
HARMED = 1.3  # BatchNorm lies above
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
TRAINED_ON, VALIDATED_ON = 7 * LARGE, 400
TESTED_ON = 1797 - TRAINED_ON - VALIDATED_ON
WIDTH = {"tiny": 16, "default": 256, "full": 256}
EPOCHS = {"tiny": 1, "planted": 6, "default": 8, "full": 40}
SEEDS = {"planted": 4, "default": 8, "full": 20}

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
        for seed in settings.seeds(**SEEDS)
        for norm in NORMS
        for batch in (SMALL, LARGE)
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train an MLP on digits at every rate."""
    x, y = digits()
    seed, norm = int(case["seed"]), str(case["norm"])
    shuffled = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    parts = shuffled.tensor_split((TRAINED_ON, TRAINED_ON + VALIDATED_ON))
    train, validation, test = ((x[part], y[part]) for part in parts)
    width = settings.pick(**WIDTH)
    material = Material(
        lambda: MLP(64, 10, width=width, depth=2, norm=norm, seed=seed), train, validation, test
    )
    return observe(material, case, settings)


def observe(material: Material, case: Case, settings: Settings) -> Values:
    """Train on as many examples, in the same order, whatever the batch size, at every rate.

    Returns:
        `"validation 0.001"`, `"test 0.001"`: the losses in eval mode after training, by the rate.
    """
    x, y = material.train
    batch = int(case["batch"])
    steps = settings.pick(**EPOCHS) * (len(x) // batch)
    rates = settings.pick(tiny=RATES[1:3], planted=RATES[::2], default=RATES, full=RATES)
    found: Values = {}
    for rate in rates:
        model = material.model()
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        for step, chosen in enumerate(minibatches(len(x), batch, steps, int(case["seed"]))):
            optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
            take_step(optimizer, F.cross_entropy(model(x[chosen]), y[chosen]))
        model.eval()
        with torch.no_grad():
            for name in ("validation", "test"):
                items, classes = getattr(material, name)
                found[f"{name} {rate:g}"] = F.cross_entropy(model(items), classes).item()
    return found


def judge(measured: Measured, settings: Settings) -> Finding:
    """Compare what a small batch costs with what it costs without a norm."""
    layer, batch = (_harm(measured, norm, settings.confidence) for norm in ("layer", "batch"))
    numbers = numbers_of({"LayerNorm": layer, "BatchNorm": batch})
    rows = []
    for norm in NORMS:
        means, rates = [], []
        for size in (LARGE, SMALL):
            rate = best_rate(measured, norm, size)
            means.append(mean_by_seed(measured, f"test {rate}", norm=norm, batch=size))
            rates.append(f"{float(rate):g}")
            numbers[f"best rate, {norm}, batch {size}"] = float(rate)
            numbers[f"test loss, {norm}, batch {size}"] = means[-1]
        losses = [f"{mean:.3f} (rate {rate})" for mean, rate in zip(means, rates, strict=True)]
        grown = {"layer": layer, "batch": batch}.get(norm)
        rows.append((display_name(norm), *losses, "1" if grown is None else written(grown)))
    kept = layer.low >= LOWEST and layer.high <= HIGHEST
    changed = layer.high < LOWEST or layer.low > HIGHEST
    verdict = decide(confirmed=kept and batch.low > HARMED, refuted=changed or batch.high < HARMED)
    conclusion = concluded(
        verdict,
        yes="Small batches harm BatchNorm, and leave LayerNorm as it is.",
        no="Small batches do not harm BatchNorm alone.",
    )
    return Finding(
        verdict,
        f"{conclusion} From batches of {LARGE} to batches of {SMALL}, each with its best rate, the "
        f"test loss grows {written(batch)} times as much with BatchNorm as without a norm "
        f"(predicted: more than {HARMED:g}), and {written(layer)} times with LayerNorm (predicted: "
        f"{LOWEST:g} to {HIGHEST:g}).",
        numbers,
        (
            TextTable(
                "Test loss in nats, mean over seeds",
                ("norm", f"batches of {LARGE}", f"batches of {SMALL}", "growth over that of none"),
                tuple(rows),
            ),
        ),
    )


def best_rate(measured: Measured, norm: str, batch: int) -> str:
    """Return the rate of the lowest validation loss, geometric mean over seeds, as it is written.

    A rate at which the loss of some seed is not a number is the best one only if all are like it.
    """

    def loss(rate: str) -> float:
        losses = by_seed(measured, f"validation {rate}", norm=norm, batch=batch)
        mean = statistics.fmean(map(math.log, losses))
        return math.inf if math.isnan(mean) else mean

    return min(_tried(measured), key=loss)


def _tried(measured: Measured) -> list[str]:
    names = (name.partition(" ") for name in measured[0].values)
    return [rate for which, _, rate in names if which == "test"]


def _harm(measured: Measured, norm: str, confidence: float = CONFIDENCE) -> Estimate:
    """Return loss(small) / loss(large) of a norm, divided by the same without one."""
    grown = []
    for each in (norm, "none"):
        small, large = (
            np.array(by_seed(measured, f"test {rate}", norm=each, batch=size))
            for size in (SMALL, LARGE)
            for rate in [best_rate(measured, each, size)]
        )
        grown.append(small / large)
    return paired_ratio(*grown, confidence=confidence)


def draw(measured: Measured) -> Figure:
    """Draw the loss over the rates with either batch size, and what the rule looks at."""
    figure, (*sizes, right) = drawing.new_figure(3, size=(2.6, 2.7))
    tried = _tried(measured)
    for axis, size in zip(sizes, (LARGE, SMALL), strict=True):
        for norm in NORMS:
            look = drawing.look_of(norm)
            columns = [by_seed(measured, f"test {rate}", norm=norm, batch=size) for rate in tried]
            band = drawing.geometric_band(list(zip(*columns, strict=True)))
            drawing.line_with_band(axis, [float(rate) for rate in tried], band, **look)
            best = tried.index(best_rate(measured, norm, size))
            star = {"marker": "*", "ms": 11, "color": look["color"], "linestyle": ""}
            axis.plot(float(tried[best]), band.center[best], **star)
        drawing.label_axes(
            axis,
            "learning rate",
            "test loss",
            y_unit="nats",
            log="xy",
            title=f"batches of {size}",
        )
    for place, norm in enumerate(("layer", "batch")):
        found, look = _harm(measured, norm), drawing.look_of(norm)
        ends = [[found.mean - found.low], [found.high - found.mean]]
        right.errorbar(place, found.mean, ends, color=look["color"], marker=look["marker"])
    right.axhspan(LOWEST, HIGHEST, color="#E69F00", alpha=0.12, linewidth=0)
    right.annotate("LayerNorm: within", (1.45, 1), ha="right", va="center", fontsize=7)
    drawing.mark_level(right, HARMED, "BatchNorm: above")
    title = f"BatchNorm × {_harm(measured, 'batch').mean:.2g}"
    drawing.label_axes(right, "", f"loss({SMALL}) / loss({LARGE}), none = 1", title=title)
    right.set_xticks((0, 1), ("LayerNorm", "BatchNorm"))
    right.set_xlim(-0.5, 1.5)
    drawing.legend_below(figure, sizes[0])
    return figure


SCALE, GAIN = 8.0, 10.0  # of the features of the planted worlds


class _Shift(nn.Module):
    """Add to all items of a batch one random vector in training, smaller in a larger batch."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.draw = torch.Generator().manual_seed(seed)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        shift = torch.randn(1, x.shape[1], generator=self.draw)
        return x + SCALE * 8 * shift / math.sqrt(len(x))


class _Gain(nn.Module):
    """Multiply the features: a step of Adam is worth as much more, whatever the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return GAIN * x


def _planted(case: Case, settings: Settings, *, shifts: bool) -> Values:
    """Logistic regression, in which BatchNorm is a shift of the batch or a gain."""
    channels, classes, sizes = 8, 4, (256, 512, 1024)
    norm = str(case["norm"])
    seed = derive_seed(int(case["seed"]), "planted items")
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (sum(sizes),), generator=draw)
    x = torch.randn(len(y), channels, generator=draw)
    x += 2 * torch.eye(classes, channels)[y]  # as far from each other for all seeds
    x *= SCALE  # so that few steps of Adam are enough
    parts = list(zip(x.split(sizes), y.split(sizes), strict=True))

    def model() -> nn.Module:
        torch.manual_seed(seed)
        linear = nn.Linear(channels, classes, bias=False)
        own = torch.Generator().manual_seed(derive_seed(seed, norm))
        linear.weight.data *= (1 + 0.02 * torch.randn(classes, channels, generator=own)) / SCALE
        if norm != "batch":
            return linear
        if shifts:
            return nn.Sequential(_Shift(seed), linear)
        linear.weight.data /= GAIN
        return nn.Sequential(_Gain(), linear)

    return observe(Material(model, *parts), case, settings)


STUDY = Study(
    name="batch-size",
    claim="LayerNorm does not depend on the batch, BatchNorm does and fails in small ones.",
    source="Ba et al. 2016, sections 3 and 6.6, https://arxiv.org/abs/1607.06450.",
    prediction=f"Let r be the test loss after training in batches of {SMALL} over that in batches "
    f"of {LARGE}, each at its best learning rate, divided by the same ratio without a norm. "
    f"LayerNorm has r within {LOWEST} … {HIGHEST}, BatchNorm r > {HARMED}. That LayerNorm computes "
    "the same of a sample whatever the batch holds by construction; what training makes of it does "
    "not.",
    protocol=f"MLP 64-{WIDTH['default']}-{WIDTH['default']}-10 with ReLU on scikit-learn's digits: "
    f"{TRAINED_ON} images to learn from, {VALIDATED_ON} to choose the rate by, {TESTED_ON} for the "
    "test, by seed. Adam with the rates 3e-4, 1e-3, … 3e-2, falling linearly to 0; "
    f"{EPOCHS['default']} epochs in an order that does not depend on the batch size "
    f"({EPOCHS['default'] * TRAINED_ON // LARGE} steps at {LARGE}, "
    f"{EPOCHS['default'] * TRAINED_ON // SMALL} at {SMALL}). Losses in eval mode after training, "
    "where BatchNorm has its running averages. The best rate of a norm and a batch size is that of "
    f"the lowest geometric mean over seeds of the validation loss. {SEEDS['default']} seeds; "
    "ratios are paired by seed.",
    rule=f"Confirmed if the 95% interval of r of LayerNorm lies within {LOWEST} … {HIGHEST} and "
    f"that of BatchNorm above {HARMED}; not confirmed if the first lies outside altogether or the "
    f"second below {HARMED}.",
    seconds=140,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    true=World(
        "Logistic regression; in the place of BatchNorm a layer that in training adds one random "
        "vector to all items of a batch, with the standard deviation of an item times 8/√items. No "
        "other arm has a norm.",
        lambda case, settings: _planted(case, settings, shifts=True),
    ),
    false=World(
        "The same regression in all arms, from initial weights that differ by 2%; in that of "
        "BatchNorm the features are multiplied by 10 and the weights divided by it, so that a step "
        "of Adam is worth ten times as much.",
        lambda case, settings: _planted(case, settings, shifts=False),
    ),
    changed="At first inconclusive, r = 1.58 [1.11, 2.25] with LayerNorm and 2.21 [1.11, 4.40] "
    "with BatchNorm, at one rate, 1e-3, for both batch sizes: with 32 times as many steps of Adam "
    "r measured whether that rate suits few or many steps, which a norm changes. Each norm has its "
    "best rate at either size now, of a grid fixed beforehand. The rate falls to 0, so that the "
    "noise of the last steps is not what is compared.",
)
