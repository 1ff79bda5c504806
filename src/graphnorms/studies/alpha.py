"""Does a learned shift beat a full shift, where the mean tells the graphs apart?"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch

from graphnorms.data import GraphSet
from graphnorms.lab.statistics import Estimate, paired_difference
from graphnorms.layers import GraphNorm
from graphnorms.models import GNN, preset
from graphnorms.studies.drawing import (
    label_axes,
    legend_below,
    line_with_band,
    look_of,
    mark_level,
    mean_band,
    new_figure,
)
from graphnorms.studies.material import (
    accuracy,
    graph_logits,
    graphs,
    learning_curve,
    own_part,
)
from graphnorms.studies.ratios import as_numbers, by_seed, written
from graphnorms.studies.regular import complete_graphs, regular_graphs
from graphnorms.studies.social import casts
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

SHIFTS: Final = ("learned", "full")
EXACT: Final = {"regular": regular_graphs, "complete": complete_graphs}
NEARLY: Final = {f"nearly {kind}": make for kind, make in EXACT.items()}
REMOVED: Final = 0.05  # of the edges of a graph that is nearly regular
SOCIAL: Final = "IMDB-like"
LARGER: Final = "IMDBBINARY"
SEEDS: Final = 10
BESIDE: Final = 5  # seeds of the set that is shown beside the rule
GAIN: Final = 0.1  # a difference of the accuracies below it is no gain
NEW: Final = 10**6  # added to the seed of graphs that are not trained on
TESTED: Final = 200
LOOKS: Final = 10


def cases(settings: Settings) -> list[Case]:
    """Every set with either shift; exact ones once, their outcome being the same for all seeds."""
    seeds = settings.seeds(planted=4, default=SEEDS, full=30)
    real = SOCIAL if settings.data is None else LARGER
    numbers = dict.fromkeys(NEARLY, len(seeds))
    if settings.size != "planted":
        numbers = dict.fromkeys(EXACT, 1) | numbers | {real: BESIDE}
    return [
        {"set": name, "shift": shift, "seed": seed}
        for name, number in numbers.items()
        for seed in seeds[:number]
        for shift in SHIFTS
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train the authors' GIN with GraphNorm; return its accuracies, and the α."""
    return observe(case, settings)


