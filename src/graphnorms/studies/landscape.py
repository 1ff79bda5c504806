"""Does BatchNorm make the loss smoother and its gradient more predictive?"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from graphnorms.models import MLP
from graphnorms.probes import AlongGradient, along_gradient, largest_eigenvalue, loss_plane
from graphnorms.studies.drawing import (
    label_axes,
    legend_below,
    line_with_band,
    look_of,
    median_band,
    new_figure,
)
from graphnorms.studies.material import digits, minibatches, scale_weights
from graphnorms.studies.ratios import as_numbers, by_seed, held_below, paired_ratio, written
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NORMS: Final = ("none", "batch", "layer")
RATE: Final = 0.1
NEAR: Final = 0.01
STEPS: Final = (NEAR, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
EVERY: Final = 10  # steps of training between two measurements
QUANTITIES: Final = {
    "loss range": "range of the loss along the gradient",
    "gradient difference": "largest distance of the gradients",
    "effective beta": "effective β",
}
BETA_FROM: Final = "effective beta from 0.05"
EIGENVALUE: Final = "largest eigenvalue"


def cases(settings: Settings) -> list[Case]:
    """Every norm with every seed; the plane is drawn for the first."""
    seeds = settings.seeds(default=8, full=20)
    return [
        {"norm": norm, "seed": seed, "plane": seed == seeds[0]} for seed in seeds for norm in NORMS
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train the MLP and look along the gradient now and then; at the end, around the solution."""
    seed = int(case["seed"])
    steps = settings.pick(tiny=20, default=300, full=2000)
    x, y = digits()
    width, depth = settings.pick(tiny=(32, 3), default=(100, 10), full=(100, 10))
    model = MLP(64, 10, width=width, depth=depth, norm=str(case["norm"]), seed=seed)
    scale_weights(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    walks = []
    for step, rows in enumerate(minibatches(len(x), 128, steps, seed)):

        def loss(rows: Tensor = rows) -> Tensor:
            return F.cross_entropy(model(x[rows]), y[rows])

        if step % EVERY == 0:
            walks.append(along_gradient(model, loss, STEPS))
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    curves = {
        "loss": [walk.loss for walk in walks],
        "loss range": [walk.loss_spread for walk in walks],
        "gradient difference": [walk.largest_difference for walk in walks],
        "effective beta": [walk.effective_beta for walk in walks],
        BETA_FROM: [_beta_from(walk, 0.05) for walk in walks],
    }
    rows = next(minibatches(len(x), 512, 1, seed))
    many = settings.pick(tiny=5, default=50, full=200)
    sharpest = largest_eigenvalue(
        model, lambda: F.cross_entropy(model(x[rows]), y[rows]), iterations=many, tolerance=0.02
    )
    values: Values = {name: statistics.median(curve) for name, curve in curves.items()}
    values |= {"curves": curves, EIGENVALUE: sharpest.value}
    if case["plane"]:
        points = settings.pick(tiny=3, default=17, full=33)
        plane = loss_plane(
            model, lambda: F.cross_entropy(model(x[rows]), y[rows]), points=points, seed=seed
        )
        values |= {"plane": plane.losses.tolist(), "coordinates": plane.coordinates.tolist()}
    return values


def _beta_from(walk: AlongGradient, nearest: float) -> float:
    """Return the effective β without the steps nearer than one."""
    far = [index for index, step in enumerate(walk.steps) if step >= nearest]
    return AlongGradient(
        steps=tuple(walk.steps[index] for index in far),
        loss=walk.loss,
        gradient_norm=walk.gradient_norm,
        losses=tuple(walk.losses[index] for index in far),
        differences=tuple(walk.differences[index] for index in far),
    ).effective_beta


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Ask whether each of the three quantities is smaller with BatchNorm than without a norm."""
    ratios = {
        (name, norm): paired_ratio(
            by_seed(measurements, name, norm=norm), by_seed(measurements, name, norm="none")
        )
        for name in (*QUANTITIES, BETA_FROM, EIGENVALUE)
        for norm in NORMS[1:]
    }
    deciding = {name: ratios[name, "batch"] for name in QUANTITIES}
    verdict = decide(
        confirmed=all(each.high < 1 for each in deciding.values()),
        refuted=any(each.low > 1 for each in deciding.values()),
    )
    parts = [
        f"{QUANTITIES[name]} {written(each, 3)} ({held_below(each, 1)})"
        for name, each in deciding.items()
    ]
    numbers: dict[str, float | None] = {}
    for (name, norm), each in ratios.items():
        numbers |= as_numbers(f"{name}, {norm} / none", each)
    for name in (*QUANTITIES, BETA_FROM, EIGENVALUE):
        for norm in NORMS:
            numbers[f"{name}, {norm}"] = statistics.median(by_seed(measurements, name, norm=norm))
    return Finding(
        verdict,
        f"BatchNorm over none: {', '.join(parts)}. Beside the rule: effective β without the step "
        f"{NEAR:g}: {written(ratios[BETA_FROM, 'batch'])}; largest eigenvalue of the Hessian at "
        f"the end: {written(ratios[EIGENVALUE, 'batch'])}.",
        numbers,
    )


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the three quantities over training, and the loss around the solutions."""
    figure, axes = new_figure(6, columns=3, size=(2.6, 2.5))
    labels = {
        "loss range": "range of the loss (nats)",
        "gradient difference": "gradient difference (L2)",
        "effective beta": "effective β",
    }
    for name, axis in zip(QUANTITIES, axes[:3], strict=True):
        for norm in NORMS:
            runs = [m.values["curves"][name] for m in where(measurements, norm=norm)]
            steps = [EVERY * k for k in range(len(runs[0]))]
            line_with_band(axis, steps, median_band(runs), **look_of(norm) | {"linewidth": 1})
        label_axes(axis, "step", labels[name], y_log=True)
    planes = [where(measurements, norm=norm, plane=True)[0].values for norm in NORMS]
    levels = np.linspace(-3, 2, 26)
    for norm, axis, values in zip(NORMS, axes[3:], planes, strict=True):
        at = values["coordinates"]
        height = np.log10(np.array(values["plane"], dtype=float)).clip(-3, 2)
        shown = axis.contourf(at, at, height.T, levels=levels, cmap="cividis")
        axis.plot(0, 0, color="white", marker="+")
        axis.set_aspect("equal")
        axis.grid(visible=False)
        label_axes(axis, "direction 1 (filter norms)", "direction 2",
                   title=f"{look_of(norm)['label']}: the solution")  # fmt: skip
    figure.colorbar(shown, ax=axes[3:], label="log10 of the loss (nats)", ticks=range(-3, 3))
    legend_below(figure, axes[0])
    return figure


STUDY: Final = Study(
    name="landscape",
    claim="BatchNorm makes the optimization landscape smoother and gradients more predictive: "
    "along the gradient the loss varies less, the gradient changes less, and the effective β is "
    "smaller.",
    source="Santurkar et al. 2018, section 3.1 and fig. 4, https://arxiv.org/abs/1805.11604; "
    "the plane: Li et al. 2018, https://arxiv.org/abs/1712.09913.",
    prediction="All three are smaller with BatchNorm than without a norm. (A trial run while "
    "planning found the third one larger.)",
    protocol="MLP of 10 hidden layers of 100 on the digits, ReLU, weights of He's size, SGD with "
    "the rate 0.1 and batches of 128, 300 steps. Every 10 steps, on the batch of the step: loss "
    "and gradient at w - η∇L for η = 0.01, 0.05, 0.1, … 0.4; the range of the loss, the largest "
    "distance of the gradient from that at w, and the effective β, the largest of these distances "
    "over the way that was walked; the median over training. At the end: the largest eigenvalue "
    "of the Hessian on 512 images (power iteration), and the loss on a plane through the "
    "solution. Norms as in training, by the batch. 8 seeds.",
    rule="For each of the three, the geometric mean over seeds of BatchNorm / none with its 95% "
    "interval. Confirmed if all three intervals lie below 1. Not confirmed if one lies above 1. "
    "Beside the rule: the effective β without the nearest step (a maximum grows with every point "
    "that is added), the eigenvalue, the plane, and LayerNorm.",
    seconds=60,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
