"""Do DyT and Derf stand in for LayerNorm on graphs as they do on sequences?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.layers import LayerNorm
from graphnorms.models import GNN, ModelConfig
from graphnorms.probes.capture import captured_rows
from graphnorms.report.style import display_name
from graphnorms.report.text_table import TextTable
from graphnorms.studies import drawing
from graphnorms.studies.evidence import (
    Check,
    concluded,
    numbers_of,
    ratio,
    summary,
    verdict_of,
    written,
)
from graphnorms.studies.generated_graphs import casts
from graphnorms.studies.measured_values import mean_by_seed, where
from graphnorms.studies.sequence_transformer import SequenceTransformer
from graphnorms.studies.study import Case, Figure, Finding, Measured, Settings, Study, Values, World
from graphnorms.studies.study_data import ALPHABET, characters, excerpts, graph_set
from graphnorms.studies.training_loops import by_tenths, take_step

MODELS = {
    "sequence": "transformer, text",
    "gps": "GPS, molecules",
    "gin": "GIN, molecules",
    "gin casts": "GIN, ego networks",
}
BOUNDED = ("dyt", "derf")
NORMS = ("layer", *BOUNDED, "none")
RATES = (2e-3, 8e-3)
SHARE = 0.95
"""Of what LayerNorm learns: who learns more stands in for it."""
SEEDS = {"planted": 6, "default": 6, "full": 16}
STEPS = {"tiny": 10, "planted": 60, "default": 160, "full": 1000}
LAYERS = {"tiny": 2, "default": 4, "full": 8}
CHANNELS = {"tiny": 8, "default": 64, "full": 64}
PIECES, LENGTH = {"tiny": 2, "default": 8, "full": 8}, 32  # of the text
GRAPHS = {"tiny": 4, "default": 16, "full": 16}  # in a step
CASTS = {"tiny": 20, "default": 1500, "full": 8000}
SLOPES = np.geomspace(0.03, 30, 61)
"""Of the tanh that is fitted to a LayerNorm, in units of one over the spread of what enters."""


@dataclass(frozen=True, slots=True)
class BoundedTask:
    """What is trained.

    Args:
        model: The model.
        loss: Draws the next batch, and computes the loss on it.
        guess: The loss of a guess that knows the frequencies, or the mean, alone.
    """

    model: nn.Module
    loss: Callable[[], Tensor]
    guess: float


def cases(settings: Settings) -> list[Case]:
    """Each model with each norm; both learning rates are in one case."""
    return [
        {"model": model, "norm": norm, "seed": seed}
        for seed in settings.seeds(**SEEDS)
        for model in MODELS
        for norm in NORMS
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train from the same weights on the same batches with either rate."""
    make = _sequence if case["model"] == "sequence" else _graphs
    return observe(lambda: make(case, settings), settings)


