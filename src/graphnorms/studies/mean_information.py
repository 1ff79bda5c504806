"""Does subtracting the mean of a graph cost expressiveness where graphs are regular?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F
from torch import nn

from graphnorms.data import GraphBatch, GraphSet
from graphnorms.lab.statistics import Estimate, mean_interval
from graphnorms.layers import GraphNorm
from graphnorms.models import GNN, preset
from graphnorms.probes import captured, mean_information
from graphnorms.probes.capture import Side
from graphnorms.studies.drawing import (
    label_axes,
    legend_below,
    line_with_band,
    look_of,
    mark_level,
    mean_band,
    new_figure,
)
from graphnorms.studies.ratios import as_numbers, by_seed, written
from graphnorms.studies.regular import complete_graphs, regular_graphs
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

ARMS: Final = {
    "none": ("none", 1.0),
    "BatchNorm": ("batch", 1.0),
    "InstanceNorm": ("instance", 1.0),
    "GraphNorm": ("graph", 1.0),
    "GraphNorm from α 0.9": ("graph", 0.9),
}
"""The norm, and the α from which a GraphNorm starts."""
SETS: Final = ("complete", "regular")
TITLES: Final = {
    "complete": "complete graphs, one-hot degree",
    "regular": "regular graphs, constant features",
}
CHANCE: Final = 0.25  # four classes, equally frequent
NOTHING: Final = 0.3  # an accuracy below it is no more than chance
ALL: Final = 0.95  # an accuracy above it tells the classes
FIRST_NORM: Final = "convolutions.0.norm"


def cases(settings: Settings) -> list[Case]:
    """Both sets with every norm, GraphNorm from two values of its α."""
    return [
        {"set": name, "norm": norm, "alpha": alpha, "seed": seed}
        for seed in settings.seeds(default=6, full=30)
        for name in SETS
        for norm, alpha in ARMS.values()
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train a GIN; return its accuracy, and what the mean tells before and behind a norm."""
    seed = int(case["seed"])
    steps = settings.pick(tiny=10, default=200, full=1000)
    given = _graphs(str(case["set"]), seed)
    batch = given.batch(torch.arange(len(given)))
    # Not the sum: that would tell how many nodes there are, whatever the features.
    config = replace(preset("gin", "graphnorm-paper", node_labels=False), dropout=0.0)
    model = GNN(config, str(case["norm"]), given.num_features, 4, seed=seed)
    for module in model.modules():
        if isinstance(module, GraphNorm):
            nn.init.constant_(module.mean_scale, float(case["alpha"]))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    curve = []
    for step in range(steps):
        logits = model(batch.x, batch.adjacency, batch.segments)
        if step % 5 == 0:
            curve.append(_accuracy(logits, batch.y))
        optimizer.zero_grad()
        F.cross_entropy(logits, batch.y).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        logits = model(batch.x, batch.adjacency, batch.segments)
    return {
        "accuracy": _accuracy(logits, batch.y),
        "curve": curve,
        "before": _told_by_mean(model, batch, "input"),
        "behind": _told_by_mean(model, batch, "output"),
    }


def _graphs(name: str, seed: int) -> GraphSet:
    if name == "complete":
        return complete_graphs(32, "degree", seed)
    return regular_graphs(48, "constant", seed)


def _accuracy(logits: torch.Tensor, y: torch.Tensor) -> float:
    return float((logits.argmax(1) == y).double().mean())


