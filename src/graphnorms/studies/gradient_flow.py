"""Does normalization keep gradients from vanishing and exploding?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F
from torch import nn

from graphnorms.lab.statistics import Estimate, mean_interval
from graphnorms.models import GNN, MLP, ModelConfig
from graphnorms.probes import activation_gradient_norms, gradient_norms
from graphnorms.probes.state import Loss
from graphnorms.studies.drawing import (
    geometric_band,
    label_axes,
    legend_below,
    line_with_band,
    look,
    look_of,
    mark_level,
    new_figure,
)
from graphnorms.studies.material import digits, graphs, minibatches, scale_weights
from graphnorms.studies.ratios import as_numbers
from graphnorms.studies.study import (
    CONFIDENCE,
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

NORMS: Final = {"mlp": ("none", "batch", "layer"), "gcn": ("none", "batch", "layer", "graph")}
TITLES: Final = {"mlp": "MLP, digits", "gcn": "GCN, MUTAG"}
GAINS: Final = (0.5, 1.0, 2.0)
WIDTH: Final = 64
BATCH: Final = {"mlp": 256, "gcn": 94}
FACTOR: Final = 10.0  # gradients that differ by less are of one size


def cases(settings: Settings) -> list[Case]:
    """Both models with every norm and scale of the weights; all depths are in one case."""
    return [
        {"model": model, "norm": norm, "gain": gain, "seed": seed}
        for seed in settings.seeds(planted=4, default=10, full=30)
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
    depths = settings.pick(
        tiny=[2, 4], planted=[2, 16], default=[2, 4, 8, 16, 32, 64],
        full=[2, 4, 8, 16, 32, 64, 128],
    )  # fmt: skip
    features, weights = [], []
    for depth in depths:
        model, loss, names = make(depth)
        features.append(list(activation_gradient_norms(model, loss, names).values()))
        of_weights = gradient_norms(model, loss, by="parameter")
        weights.append([of_weights[f"{name}.linear.weight"] for name in names])
    return {"depths": depths, "features": features, "weights": weights}


def _mlp(case: Case, depth: int) -> Net:
    seed = int(case["seed"])
    x, y = digits()
    rows = next(minibatches(len(x), BATCH["mlp"], 1, seed))
    x, y = x[rows].double(), y[rows]
    # One layer more than the depth: the first one is not square, and not looked at.
    model = MLP(64, 10, width=WIDTH, depth=depth + 1, norm=str(case["norm"]), seed=seed).double()
    scale_weights(model, float(case["gain"]))
    names = [f"layers.{layer}" for layer in range(1, depth + 1)]
    return model, lambda: F.cross_entropy(model(x), y), names


def _gcn(case: Case, depth: int) -> Net:
    seed = int(case["seed"])
    molecules = graphs("MUTAG", None)
    batch = molecules.batch(next(minibatches(len(molecules), BATCH["gcn"], 1, seed)))
    config = ModelConfig(name="gcn", layers=depth + 1, hidden=WIDTH, readout="mean", dropout=0.0)
    model = GNN(config, str(case["norm"]), molecules.num_features, 2, seed=seed).double()
    scale_weights(model, float(case["gain"]))

    def loss() -> torch.Tensor:
        return F.cross_entropy(model(batch.x.double(), batch.adjacency, batch.segments), batch.y)

    return model, loss, [f"convolutions.{layer}" for layer in range(1, depth + 1)]


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Compare what reaches the first layer with what reaches the last, in the deepest networks."""
    found = {
        (model, norm): _largest_ratio(measurements, model, norm, settings.confidence)
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
    depth = measurements[0].values["depths"][-1]
    parts = [
        f"{TITLES[model]}: "
        + ", ".join(f"{norm} {_power(found[model, norm].mean)}" for norm in norms)
        for model, norms in NORMS.items()
    ]
    return Finding(
        verdict,
        f"The gradients that reach the first and the last of {depth} layers differ, at the worst "
        f"scale of the weights, by a factor of: {'; '.join(parts)}.",
        {
            name: value
            for (model, norm), each in found.items()
            for name, value in as_numbers(
                f"log10 of the factor, {TITLES[model]}, {norm}", each
            ).items()
        },
    )


def _largest_ratio(
    measurements: Sequence[Measurement], model: str, norm: str, confidence: float
) -> Estimate:
    """Estimate the largest |log10(first / last)| over the scales, in the deepest network."""
    seeds = dict.fromkeys(m.case["seed"] for m in measurements)
    worst = [
        max(
            abs(math.log10(_ratios(each)[-1]))
            for each in where(measurements, model=model, norm=norm, seed=seed)
        )
        for seed in seeds
    ]
    return mean_interval(worst, confidence=confidence)


def _ratios(measurement: Measurement) -> list[float]:
    """Return the first layer's gradient norm over the last one's, depth by depth."""
    return [norms[0] / norms[-1] for norms in measurement.values["features"]]


def _power(exponent: float) -> str:
    return f"{10**exponent:.2g}" if exponent < 4 else f"10^{exponent:.1f}"


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the ratio over the depth, and the gradients layer by layer in the deepest networks."""
    figure, axes = new_figure(4, columns=2)
    depths = measurements[0].values["depths"]
    for (model, norms), left, right in zip(NORMS.items(), axes[::2], axes[1::2], strict=True):
        for norm in norms:
            for gain in GAINS if norm == "none" else (1.0,):
                chosen = where(measurements, model=model, norm=norm, gain=gain)
                how = _look(norm, gain)
                profiles = [m.values["weights"][-1] for m in chosen]
                line_with_band(left, depths, geometric_band([_ratios(m) for m in chosen]), **how)
                line_with_band(right, range(1, depths[-1] + 1), geometric_band(profiles), **how)
        mark_level(left, FACTOR)
        mark_level(left, 1 / FACTOR)
        left.set_xscale("log", base=2)
        left.set_xticks(depths, [str(depth) for depth in depths])
        factor = _power(_largest_ratio(measurements, model, "batch", CONFIDENCE).mean)
        title = f"{TITLES[model]}: BatchNorm {factor} at {depths[-1]}"
        label_axes(left, "depth", "|∂L/∂h|, first / last layer", y_log=True, title=title)
        label_axes(right, "layer", "|∂L/∂W|", y_log=True, title=f"{depths[-1]} layers")
    legend_below(figure, axes[2], columns=3)
    return figure


def _look(norm: str, gain: float) -> dict[str, Any]:
    if norm != "none":
        return look_of(norm)
    dashes = dict(zip(GAINS, (":", "--", "-"), strict=True))
    return look(5, f"none, weights × {gain:g}") | {"linestyle": dashes[gain], "marker": ""}


STUDY: Final = Study(
    name="gradient-flow",
    claim="Normalization keeps gradients from vanishing or exploding, whatever the scale of the "
    "weights and the depth.",
    source="Ioffe & Szegedy 2015, section 3.3, https://arxiv.org/abs/1502.03167. Contested by Yang "
    "et al. 2019, https://arxiv.org/abs/1902.08129, who derive that BatchNorm makes the gradients "
    "of a deep network without residuals explode.",
    prediction="At the start, the gradients that reach the features of the first and of the last "
    "of 64 layers differ by less than a factor of 10 with BatchNorm, at every scale of the "
    "weights, and by more without.",
    protocol="MLP of 2 to 64 hidden layers of 64 on 256 digits, and GCN of as many convolutions of "
    "64 on 94 molecules of MUTAG; ReLU, no residuals; weights 0.5, 1 and 2 times He's, biases 0, "
    "float64. Before the first step, the norm of the gradient of every layer's output h; 10 seeds, "
    "of each the worst of the three scales. The gradients of the weights are shown beside it: "
    "they are products of h and of what reaches h, which can hide each other.",
    rule="Confirmed if, in both models at the greatest depth, the 95% interval of "
    "|log10(first/last)| lies below 1 with BatchNorm and above 1 without. Not confirmed if it "
    "lies above 1 with BatchNorm in either model. LayerNorm and GraphNorm are shown beside it.",
    seconds=120,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
