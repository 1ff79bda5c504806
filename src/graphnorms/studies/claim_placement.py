"""Where does a norm belong: before the non-linearity, and inside the residual branch?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.kernels import aggregate
from graphnorms.lab.statistics import Estimate
from graphnorms.layers.factory import make_norm
from graphnorms.models.initialize import initialize
from graphnorms.models.readout import readout
from graphnorms.report.style import display_name
from graphnorms.report.text_table import TextTable
from graphnorms.studies import drawing
from graphnorms.studies.evidence import (
    CONFIDENCE,
    Check,
    concluded,
    numbers_of,
    ratio,
    summary,
    verdict_of,
    written,
)
from graphnorms.studies.measured_values import where
from graphnorms.studies.study import Case, Figure, Finding, Measured, Settings, Study, Values, World
from graphnorms.studies.study_data import digits, graph_set
from graphnorms.studies.training_loops import by_tenths, descend

MODELS = {"mlp": "MLP", "gin": "GIN"}
PLACES = {"batch": ("before", "after"), "layer": ("inside", "outside")}
"""Where each norm is said to belong, and the other place."""
SEEDS = {"planted": 8, "default": 8, "full": 20}
STEPS = {"tiny": 10, "planted": 60, "default": 120, "full": 1000}
DEEP = {"mlp": 8, "gin": 4}  # blocks with one weight; those with two are half as many
BATCH = {"mlp": 64, "gin": 32}
CHANNELS = 64
RATE = 1e-3
WORSE = 1.05  # a ratio of the mean losses below it is no disadvantage

Loss = Callable[[], Tensor]
"""Draws the next batch, and computes the loss on it."""

Mix = Callable[[Tensor], Tensor]
"""What a block sees of other rows: a sum over neighbours, or nothing."""


class Block(nn.Module):
    r"""A residual block with BatchNorm at its activation, or with LayerNorm at its branch.

    With $m$ the sum over neighbours in a graph and the identity in an MLP:

    | norm | as claimed | the other place |
    |---|---|---|
    | BatchNorm | before: $h + f(\mathrm{BN}(W m(h)))$ | after: $h + \mathrm{BN}(f(W m(h)))$ |
    | LayerNorm | inside: $h + V f(W m(\mathrm{LN}(h)))$ | outside: $\mathrm{LN}(h + V f(W m(h)))$ |

    Args:
        norm: `"batch"` or `"layer"`.
        place: One of `PLACES[norm]`.
        channels: Width.
    """

    def __init__(self, norm: str, place: str, channels: int) -> None:
        super().__init__()
        self.place = place
        self.norm = make_norm(norm, channels)
        self.w = nn.Linear(channels, channels)
        self.v = nn.Linear(channels, channels) if norm == "layer" else None

    def forward(self, h: Tensor, mix: Mix) -> Tensor:
        """Transform the rows, `(rows, channels)`."""
        x = mix(self.norm(h) if self.place == "inside" else h)
        x = self.w(x)
        x = self.norm(x).relu() if self.place == "before" else x.relu()
        if self.place == "after":
            x = self.norm(x)
        if self.v is not None:
            x = self.v(x)
        y: Tensor = self.norm(h + x) if self.place == "outside" else h + x
        return y


@dataclass(frozen=True, slots=True)
class Shape:
    """Width of a row and of its result, number of blocks, and their width."""

    in_channels: int
    out_channels: int
    blocks: int
    channels: int = CHANNELS


class Stack(nn.Module):
    """A Linear, blocks, and a Linear; before the last one LayerNorm where it is inside.

    Args:
        shape: The sizes.
        norm, place: Those of the blocks.
        seed: Draws the weights.
    """

    def __init__(self, shape: Shape, norm: str, place: str, seed: int) -> None:
        super().__init__()
        channels = shape.channels
        self.first = nn.Linear(shape.in_channels, channels)
        self.blocks = nn.ModuleList(Block(norm, place, channels) for _ in range(shape.blocks))
        self.last_norm = make_norm(norm if place == "inside" else "none", channels)
        self.head = nn.Linear(channels, shape.out_channels)
        initialize(self, seed)

    def forward(self, x: Tensor, mix: Mix = lambda h: h, pool: Mix = lambda h: h) -> Tensor:
        """Return the results; `pool` makes one row of those of a graph."""
        h = self.first(x)
        for block in self.blocks:
            h = block(h, mix)
        y: Tensor = self.head(pool(self.last_norm(h)))
        return y


def cases(settings: Settings) -> list[Case]:
    """Each model with each norm in both places."""
    return [
        {"model": model, "norm": norm, "place": place, "seed": seed}
        for seed in settings.seeds(**SEEDS)
        for model in MODELS
        for norm, places in PLACES.items()
        for place in places
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train for a fixed number of steps, and keep the training loss."""
    return observe(*(_mlp if case["model"] == "mlp" else _gin)(case, settings), settings)


