"""Does a post-LN transformer need a learning-rate warm-up, and a pre-LN one not?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.data import load_dataset
from graphnorms.lab.statistics import Estimate
from graphnorms.models import GraphTransformer, SequenceTransformer
from graphnorms.studies.drawing import (
    label_axes,
    legend_below,
    line_with_band,
    look,
    mean_band,
    new_figure,
)
from graphnorms.studies.ratios import as_numbers, by_seed, geometric_mean, paired_ratio, written
from graphnorms.studies.study import Case, Finding, Measurement, Settings, Study, Values, decide
from graphnorms.studies.text import ALPHABET, characters, excerpts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODELS = ("sequence", "graph")
PLACES = ("post-LN", "pre-LN")
MARGIN = 1.1  # the loss without warm-up over that with it, from which on it is needed

Loss = Callable[[], Tensor]
"""Draws the next batch, and computes the loss on it."""


def cases(settings: Settings) -> list[Case]:
    """Each model with each placement, with and without a warm-up, at every learning rate."""
    rates = settings.pick(tiny=(3e-3,), default=(1e-3, 3e-3), full=(3e-4, 1e-3, 3e-3))
    return [
        {"model": model, "place": place, "warmup": warmup, "rate": rate, "seed": seed}
        for seed in settings.seeds(default=4, full=8)
        for model in MODELS
        for place in PLACES
        for warmup in (False, True)
        for rate in rates
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train for a fixed number of steps; the loss is that of the last tenth of them."""
    make = _sequence_model if case["model"] == "sequence" else _graph_model
    model, loss, guessing = make(case, settings)
    steps = settings.pick(tiny=10, default=120, full=2000)
    rising = steps // 4 if case["warmup"] else 1
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), fused=True)
    curve = []
    for step in range(steps):
        share = min(1.0, (step + 1) / rising) * (1 - step / steps)
        optimizer.param_groups[0]["lr"] = float(case["rate"]) * share
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        curve.append(value.item())
    # What has diverged is worth as much as a guess: the ratios then stay finite.
    curve = [min(value, guessing) if math.isfinite(value) else guessing for value in curve]
    tenths = np.array_split(np.array(curve), 10)
    return {"loss": float(tenths[-1].mean()), "curve": [float(part.mean()) for part in tenths]}


