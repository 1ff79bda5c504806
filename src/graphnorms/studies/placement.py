"""Where does a norm belong: before the non-linearity, and inside the residual branch?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.data import load_dataset
from graphnorms.lab.statistics import Estimate
from graphnorms.models import GNN, MLP, ModelConfig
from graphnorms.report.style import display_name
from graphnorms.studies.drawing import (
    label_axes,
    legend_below,
    line_with_band,
    look,
    mean_band,
    new_figure,
)
from graphnorms.studies.material import digits
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODELS = ("mlp", "gin")
NORMS = ("batch", "layer")
ACTIVATION = ("before-activation", "after-activation")
RESIDUAL = ("after-norm", "before-norm")  # the sum: the norm inside the branch, or outside

Loss = Callable[[], Tensor]
"""Draws the next batch, and computes the loss on it."""


def cases(settings: Settings) -> list[Case]:
    """Each model and norm in all four orders."""
    return [
        {"model": model, "norm": norm, "activation": activation, "residual": residual, "seed": seed}
        for seed in settings.seeds(default=6, full=20)
        for model in MODELS
        for norm in NORMS
        for activation in ACTIVATION
        for residual in RESIDUAL
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train for a fixed number of steps, and keep the training loss."""
    model, loss = (_mlp if case["model"] == "mlp" else _gin)(case, settings)
    steps = settings.pick(tiny=10, default=120, full=1000)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    curve = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        curve.append(value.item())
    tenths = [float(part.mean()) for part in np.array_split(np.array(curve), 10)]
    return {"mean": float(np.mean(curve)), "final": tenths[-1], "curve": tenths}


def _mlp(case: Case, settings: Settings) -> tuple[nn.Module, Loss]:
    """A deep MLP on the digits."""
    x, y = digits()
    seed = int(case["seed"])
    model = MLP(
        64, 10, width=64, depth=settings.pick(tiny=2, default=8, full=16), norm=str(case["norm"]),
        norm_place=str(case["activation"]), residual=True, residual_place=str(case["residual"]),
        seed=seed,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        chosen = torch.randint(len(x), (64,), generator=draw)
        return F.cross_entropy(model(x[chosen]), y[chosen])

    return model, loss


def _gin(case: Case, settings: Settings) -> tuple[nn.Module, Loss]:
    """GIN on molecules."""
    graphs = load_dataset("MUTAG")
    seed = int(case["seed"])
    config = ModelConfig(
        name="gin", layers=settings.pick(tiny=2, default=4, full=8), residual=True, dropout=0.0,
        norm_place=str(case["activation"]), residual_place=str(case["residual"]),
    )  # fmt: skip
    model = GNN(config, str(case["norm"]), graphs.num_features, graphs.num_outputs, seed=seed)
    draw = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        batch = graphs.batch(torch.randint(len(graphs), (32,), generator=draw))
        return F.cross_entropy(model(batch.x, batch.adjacency, batch.segments), batch.y)

    return model, loss


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Compare the places of BatchNorm at the activation, and of LayerNorm at the residual sum."""
    speed = {
        **{("batch", model): _penalty(measurements, "mean", "batch", model) for model in MODELS},
        **{("layer", model): _penalty(measurements, "mean", "layer", model) for model in MODELS},
    }
    numbers: dict[str, float | None] = {}
    for (norm, model), found in speed.items():
        what = f"{display_name(norm)}, {model}, {_CONTRAST[norm]}"
        numbers |= as_numbers(f"{what}, mean loss", found)
        numbers |= as_numbers(f"{what}, final loss", _penalty(measurements, "final", norm, model))
    said = [
        f"{display_name(norm)} {_CONTRAST[norm]}: "
        + ", ".join(f"{written(speed[norm, model])} in the {_TITLES[model]}" for model in MODELS)
        for norm in NORMS
    ]
    return Finding(
        decide(
            confirmed=all(found.low > 1 for found in speed.values()),
            refuted=any(found.high < 1 for found in speed.values()),
        ),
        f"Mean training loss, {'; '.join(said)}.",
        numbers,
    )


_CONTRAST = {"batch": "after over before the activation", "layer": "outside over inside the branch"}
_TITLES = {"mlp": "MLP", "gin": "GIN"}


def _penalty(measurements: Sequence[Measurement], value: str, norm: str, model: str) -> Estimate:
    """Return the loss in the place advised against over that in the other.

    Of both orders of what is not compared it is the geometric mean.
    """
    key, places, other, others = "activation", ACTIVATION, "residual", RESIDUAL
    if norm == "layer":
        key, places, other, others = other, others, key, places

    advised, against = (
        geometric_mean([
            by_seed(measurements, value, model=model, norm=norm, **{key: place, other: rest})
            for rest in others
        ])
        for place in places
    )  # fmt: skip
    return paired_ratio(against, advised)


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the training loss of the four orders: a row for each model, a column for each norm."""
    figure, axes = new_figure(4, columns=2, size=(3.5, 2.5))
    panels = [(model, norm) for model in MODELS for norm in NORMS]
    for axis, (model, norm) in zip(axes, panels, strict=True):
        for number, activation in enumerate(ACTIVATION):
            for residual in RESIDUAL:
                chosen = where(
                    measurements, model=model, norm=norm, activation=activation, residual=residual
                )
                inside = residual == "after-norm"
                place = f"{activation.replace('-', ' ')}, {'inside' if inside else 'outside'}"
                how = look(number, place) | {"linestyle": "-" if inside else "--"}
                curves = [one.values["curve"] for one in chosen]
                line_with_band(axis, range(10, 101, 10), mean_band(curves), **how)
        label_axes(
            axis, "training", "training loss", x_unit="% of the steps", y_unit="nats", y_log=True,
            title=f"{_TITLES[model]}, {display_name(norm)}",
        )  # fmt: skip
    legend_below(figure, axes[0], columns=2)
    return figure


STUDY = Study(
    name="placement",
    claim="BatchNorm belongs before the non-linearity, LayerNorm inside the residual branch.",
    source="Ioffe & Szegedy 2015, section 3.2, https://arxiv.org/abs/1502.03167; Xiong et al. "
    "2020, https://arxiv.org/abs/2002.04745.",
    prediction="The mean training loss over a fixed budget, a measure of speed, is higher with "
    "BatchNorm after the activation than before it, and with LayerNorm outside the residual branch "
    "(on the sum) than inside, in an MLP and in a GIN.",
    protocol="MLP with 8 hidden layers of 64 on scikit-learn's digits, 64 images a step; GIN with "
    "4 convolutions of 64 channels on MUTAG, 32 graphs a step. Residual connections around every "
    "layer but the first, ReLU, no dropout, Adam with rate 1e-3, 120 steps. All four orders of "
    "norm, activation and residual sum; each comparison is the geometric mean over both orders of "
    "what it does not compare. The loss of the last tenth of the steps is reported beside. "
    "Six seeds.",
    rule="Four ratios of mean losses, paired by seed: BatchNorm after over before the activation, "
    "LayerNorm outside over inside the branch, each in MLP and GIN. Confirmed if the 95% intervals "
    "of all four lie above 1; not confirmed if one lies below 1.",
    seconds=30,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