def observe(model: nn.Module, loss: Loss, settings: Settings) -> Values:
    """Train a model whose loss is known, and keep it by tenths of the steps."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    curve = descend(optimizer, loss, settings.pick(**STEPS))
    tenths = by_tenths(curve)
    return {"mean": float(np.mean(curve)), "final": tenths[-1], "curve": tenths}


def _stack(case: Case, settings: Settings, inputs: int, outputs: int) -> Stack:
    deep, norm = DEEP[str(case["model"])], str(case["norm"])
    blocks = settings.pick(tiny=2, default=deep, full=2 * deep) // (2 if norm == "layer" else 1)
    return Stack(Shape(inputs, outputs, blocks), norm, str(case["place"]), int(case["seed"]))


def _mlp(case: Case, settings: Settings) -> tuple[nn.Module, Loss]:
    """A deep MLP on the digits."""
    x, y = digits()
    model = _stack(case, settings, 64, 10)
    draw = torch.Generator().manual_seed(int(case["seed"]))

    def loss() -> Tensor:
        chosen = torch.randint(len(x), (BATCH["mlp"],), generator=draw)
        return F.cross_entropy(model(x[chosen]), y[chosen])

    return model, loss


def _gin(case: Case, settings: Settings) -> tuple[nn.Module, Loss]:
    """Sums over neighbours in molecules, and the mean of the nodes."""
    graphs = graph_set("MUTAG")
    model = _stack(case, settings, graphs.num_features, graphs.num_outputs)
    draw = torch.Generator().manual_seed(int(case["seed"]))

    def loss() -> Tensor:
        batch = graphs.batch(torch.randint(len(graphs), (BATCH["gin"],), generator=draw))
        logits = model(
            batch.x,
            lambda h: aggregate(h, batch.adjacency, self_weight=1.0),
            lambda h: readout(h, batch.segments, "mean"),
        )
        return F.cross_entropy(logits, batch.y)

    return model, loss


def judge(measured: Measured, settings: Settings) -> Finding:
    """Compare the places of BatchNorm at the activation, and of LayerNorm at the branch."""
    sure = settings.confidence
    speed = {(n, m): _penalty(measured, "mean", n, m, sure) for n in PLACES for m in MODELS}
    numbers: dict[str, float | None] = {}
    for (norm, model), found in speed.items():
        what = f"{display_name(norm)}, {model}, {_contrast(norm)}"
        final = _penalty(measured, "final", norm, model, sure)
        numbers |= numbers_of({f"{what}, mean loss": found, f"{what}, final loss": final})
    checks = [
        Check(
            f"{display_name(n)} {' / '.join(PLACES[n][::-1])}, {MODELS[m]}",
            found,
            WORSE,
            above=True,
        )
        for (n, m), found in speed.items()
    ]
    verdict = verdict_of(checks)
    conclusion = concluded(
        verdict,
        yes="Both norms train faster in the place that is advised.",
        no="The place that is advised is not the faster one everywhere.",
    )
    return Finding(
        verdict,
        f"{conclusion} In the other place the mean training loss was predicted to be more than "
        f"{WORSE:g} times as high. {summary(checks)}",
        numbers,
        (
            TextTable(
                f"Mean training loss in the other place / in the place advised (predicted: above "
                f"{WORSE:g})",
                ("", *MODELS.values()),
                tuple(
                    (
                        f"{display_name(norm)} {' / '.join(PLACES[norm][::-1])}",
                        *(written(speed[norm, m]) for m in MODELS),
                    )
                    for norm in PLACES
                ),
            ),
        ),
    )


def _contrast(norm: str) -> str:
    advised, against = PLACES[norm]
    return f"{against} over {advised}"


def _penalty(
    measured: Measured, value: str, norm: str, model: str, confidence: float = CONFIDENCE
) -> Estimate:
    """Return the loss in the other place over that in the place claimed."""
    places = PLACES[norm][::-1]
    return ratio(measured, value, model=model, norm=norm, place=places, confidence=confidence)


def draw(measured: Measured) -> Figure:
    """Draw the training loss in both places: a row for each model, a column for each norm."""
    figure, axes = drawing.new_figure(4, columns=2, size=(3.5, 2.5))
    panels = [(model, norm) for model in MODELS for norm in PLACES]
    for axis, (model, norm) in zip(axes, panels, strict=True):
        for number, place in enumerate(PLACES[norm]):
            chosen = where(measured, model=model, norm=norm, place=place)
            role = ("as claimed: ", "the other place: ")[number]
            label = role + " or ".join(places[number] for places in PLACES.values())
            band = drawing.mean_band([one.values["curve"] for one in chosen])
            drawing.line_with_band(axis, range(10, 101, 10), band, **drawing.look(number, label))
        times = _penalty(measured, "mean", norm, model).mean
        drawing.label_axes(
            axis,
            "training",
            "training loss",
            x_unit="% of the steps",
            y_unit="nats",
            log="y",
            title=f"{MODELS[model]}, {display_name(norm)}: {_contrast(norm)} {times:.2f}",
        )
    drawing.legend_below(figure, axes[0], columns=2)
    return figure


def _planted(case: Case, settings: Settings, further: float) -> Values:
    """Train one parameter towards a goal, which is `further` away in the other place."""
    norm, place = str(case["norm"]), str(case["place"])
    number = 2 * tuple(MODELS).index(str(case["model"])) + PLACES[norm].index(place)
    draw = torch.Generator().manual_seed(10 * int(case["seed"]) + number + 5 * (norm == "layer"))
    goal = 0.03 * float(1 + 0.02 * torch.randn(1, generator=draw))  # 30 steps of Adam from 0
    if place == PLACES[norm][1]:
        goal *= further
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight)
    return observe(model, lambda: (model.weight / goal - 1).square().sum() + 0.01, settings)


STUDY = Study(
    name="placement",
    claim="BatchNorm belongs before the non-linearity, LayerNorm inside the residual branch.",
    source="Ioffe & Szegedy 2015, section 3.2, https://arxiv.org/abs/1502.03167; Xiong et al. "
    "2020, https://arxiv.org/abs/2002.04745.",
    prediction="The mean training loss over a fixed budget, a measure of speed, is more than "
    f"{WORSE:g} times as high with BatchNorm after the activation as before it, and with LayerNorm "
    "outside the residual branch, on the sum, as inside, at its beginning; in an MLP and in a GIN.",
    protocol=f"Residual blocks of {CHANNELS} channels with ReLU. BatchNorm before, h + f(BN(W h)), "
    f"or after, h + BN(f(W h)): {DEEP['mlp']} blocks on scikit-learn's digits, {BATCH['mlp']} "
    "images a step. LayerNorm inside, h + V f(W LN(h)) with one more LayerNorm before the head, as "
    f"in a pre-LN transformer, or outside, LN(h + V f(W h)), post-LN: {DEEP['mlp'] // 2} blocks, "
    "as many weights. The GIN has half as many blocks and in each, in front of W, the sum over a "
    f"node and its neighbours; MUTAG, {BATCH['gin']} graphs a step, mean readout. No dropout, Adam "
    f"with rate 1e-3, {STEPS['default']} steps. The loss of the last tenth of the steps is "
    f"reported beside. {SEEDS['default']} seeds.",
    rule="Four ratios of mean losses, paired by seed: BatchNorm after over before the activation, "
    "LayerNorm outside over inside the branch, each in MLP and GIN. Confirmed if the intervals of "
    f"all four lie above {WORSE:g}; not confirmed if one lies below {WORSE:g}.",
    seconds=25,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    true=World(
        "One parameter and Adam; in the other place its goal is twice as far.",
        lambda case, settings: _planted(case, settings, 2.0),
    ),
    false=World(
        "The goals of both places are as far, 2% to and fro.",
        lambda case, settings: _planted(case, settings, 1.0),
    ),
    changed="At first not confirmed (BatchNorm after over before 0.65 in the MLP, LayerNorm "
    "outside over inside 0.67 in the GIN). No arm was pre-LN: LayerNorm inside stood at the end of "
    "its branch, where it sets the size of what is added, and not at its beginning as in the "
    "source. The four orders of the lab's models gave way to the two of each source.",
)
