"""Does subtracting the mean of a graph cost expressiveness where graphs are regular?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F
from torch import nn

from graphnorms.data import GraphBatch, GraphSet
from graphnorms.lab.statistics import Estimate, mean_interval, paired_difference
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
EXACT: Final = ("complete", "regular")
NEARLY: Final = "nearly regular"
TITLES: Final = {
    "complete": "complete graphs, one-hot degree",
    "regular": "regular graphs, constant features",
    NEARLY: "nearly regular graphs, constant features",
}
SEEING: Final = ("none", "BatchNorm")
CHANCE: Final = 0.25  # four classes, equally frequent
NOTHING: Final = 0.3  # an accuracy below it is no more than chance
ALL: Final = 0.95  # an accuracy above it tells the classes
COST: Final = 0.1  # of accuracy on new graphs that are nearly regular; less is no cost
FIRST_NORM: Final = "convolutions.0.norm"
NEW: Final = 10**6  # added to the seed of graphs that are not trained on


def cases(settings: Settings) -> list[Case]:
    """Every set with every norm, GraphNorm from two values of its α; planted without it."""
    arms = [arm for arm in ARMS.values() if settings.size != "planted" or arm[0] != "graph"]
    return [
        {"set": name, "norm": norm, "alpha": alpha, "seed": seed}
        for seed in settings.seeds(planted=3, default=8, full=30)
        for name in TITLES
        for norm, alpha in arms
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train a GIN; return its accuracy, and what the mean tells before and behind a norm."""
    return observe(case, settings)


