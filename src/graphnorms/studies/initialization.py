"""Does normalization make the scale of the initial weights matter less?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.lab.statistics import mean_interval
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

NORMS: Final = {"mlp": ("none", "batch", "layer"), "gin": ("none", "batch", "graph")}
TITLES: Final = {"mlp": "MLP, digits", "gin": "GIN, MUTAG"}
GAINS: Final = (0.1, 0.22, 0.46, 1.0, 2.2, 4.6, 10.0)
KEPT: Final = 0.8  # of the progress, averaged over the gains: from here on, it is robust


def cases(settings: Settings) -> list[Case]:
    """Both models, with and without norms; all gains are in one case."""
    return [
        {"model": model, "norm": norm, "seed": seed}
        for seed in settings.seeds(default=5, full=20)
        for model in NORMS
        for norm in NORMS[model]
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train once from every gain, and return the losses at the end and that of knowing nothing."""
    train = _train_mlp if case["model"] == "mlp" else _train_gin
    gains = settings.pick(tiny=(0.1, 1.0, 10.0), default=GAINS, full=GAINS)
    ended = [train(str(case["norm"]), gain, int(case["seed"]), settings) for gain in gains]
    labels = digits()[1] if case["model"] == "mlp" else graphs("MUTAG", None).y
    frequencies = labels.bincount() / len(labels)
    ignorant = -(frequencies * frequencies.log()).sum().item()
    return {"gains": list(gains), "losses": ended, "ignorant": ignorant}


def _train_mlp(norm: str, gain: float, seed: int, settings: Settings) -> float:
    x, y = digits()
    model = MLP(64, 10, width=64, depth=6, norm=norm, seed=seed)
    scale_weights(model, gain)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    steps = settings.pick(tiny=40, default=400, full=4000)
    losses = (
        F.cross_entropy(model(x[rows]), y[rows]) for rows in minibatches(len(x), 64, steps, seed)
    )
    return _final_loss(model, optimizer, losses)


def _train_gin(norm: str, gain: float, seed: int, settings: Settings) -> float:
    molecules = graphs("MUTAG", None)
    # Sums over a molecule would make the first outputs too large for any rate.
    config = replace(preset("gin"), readout="mean")
    model = GNN(config, norm, molecules.num_features, 2, seed=seed)
    scale_weights(model, gain)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    steps = settings.pick(tiny=20, default=200, full=2000)

    def losses() -> Iterator[Tensor]:
        for rows in minibatches(len(molecules), 94, steps, seed):
            batch = molecules.batch(rows)
            yield F.cross_entropy(model(batch.x, batch.adjacency, batch.segments), batch.y)

    return _final_loss(model, optimizer, losses())


def _final_loss(
    model: nn.Module, optimizer: torch.optim.Optimizer, losses: Iterator[Tensor]
) -> float:
    """Train on losses that are computed one by one; return the mean over the last tenth."""
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
    """Compare what is kept of the attainable progress, averaged over the gains."""
    kept = {
        (model, norm): [_kept(each) for each in where(measurements, model=model, norm=norm)]
        for model, norms in NORMS.items()
        for norm in norms
    }
    own = {
        key: mean_interval(values, confidence=settings.confidence) for key, values in kept.items()
    }
    gained = {
        model: mean_interval(
            np.subtract(kept[model, "batch"], kept[model, "none"]), confidence=settings.confidence
        )
        for model in NORMS
    }
    verdict = decide(
        confirmed=all(own[m, "batch"].low > KEPT and gained[m].low > 0 for m in NORMS),
        refuted=any(own[m, "batch"].high < KEPT or gained[m].high < 0 for m in NORMS),
    )
    said = "; ".join(
        f"{TITLES[model]}: " + ", ".join(f"{norm} {written(own[model, norm])}" for norm in norms)
        for model, norms in NORMS.items()
    )
    named = {f"kept, {TITLES[model]}, {norm}": each for (model, norm), each in own.items()}
    named |= {f"kept, {TITLES[model]}, batch − none": each for model, each in gained.items()}
    return Finding(
        verdict,
        f"Share of the best gain's progress that is kept, averaged over gains from 0.1 to 10: "
        f"{said}.",
        {
            key: value
            for name, each in named.items()
            for key, value in as_numbers(name, each).items()
        },
    )


def _kept(measurement: Measurement) -> float:
    """Return the progress from each gain as a share of the best one's, averaged; 0 to 1."""
    values = measurement.values
    progress = [
        0.0 if loss is None else max(0.0, values["ignorant"] - loss) for loss in values["losses"]
    ]
    return float(np.mean(progress)) / max(progress) if max(progress) else 0.0


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the final loss over the gain; where training diverged there is no point."""
    figure, axes = new_figure(2)
    for axis, (model, norms) in zip(axes, NORMS.items(), strict=True):
        for norm in norms:
            chosen = where(measurements, model=model, norm=norm)
            gains = chosen[0].values["gains"]
            # Where a seed diverged the mean has no value, and the line a gap.
            table = [
                [math.nan if loss is None else max(loss, 1e-6) for loss in m.values["losses"]]
                for m in chosen
            ]
            whole = np.where(np.isnan(table).any(0), np.nan, table)
            line_with_band(axis, gains, geometric_band(list(whole)), **look_of(norm))
        mark_level(axis, chosen[0].values["ignorant"], "knows nothing")
        label_axes(
            axis, "gain of the initial weights (He = 1)", "final training loss", y_unit="nats",
            x_log=True, y_log=True, title=TITLES[model],
        )  # fmt: skip
    legend_below(figure, *axes)
    return figure


STUDY: Final = Study(
    name="initialization",
    claim="Normalization makes networks robust to the scale of their initial weights.",
    source="Ioffe & Szegedy 2015, sections 1 and 3.3, https://arxiv.org/abs/1502.03167: less care "
    "about initialization; Bjorck et al. 2018, https://arxiv.org/abs/1806.02375.",
    prediction="From initial weights of 0.1 to 10 times He's, a network with BatchNorm keeps on "
    "average at least 0.8 of the progress that it makes from its best scale, and more than one "
    "without a norm.",
    protocol="MLP of 6 × 64 on digits (SGD 0.1, batches of 64, 400 steps) and GIN of 4 × 64 with "
    "mean readout on MUTAG (Adam 0.003, batches of 94, 200 steps), all weights at 7 gains, biases "
    "0. Progress: the loss of knowing only how frequent classes are, less the training loss in the "
    "last tenth of the steps; 0 if that is negative or training diverged. 5 seeds.",
    rule="Confirmed if in both models the 95% interval of the share kept with BatchNorm lies above "
    "0.8, and that of its difference to none above 0. Not confirmed if in either model one of "
    "them lies below.",
    seconds=145,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
