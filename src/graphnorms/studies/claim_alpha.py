"""Does a learned shift beat a full shift, where the mean tells the graphs apart?"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from graphnorms.data import GraphSet
from graphnorms.data.synthetic import complete_graphs, regular_graphs
from graphnorms.layers import GraphNorm
from graphnorms.models import GNN, preset
from graphnorms.report.text_table import TextTable
from graphnorms.segments import Segments
from graphnorms.studies import drawing
from graphnorms.studies.evidence import (
    Check,
    concluded,
    difference,
    numbers_of,
    verdict_of,
    written,
)
from graphnorms.studies.generated_graphs import casts
from graphnorms.studies.measured_values import by_seed, where
from graphnorms.studies.planted_norms import Transform, erased, plant
from graphnorms.studies.study import Case, Figure, Finding, Measured, Settings, Study, Values, World
from graphnorms.studies.study_data import graph_set, own_part
from graphnorms.studies.training_loops import Course, accuracy, graph_logits, learning_curve

SHIFTS = ("learned", "full")
EXACT = {"regular": regular_graphs, "complete": complete_graphs}
NEARLY = {f"nearly {kind}": make for kind, make in EXACT.items()}
REMOVED = 0.05  # of the edges of a graph that is nearly regular
SOCIAL = "IMDB-like"
LARGER = "IMDBBINARY"
GRAPHS = 48  # regular ones
OTHERS = {"tiny": 16, "default": 80, "full": 300}
SEEDS = {"planted": 4, "default": 10, "full": 30}
BESIDE = 5  # seeds of the set that is shown beside the rule
STEPS = {"tiny": 10, "planted": 60, "default": 150, "full": 600}
RATE = 0.01
GAIN = 0.1  # a difference of the accuracies below it is no gain
NEW = 10**6  # added to the seed of graphs that are not trained on
TESTED = 200
LOOKS = 10


def cases(settings: Settings) -> list[Case]:
    """Every set with either shift; the exact ones once, as all seeds have the same outcome."""
    seeds = settings.seeds(**SEEDS)
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


def measure(
    case: Case, settings: Settings, adapt: Callable[[GNN], None] = lambda model: None
) -> Values:
    """Train the authors' GIN with GraphNorm, adapted if need be; return accuracies and the α."""
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
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=RATE)
    steps = settings.pick(**STEPS)
    course = Course(steps=steps, size=min(128, len(given)), looks=LOOKS, seed=seed)
    curve = learning_curve(model, graph_logits(model, given), given.y, optimizer, course)
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
        return EXACT[name](GRAPHS, "constant", seed)
    if name in NEARLY:
        return NEARLY[name](GRAPHS, "constant", seed, thinned=1.0, removed=REMOVED)
    number = settings.pick(**OTHERS)
    if name == SOCIAL:
        return casts(number, seed)
    whole = graph_set(name, settings.data)
    return own_part(whole, min(number, len(whole) // len(settings.seeds(**SEEDS))), seed)


def judge(measured: Measured, settings: Settings) -> Finding:
    """Compare both shifts on new graphs that are nearly regular, or nearly complete."""
    sure = settings.confidence
    numbers: dict[str, float | None] = {}
    checks, rows = [], []
    for name in dict.fromkeys(str(m.case["set"]) for m in measured):
        for value, title in (("new", "new graphs"), ("accuracy", "training graphs")):
            if value == "new" and name not in NEARLY:
                continue
            means = {
                shift: statistics.fmean(by_seed(measured, value, set=name, shift=shift))
                for shift in SHIFTS
            }
            gain = difference(measured, value, set=name, shift=SHIFTS, confidence=sure)
            numbers |= numbers_of({f"gain in accuracy, {name}, {title}": gain})
            numbers |= {f"accuracy, {name}, {title}, {s}": mean for s, mean in means.items()}
            exact = value == "accuracy" and name in EXACT
            said = "0 by construction" if exact else written(gain)
            rows.append((name, title, *(f"{mean:.2f}" for mean in means.values()), said))
            if value == "new":
                checks.append(Check(name, gain, GAIN, above=True))
        learned = where(measured, set=name, shift="learned")
        alpha = torch.tensor([m.values["alpha"] for m in learned])
        numbers[f"mean of |α − 1|, {name}"] = float((alpha - 1).abs().mean())
    verdict = verdict_of(checks)
    conclusion = concluded(
        verdict,
        yes=f"A learned shift gains more than {GAIN:g} of accuracy where the mean tells the graphs "
        "apart.",
        no=f"A learned shift does not gain {GAIN:g} of accuracy everywhere that the mean tells the "
        "graphs apart.",
    )
    gains = " and ".join(f"{written(each.found)} on {each.name} graphs" for each in checks)
    return Finding(
        verdict,
        f"{conclusion} On new graphs the accuracy with a learned α is higher than with α = 1 by "
        f"{gains}.",
        numbers,
        (
            TextTable(
                f"Accuracy with a learned and with a full shift (predicted on new graphs: more "
                f"than {GAIN:g} apart)",
                ("set", "measured on", "learned α", "α = 1", "difference"),
                tuple(rows),
            ),
        ),
    )


def draw(measured: Measured) -> Figure:
    """Draw the accuracy on new graphs, over training, and where the α go."""
    figure, axes = drawing.new_figure(4, columns=2)
    by_set, shifts = axes[0], axes[3]
    for place, name in enumerate(NEARLY):
        for number, shift in enumerate(SHIFTS):
            found = [100 * v for v in by_seed(measured, "new", set=name, shift=shift)]
            at = [place + 0.3 * (number - 0.5) + 0.01 * (run % 5) for run in range(len(found))]
            by_set.plot(at, found, **_look(shift) | {"linestyle": "", "marker": "o"})
    gains = [100 * difference(measured, "new", set=name, shift=SHIFTS).mean for name in NEARLY]
    title = f"gain: {gains[0]:.0f} and {gains[1]:.0f} points"
    drawing.label_axes(by_set, "", "accuracy on new graphs", y_unit="%", title=title)
    drawing.mark_level(by_set, 25, "a guess")
    by_set.set_xticks(range(len(NEARLY)), list(NEARLY))
    by_set.set_ylim(0, 105)
    real = str(measured[-1].case["set"])
    for name, axis in (("nearly regular", axes[1]), (real, axes[2])):
        for shift in SHIFTS:
            chosen = where(measured, set=name, shift=shift)
            band = drawing.mean_band([[100 * v for v in m.values["curve"]] for m in chosen])
            steps = [chosen[0].values["steps"] * (k + 1) / LOOKS for k in range(LOOKS)]
            drawing.line_with_band(axis, steps, band, **_look(shift))
        gain = 100 * difference(measured, "accuracy", set=name, shift=SHIFTS).mean
        title = f"{name}: {gain:+.0f} points in training"
        drawing.label_axes(axis, "step", "training accuracy", y_unit="%", title=title)
    names = [*NEARLY, real]
    color = drawing.look_of("graph")["color"]
    for place, name in enumerate(names):
        chosen = where(measured, set=name, shift="learned")
        alpha = torch.tensor([m.values["alpha"] for m in chosen])  # (seeds, norms, channels)
        for layer in range(alpha.shape[1]):
            values = alpha[:, layer].flatten()
            low, middle, high = torch.quantile(values, torch.tensor([0.05, 0.5, 0.95])).tolist()
            spot = place + 0.09 * (layer - (alpha.shape[1] - 1) / 2)
            shifts.plot([spot, spot], [low, high], color=color, linewidth=1)
            shifts.plot(spot, middle, color=color, marker="o", markersize=3)
    drawing.mark_level(shifts, 1)
    shifts.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names])
    drawing.label_axes(shifts, "", "learned α", title="α by layer: median, 5% to 95%")
    drawing.legend_below(figure, axes[1])
    return figure


