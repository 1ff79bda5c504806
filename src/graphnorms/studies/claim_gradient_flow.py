"""Does normalization keep gradients from vanishing and exploding?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.lab.statistics import Estimate, mean_interval
from graphnorms.models import GNN, ModelConfig
from graphnorms.probes import activation_gradient_norms, gradient_norms
from graphnorms.probes.state import Loss
from graphnorms.report.style import display_name
from graphnorms.report.text_table import TextTable
from graphnorms.studies import drawing
from graphnorms.studies.evidence import CONFIDENCE, concluded, decide, numbers_of
from graphnorms.studies.measured_values import where
from graphnorms.studies.mlp import MLP
from graphnorms.studies.study import (
    Case,
    Figure,
    Finding,
    Measured,
    Measurement,
    Settings,
    Study,
    Values,
    World,
)
from graphnorms.studies.study_data import digits, graph_set
from graphnorms.studies.training_loops import minibatches, scale_weights

NORMS = {"mlp": ("none", "batch", "layer"), "gcn": ("none", "batch", "layer", "graph")}
TITLES = {"mlp": "MLP, digits", "gcn": "GCN, MUTAG"}
GAINS = (0.5, 1.0, 2.0)
WIDTH = 64
BATCH = {"mlp": 256, "gcn": 94}
SEEDS = {"planted": 4, "default": 10, "full": 30}
DEPTHS = {
    "tiny": [2, 4],
    "planted": [2, 16],
    "default": [2, 4, 8, 16, 32, 64],
    "full": [2, 4, 8, 16, 32, 64, 128],
}
FACTOR = 10.0  # gradients that differ by less are of one size


def cases(settings: Settings) -> list[Case]:
    """Both models with every norm and scale of the weights; all depths are in one case."""
    return [
        {"model": model, "norm": norm, "gain": gain, "seed": seed}
        for seed in settings.seeds(**SEEDS)
        for model in NORMS
        for norm in NORMS[model]
        for gain in GAINS
    ]


Net = tuple[nn.Module, Loss, list[str]]
"""A model, its loss, and the names of its layers, each with a Linear called `linear`."""


def measure(case: Case, settings: Settings) -> Values:
    """Measure an MLP or a GCN."""
    of_depth = _mlp if case["model"] == "mlp" else _gcn
    return observe(lambda depth: of_depth(case, depth), settings)


def observe(make: Callable[[int], Net], settings: Settings) -> Values:
    """Return, depth by depth, the gradient norm of every layer's features and of its weights."""
    depths = DEPTHS[settings.size]
    features, weights = [], []
    for depth in depths:
        model, loss, names = make(depth)
        features.append(list(activation_gradient_norms(model, loss, names).values()))
        of_weights = gradient_norms(model, loss, by="parameter")
        weights.append([of_weights[f"{name}.linear.weight"] for name in names])
    return {"depths": depths, "features": features, "weights": weights}


def _mlp(case: Case, depth: int) -> Net:
    x, y = digits()
    seed = int(case["seed"])
    rows = next(minibatches(len(x), BATCH["mlp"], 1, seed))
    x, y = x[rows].double(), y[rows]
    norm = str(case["norm"])
    # One layer more than the depth: the first one is not square, and is not looked at.
    model = MLP(64, 10, width=WIDTH, depth=depth + 1, norm=norm, seed=seed).double()
    scale_weights(model, float(case["gain"]))
    names = [f"layers.{layer}" for layer in range(1, depth + 1)]
    return model, lambda: F.cross_entropy(model(x), y), names


def _gcn(case: Case, depth: int) -> Net:
    seed = int(case["seed"])
    molecules = graph_set("MUTAG")
    batch = molecules.batch(next(minibatches(len(molecules), BATCH["gcn"], 1, seed)))
    config = ModelConfig(name="gcn", layers=depth + 1, hidden=WIDTH, readout="mean", dropout=0.0)
    model = GNN(config, str(case["norm"]), molecules.num_features, 2, seed=seed).double()
    scale_weights(model, float(case["gain"]))

    def loss() -> Tensor:
        return F.cross_entropy(model(batch.x.double(), batch.adjacency, batch.segments), batch.y)

    return model, loss, [f"convolutions.{layer}" for layer in range(1, depth + 1)]


