"""Does BatchNorm make the loss smoother and its gradient more predictive?"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.probes import STEPS as WALKED
from graphnorms.probes import along_gradient, largest_eigenvalue, loss_plane
from graphnorms.report.style import display_name
from graphnorms.report.text_table import TextTable
from graphnorms.studies import drawing
from graphnorms.studies.evidence import (
    Check,
    concluded,
    numbers_of,
    ratio,
    summary,
    verdict_of,
    written,
)
from graphnorms.studies.measured_values import by_seed, where
from graphnorms.studies.mlp import MLP
from graphnorms.studies.study import Case, Figure, Finding, Measured, Settings, Study, Values, World
from graphnorms.studies.study_data import digits
from graphnorms.studies.training_loops import minibatches, scale_weights, take_step

NORMS = ("none", "batch", "layer")
SEEDS = {"planted": 8, "default": 8, "full": 20}
WIDTH = {"tiny": 32, "default": 100, "full": 100}
DEPTH = {"tiny": 3, "default": 10, "full": 10}
STEPS = {"tiny": 20, "default": 300, "full": 2000}
RATE = 0.1
BATCH = 128
EVERY = 10  # steps of training between two measurements
AT_THE_END = 512  # images
QUANTITIES = {
    "loss range": "range of the loss along the gradient",
    "gradient difference": "largest distance of the gradients",
    "effective beta": "effective β",
}
EIGENVALUE = "largest eigenvalue"


def cases(settings: Settings) -> list[Case]:
    """Every norm with every seed; the plane is drawn for the first."""
    seeds = settings.seeds(**SEEDS)
    return [
        {"norm": norm, "seed": seed, "plane": seed == seeds[0]} for seed in seeds for norm in NORMS
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train the MLP and look along the gradient now and then; at the end, around the solution."""
    x, y = digits()
    width, depth = settings.pick(**WIDTH), settings.pick(**DEPTH)
    norm, seed = str(case["norm"]), int(case["seed"])
    model = MLP(64, 10, width=width, depth=depth, norm=norm, seed=seed)
    scale_weights(model)
    return observe(model, lambda rows: F.cross_entropy(model(x[rows]), y[rows]), case, settings)


