"""Does BatchNorm keep the distributions of activations still?"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.data import GraphSet
from graphnorms.lab.statistics import Estimate, mean_interval
from graphnorms.models import GNN, MLP, NormSlot, preset
from graphnorms.probes import QUANTILES, activation_quantiles, captured, quantile_drift, quantiles
from graphnorms.studies.drawing import (
    PALETTE,
    geometric_band,
    label_axes,
    legend_below,
    line_with_band,
    look_of,
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NORMS: Final = {"mlp": ("none", "batch", "layer"), "gin": ("none", "batch", "layer", "graph")}
TITLES: Final = {"mlp": "MLP, digits", "gin": "GIN, MUTAG"}
SHARE: Final = 0.5  # of the drift without a norm: below it, BatchNorm keeps them still

Quantiles = dict[str, Tensor]
"""Of what enters the activations, by layer: `(probabilities, channels)`."""


def cases(settings: Settings) -> list[Case]:
    """Both models, with and without norms."""
    return [
        {"model": model, "norm": norm, "seed": seed}
        for seed in settings.seeds(default=6, full=20)
        for model in NORMS
        for norm in NORMS[model]
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train, and return how far the quantiles of every layer moved, and those of a typical unit."""
    train = _train_mlp if case["model"] == "mlp" else _train_gin
    steps, moments, loss = train(str(case["norm"]), int(case["seed"]), settings)
    drifts, unit = {}, torch.empty(0)
    for layer in moments[0]:
        trajectory = torch.stack([moment[layer] for moment in moments])  # (moments, 3, channels)
        of_units = quantile_drift(trajectory)
        drifts[layer] = of_units.nanmedian()
        unit = trajectory[:, :, (of_units - drifts[layer]).abs().nan_to_num(math.inf).argmin()]
    return {
        "loss": loss,
        "drift": {layer: drift.item() for layer, drift in drifts.items()},
        "steps": steps,
        "typical_unit": [[round(value, 4) for value in row] for row in unit.tolist()],
    }


Trained = tuple[list[int], list[Quantiles], float]
"""The steps at which quantiles were taken, the quantiles, and the loss of the last tenth."""


