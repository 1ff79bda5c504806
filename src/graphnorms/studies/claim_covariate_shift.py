"""Does normalization reduce internal covariate shift, and does it train well because of that?"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.probes import covariate_shift
from graphnorms.report.style import display_name
from graphnorms.report.text_table import TextTable
from graphnorms.studies import drawing
from graphnorms.studies.evidence import (
    Check,
    concluded,
    numbers_of,
    ratio,
    verdict_of,
    written,
)
from graphnorms.studies.measured_values import by_seed, where
from graphnorms.studies.mlp import MLP
from graphnorms.studies.study import Case, Figure, Finding, Measured, Settings, Study, Values, World
from graphnorms.studies.study_data import digits
from graphnorms.studies.training_loops import minibatches, scale_weights, take_step

NORMS = ("none", "batch", "layer")
NOISY = "noisy batch"  # BatchNorm whose result is disturbed; for the training loss alone
ARMS = (*NORMS, NOISY)
SEEDS = {"planted": 8, "default": 10, "full": 20}
WIDTH = {"tiny": 32, "default": 100, "full": 100}
DEPTH = {"tiny": 3, "default": 10, "full": 10}
STEPS = {"tiny": 30, "planted": 60, "default": 300, "full": 2000}
RATE = 0.1
BATCH = 128
EVERY = 15  # steps of training between two measurements
LAST = 20  # steps whose loss is the final one
REDUCED = 0.9  # a ratio above it is no reduction
MEASURES = {"difference": "‖G − G′‖", "relative": "‖G − G′‖ / ‖G‖"}


class Noisy(nn.Module):
    r"""A norm whose result is moved to another distribution at every step, in training.

    Every unit has a mean from $U(-0.5, 0.5)$ and a scale from $U(1, 1.25)$, drawn anew at every
    step, around which every sample draws its own from a width of 0.1: $y = s x + m$.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Normalize, then move."""
        y: Tensor = self.norm(x)
        if not self.training:
            return y
        mean = torch.empty(y.shape[1]).uniform_(-0.5, 0.5)
        scale = torch.empty(y.shape[1]).uniform_(1, 1.25)
        m = mean + torch.empty_like(y).uniform_(-0.1, 0.1)
        return (scale + 0.1 * torch.randn_like(y)) * y + m


def cases(settings: Settings) -> list[Case]:
    """Every norm with every seed."""
    return [{"norm": norm, "seed": seed} for seed in settings.seeds(**SEEDS) for norm in ARMS]


def measure(case: Case, settings: Settings) -> Values:
    """Train an MLP."""
    seed, norm = int(case["seed"]), str(case["norm"])
    x, y = digits()
    width, depth = settings.pick(**WIDTH), settings.pick(**DEPTH)
    model = MLP(64, 10, width=width, depth=depth, norm=norm.removeprefix("noisy "), seed=seed)
    scale_weights(model)
    if norm == NOISY:
        for layer in model.layers:
            placed: Any = layer.norm
            placed.norm = Noisy(placed.norm)
    # A Linear and the norm behind it are one layer; the head is the last.
    layers = [*(f"layers.{number}" for number in range(depth)), "head"]
    return observe(
        model, lambda rows: F.cross_entropy(model(x[rows]), y[rows]), layers, case, settings
    )


def observe(
    model: nn.Module,
    loss_of: Callable[[Tensor], Tensor],
    layers: Sequence[str],
    case: Case,
    settings: Settings,
) -> Values:
    """Train; now and then compare each layer's gradient before and after a step below.

    Args:
        model: What is trained.
        loss_of: Its loss on items by number, of 1797.
        layers: Names of its modules from the input to the output.
        case, settings: Of the measurement.
    """
    seed, items = int(case["seed"]), len(digits()[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    torch.manual_seed(seed)  # of the noise
    shifts, losses = [], []
    for step, rows in enumerate(minibatches(items, BATCH, settings.pick(**STEPS), seed)):
        loss = partial(loss_of, rows)

        def train(loss: Callable[[], Tensor] = loss) -> None:
            losses.append(take_step(optimizer, loss()))

        if case["norm"] == NOISY or step % EVERY:
            train()
        else:
            shifts.append(covariate_shift(model, loss, train, layers))
    values: Values = {"losses": losses, "final loss": statistics.fmean(losses[-LAST:])}
    if shifts:
        # The first layer has nothing below it: its shift is 0 by definition.
        above = list(shifts[0])[1:]
        for name in (*MEASURES, "cosine"):
            table = [[getattr(shift[layer], name) for layer in above] for shift in shifts]
            values[f"{name} by step"] = [statistics.median(row) for row in table]
            values[f"{name} by layer"] = [statistics.median(c) for c in zip(*table, strict=True)]
            values[name] = statistics.median(values[f"{name} by step"])
    return values


def judge(measured: Measured, settings: Settings) -> Finding:
    """Ask whether BatchNorm's shift is smaller than that without a norm, in both measures."""
    ratios = {
        (name, norm): ratio(measured, name, norm=(norm, "none"), confidence=settings.confidence)
        for name in MEASURES
        for norm in NORMS[1:]
    }
    numbers = numbers_of(
        {f"{MEASURES[name]}, {norm} / none": each for (name, norm), each in ratios.items()}
    )
    for norm in NORMS:
        numbers[f"cosine of G and G′, {norm}"] = _median(measured, "cosine", norm)
    final = {norm: _median(measured, "final loss", norm) for norm in ARMS}
    numbers |= {f"loss of the last {LAST} steps, {norm}": loss for norm, loss in final.items()}
    checks = [Check(title, ratios[n, "batch"], REDUCED) for n, title in MEASURES.items()]
    verdict = verdict_of(checks)
    conclusion = concluded(
        verdict,
        yes="BatchNorm reduces internal covariate shift.",
        no="BatchNorm does not reduce internal covariate shift in both measures.",
    )
    shifts = " and ".join(f"{each.name} {written(each.found)}" for each in checks)
    rows = tuple(
        (
            "BatchNorm, disturbed" if arm == NOISY else display_name(arm),
            *(written(ratios[name, arm]) if (name, arm) in ratios else "–" for name in MEASURES),
            f"{loss:.3g}",
        )
        for arm, loss in final.items()
    )
    return Finding(
        verdict,
        f"{conclusion} The change of a layer's gradient by the updates of the layers below is, as "
        f"a share of that without a norm, {shifts} (predicted: below {REDUCED:g}). Disturbed by "
        f"noise, BatchNorm ends at a loss of {final[NOISY]:.3g} against {final['batch']:.3g} "
        f"undisturbed and {final['none']:.3g} without a norm.",
        numbers,
        (
            TextTable(
                "Internal covariate shift as a share of that without a norm, and the loss",
                ("norm", *MEASURES.values(), f"loss of the last {LAST} steps, median"),
                rows,
            ),
        ),
    )


