"""Where does a norm belong: before the non-linearity, and inside the residual branch?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.data import load_dataset
from graphnorms.kernels import aggregate
from graphnorms.lab.statistics import Estimate
from graphnorms.layers.factory import make_norm
from graphnorms.models.initialize import initialize
from graphnorms.models.readout import readout
from graphnorms.report.style import display_name
from graphnorms.studies.drawing import (
    label_axes,
    legend_below,
    line_with_band,
    look,
    mean_band,
    new_figure,
)
from graphnorms.studies.material import digits
from graphnorms.studies.ratios import as_numbers, by_seed, paired_ratio, written
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

MODELS = ("mlp", "gin")
PLACES = {"batch": ("before", "after"), "layer": ("inside", "outside")}
"""Where each norm is said to belong, and the other place."""
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


class Stack(nn.Module):
    """A Linear, blocks, and a Linear; before the last one LayerNorm where it is inside.

    Args:
        in_channels, out_channels: Width of a row and of its result.
        norm, place: Those of the blocks.
        blocks: How many.
        channels: Their width.
        seed: Draws the weights.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm: str, place: str,
        *, blocks: int, channels: int, seed: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.first = nn.Linear(in_channels, channels)
        self.blocks = nn.ModuleList(Block(norm, place, channels) for _ in range(blocks))
        self.last_norm = make_norm(norm if place == "inside" else "none", channels)
        self.head = nn.Linear(channels, out_channels)
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
        for seed in settings.seeds(planted=8, default=8, full=20)
        for model in MODELS
        for norm, places in PLACES.items()
        for place in places
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train for a fixed number of steps, and keep the training loss."""
    return observe(*(_mlp if case["model"] == "mlp" else _gin)(case, settings), settings)


def observe(model: nn.Module, loss: Loss, settings: Settings) -> Values:
    """Train a model whose loss is known, and keep it by tenths of the steps."""
    steps = settings.pick(tiny=10, planted=60, default=120, full=1000)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    curve = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        curve.append(value.item())
    tenths = [float(part.mean()) for part in np.array_split(np.array(curve), 10)]
    return {"mean": float(np.mean(curve)), "final": tenths[-1], "curve": tenths}


def _stack(case: Case, settings: Settings, inputs: int, outputs: int, deep: int) -> Stack:
    """Blocks with two weights each are half as many."""
    blocks = settings.pick(tiny=2, default=deep, full=2 * deep)
    return Stack(
        inputs, outputs, str(case["norm"]), str(case["place"]),
        blocks=blocks // 2 if case["norm"] == "layer" else blocks,
        channels=64, seed=int(case["seed"]),
    )  # fmt: skip


def _mlp(case: Case, settings: Settings) -> tuple[nn.Module, Loss]:
    """A deep MLP on the digits."""
    x, y = digits()
    model = _stack(case, settings, 64, 10, 8)
    draw = torch.Generator().manual_seed(int(case["seed"]))

    def loss() -> Tensor:
        chosen = torch.randint(len(x), (64,), generator=draw)
        return F.cross_entropy(model(x[chosen]), y[chosen])

    return model, loss


def _gin(case: Case, settings: Settings) -> tuple[nn.Module, Loss]:
    """Sums over neighbours in molecules, and the mean of the nodes."""
    graphs = load_dataset("MUTAG")
    model = _stack(case, settings, graphs.num_features, graphs.num_outputs, 4)
    draw = torch.Generator().manual_seed(int(case["seed"]))

    def loss() -> Tensor:
        batch = graphs.batch(torch.randint(len(graphs), (32,), generator=draw))
        logits = model(
            batch.x,
            lambda h: aggregate(h, batch.adjacency, self_weight=1.0),
            lambda h: readout(h, batch.segments, "mean"),
        )
        return F.cross_entropy(logits, batch.y)

    return model, loss


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Compare the places of BatchNorm at the activation, and of LayerNorm at the branch."""
    speed = {
        (norm, model): _penalty(measurements, "mean", norm, model, settings.confidence)
        for norm in PLACES
        for model in MODELS
    }
    numbers: dict[str, float | None] = {}
    for (norm, model), found in speed.items():
        what = f"{display_name(norm)}, {model}, {_contrast(norm)}"
        final = _penalty(measurements, "final", norm, model, settings.confidence)
        numbers |= as_numbers(f"{what}, mean loss", found)
        numbers |= as_numbers(f"{what}, final loss", final)
    said = [
        f"{display_name(norm)} {_contrast(norm)}: "
        + ", ".join(f"{written(speed[norm, model])} in the {_TITLES[model]}" for model in MODELS)
        for norm in PLACES
    ]
    return Finding(
        decide(
            confirmed=all(found.low > WORSE for found in speed.values()),
            refuted=any(found.high < WORSE for found in speed.values()),
        ),
        f"Mean training loss, {'; '.join(said)}.",
        numbers,
    )