def observe(
    model: nn.Module, loss_of: Callable[[Tensor], Tensor], case: Case, settings: Settings
) -> Values:
    """Train a model whose loss is known on items by number, of 1797, and look along the way."""
    seed, items = int(case["seed"]), len(digits()[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    walks = []
    for step, rows in enumerate(minibatches(items, BATCH, settings.pick(**STEPS), seed)):
        if step % EVERY == 0:
            walks.append(along_gradient(model, partial(loss_of, rows), WALKED))
        take_step(optimizer, loss_of(rows))
    curves = {
        "loss": [walk.loss for walk in walks],
        "loss range": [walk.loss_spread for walk in walks],
        "gradient difference": [walk.largest_difference for walk in walks],
        "effective beta": [walk.effective_beta for walk in walks],
    }
    at_the_end = partial(loss_of, next(minibatches(items, AT_THE_END, 1, seed)))
    many = settings.pick(tiny=5, default=50, full=200)
    sharpest = largest_eigenvalue(model, at_the_end, iterations=many, tolerance=0.02)
    values: Values = {name: statistics.median(curve) for name, curve in curves.items()}
    values |= {"curves": curves, EIGENVALUE: sharpest.value}
    if case["plane"]:
        points = settings.pick(tiny=3, default=17, full=33)
        plane = loss_plane(model, at_the_end, points=points, seed=seed)
        values |= {"plane": plane.losses.tolist(), "coordinates": plane.coordinates.tolist()}
    return values


def judge(measured: Measured, settings: Settings) -> Finding:
    """Ask whether each of the three quantities is smaller with BatchNorm than without a norm."""
    ratios = {
        (name, norm): ratio(measured, name, norm=(norm, "none"), confidence=settings.confidence)
        for name in (*QUANTITIES, EIGENVALUE)
        for norm in NORMS[1:]
    }
    numbers = numbers_of({f"{name}, {norm} / none": each for (name, norm), each in ratios.items()})
    for name in (*QUANTITIES, EIGENVALUE):
        for norm in NORMS:
            numbers[f"{name}, {norm}"] = statistics.median(by_seed(measured, name, norm=norm))
    checks = [Check(title, ratios[name, "batch"], 1) for name, title in QUANTITIES.items()]
    verdict = verdict_of(checks)
    conclusion = concluded(
        verdict,
        yes="BatchNorm makes the loss smoother and its gradients more predictive.",
        no="BatchNorm does not make the loss smoother in all three measures.",
    )
    titles = QUANTITIES | {EIGENVALUE: "largest eigenvalue of the Hessian at the end"}
    return Finding(
        verdict,
        f"{conclusion} Three quantities along the gradient were predicted to be smaller than "
        f"without a norm. {summary(checks, 3)}",
        numbers,
        (
            TextTable(
                "Ratio to the same without a norm (predicted of BatchNorm: below 1; the eigenvalue "
                "is beside the rule)",
                ("", *(display_name(norm) for norm in NORMS[1:])),
                tuple(
                    (title, *(written(ratios[name, norm], 3) for norm in NORMS[1:]))
                    for name, title in titles.items()
                ),
            ),
        ),
    )


def draw(measured: Measured) -> Figure:
    """Draw the three quantities over training, and the loss around the solutions."""
    figure, axes = drawing.new_figure(6, columns=3, size=(2.6, 2.5))
    labels = ("range of the loss (nats)", "gradient difference (L2)", "effective β")
    for name, label, axis in zip(QUANTITIES, labels, axes[:3], strict=True):
        for norm in NORMS:
            runs = [m.values["curves"][name] for m in where(measured, norm=norm)]
            steps = [EVERY * k for k in range(len(runs[0]))]
            how = drawing.look_of(norm) | {"linewidth": 1}
            drawing.line_with_band(axis, steps, drawing.median_band(runs), **how)
        title = f"BatchNorm: × {ratio(measured, name, norm=('batch', 'none')).mean:.2g}"
        drawing.label_axes(axis, "step", label, log="y", title=title)
    planes = [where(measured, norm=norm, plane=True)[0].values for norm in NORMS]
    levels = np.linspace(-3, 2, 26)
    for norm, axis, values in zip(NORMS, axes[3:], planes, strict=True):
        at = values["coordinates"]
        height = np.log10(np.array(values["plane"], dtype=float)).clip(-3, 2)
        shown = axis.contourf(at, at, height.T, levels=levels, cmap="cividis")
        axis.plot(0, 0, color="white", marker="+")
        axis.set_aspect("equal")
        axis.grid(visible=False)
        title = f"{drawing.look_of(norm)['label']}: the solution"
        drawing.label_axes(axis, "direction 1 (filter norms)", "direction 2", title=title)
    figure.colorbar(shown, ax=axes[3:], label="log10 of the loss (nats)", ticks=range(-3, 3))
    drawing.legend_below(figure, axes[0])
    return figure


class _Point(nn.Module):
    """Parameters and nothing else."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(start)


def _planted(case: Case, settings: Settings, curvature: float) -> Values:
    """A quadratic loss, whose curvature differs by 10% between seeds and arms."""
    number, norm = 20, str(case["norm"])
    draw = torch.Generator().manual_seed(10 * int(case["seed"]) + NORMS.index(norm))
    own = curvature if norm == "batch" else 1.0
    own *= float(1 + 0.1 * (2 * torch.rand(1, generator=draw) - 1))
    diagonal = own * torch.linspace(0.5, 1, number)
    start = torch.Generator().manual_seed(int(case["seed"]))  # the same for all norms
    model = _Point(torch.randn(number, generator=start))

    def loss_of(rows: Tensor) -> Tensor:
        minimum = 0.1 * torch.sin(rows.float().mean() + torch.arange(number))  # of a batch
        return 0.5 * (diagonal * (model.w - minimum).square()).sum()

    return observe(model, loss_of, case, settings)


STUDY = Study(
    name="landscape",
    claim="BatchNorm makes the optimization landscape smoother and gradients more predictive: "
    "along the gradient the loss varies less, the gradient changes less, and the effective β is "
    "smaller.",
    source="Santurkar et al. 2018, section 3.1 and fig. 4, https://arxiv.org/abs/1805.11604; the "
    "plane: Li et al. 2018, https://arxiv.org/abs/1712.09913.",
    prediction="All three are smaller with BatchNorm than without a norm.",
    protocol=f"MLP of {DEPTH['default']} hidden layers of {WIDTH['default']} on the digits, ReLU, "
    f"weights of He's size, SGD with the rate {RATE:g} and batches of {BATCH}, {STEPS['default']} "
    f"steps. Every {EVERY} steps, on the batch of the step: loss and gradient at w - η∇L for η = "
    f"{WALKED[0]:g}, {WALKED[1]:g}, … {WALKED[-1]:g}, which is ½ to 4 times the rate, the range of "
    "the source; the range of the loss, the largest distance of the gradient from that at w, and "
    "the effective β, the largest of these distances over the way that was walked; the median over "
    f"training. At the end: the largest eigenvalue of the Hessian on {AT_THE_END} images (power "
    "iteration), and the loss on a plane through the solution. Norms as in training, by the batch. "
    f"{SEEDS['default']} seeds.",
    rule="For each of the three, the geometric mean over seeds of BatchNorm / none with its "
    "interval. Confirmed if all three intervals lie below 1. Not confirmed if one lies above 1. "
    "Beside the rule: the eigenvalue, the plane, and LayerNorm.",
    seconds=60,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    true=World(
        "Quadratic losses, those of BatchNorm with half the curvature, 10% to and fro.",
        lambda case, settings: _planted(case, settings, 0.5),
    ),
    false=World(
        "Quadratic losses, those of BatchNorm with twice the curvature, 10% to and fro.",
        lambda case, settings: _planted(case, settings, 2.0),
    ),
    changed="At first inconclusive, with an effective β of 1.12 times that without a norm: the "
    "steps went from 0.01 on, a tenth of the rate and outside the source's range, and that step "
    "had been added after a look at the result. A maximum over steps grows with every step that is "
    "added. The steps are those of the source now.",
)