def _median(measured: Measured, value: str, norm: str) -> float:
    return statistics.median(by_seed(measured, value, norm=norm))


def draw(measured: Measured) -> Figure:
    """Draw the shift over training and by layer, and the loss, with the noisy BatchNorm too."""
    figure, (absolute, relative, layers, losses) = drawing.new_figure(4, columns=2)
    axis_of = {"difference": absolute, "relative": relative}
    for norm in NORMS:
        chosen = [m.values for m in where(measured, norm=norm)]
        look = drawing.look_of(norm)
        for name, axis in axis_of.items():
            runs = [values[f"{name} by step"] for values in chosen]
            steps = [EVERY * k for k in range(len(runs[0]))]
            drawing.line_with_band(axis, steps, drawing.median_band(runs), **look)
        by_layer = [values["relative by layer"] for values in chosen]
        places = range(2, 2 + len(by_layer[0]))
        drawing.line_with_band(layers, places, drawing.median_band(by_layer), **look)
    for norm in ARMS:
        runs = [_blocks(m.values["losses"]) for m in where(measured, norm=norm)]
        at = [10 * k + 5 for k in range(len(runs[0]))]
        drawing.line_with_band(losses, at, drawing.median_band(runs), **_look(norm))
    for name, axis in axis_of.items():
        times = ratio(measured, name, norm=("batch", "none")).mean
        title = f"median of layers: BatchNorm × {times:.2f}"
        drawing.label_axes(axis, "step", MEASURES[name], log="y", title=title)
    title = "by layer, median of steps"
    drawing.label_axes(layers, "layer", "‖G − G′‖ / ‖G‖", log="y", title=title)
    drawing.label_axes(losses, "step", "training loss", y_unit="nats", log="y", title="speed")
    for axis in (relative, layers):
        drawing.mark_level(axis, 1)
    drawing.legend_below(figure, losses)
    return figure