def judge(measured: Measured, settings: Settings) -> Finding:
    """Compare what reaches the first layer with what reaches the last, in the deepest networks."""
    found = {
        (model, norm): _largest_ratio(measured, model, norm, settings.confidence)
        for model, norms in NORMS.items()
        for norm in norms
    }
    limit = math.log10(FACTOR)
    with_norm = [found[model, "batch"] for model in NORMS]
    without = [found[model, "none"] for model in NORMS]
    verdict = decide(
        confirmed=all(each.high < limit for each in with_norm)
        and all(each.low > limit for each in without),
        refuted=any(each.low > limit for each in with_norm),
    )
    conclusion = concluded(
        verdict,
        yes="With BatchNorm gradients neither vanish nor explode with the depth.",
        no="BatchNorm does not keep gradients from vanishing or exploding with the depth.",
    )
    worst = {n: max(found[m, n].mean for m in NORMS) for n in ("none", "batch")}
    return Finding(
        verdict,
        f"{conclusion} At the worst scale of the weights, the gradients that reach the first and "
        f"the last of {measured[0].values['depths'][-1]} layers differ by a factor of up to "
        f"{_power(worst['batch'])} with BatchNorm (predicted: less than {FACTOR:g}) and of up to "
        f"{_power(worst['none'])} without a norm.",
        numbers_of(
            {
                f"log10 of the factor, {TITLES[model]}, {norm}": each
                for (model, norm), each in found.items()
            }
        ),
        (
            TextTable(
                f"Factor between the gradients of the first and the last layer at the worst scale "
                f"(predicted: below {FACTOR:g} with BatchNorm, above without a norm)",
                ("", "norm", "factor"),
                tuple(
                    (
                        TITLES[m],
                        display_name(n),
                        f"{_power(each.mean)} [{_power(each.low)}, {_power(each.high)}]",
                    )
                    for (m, n), each in found.items()
                ),
            ),
        ),
    )


def _largest_ratio(
    measured: Measured, model: str, norm: str, confidence: float = CONFIDENCE
) -> Estimate:
    """Estimate the largest |log10(first / last)| over the scales, in the deepest network."""
    seeds = dict.fromkeys(m.case["seed"] for m in measured)
    worst = [
        max(
            abs(math.log10(_ratios(each)[-1]))
            for each in where(measured, model=model, norm=norm, seed=seed)
        )
        for seed in seeds
    ]
    return mean_interval(worst, confidence=confidence)


def _ratios(measurement: Measurement) -> list[float]:
    """Return the first layer's gradient norm over the last one's, depth by depth."""
    return [norms[0] / norms[-1] for norms in measurement.values["features"]]


def _power(exponent: float) -> str:
    return f"{10**exponent:.2g}" if exponent < 4 else f"10^{exponent:.1f}"


def draw(measured: Measured) -> Figure:
    """Draw the ratio over the depth, and the gradients layer by layer in the deepest networks."""
    figure, axes = drawing.new_figure(4, columns=2)
    depths = measured[0].values["depths"]
    for (model, norms), left, right in zip(NORMS.items(), axes[::2], axes[1::2], strict=True):
        for norm in norms:
            for gain in GAINS if norm == "none" else (1.0,):
                chosen = where(measured, model=model, norm=norm, gain=gain)
                how = _look(norm, gain)
                ratios = drawing.geometric_band([_ratios(m) for m in chosen])
                profiles = drawing.geometric_band([m.values["weights"][-1] for m in chosen])
                drawing.line_with_band(left, depths, ratios, **how)
                drawing.line_with_band(right, range(1, depths[-1] + 1), profiles, **how)
        drawing.mark_level(left, FACTOR)
        drawing.mark_level(left, 1 / FACTOR)
        left.set_xscale("log", base=2)
        left.set_xticks(depths, [str(depth) for depth in depths])
        factor = _power(_largest_ratio(measured, model, "batch").mean)
        title = f"{TITLES[model]}: BatchNorm {factor} at {depths[-1]}"
        drawing.label_axes(left, "depth", "|∂L/∂h|, first / last layer", log="y", title=title)
        drawing.label_axes(right, "layer", "|∂L/∂W|", log="y", title=f"{depths[-1]} layers")
    drawing.legend_below(figure, axes[2], columns=3)
    return figure