_TITLES = {"mlp": "MLP", "gin": "GIN"}


def _contrast(norm: str) -> str:
    advised, against = PLACES[norm]
    return f"{against} over {advised}"


def _penalty(
    measurements: Sequence[Measurement], value: str, norm: str, model: str, confidence: float
) -> Estimate:
    """Return the loss in the other place over that in the place claimed."""
    advised, against = (
        by_seed(measurements, value, model=model, norm=norm, place=place) for place in PLACES[norm]
    )
    return paired_ratio(against, advised, confidence=confidence)


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the training loss in both places: a row for each model, a column for each norm."""
    figure, axes = new_figure(4, columns=2, size=(3.5, 2.5))
    panels = [(model, norm) for model in MODELS for norm in PLACES]
    for axis, (model, norm) in zip(axes, panels, strict=True):
        for number, place in enumerate(PLACES[norm]):
            chosen = where(measurements, model=model, norm=norm, place=place)
            role = ("as claimed: ", "the other place: ")[number]
            label = role + " or ".join(places[number] for places in PLACES.values())
            curves = [one.values["curve"] for one in chosen]
            line_with_band(axis, range(10, 101, 10), mean_band(curves), **look(number, label))
        ratio = _penalty(measurements, "mean", norm, model, 0.95).mean
        label_axes(
            axis, "training", "training loss", x_unit="% of the steps", y_unit="nats", y_log=True,
            title=f"{_TITLES[model]}, {display_name(norm)}: {_contrast(norm)} {ratio:.2f}",
        )  # fmt: skip
    legend_below(figure, axes[0], columns=2)
    return figure


STUDY = Study(
    name="placement",
    claim="BatchNorm belongs before the non-linearity, LayerNorm inside the residual branch.",
    source="Ioffe & Szegedy 2015, section 3.2, https://arxiv.org/abs/1502.03167; Xiong et al. "
    "2020, https://arxiv.org/abs/2002.04745.",
    prediction=f"The mean training loss over a fixed budget, a measure of speed, is more than "
    f"{WORSE:g} times as high with BatchNorm after the activation as before it, and with LayerNorm "
    "outside the residual branch, on the sum, as inside, at its beginning; in an MLP and in a GIN.",
    protocol="Residual blocks of 64 channels with ReLU. BatchNorm before, h + f(BN(W h)), or "
    "after, h + BN(f(W h)): 8 blocks on scikit-learn's digits, 64 images a step. LayerNorm inside, "
    "h + V f(W LN(h)) with one more LayerNorm before the head, as in a pre-LN transformer, or "
    "outside, LN(h + V f(W h)), post-LN: 4 blocks, as many weights. The GIN has half as many "
    "blocks and in each, in front of W, the sum over a node and its neighbours; MUTAG, 32 graphs "
    "a step, mean readout. No dropout, Adam with rate 1e-3, 120 steps. The loss of the last tenth "
    "of the steps is reported beside. Eight seeds.",
    rule="Four ratios of mean losses, paired by seed: BatchNorm after over before the activation, "
    "LayerNorm outside over inside the branch, each in MLP and GIN. Confirmed if the intervals "
    f"of all four lie above {WORSE:g}; not confirmed if one lies below {WORSE:g}.",
    seconds=25,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    changed="At first not confirmed (BatchNorm after over before 0.65 in the MLP, LayerNorm "
    "outside over inside 0.67 in the GIN). No arm was pre-LN: LayerNorm inside stood at the end of "
    "its branch, where it sets the size of what is added, and not at its beginning as in the "
    "source. The four orders of the lab's models gave way to the two of each source.",
)