def observe(
    case: Case, settings: Settings, adapt: Callable[[GNN], None] = lambda model: None
) -> Values:
    """Measure a model that something may have been planted in."""
    seed = int(case["seed"])
    steps = settings.pick(tiny=10, planted=50, default=150, full=1000)
    given = _graphs(str(case["set"]), seed)
    batch = given.batch(torch.arange(len(given)))
    # Not the sum: that would tell how many nodes there are, whatever the features.
    config = replace(preset("gin", "graphnorm-paper", node_labels=False), dropout=0.0)
    if settings.size == "planted":
        config = replace(config, layers=2, hidden=32)
    model = GNN(config, str(case["norm"]), given.num_features, 4, seed=seed)
    for module in model.modules():
        if isinstance(module, GraphNorm):
            nn.init.constant_(module.mean_scale, float(case["alpha"]))
    adapt(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    curve = []
    for step in range(steps):
        logits = model(batch.x, batch.adjacency, batch.segments)
        if step % 5 == 0:
            curve.append(_accuracy(logits, batch.y))
        optimizer.zero_grad()
        F.cross_entropy(logits, batch.y).backward()
        optimizer.step()
    model.eval()
    new = _graphs(str(case["set"]), seed + NEW)
    found = {"accuracy": _tested(model, given), "new": _tested(model, new), "curve": curve}
    if settings.size == "planted":
        return found
    return found | {
        "before": _told_by_mean(model, batch, "input"),
        "behind": _told_by_mean(model, batch, "output"),
    }


def _graphs(name: str, seed: int) -> GraphSet:
    if name == "complete":
        return complete_graphs(32, "degree", seed)
    thinned = {"thinned": 1.0, "removed": 0.05} if name == NEARLY else {}
    return regular_graphs(48, "constant", seed, **thinned)


def _tested(model: GNN, given: GraphSet) -> float:
    batch = given.batch(torch.arange(len(given)))
    with torch.no_grad():
        return _accuracy(model(batch.x, batch.adjacency, batch.segments), batch.y)


def _accuracy(logits: torch.Tensor, y: torch.Tensor) -> float:
    return float((logits.argmax(1) == y).double().mean())


def _told_by_mean(model: GNN, batch: GraphBatch, side: Side) -> float:
    """Return how well a linear probe tells the classes from the means around the first norm."""
    with captured(model, [FIRST_NORM], side) as seen, torch.no_grad():
        model(batch.x, batch.adjacency, batch.segments)
    return mean_information(seen[FIRST_NORM][0], batch.segments, batch.y, folds=4).accuracy


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Ask for InstanceNorm at chance on exact sets, and for a cost on nearly regular graphs."""
    arms = [arm for arm, (norm, alpha) in ARMS.items() if where(measurements, norm=norm)]
    exact = {
        (name, arm): _of(measurements, "accuracy", name, arm) for name in EXACT for arm in arms
    }
    new = {arm: _of(measurements, "new", NEARLY, arm) for arm in arms}
    cost = paired_difference(
        new["BatchNorm"], new["InstanceNorm"], confidence=settings.confidence
    ).estimate
    blind = [exact[name, "InstanceNorm"] for name in EXACT]
    seeing = [exact[name, arm] for name in EXACT for arm in SEEING]
    verdict = decide(
        confirmed=all(max(each) < NOTHING for each in blind)
        and all(max(each) > ALL for each in seeing)
        and cost.low > COST,
        refuted=any(min(each) > NOTHING for each in blind) or cost.high < COST,
    )
    numbers: dict[str, float | None] = {}
    for (name, arm), values in exact.items():
        numbers[f"accuracy, {name}, {arm}"] = sum(values) / len(values)
    for arm, values in new.items():
        numbers |= as_numbers(f"accuracy on new graphs, {NEARLY}, {arm}", mean_interval(values))
    numbers |= as_numbers("accuracy on new graphs, BatchNorm less InstanceNorm", cost)
    return Finding(verdict, _statement(exact, new, cost), numbers)


def _of(measurements: Sequence[Measurement], value: str, name: str, arm: str) -> list[float]:
    norm, alpha = ARMS[arm]
    return by_seed(measurements, value, set=name, norm=norm, alpha=alpha)


def _statement(
    exact: Mapping[tuple[str, str], Sequence[float]],
    new: Mapping[str, Sequence[float]],
    cost: Estimate,
) -> str:
    by_set = [
        f"{TITLES[name]}: "
        + ", ".join(
            f"{arm} {min(values):.2f}"
            + ("" if min(values) == max(values) else f" to {max(values):.2f}")
            for (of, arm), values in exact.items()
            if of == name
        )
        for name in EXACT
    ]
    nearly = ", ".join(f"{arm} {written(mean_interval(values))}" for arm, values in new.items())
    return (
        f"By construction, training accuracy with four classes, over all seeds: "
        f"{'; '.join(by_set)}. Measured, accuracy on new {TITLES[NEARLY]}: {nearly}; "
        f"BatchNorm less InstanceNorm {written(cost)}."
    )


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the accuracy over training, what the mean tells around a norm, and new graphs."""
    figure, axes = new_figure(6, columns=3, size=(2.7, 2.6))
    for name, top, bottom in zip(TITLES, axes[:3], axes[3:], strict=True):
        for place, (arm, (norm, alpha)) in enumerate(ARMS.items()):
            chosen = where(measurements, set=name, norm=norm, alpha=alpha)
            curves = [m.values["curve"] for m in chosen]
            line_with_band(top, range(0, 5 * len(curves[0]), 5), mean_band(curves), **_look(arm))
            for run, each in enumerate(chosen):
                spread = 0.3 * (run / max(1, len(chosen) - 1) - 0.5)
                if name == NEARLY:
                    bottom.plot(place + spread, each.values["new"], **_look(arm) | {"marker": "o"})
                    continue
                ends = (each.values["before"], each.values["behind"])
                bottom.plot([2 * place + spread, 2 * place + 1 + spread], ends, **_look(arm))
        label_axes(top, "step", "training accuracy", title=TITLES[name].replace(", ", ",\n"))
        for axis in (top, bottom):
            axis.set_ylim(-0.03, 1.05)
            mark_level(axis, CHANCE, "chance")
    for axis in axes[3:5]:
        label_axes(axis, "", "accuracy of a linear probe", title="told by a graph's mean")
        axis.set_xticks(
            range(2 * len(ARMS)), ["before", "behind"] * len(ARMS), rotation=60, fontsize=6
        )
    means = {arm: mean_interval(_of(measurements, "new", NEARLY, arm)).mean for arm in ARMS}
    label_axes(axes[5], "", "accuracy on new graphs", title="nearly regular, new graphs")
    axes[5].set_xticks(range(len(ARMS)), [f"{mean:.2f}" for mean in means.values()])
    legend_below(figure, axes[0])
    figure.suptitle(
        f"With InstanceNorm at chance on regular graphs, and at {means['InstanceNorm']:.2f} "
        f"(none: {means['none']:.2f}) on new, nearly regular ones",
        fontsize=9,
    )
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
    "feature and on regular graphs without features; without a norm and with BatchNorm it can tell "
    "them all. This much is a theorem, and holds by construction. What may fail: on nearly "
    "regular graphs, which InstanceNorm does not make equal, it still costs more than 0.1 of the "
    "accuracy on new graphs.",
    protocol="32 complete graphs of 6, 9, 12 and 15 nodes with one-hot degrees, the class being "
    "the size; 48 circulant graphs of 3 to 6 neighbours and 8 to 24 nodes, all features 1, the "
    "class being the degree; and 48 of those that lack a twentieth of their edges each, tested on "
    "48 others. The authors' GIN (4 convolutions of 64, residuals, mean readout) without dropout, "
    "Adam 0.01 on all graphs at once, 150 steps; accuracy in eval mode; 8 seeds of graphs and "
    "weights. Beside it, how well a logistic regression tells the classes from the means before "
    "and behind the first norm; and GraphNorm, as it is made (α = 1) and from α = 0.9: at 1 it "
    "is InstanceNorm, all that enters a ReLU of a regular graph is exactly 0, and so is every "
    "gradient before the head.",
    rule="Confirmed if with InstanceNorm every seed is below 0.3 on both exact sets, with none and "
    "with BatchNorm some seed is above 0.95 there (what a network can tell is asked, not how fast "
    "it learns), and the interval of the accuracy on new, nearly regular graphs, BatchNorm less "
    "InstanceNorm, lies above 0.1. Not confirmed if with InstanceNorm every seed is above 0.3 on "
    "an exact set, or the interval lies below 0.1.",
    seconds=50,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    changed="At first not confirmed, although InstanceNorm was at chance (0.25) and the others at "
    "1.00 on both sets: the rule also asked that GraphNorm, from α = 1, tell the complete graphs, "
    "which is not part of the claim. GraphNorm is now shown beside the rule. What is left is true "
    "by construction, and its six seeds were one observation; the nearly regular graphs are new.",
)
