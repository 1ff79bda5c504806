"""Does normalization allow larger learning rates?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from graphnorms.studies.drawing import label_axes, legend_below, look_of, new_figure
from graphnorms.studies.ratios import as_numbers, by_seed, geometric_mean, paired_ratio, written
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
from graphnorms.studies.sweep import TITLES, Task, final_loss, make_task, norms_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES: Final = tuple(2.0**power for power in range(5, -13, -1))  # 32 to 0.00024
HALVINGS: Final = 2  # of the distance between two rates, by logarithms
TRAINED: Final = 0.9  # of the loss of knowing nothing: up to it, a rate is stable
FACTOR: Final = 5.0  # by which BatchNorm raises the largest stable rate
EFFECTIVE: Final = 2**0.5  # the same where units keep the length of their weights
WEIGHTS: Final = {"free": "", "held": "at equal effective rate"}


def cases(settings: Settings) -> list[Case]:
    """Both models, with and without norms; with lengths held, those that decide."""
    return [
        {"model": model, "norm": norm, "weights": weights, "seed": seed}
        for seed in settings.seeds(planted=8, default=5, full=20)
        for model in TITLES
        for weights in WEIGHTS
        for norm in norms_of(model, settings, deciding=weights == "held")
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Look for the largest stable rate of a network."""
    steps = settings.pick(
        tiny={"mlp": 30, "gin": 10}, default={"mlp": 300, "gin": 100},
        full={"mlp": 3000, "gin": 1000},
    )  # fmt: skip
    return observe(lambda: make_task(case, steps), case, settings)


def observe(make: Callable[[], Task], case: Case, settings: Settings) -> Values:
    """Train at smaller and smaller rates until one is stable, and bisect on to larger ones."""
    losses: dict[str, float] = {}

    def stable(rate: float) -> bool:
        task = make()
        optimizer = torch.optim.SGD(task.model.parameters(), lr=rate)
        losses[f"{rate:.6g}"] = final_loss(task, optimizer, held=case["weights"] == "held")
        return losses[f"{rate:.6g}"] <= TRAINED * task.ignorant

    rates = settings.pick(tiny=RATES[::5], planted=RATES, default=RATES, full=RATES)
    largest = next((rate for rate in rates if stable(rate)), math.nan)
    if largest < rates[0]:
        step = rates[0] / rates[1]
        for _ in range(HALVINGS):
            step **= 0.5
            largest *= step if stable(largest * step) else 1
    return {"largest": largest, "losses": losses}


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Compare the largest rates at which a network still trains, paired by seed."""
    stable = {
        (model, weights, norm): by_seed(
            measurements, "largest", model=model, weights=weights, norm=norm
        )
        for model in TITLES
        for weights in WEIGHTS
        for norm in norms_of(model, settings, deciding=weights == "held")
    }
    ratios = {
        (model, weights, norm): paired_ratio(
            rates, stable[model, weights, "none"], confidence=settings.confidence
        )
        for (model, weights, norm), rates in stable.items()
        if norm != "none"
    }
    limits = {"free": FACTOR, "held": EFFECTIVE}
    deciding = [
        (ratios[model, weights, "batch"], limits[weights]) for model in TITLES for weights in limits
    ]
    said = {
        weights: "; ".join(
            f"{TITLES[model]}: "
            + ", ".join(
                f"{norm} {_typical(rates):.3g}"
                + (
                    f" (× {written(ratios[model, of, norm], 3, significant=True)})"
                    if norm != "none"
                    else ""
                )
                for (in_model, of, norm), rates in stable.items()
                if (in_model, of) == (model, weights)
            )
            for model in TITLES
        )
        for weights in WEIGHTS
    }
    numbers: dict[str, float | None] = {}
    for (model, weights, norm), rates in stable.items():
        name = " ".join(filter(None, ("largest stable rate", WEIGHTS[weights])))
        typical = _typical(rates)
        numbers[f"{name}, {TITLES[model]}, {norm}"] = typical if math.isfinite(typical) else None
        if norm != "none":
            numbers |= as_numbers(
                f"{name}, {TITLES[model]}, {norm} / none", ratios[model, weights, norm]
            )
    return Finding(
        decide(
            confirmed=all(ratio.low > limit for ratio, limit in deciding),
            refuted=any(ratio.high < limit for ratio, limit in deciding),
        ),
        f"Largest stable learning rate, geometric means. With lengths free: {said['free']}. "
        f"At equal effective rate: {said['held']}.",
        numbers,
    )


def _typical(rates: Sequence[float]) -> float:
    return float(geometric_mean([[rate] for rate in rates])[0])


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the largest stable rate of every seed, free and with lengths held."""
    figure, axes = new_figure(2)
    for axis, model in zip(axes, TITLES, strict=True):
        factors: list[float] = []
        ticks: list[str] = []
        for weights in WEIGHTS:
            chosen = where(measurements, model=model, weights=weights)
            norms = dict.fromkeys(str(one.case["norm"]) for one in chosen)
            rates = {
                norm: by_seed(measurements, "largest", model=model, weights=weights, norm=norm)
                for norm in norms
            }
            factors.append(paired_ratio(rates["batch"], rates["none"]).mean)
            for norm, values in rates.items():
                at = len(ticks) + np.linspace(-0.2, 0.2, len(values))
                axis.plot(at, values, **look_of(norm) | {"linestyle": ""})
                axis.hlines(
                    _typical(values), at[0] - 0.1, at[-1] + 0.1, color=look_of(norm)["color"]
                )
                ticks.append("held" if weights == "held" else "free")
        axis.set_xticks(range(len(ticks)), ticks)
        label_axes(
            axis, "length of a unit's weights", "largest stable rate (SGD)", y_log=True,
            title=f"{TITLES[model]}: BatchNorm × {factors[0]:.3g}, held × {factors[1]:.3g}",
        )  # fmt: skip
    legend_below(figure, *axes)
    return figure