def _blocks(losses: Sequence[float]) -> list[float]:
    """Average the losses over ten steps each."""
    return [statistics.fmean(losses[k : k + 10]) for k in range(0, len(losses) - 9, 10)]


def _look(norm: str) -> dict[str, Any]:
    if norm == NOISY:
        color = drawing.PALETTE[3]
        return {"color": color, "linestyle": "--", "label": "BatchNorm, disturbed"}
    return drawing.look_of(norm)


def _planted(case: Case, settings: Settings, less: float) -> Values:
    """Two layers with a quadratic loss each, and their product, smaller with BatchNorm."""
    channels, norm = 20, str(case["norm"])
    draw = torch.Generator().manual_seed(len(ARMS) * int(case["seed"]) + ARMS.index(norm))
    felt = 0.3 * float(1 + 0.05 * (2 * torch.rand(1, generator=draw) - 1))
    if norm == "batch":
        felt *= less
    model = nn.Sequential(nn.Linear(channels, 1, bias=False), nn.Linear(channels, 1, bias=False))
    below, above = model.parameters()
    start = torch.Generator().manual_seed(int(case["seed"]))  # the same for all norms
    for parameter in (below, above):
        parameter.data = torch.randn(parameter.shape, generator=start)

    def loss_of(rows: Tensor) -> Tensor:
        goal = torch.sin(rows.float().mean() + torch.arange(channels))  # another for each batch
        alone = (below - goal).square().sum() + (above - goal).square().sum()
        return alone / 2 + felt * (below * above).sum()

    return observe(model, loss_of, ["0", "1"], case, settings)


STUDY = Study(
    name="covariate-shift",
    claim="Normalization reduces internal covariate shift, the change of what a layer has to learn "
    "by the updates of the layers below.",
    source="Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167; measured, and denied, by "
    "Santurkar et al. 2018, definition 2.1 and fig. 2, https://arxiv.org/abs/1805.11604.",
    prediction="With BatchNorm the gradient of a layer changes less when the layers below it are "
    f"updated: by less than {REDUCED:g} times as without a norm, in its size and in proportion to "
    "itself. (Santurkar et al. lead to expect the contrary, and that a BatchNorm whose result is "
    "disturbed by noise trains nearly as well.)",
    protocol=f"MLP of {DEPTH['default']} hidden layers of {WIDTH['default']} on the digits, ReLU, "
    f"weights of He's size, SGD with the rate {RATE:g} and batches of {BATCH}, {STEPS['default']} "
    f"steps. At every {EVERY}th step ‖G - G′‖ of every layer but the first, on the batch of the "
    f"step; the median over layers, then over steps. {SEEDS['default']} seeds. Beside the rule "
    "LayerNorm, the cosine of G and G′, and the loss with a BatchNorm behind which every unit is "
    "scaled and shifted at random at every step, every sample a little differently.",
    rule="Geometric mean over seeds of BatchNorm / none with its 95% interval, of ‖G - G′‖ and of "
    "‖G - G′‖ / ‖G‖ (gradients shrink as training succeeds, whatever their direction does). "
    f"Confirmed if both intervals lie below {REDUCED:g}. Not confirmed if one lies above "
    f"{REDUCED:g}.",
    seconds=60,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    true=World(
        "Two layers with a quadratic loss each, and a product of both in it, which with BatchNorm "
        "is half as large.",
        lambda case, settings: _planted(case, settings, 0.5),
    ),
    false=World(
        "Two layers with a quadratic loss each, and a product of both in it, as large with "
        "BatchNorm as without, 5% give or take.",
        lambda case, settings: _planted(case, settings, 1.0),
    ),
)