def observe(
    case: Case, settings: Settings, adapt: Callable[[GNN], None] = lambda model: None
) -> Values:
    """Measure a model that something may have been planted in."""
    name, seed = str(case["set"]), int(case["seed"])
    given = _graphs(name, seed, settings)
    # Not the sum: that would tell how many nodes there are, whatever the features.
    config = preset("gin", "graphnorm-paper", node_labels=False)
    if settings.size == "planted":
        config = replace(config, layers=2, hidden=32)
    model = GNN(config, "graph", given.num_features, given.num_classes, seed=seed)
    norms = [module for module in model.modules() if isinstance(module, GraphNorm)]
    for norm in norms:
        norm.mean_scale.requires_grad_(case["shift"] == "learned")  # it is 1 at the start
    adapt(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    steps = settings.pick(tiny=10, planted=60, default=150, full=600)
    curve = learning_curve(
        model, graph_logits(model, given), given.y, optimizer,
        steps=steps, size=min(128, len(given)), looks=LOOKS, seed=seed,
    )  # fmt: skip
    values: Values = {
        "steps": steps,
        "curve": curve,
        "accuracy": curve[-1],
        "alpha": [[round(a, 3) for a in norm.mean_scale.tolist()] for norm in norms],
    }
    if name in NEARLY:
        new = NEARLY[name](TESTED, "constant", seed + NEW, thinned=1.0, removed=REMOVED)
        values["new"] = accuracy(model, graph_logits(model, new), new.y)
    return values


def _graphs(name: str, seed: int, settings: Settings) -> GraphSet:
    if name in EXACT:
        return EXACT[name](48, "constant", seed)
    if name in NEARLY:
        return NEARLY[name](48, "constant", seed, thinned=1.0, removed=REMOVED)
    number = settings.pick(tiny=16, default=80, full=300)
    if name == SOCIAL:
        return casts(number, seed)
    whole = graphs(name, settings.data)
    seeds = settings.seeds(default=SEEDS, full=30)
    return own_part(whole, min(number, len(whole) // len(seeds)), seed)


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Compare both shifts on new graphs that are nearly regular, or nearly complete."""
    numbers: dict[str, float | None] = {}
    gains, parts, beside = [], [], []
    for name in dict.fromkeys(str(m.case["set"]) for m in measurements):
        for value, title in (("new", "new graphs"), ("accuracy", "training graphs")):
            if value == "new" and name not in NEARLY:
                continue
            found = {s: by_seed(measurements, value, set=name, shift=s) for s in SHIFTS}
            means = [statistics.fmean(found[shift]) for shift in SHIFTS]
            gain = _gain(measurements, value, name, settings.confidence)
            numbers |= as_numbers(f"gain in accuracy, {name}, {title}", gain)
            for shift, mean in zip(SHIFTS, means, strict=True):
                numbers[f"accuracy, {name}, {title}, {shift}"] = mean
            said = f"{name} {means[0]:.2f} against {means[1]:.2f}"
            if value == "new":
                gains.append(gain)
                parts.append(f"{said}, {written(gain)}")
            elif name in EXACT:
                beside.append(f"{said} by construction")
            else:
                beside.append(f"{said}, {written(gain)}")
        alpha = torch.tensor([
            m.values["alpha"] for m in where(measurements, set=name, shift="learned")
        ])  # fmt: skip
        numbers[f"mean of |α − 1|, {name}"] = float((alpha - 1).abs().mean())
    verdict = decide(
        confirmed=all(gain.low > GAIN for gain in gains),
        refuted=any(gain.high < GAIN for gain in gains),
    )
    return Finding(
        verdict,
        "Accuracy with a learned shift against a full one, and the difference, on new graphs: "
        f"{'; '.join(parts)}. Beside the rule, on the graphs of training: {'; '.join(beside)}.",
        numbers,
    )


def _gain(
    measurements: Sequence[Measurement], value: str, name: str, confidence: float = 0.95
) -> Estimate:
    first, second = (by_seed(measurements, value, set=name, shift=shift) for shift in SHIFTS)
    return paired_difference(first, second, confidence=confidence).estimate


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the accuracy on new graphs, over training, and where the α go."""
    figure, axes = new_figure(4, columns=2)
    by_set, shifts = axes[0], axes[3]
    for place, name in enumerate(NEARLY):
        for number, shift in enumerate(SHIFTS):
            found = [100 * v for v in by_seed(measurements, "new", set=name, shift=shift)]
            at = [place + 0.3 * (number - 0.5) + 0.01 * (run % 5) for run in range(len(found))]
            by_set.plot(at, found, **_look(shift) | {"linestyle": "", "marker": "o"})
    gains = [_gain(measurements, "new", name).mean for name in NEARLY]
    label_axes(
        by_set, "", "accuracy on new graphs", y_unit="%",
        title=f"gain: {100 * gains[0]:.0f} and {100 * gains[1]:.0f} points",
    )  # fmt: skip
    mark_level(by_set, 25, "a guess")
    by_set.set_xticks(range(len(NEARLY)), list(NEARLY))
    by_set.set_ylim(0, 105)
    real = str(measurements[-1].case["set"])
    for name, axis in (("nearly regular", axes[1]), (real, axes[2])):
        for shift in SHIFTS:
            chosen = where(measurements, set=name, shift=shift)
            band = mean_band([[100 * v for v in m.values["curve"]] for m in chosen])
            steps = chosen[0].values["steps"]
            line_with_band(
                axis, [steps * (k + 1) / LOOKS for k in range(LOOKS)], band, **_look(shift)
            )
        gain = 100 * _gain(measurements, "accuracy", name).mean
        title = f"{name}: {gain:+.0f} points in training"
        label_axes(axis, "step", "training accuracy", y_unit="%", title=title)
    names = [*NEARLY, real]
    for place, name in enumerate(names):
        chosen = where(measurements, set=name, shift="learned")
        alpha = torch.tensor([m.values["alpha"] for m in chosen])  # (seeds, norms, channels)
        for layer in range(alpha.shape[1]):
            values = alpha[:, layer].flatten()
            low, middle, high = torch.quantile(values, torch.tensor([0.05, 0.5, 0.95])).tolist()
            spot = place + 0.09 * (layer - (alpha.shape[1] - 1) / 2)
            shifts.plot([spot, spot], [low, high], color=look_of("graph")["color"], linewidth=1)
            shifts.plot(spot, middle, color=look_of("graph")["color"], marker="o", markersize=3)
    mark_level(shifts, 1)
    shifts.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names])
    label_axes(shifts, "", "learned α", title="α by layer: median, 5% to 95%")
    legend_below(figure, axes[1])
    return figure


def _look(shift: str) -> dict[str, Any]:
    return look_of("graph" if shift == "learned" else "instance") | {"label": f"{shift} shift"}


STUDY: Final = Study(
    name="alpha",
    claim="A learned shift (GraphNorm) beats a full shift (α = 1) where the mean tells the graphs "
    "apart.",
    source="Cai et al. 2021, section 4 and fig. 6, https://arxiv.org/abs/2009.03294.",
    prediction="On new graphs that are nearly regular, or nearly complete, and whose class is the "
    "degree or the size, the accuracy is higher by more than 0.1 with a learned α.",
    protocol="48 circulant graphs of 3 to 6 neighbours, and 48 complete graphs of 6 to 15 nodes, "
    "that lack a twentieth of their edges each, the class being the degree or the size; all "
    "features 1. The authors' GIN (mean readout) with GraphNorm, α learned from 1 or kept at 1; "
    "dropout 0.5 on the logits, Adam 0.01, all graphs at once, 150 steps; accuracy in eval mode on "
    "200 new graphs. Ten seeds of graphs and weights. Beside the rule, the accuracy on the "
    "graphs that are trained on, as in the source: of these; of exactly regular and complete ones, "
    "once, where by construction either shift stays at chance, as from α = 1 every gradient before "
    "the head is exactly 0; and of 80 generated ego networks like IMDB-BINARY "
    "with one-hot degrees, five seeds (with --data, parts without a graph in common of IMDB-BINARY "
    "itself).",
    rule="Confirmed if the interval of the difference in accuracy on new graphs, learned less "
    "full, lies above 0.1 on nearly regular and on nearly complete graphs. Not confirmed if it "
    "lies below 0.1 on either.",
    seconds=40,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    changed="At first confirmed, with a gain of 0.38 on sets of which half the graphs lacked "
    "edges: the others were exactly regular, all equal to a full shift, which could not have more "
    "than 0.625. Five seeds of that one number were one observation. Now all graphs lack a few "
    "edges, so that a full shift could tell them, and new graphs are asked, since 48 can be "
    "learned by heart. The limit is still 0.1. (When this was written, mean-information had shown "
    "0.82 against 0.70 on such regular graphs, over 8 seeds.) MUTAG, of which nothing was claimed, "
    "is gone.",
)