STUDY: Final = Study(
    name="learning-rate",
    claim="Normalization allows much larger learning rates.",
    source="Ioffe & Szegedy 2015, sections 3.3 and 4.2.1 (rates of 5 and 30 times the baseline's), "
    "https://arxiv.org/abs/1502.03167; Bjorck et al. 2018, https://arxiv.org/abs/1806.02375.",
    prediction="The largest rate at which gradient descent still trains is, with BatchNorm, at "
    "least 5 times that without a norm. Much of this holds by construction: a norm does not feel "
    "the length of the weights in front of it, a step lengthens them, and the next steps turn "
    "them less. What may fail: at equal effective rate, with lengths held, the largest rate is "
    "still more than √2 times as large.",
    protocol="MLP of 6 × 64 on digits (batches of 64, 300 steps) and GIN of 4 × 64 with mean "
    "readout on MUTAG (batches of 94, 100 steps), He's initial weights, SGD without momentum. At "
    "equal effective rate, in all arms: of the gradient of a unit's weights in front of the norm, "
    "or of where it would be, the part along them is left out, and after the step they are scaled "
    "back to their initial length; so a rate stands for the same angle over the gradient with a "
    "norm and without, from the first step to the last. The weights of the head are free. A rate "
    "is stable if the training loss of the last tenth of steps is at most 0.9 of that of knowing "
    "only how frequent classes are. The largest stable one of 32, 16, … 2^-12, then by bisection "
    "to a factor of 2^¼. 5 seeds; geometric means of the ratios.",
    rule="Confirmed if in both models the interval of the largest stable rate with BatchNorm, over "
    "that without, lies above 5, and at equal effective rate above √2; not confirmed if one of the "
    "four lies below its limit.",
    seconds=125,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    changed="At first confirmed, with 9.2 and 676 times the rate of no norm. Weights in front of a "
    "BatchNorm are scale-invariant, and a step that is too large makes them long and the next "
    "steps small: that much is true by construction. The sweep at equal effective rate is new. "
    "Rates were known to a factor of 2.",
)