def _train_mlp(norm: str, seed: int, settings: Settings) -> Trained:
    """Train the network of the paper, on fewer and smaller images."""
    x, y = digits()
    model = MLP(64, 10, width=100, depth=3, norm=norm, activation="sigmoid", seed=seed)
    layers = [f"layers.{layer}.norm.activation" for layer in range(3)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    steps = settings.pick(tiny=80, default=3000, full=50_000)
    return _train(
        lambda rows: F.cross_entropy(model(x[rows]), y[rows]),
        optimizer,
        list(minibatches(len(x), 60, steps, seed)),
        lambda: activation_quantiles(model, lambda: model(x), layers, side="input"),
        settings,
    )


def _train_gin(norm: str, seed: int, settings: Settings) -> Trained:
    molecules = graphs("MUTAG", None)
    model = GNN(preset("gin"), norm, molecules.num_features, 2, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    steps = settings.pick(tiny=40, default=400, full=4000)

    def loss(rows: Tensor) -> Tensor:
        batch = molecules.batch(rows)
        return F.cross_entropy(model(batch.x, batch.adjacency, batch.segments), batch.y)

    batches = list(minibatches(len(molecules), 94, steps, seed))
    return _train(loss, optimizer, batches, lambda: _gin_quantiles(model, molecules), settings)


def _gin_quantiles(model: GNN, molecules: GraphSet) -> Quantiles:
    """Return the quantiles of what enters each ReLU, which is fused: the norms run without it."""
    batch = molecules.batch(torch.arange(len(molecules)))
    slots = {name: each.norm for name, each in model.named_modules() if isinstance(each, NormSlot)}
    watched = copy.deepcopy(model)  # whose running statistics may move
    with torch.no_grad(), captured(watched, [f"{name}.norm" for name in slots], "input") as seen:
        watched(batch.x, batch.adjacency, batch.segments)
    found = {}
    for name, norm in slots.items():
        bare: nn.Module = copy.deepcopy(norm)
        bare.activation = None  # type: ignore[assignment]
        with torch.no_grad():
            found[name] = quantiles(bare(seen[f"{name}.norm"][0], batch.segments))
    return found


def _train(
    loss: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    batches: list[Tensor],
    look: Callable[[], Quantiles],
    settings: Settings,
) -> Trained:
    """Train in train mode throughout, and look at all data at equal intervals."""
    torch.manual_seed(0)  # of the dropout of the GIN
    number = settings.pick(tiny=5, default=41, full=41)
    steps = np.linspace(0, len(batches), number).round().astype(int).tolist()
    moments, losses = [look()], []
    for step, rows in enumerate(batches, start=1):
        optimizer.zero_grad()
        value = loss(rows)
        value.backward()
        optimizer.step()
        losses.append(value.item())
        if step in steps:
            moments.append(look())
    return steps, moments, float(np.mean(losses[-max(1, len(losses) // 10) :]))


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Compare the drift with a norm to that without, averaged over the layers of a model."""
    ratios = {
        (model, norm): _drift_ratio(measurements, model, norm, settings.confidence)
        for model, norms in NORMS.items()
        for norm in norms[1:]
    }
    batch = [ratios[model, "batch"] for model in NORMS]
    verdict = decide(
        confirmed=all(ratio.high < SHARE for ratio in batch),
        refuted=any(ratio.low > SHARE for ratio in batch),
    )
    said = "; ".join(
        f"{TITLES[model]}: "
        + ", ".join(
            f"{norm} {written(ratio)}" for (of, norm), ratio in ratios.items() if of == model
        )
        for model in NORMS
    )
    return Finding(
        verdict,
        f"Drift of the quantiles, as a share of the drift without a norm: {said}.",
        {
            name: value
            for (model, norm), ratio in ratios.items()
            for name, value in as_numbers(f"drift, {TITLES[model]}, {norm} / none", ratio).items()
        },
    )


def _drift_ratio(
    measurements: Sequence[Measurement], model: str, norm: str, confidence: float
) -> Estimate:
    """Estimate the geometric mean of drift / drift without, paired by seed."""
    seeds = dict.fromkeys(m.case["seed"] for m in measurements)
    logs = []
    for seed in seeds:
        with_norm, without = (
            where(measurements, model=model, norm=each, seed=seed)[0].values["drift"]
            for each in (norm, "none")
        )
        logs.append(np.mean([math.log(with_norm[layer] / without[layer]) for layer in without]))
    found = mean_interval(logs, confidence=confidence)
    return Estimate(math.exp(found.mean), math.exp(found.low), math.exp(found.high))


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw a typical unit of the last layer, without and with BatchNorm, and all drifts."""
    figure, (without, with_norm, *drifts) = new_figure(4, columns=2)
    for axis, norm in ((without, "none"), (with_norm, "batch")):
        first = where(measurements, model="mlp", norm=norm)[0].values
        for number, curve in enumerate(zip(*first["typical_unit"], strict=True)):
            axis.plot(first["steps"], curve, color=PALETTE[0], alpha=1 - 0.4 * abs(number - 1))
        title = f"a unit of the last layer, {look_of(norm)['label']}"
        percent = "/".join(f"{100 * q:.0f}" for q in QUANTILES)
        label_axes(axis, "step", f"input of the sigmoid, {percent}%", title=title)
    for axis, (model, norms) in zip(drifts, NORMS.items(), strict=True):
        for norm in norms:
            table = [
                list(m.values["drift"].values())
                for m in where(measurements, model=model, norm=norm)
            ]
            places = range(1, len(table[0]) + 1)
            line_with_band(axis, places, geometric_band(table), **look_of(norm))
        axis.set_xticks(list(places))
        label_axes(
            axis, "layer", "drift of the quantiles", y_unit="widths", y_log=True,
            title=TITLES[model],
        )  # fmt: skip
    legend_below(figure, drifts[1])
    return figure


STUDY: Final = Study(
    name="activations",
    claim="Normalization keeps the distributions of activations still during training.",
    source="Ioffe & Szegedy 2015, figure 1 (b, c), https://arxiv.org/abs/1502.03167.",
    prediction="Over training, the quantiles of what enters an activation move at most half as far "
    "with BatchNorm as without, both in an MLP on images and in a GIN on molecules.",
    protocol="MLP of 3 × 100 sigmoids on digits, as in the paper (SGD 0.1 with momentum 0.9, "
    "batches of 60, 3000 steps), and GIN of 4 × 64 on MUTAG (Adam 0.01, batches of 94, 400 steps). "
    "At 41 moments, the 15%, 50% and 85% quantiles over all data of what enters each activation. "
    "Drift of a unit: root mean square distance of its quantiles from their means over training, "
    "in units of the mean distance of the outer two; of a layer: the median over units. "
    "6 seeds; geometric means over the layers.",
    rule="Confirmed if the 95% interval of the drift with BatchNorm, as a share of that without, "
    "lies below 0.5 in both models; not confirmed if it lies above 0.5 in either.",
    seconds=170,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