def _sequence_model(case: Case, settings: Settings) -> tuple[nn.Module, Loss, float]:
    """A causal model of characters; a guess costs log(characters) nats."""
    seed, pieces = int(case["seed"]), settings.pick(tiny=4, default=8, full=32)
    text = characters(settings.data)[1]
    model = SequenceTransformer(
        len(ALPHABET), len(ALPHABET), **_shape(settings),
        norm_first=case["place"] == "pre-LN", seed=seed,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        piece = excerpts(text, pieces, 33, draw)
        return F.cross_entropy(model(piece[:, :-1]).flatten(0, 1), piece[:, 1:].flatten())

    return model, loss, math.log(len(ALPHABET))


def _graph_model(case: Case, settings: Settings) -> tuple[nn.Module, Loss, float]:
    """A regression of the logP of molecules, standardized; a guess, their mean, costs 1."""
    seed, size = int(case["seed"]), settings.pick(tiny=8, default=16, full=64)
    graphs = load_dataset("nci5k")
    mean, std = graphs.y.mean(), graphs.y.std()
    model = GraphTransformer(
        graphs.num_features, 1, **_shape(settings),
        norm_first=case["place"] == "pre-LN", seed=seed,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        batch = graphs.batch(torch.randint(len(graphs), (size,), generator=draw))
        result = model(batch.x, batch.adjacency, batch.segments)
        return F.mse_loss(result, (batch.y - mean) / std)

    return model, loss, 1.0


def _shape(settings: Settings) -> dict[str, Any]:
    return {
        "channels": settings.pick(tiny=16, default=64, full=128),
        "heads": 4,
        "layers": settings.pick(tiny=2, default=6, full=12),
    }


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Ask for each model whether post-LN needs the warm-up and pre-LN does not."""
    rates = _rates(measurements)
    need = {(m, p): _need(measurements, m, p, rates) for m in MODELS for p in PLACES}
    numbers: dict[str, float | None] = {}
    for (model, place), found in need.items():
        numbers |= as_numbers(f"{model}, {place}", found)
        for rate in rates:
            alone = _need(measurements, model, place, [rate])
            numbers |= as_numbers(f"{model}, {place}, learning rate {rate:g}", alone)
    return Finding(
        decide(
            confirmed=all(
                need[model, "post-LN"].low > MARGIN and need[model, "pre-LN"].high < MARGIN
                for model in MODELS
            ),
            refuted=any(
                need[model, "post-LN"].high < MARGIN or need[model, "pre-LN"].low > MARGIN
                for model in MODELS
            ),
        ),
        "The loss without a warm-up over that with one: "
        + "; ".join(
            f"{model} transformer "
            + ", ".join(f"{written(need[model, place])} with {place}" for place in PLACES)
            for model in MODELS
        )
        + f". At the rate {rates[-1]:g} alone, with post-LN: "
        + ", ".join(
            f"{written(_need(measurements, model, 'post-LN', rates[-1:]))} in the {model} one"
            for model in MODELS
        )
        + ".",
        numbers,
    )


def _need(
    measurements: Sequence[Measurement], model: str, place: str, rates: Sequence[float]
) -> Estimate:
    """Return loss(no warm-up) / loss(warm-up), the geometric mean over learning rates."""

    without, with_it = (
        geometric_mean([
            by_seed(measurements, "loss", model=model, place=place, warmup=warmup, rate=rate)
            for rate in rates
        ])
        for warmup in (False, True)
    )  # fmt: skip
    return paired_ratio(without, with_it)


def _rates(measurements: Sequence[Measurement]) -> list[float]:
    return sorted({float(one.case["rate"]) for one in measurements})


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the loss over training: a row for each model, a column for each learning rate."""
    rates = _rates(measurements)
    figure, axes = new_figure(2 * len(rates), columns=len(rates), size=(7 / len(rates), 2.5))
    panels = [(model, rate) for model in MODELS for rate in rates]
    unit = {"sequence": "nats per character", "graph": "share of the variance"}
    for axis, (model, rate) in zip(axes, panels, strict=True):
        for number, place in enumerate(PLACES):
            for warmup in (False, True):
                curves = [
                    one.values["curve"]
                    for one in measurements
                    if one.case["model"] == model and one.case["rate"] == rate
                    and one.case["place"] == place and one.case["warmup"] == warmup
                ]  # fmt: skip
                how = look(number, f"{place}, {'warm-up' if warmup else 'no warm-up'}")
                how |= {"linestyle": "--" if warmup else "-"}
                line_with_band(axis, range(10, 101, 10), mean_band(curves), **how)
        label_axes(
            axis, "training", "training loss", x_unit="% of the steps", y_unit=unit[model],
            title=f"{model} transformer, learning rate {rate:g}",
        )  # fmt: skip
    legend_below(figure, axes[0])
    return figure


STUDY = Study(
    name="warmup",
    claim="A post-LN transformer needs a warm-up of the learning rate, a pre-LN one does not.",
    source="Xiong et al. 2020, fig. 2, https://arxiv.org/abs/2002.04745.",
    prediction=f"Without a warm-up post-LN ends with a loss more than {MARGIN:g} times that with "
    f"one, pre-LN with less than {MARGIN:g} times, in a sequence model and a graph transformer.",
    protocol="Six layers, 64 channels, 4 heads, no dropout; Adam (betas 0.9, 0.98), 120 steps. "
    "The learning rate falls linearly to 0 from 1e-3 or 3e-3; with a warm-up it is multiplied by "
    "what rises linearly to 1 over the first quarter. Sequence model: the next character of "
    "Python's manual (with a data folder, of tinyshakespeare), 8 pieces of 32. Graph transformer: "
    "Crippen's logP of the embedded molecules nci5k, 16 a step, mean squared error over the "
    "variance. Every batch is a fresh draw; the loss is the mean over the last tenth of the "
    "steps, and what diverges counts as a guess (log 96 nats, the variance). Four seeds.",
    rule="Let r be the loss without a warm-up over that with one, the geometric mean over the "
    f"learning rates. Confirmed if in both models the 95% interval of r lies above {MARGIN:g} for "
    f"post-LN and below it for pre-LN; not confirmed if in one of them that of post-LN lies below "
    f"{MARGIN:g}, or that of pre-LN above.",
    seconds=80,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