def _told_by_mean(model: GNN, batch: GraphBatch, side: Side) -> float:
    """Return how well a linear probe tells the classes from the means around the first norm."""
    with captured(model, [FIRST_NORM], side) as seen, torch.no_grad():
        model(batch.x, batch.adjacency, batch.segments)
    return mean_information(seen[FIRST_NORM][0], batch.segments, batch.y, folds=4).accuracy


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Ask for InstanceNorm at chance in both sets, where others tell all classes."""
    found = {
        (name, arm): mean_interval(
            by_seed(measurements, "accuracy", set=name, norm=norm, alpha=alpha)
        )
        for name in SETS
        for arm, (norm, alpha) in ARMS.items()
    }
    blind = [found[name, "InstanceNorm"] for name in SETS]
    seeing = [
        found["complete", "GraphNorm"],
        found["regular", "BatchNorm"],
        found["regular", "none"],
    ]
    verdict = decide(
        confirmed=all(each.high < NOTHING for each in blind)
        and all(each.low > ALL for each in seeing),
        refuted=any(each.low > NOTHING for each in blind)
        or any(each.high < ALL for each in seeing),
    )
    numbers: dict[str, float | None] = {}
    for (name, arm), each in found.items():
        numbers |= as_numbers(f"accuracy, {name}, {arm}", each)
    return Finding(
        verdict,
        "Training accuracy with four classes. " + " ".join(_sentence(found, n) for n in SETS),
        numbers,
    )


def _sentence(found: dict[tuple[str, str], Estimate], name: str) -> str:
    parts = [f"{arm} {written(found[name, arm])}" for arm in ARMS]
    return f"{TITLES[name].capitalize()}: {', '.join(parts)}."


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the accuracy over training, and what the mean tells before and behind a norm."""
    figure, axes = new_figure(4, columns=2)
    for name, left, right in zip(SETS, axes[:2], axes[2:], strict=True):
        for place, (arm, (norm, alpha)) in enumerate(ARMS.items()):
            chosen = where(measurements, set=name, norm=norm, alpha=alpha)
            curves = [m.values["curve"] for m in chosen]
            line_with_band(left, range(0, 5 * len(curves[0]), 5), mean_band(curves), **_look(arm))
            for run, each in enumerate(chosen):
                spread = 0.3 * (run / max(1, len(chosen) - 1) - 0.5)
                ends = (each.values["before"], each.values["behind"])
                right.plot([2 * place + spread, 2 * place + 1 + spread], ends, **_look(arm))
        label_axes(left, "step", "training accuracy", title=TITLES[name])
        label_axes(right, "", "accuracy of a linear probe", title="told by the mean of a graph")
        right.set_xticks(
            range(2 * len(ARMS)), ["before", "behind"] * len(ARMS), rotation=60, fontsize=7
        )
        for axis in (left, right):
            axis.set_ylim(-0.03, 1.05)
            mark_level(axis, CHANCE, "chance")
    legend_below(figure, axes[0])
    return figure


def _look(arm: str) -> dict[str, Any]:
    norm, alpha = ARMS[arm]
    how = look_of(norm) | {"label": arm}
    if norm == "instance":
        how["linewidth"] = 5  # GraphNorm from 1 lies on it
    return how | ({"linestyle": ":"} if alpha < 1 else {})


STUDY: Final = Study(
    name="mean-information",
    claim="Subtracting the mean of each graph costs expressiveness where graphs are regular: the "
    "mean is then all that tells them apart.",
    source="Cai et al. 2021, propositions 4.1 and 4.2 and fig. 4, "
    "https://arxiv.org/abs/2009.03294.",
    prediction="With InstanceNorm a GIN stays at chance on complete graphs with the degree as "
    "feature and on regular graphs without features. With GraphNorm it tells all complete "
    "graphs, with BatchNorm and with none all regular ones. For GraphNorm on regular graphs "
    "nothing is predicted: a channel that is constant in a graph keeps its sign only, and whether "
    "signs tell the classes depends on the biases.",
    protocol="32 complete graphs of 6, 9, 12 and 15 nodes with one-hot degrees, the class being "
    "the size; and 48 circulant graphs of 3 to 6 neighbours and 8 to 24 nodes, all features 1, the "
    "class being the degree. The authors' GIN (4 convolutions of 64, residuals, mean readout) "
    "without dropout, Adam 0.01 on all graphs at once, 200 steps; accuracy on the same graphs, in "
    "eval mode; 6 seeds. Beside it, how well a logistic regression tells the classes from the "
    "means before and behind the first norm. GraphNorm is as it is made, α = 1; beside the rule "
    "it starts at α = 0.9: at 1 it is InstanceNorm, all that enters a ReLU is exactly 0, and so is "
    "every gradient before the head, so that it cannot leave, unless rounding errors in the mean "
    "push it (as in implementations that sum and divide).",
    rule="Confirmed if the 95% interval of the accuracy lies below 0.3 with InstanceNorm on both "
    "sets, above 0.95 with GraphNorm on complete graphs, and above 0.95 with BatchNorm and none on "
    "regular ones. Not confirmed if it lies on the other side of its limit "
    "in any of the five.",
    seconds=60,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