def observe(make: Callable[[], BoundedTask], settings: Settings) -> Values:
    """Keep the better rate: its curve, and what was learned below the loss of a guess."""
    best: Values = {}
    for rate in RATES:
        task = make()
        curve = _train(task, rate, settings.pick(**STEPS))
        last = float(np.mean(curve[-len(curve) // 5 :]))
        last = last if math.isfinite(last) else task.guess
        if not best or last < best["last"]:
            best = {"last": last, "rate": rate, "curve": by_tenths(curve), "guess": task.guess}
            best |= _mapping(task)
    # A ratio of what was learned needs a positive number.
    return best | {"learned": max(best["guess"] - best["last"], 0.01 * best["guess"])}


def _train(task: BoundedTask, rate: float, steps: int) -> list[float]:
    """Adam; the rate rises over the first tenth of the steps and falls linearly to 0."""
    optimizer = torch.optim.Adam(task.model.parameters(), fused=True)
    curve = []
    for step in range(steps):
        share = min(1.0, (step + 1) / (steps / 10)) * (1 - step / steps)
        optimizer.param_groups[0]["lr"] = rate * share
        curve.append(take_step(optimizer, task.loss()))
    return curve


def _mapping(task: BoundedTask) -> Values:
    """Ask how well one line, and one tanh, explain what every LayerNorm makes of its entries."""
    names = [n for n, each in task.model.named_modules() if isinstance(each, LayerNorm)]
    rows = captured_rows(task.model, task.loss, names, "input").values() if names else ()
    return {
        "line": [explained(x, None) for x in rows],
        "tanh": [max(explained(x, slope / float(x.std())) for slope in SLOPES) for x in rows],
    }


def explained(x: Tensor, slope: float | None) -> float:
    r"""Return the share of LayerNorm's output that $c \tanh(a x)$ explains, with the best $c$.

    Args:
        x: What enters, `(rows, channels)`.
        slope: $a$; `None` for the line $c x$.
    """
    made = F.layer_norm(x, x.shape[1:])
    by = x if slope is None else torch.tanh(slope * x)
    return float((made * by).sum() ** 2 / (made.square().sum() * by.square().sum()))


def _sequence(case: Case, settings: Settings) -> BoundedTask:
    """A causal model of characters, pre-LN."""
    text = characters(settings.data)[1]
    size, seed = len(ALPHABET), int(case["seed"])
    model = SequenceTransformer(
        size,
        size,
        channels=settings.pick(**CHANNELS),
        layers=settings.pick(**LAYERS),
        norm=str(case["norm"]),
        norm_first=True,
        seed=seed,
    )
    pieces, draw = settings.pick(**PIECES), torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        piece = excerpts(text, pieces, LENGTH + 1, draw)
        return F.cross_entropy(model(piece[:, :-1]).flatten(0, 1), piece[:, 1:].flatten())

    shares = text.bincount() / len(text)
    return BoundedTask(model, loss, -float(torch.special.xlogy(shares, shares).sum()))


def _graphs(case: Case, settings: Settings) -> BoundedTask:
    """The logP of molecules, or the class of ego networks, whose degrees differ widely."""
    kind, seed = str(case["model"]), int(case["seed"])
    classes = kind == "gin casts"
    graphs = casts(settings.pick(**CASTS), seed) if classes else graph_set("nci5k")
    config = ModelConfig(
        name="gps" if kind == "gps" else "gin",
        norm_place="pre" if kind == "gps" else "before-activation",
        residual=True,
        layers=settings.pick(**LAYERS),
        hidden=settings.pick(**CHANNELS),
        readout="mean",
        dropout=0.0,
    )
    model = GNN(config, str(case["norm"]), graphs.num_features, graphs.num_outputs, seed=seed)
    size, draw = settings.pick(**GRAPHS), torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        batch = graphs.batch(torch.randint(len(graphs), (size,), generator=draw))
        result = model(batch.x, batch.adjacency, batch.segments)
        if classes:
            return F.cross_entropy(result, batch.y)
        return F.mse_loss(result, (batch.y - graphs.y.mean()) / graphs.y.std())

    return BoundedTask(model, loss, math.log(2) if classes else 1.0)


def judge(measured: Measured, settings: Settings) -> Finding:
    """Ask of each model whether DyT and Derf learn nearly as much as LayerNorm."""
    sure = settings.confidence
    learned = {
        (model, norm): ratio(
            measured, "learned", model=model, norm=(norm, "layer"), confidence=sure
        )
        for model in MODELS
        for norm in NORMS[1:]
    }
    numbers = numbers_of({f"learned, {m}, {n} / layer": found for (m, n), found in learned.items()})
    for model in MODELS:
        for norm in NORMS:
            numbers[f"last loss, {model}, {norm}"] = mean_by_seed(
                measured, "last", model=model, norm=norm
            )
        line, tanh = _explained_by_layer(measured, model)
        if len(line):
            numbers[f"explained by a line, {model}, worst layer"] = float(line.min())
            numbers[f"explained by a tanh, {model}, worst layer"] = float(tanh.min())
    checks = [
        Check(f"{display_name(n)}, {title}", learned[m, n], SHARE, above=True)
        for m, title in MODELS.items()
        for n in BOUNDED
    ]
    verdict = verdict_of(checks)
    conclusion = concluded(
        verdict,
        yes="DyT and Derf stand in for LayerNorm in every model.",
        no="DyT and Derf do not stand in for LayerNorm in every model.",
    )
    table = TextTable(
        f"Learned in the same steps, as a share of what LayerNorm learns (predicted of DyT and "
        f"Derf: more than {SHARE:g})",
        ("model", *(display_name(n) for n in NORMS[1:])),
        tuple((title, *(written(learned[m, n]) for n in NORMS[1:])) for m, title in MODELS.items()),
    )
    return Finding(
        verdict,
        f"{conclusion} In the same steps each was predicted to learn more than {SHARE:g} of what "
        "LayerNorm learns, measured by how far the loss falls below that of a guess. "
        f"{summary(checks)}",
        numbers,
        (table,),
    )


def _explained_by_layer(measured: Measured, model: str) -> list[np.ndarray]:
    """Return the shares of a line and of a tanh, means over seeds, by LayerNorm."""
    chosen = [one.values for one in where(measured, model=model, norm="layer")]
    return [np.mean([values[name] for values in chosen], axis=0) for name in ("line", "tanh")]


def draw(measured: Measured) -> Figure:
    """Draw the loss of every model, what was learned, and what a tanh has over a line."""
    figure, axes = drawing.new_figure(6, columns=3, size=(3.3, 2.6))
    *curves, shares, mapping = axes
    for number, (axis, (model, title)) in enumerate(zip(curves, MODELS.items(), strict=True)):
        for norm in NORMS:
            chosen = [one.values for one in where(measured, model=model, norm=norm)]
            band = drawing.mean_band([values["curve"] for values in chosen])
            drawing.line_with_band(axis, range(10, 101, 10), band, **drawing.look_of(norm))
        drawing.mark_level(axis, chosen[0]["guess"], "a guess")
        unit = {"sequence": "nats", "gin casts": "nats"}.get(model, "share of the variance")
        drawing.label_axes(
            axis, "training", "loss", x_unit="% of the steps", y_unit=unit, log="y", title=title
        )
        line, tanh = _explained_by_layer(measured, model)
        if len(line):
            depth = np.linspace(0, 100, len(line))
            mapping.plot(depth, 1 - line, **drawing.look(number, title) | {"linestyle": "--"})
            mapping.plot(depth, 1 - tanh, **drawing.look(number, title) | {"label": ""})
    for place, norm in enumerate(NORMS[1:]):
        found = [ratio(measured, "learned", model=m, norm=(norm, "layer")) for m in MODELS]
        at = np.arange(len(MODELS)) + 0.2 * (place - 1)
        ends = [[e.mean - e.low for e in found], [e.high - e.mean for e in found]]
        how = drawing.look_of(norm) | {"linestyle": "", "label": ""}
        shares.errorbar(at, [each.mean for each in found], yerr=ends, **how)
    drawing.mark_level(shares, SHARE, f"{SHARE:g}: stands in")
    drawing.label_axes(shares, "", "learned / by LayerNorm", title="what is learned")
    shares.set_xticks(range(len(MODELS)), [title.replace(", ", ",\n") for title in MODELS.values()])
    shares.tick_params(axis="x", labelsize=6)
    drawing.label_axes(
        mapping,
        "LayerNorm, from the input",
        "not explained",
        x_unit="% of the depth",
        log="y",
        title="by one line (dashed), one tanh",
    )
    drawing.legend_below(figure, curves[0], mapping, columns=4)
    return figure


def _planted(case: Case, settings: Settings, further: float) -> Values:
    """Train one parameter towards a goal, `further` away for bounded functions on graphs."""
    number = len(MODELS) * NORMS.index(str(case["norm"])) + list(MODELS).index(str(case["model"]))
    draw = torch.Generator().manual_seed(100 * int(case["seed"]) + number)
    goal = 0.3 * float(1 + 0.01 * torch.randn(1, generator=draw))
    if case["norm"] in BOUNDED and case["model"] != "sequence":
        goal *= further

    def make() -> BoundedTask:
        model = nn.Linear(1, 1)
        nn.init.zeros_(model.weight)
        return BoundedTask(model, lambda: (model.weight / goal - 1).square().sum(), 1.0)

    return observe(make, settings)


STUDY = Study(
    name="bounded",
    claim="DyT and Derf, a bounded function of each entry, stand in for LayerNorm with nothing "
    "else changed: in a transformer on sequences, and as well on graphs.",
    source="Zhu et al. 2025, https://arxiv.org/abs/2503.10622 (DyT), and Chen et al. 2025, "
    "https://arxiv.org/abs/2512.10938 (Derf), of transformers on images, text, speech and DNA; of "
    "graphs neither says anything. Verma 2026, https://arxiv.org/abs/2604.23434, has DyT 19% "
    "worse in validation loss than LayerNorm in language models with enough data.",
    prediction="In the same steps, DyT and Derf each learn more than "
    f"{SHARE:g} of what LayerNorm learns, in a transformer on text, in a graph transformer, and in "
    "message passing that sums over neighbours.",
    protocol=f"{LAYERS['default']} layers of {CHANNELS['default']} channels, no dropout; the norm "
    "is LayerNorm, DyT or Derf as they are made (α = 0.5), or none. A causal pre-LN transformer "
    f"on Python's manual (with a data folder, tinyshakespeare), {PIECES['default']} pieces of "
    f"{LENGTH} characters a step; GPS with pre-norm and a residual GIN, mean readout, on the logP "
    f"of the molecules nci5k, {GRAPHS['default']} a step; the same GIN on the class of "
    f"{CASTS['default']} generated ego networks like IMDB-BINARY, whose degrees differ widely. "
    f"Adam, {STEPS['default']} steps; the rate rises over a tenth of them and falls linearly to "
    f"0; the better of {RATES[0]:g} and {RATES[1]:g} counts, by the mean loss of the last fifth. "
    "Learned is that loss below the loss of a guess that knows the frequencies, or the mean. "
    f"{SEEDS['default']} seeds of weights and batches, the same for all norms. Beside the rule: no "
    "norm; and in the models with LayerNorm, how much of its output one line c x, and one "
    "c tanh(a x), leaves unexplained, layer by layer.",
    rule="Learned with DyT and with Derf over learned with LayerNorm, geometric means over seeds "
    f"with their intervals. Confirmed if all eight lie above {SHARE:g}; not confirmed if one lies "
    f"below {SHARE:g}.",
    seconds=170,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    true=World(
        "One parameter and Adam; its goal is as far with every norm, 1% to and fro.",
        lambda case, settings: _planted(case, settings, 1.0),
    ),
    false=World(
        "With DyT and Derf the goal is twice as far on graphs.",
        lambda case, settings: _planted(case, settings, 2.0),
    ),
)