def _look(shift: str) -> dict[str, Any]:
    like = "graph" if shift == "learned" else "instance"
    return drawing.look_of(like) | {"label": f"{shift} shift"}


def _standardized(x: Tensor, segments: Segments, eps: float) -> Tensor:
    """Standardize over all graphs at once, which keeps how their means differ."""
    return (x - x.mean(0)) / (x.var(0) + eps).sqrt()


def _planted(case: Case, settings: Settings, full: Transform) -> Values:
    learned = partial(_standardized, eps=1e-5)
    norm = full if case["shift"] == "full" else learned
    return measure(case, settings, lambda model: plant(model, norm))


STUDY = Study(
    name="alpha",
    claim="A learned shift (GraphNorm) beats a full shift (α = 1) where the mean tells the graphs "
    "apart.",
    source="Cai et al. 2021, section 4 and fig. 6, https://arxiv.org/abs/2009.03294.",
    prediction="On new graphs that are nearly regular, or nearly complete, and whose class is the "
    f"degree or the size, the accuracy is higher by more than {GAIN:g} with a learned α.",
    protocol=f"{GRAPHS} circulant graphs of 3 to 6 neighbours, and {GRAPHS} complete graphs of 6 "
    "to 15 nodes, that lack a twentieth of their edges each, the class being the degree or the "
    "size; all features 1. The authors' GIN (mean readout) with GraphNorm, α learned from 1 or "
    f"kept at 1; dropout 0.5 on the logits, Adam {RATE:g}, all graphs at once, {STEPS['default']} "
    f"steps; accuracy in eval mode on {TESTED} new graphs. {SEEDS['default']} seeds of graphs and "
    "weights. Beside the rule, the accuracy on the graphs that are trained on, as in the source: "
    "of these; of exactly regular and complete ones, once, where by construction either shift "
    "stays at chance, as from α = 1 every gradient before the head is exactly 0; and of "
    f"{OTHERS['default']} generated ego networks like IMDB-BINARY with one-hot degrees, {BESIDE} "
    "seeds (with --data, parts without a graph in common of IMDB-BINARY itself).",
    rule="Confirmed if the interval of the difference in accuracy on new graphs, learned less "
    f"full, lies above {GAIN:g} on nearly regular and on nearly complete graphs. Not confirmed if "
    f"it lies below {GAIN:g} on either.",
    seconds=40,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    true=World(
        "In place of the learned shift a layer that standardizes over all graphs at once, and so "
        "keeps how their means differ; in place of the full one a layer that lets nothing through.",
        lambda case, settings: _planted(case, settings, erased),
    ),
    false=World(
        "In place of either shift a layer that standardizes over all graphs at once, and so keeps "
        "how their means differ; the two have another ε.",
        lambda case, settings: _planted(case, settings, partial(_standardized, eps=1e-3)),
    ),
    changed="At first confirmed, with a gain of 0.38 on sets of which half the graphs lacked "
    "edges: the others were exactly regular, all equal to a full shift, which could not have more "
    "than 0.625. Five seeds of that one number were one observation. Now all graphs lack a few "
    "edges, so that a full shift could tell them, and new graphs are asked, since 48 can be "
    "learned by heart. The limit is still 0.1. (When this was written, mean-information had shown "
    "0.82 against 0.70 on such regular graphs, over 8 seeds.) MUTAG, of which nothing was claimed, "
    "is gone.",
)
