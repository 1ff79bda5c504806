"""Does normalization allow larger learning rates?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.models import GNN, MLP, preset
from graphnorms.studies.drawing import (
    geometric_band,
    label_axes,
    legend_below,
    line_with_band,
    look_of,
    mark_level,
    new_figure,
)
from graphnorms.studies.material import digits, graphs, minibatches, scale_weights
from graphnorms.studies.ratios import as_numbers, paired_ratio, written
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

NORMS: Final = {"mlp": ("none", "batch", "layer"), "gin": ("none", "batch", "graph")}
TITLES: Final = {"mlp": "MLP, digits", "gin": "GIN, MUTAG"}
RATES: Final = tuple(2.0**power for power in range(-12, 6))  # 0.00024 to 32
TRAINED: Final = 0.9  # of the loss of knowing nothing: up to it, a rate is stable
FACTOR: Final = 5.0  # by which BatchNorm raises the largest stable rate


def cases(settings: Settings) -> list[Case]:
    """Both models, with and without norms; all rates are in one case."""
    return [
        {"model": model, "norm": norm, "seed": seed}
        for seed in settings.seeds(default=5, full=20)
        for model in NORMS
        for norm in NORMS[model]
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train once with every rate, and return the losses at the end and that of knowing nothing."""
    train = _train_mlp if case["model"] == "mlp" else _train_gin
    rates = settings.pick(tiny=RATES[2::5], default=RATES, full=RATES)
    ended = [train(str(case["norm"]), rate, int(case["seed"]), settings) for rate in rates]
    labels = digits()[1] if case["model"] == "mlp" else graphs("MUTAG", None).y
    frequencies = labels.bincount() / len(labels)
    ignorant = -(frequencies * frequencies.log()).sum().item()
    return {"rates": list(rates), "losses": ended, "ignorant": ignorant}


def _train_mlp(norm: str, rate: float, seed: int, settings: Settings) -> float:
    x, y = digits()
    model = MLP(64, 10, width=64, depth=6, norm=norm, seed=seed)
    scale_weights(model)
    steps = settings.pick(tiny=30, default=300, full=3000)
    losses = (
        F.cross_entropy(model(x[rows]), y[rows]) for rows in minibatches(len(x), 64, steps, seed)
    )
    return _final_loss(model, rate, losses)


def _train_gin(norm: str, rate: float, seed: int, settings: Settings) -> float:
    molecules = graphs("MUTAG", None)
    # Sums over a molecule would make the first outputs too large for any rate.
    config = replace(preset("gin"), readout="mean")
    model = GNN(config, norm, molecules.num_features, 2, seed=seed)
    scale_weights(model)
    steps = settings.pick(tiny=10, default=100, full=1000)

    def losses() -> Iterator[Tensor]:
        for rows in minibatches(len(molecules), 94, steps, seed):
            batch = molecules.batch(rows)
            yield F.cross_entropy(model(batch.x, batch.adjacency, batch.segments), batch.y)

    return _final_loss(model, rate, losses())


def _final_loss(model: nn.Module, rate: float, losses: Iterator[Tensor]) -> float:
    """Train by plain gradient steps; return the mean loss over the last tenth."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    torch.manual_seed(0)  # of the dropout of the GIN
    seen = []
    for loss in losses:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
        if not math.isfinite(seen[-1]):
            return math.inf
    return float(np.mean(seen[-max(1, len(seen) // 10) :]))


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Compare the largest rate at which a network still trains, paired by seed."""
    stable = {
        (model, norm): [_largest(each) for each in where(measurements, model=model, norm=norm)]
        for model, norms in NORMS.items()
        for norm in norms
    }
    ratios = {
        (model, norm): paired_ratio(
            stable[model, norm], stable[model, "none"], confidence=settings.confidence
        )
        for model, norms in NORMS.items()
        for norm in norms[1:]
    }
    batch = [ratios[model, "batch"] for model in NORMS]
    verdict = decide(
        confirmed=all(ratio.low > FACTOR for ratio in batch),
        refuted=any(ratio.high < FACTOR for ratio in batch),
    )
    said = "; ".join(
        f"{TITLES[model]}: none {_typical(stable[model, 'none'])}, "
        + ", ".join(
            f"{norm} {_typical(stable[model, norm])} "
            f"(× {written(ratios[model, norm], 3, significant=True)})"
            for norm in norms[1:]
        )
        for model, norms in NORMS.items()
    )
    return Finding(
        verdict,
        f"Largest stable learning rate, geometric means: {said}.",
        {
            name: value
            for (model, norm), ratio in ratios.items()
            for name, value in as_numbers(
                f"largest stable rate, {TITLES[model]}, {norm} / none", ratio
            ).items()
        }
        | {
            f"largest stable rate, {TITLES[model]}, {norm}": None
            if np.isnan(rates).any()
            else math.exp(np.mean(np.log(rates)))
            for (model, norm), rates in stable.items()
        },
    )


def _largest(measurement: Measurement) -> float:
    """Return the largest rate that trained, NaN if none did."""
    values = measurement.values
    limit = TRAINED * values["ignorant"]
    trained = [
        rate
        for rate, loss in zip(values["rates"], values["losses"], strict=True)
        if loss is not None and loss <= limit
    ]
    return max(trained, default=math.nan)


def _typical(rates: list[float]) -> str:
    return f"{math.exp(np.mean(np.log(rates))):.3g}"


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the final loss over the rate; where training diverged there is no point."""
    figure, axes = new_figure(2)
    for axis, (model, norms) in zip(axes, NORMS.items(), strict=True):
        for norm in norms:
            chosen = where(measurements, model=model, norm=norm)
            table = [
                [math.nan if loss is None else max(loss, 1e-6) for loss in m.values["losses"]]
                for m in chosen
            ]
            # Where a seed diverged the mean has no value, and the line a gap.
            whole = np.where(np.isnan(table).any(0), np.nan, table)
            rates = chosen[0].values["rates"]
            line_with_band(axis, rates, geometric_band(list(whole)), **look_of(norm))
        limit = TRAINED * chosen[0].values["ignorant"]
        mark_level(axis, limit, "stable below")
        axis.set_ylim(1e-4, 20 * limit)
        label_axes(
            axis, "learning rate (SGD)", "final training loss", y_unit="nats",
            x_log=True, y_log=True, title=TITLES[model],
        )  # fmt: skip
    legend_below(figure, *axes)
    return figure


STUDY: Final = Study(
    name="learning-rate",
    claim="Normalization allows much larger learning rates.",
    source="Ioffe & Szegedy 2015, sections 3.3 and 4.2.1 (rates of 5 and 30 times the baseline's), "
    "https://arxiv.org/abs/1502.03167; Bjorck et al. 2018, https://arxiv.org/abs/1806.02375.",
    prediction="The largest rate at which gradient descent still trains is, with BatchNorm, at "
    "least 5 times that without a norm.",
    protocol="MLP of 6 × 64 on digits (batches of 64, 300 steps) and GIN of 4 × 64 with mean "
    "readout on MUTAG (batches of 94, 100 steps), He's initial weights, SGD without momentum at "
    "18 rates from 2^-12 to 32. A rate is stable if the training loss of the last tenth of steps "
    "is at most 0.9 of that of knowing only how frequent classes are. 5 seeds; geometric means of "
    "the ratios.",
    rule="Confirmed if in both models the 95% interval of the largest stable rate with BatchNorm, "
    "over that without, lies above 5; not confirmed if it lies below 5 in either.",
    seconds=175,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