def _look(norm: str, gain: float) -> dict[str, Any]:
    if norm != "none":
        return drawing.look_of(norm)
    dashes = dict(zip(GAINS, (":", "--", "-"), strict=True))
    how = drawing.look(5, f"none, weights × {gain:g}")
    return how | {"linestyle": dashes[gain], "marker": ""}


class _Scaled(nn.Module):
    """A rotation whose result is scaled by `scale`, 2% give or take."""

    def __init__(self, scale: float, draw: torch.Generator) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)
        self.linear.weight.data = torch.linalg.qr(torch.randn(8, 8, generator=draw))[0]
        self.scale = scale * float(1 + 0.02 * torch.randn(1, generator=draw))

    def forward(self, x: Tensor) -> Tensor:
        """Rotate and scale, `(rows, channels)`."""
        y: Tensor = self.scale * self.linear(x)
        return y


def _planted(case: Case, settings: Settings, passed: float) -> Values:
    name, norm = str(case["model"]), str(case["norm"])
    scale = float(case["gain"]) if norm == "none" else passed if norm == "batch" else 1.0
    number = 8 * int(case["seed"]) + 4 * (name == "gcn") + NORMS[name].index(norm)
    draw = torch.Generator().manual_seed(number)

    def make(depth: int) -> Net:
        model = nn.Sequential(*(_Scaled(scale, draw) for _ in range(depth))).double()
        x = torch.randn(16, 8, generator=draw, dtype=torch.float64)
        return model, lambda: model(x).sum(), [str(layer) for layer in range(depth)]

    return observe(make, settings)


STUDY = Study(
    name="gradient-flow",
    claim="Normalization keeps gradients from vanishing or exploding, whatever the scale of the "
    "weights and the depth.",
    source="Ioffe & Szegedy 2015, section 3.3, https://arxiv.org/abs/1502.03167. Contested by Yang "
    "et al. 2019, https://arxiv.org/abs/1902.08129, who derive that BatchNorm makes the gradients "
    "of a deep network without residuals explode.",
    prediction="At the start, the gradients that reach the features of the first and of the last "
    f"of {DEPTHS['default'][-1]} layers differ by less than a factor of {FACTOR:g} with BatchNorm, "
    "at every scale of the weights, and by more without.",
    protocol=f"MLP of {DEPTHS['default'][0]} to {DEPTHS['default'][-1]} hidden layers of {WIDTH} "
    f"on {BATCH['mlp']} digits, and GCN of as many convolutions of {WIDTH} on {BATCH['gcn']} "
    f"molecules of MUTAG; ReLU, no residuals; weights {GAINS[0]:g}, {GAINS[1]:g} and {GAINS[2]:g} "
    "times He's, biases 0, float64. Before the first step, the norm of the gradient of every "
    f"layer's output h; {SEEDS['default']} seeds, of each the worst of the three scales. The "
    "gradients of the weights are shown beside it: they are products of h and of what reaches h, "
    "which can hide each other.",
    rule="Confirmed if, in both models at the greatest depth, the 95% interval of "
    f"|log10(first/last)| lies below {math.log10(FACTOR):g} with BatchNorm and above "
    f"{math.log10(FACTOR):g} without. Not confirmed if it lies above {math.log10(FACTOR):g} with "
    "BatchNorm in either model. LayerNorm and GraphNorm are shown beside it.",
    seconds=120,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    true=World(
        "Rotations, each scaled by the gain of the weights, and with BatchNorm by 1, 2% give or "
        "take.",
        lambda case, settings: _planted(case, settings, 1.0),
    ),
    false=World(
        "Rotations, each scaled by the gain of the weights, and with BatchNorm by 1.3: it does not "
        "feel the gain, and gradients explode all the same.",
        lambda case, settings: _planted(case, settings, 1.3),
    ),
)
