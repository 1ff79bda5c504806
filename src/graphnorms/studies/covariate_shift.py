"""Does normalization reduce internal covariate shift, and does it train well because of that?"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.models import MLP
from graphnorms.probes import covariate_shift
from graphnorms.probes.state import Loss
from graphnorms.studies.drawing import (
    PALETTE,
    label_axes,
    legend_below,
    line_with_band,
    look_of,
    mark_level,
    median_band,
    new_figure,
)
from graphnorms.studies.material import digits, minibatches, scale_weights
from graphnorms.studies.ratios import as_numbers, by_seed, held_below, paired_ratio, written
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

NORMS: Final = ("none", "batch", "layer")
NOISY: Final = "noisy batch"  # BatchNorm whose result is disturbed, for the speed alone
ARMS: Final = (*NORMS, NOISY)
RATE: Final = 0.1
EVERY: Final = 15  # steps of training between two measurements
REDUCED: Final = 0.9  # a ratio above it is no reduction
MEASURES: Final = {"difference": "‖G − G′‖", "relative": "‖G − G′‖ / ‖G‖"}


class Noisy(nn.Module):
    r"""A norm whose result is moved to another distribution at every step, in training.

    Every unit has a mean from $U(-0.5, 0.5)$ and a scale from $U(1, 1.25)$, drawn anew at every
    step, around which every sample draws its own from a width of 0.1: $y = s x + m$.

    Args:
        norm: The norm.
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
    return [
        {"norm": norm, "seed": seed}
        for seed in settings.seeds(planted=8, default=10, full=20)
        for norm in ARMS
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train an MLP."""
    seed, norm = int(case["seed"]), str(case["norm"])
    x, y = digits()
    width, depth = settings.pick(tiny=(32, 3), default=(100, 10), full=(100, 10))
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
    steps = settings.pick(tiny=30, planted=60, default=300, full=2000)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    torch.manual_seed(seed)  # of the noise
    shifts, losses = [], []
    for step, rows in enumerate(minibatches(items, 128, steps, seed)):
        loss = partial(loss_of, rows)

        def train(loss: Loss = loss) -> None:
            optimizer.zero_grad()
            value = loss()
            value.backward()
            optimizer.step()
            losses.append(value.item())

        if case["norm"] == NOISY or step % EVERY:
            train()
        else:
            shifts.append(covariate_shift(model, loss, train, layers))
    values: Values = {"losses": losses, "final loss": statistics.fmean(losses[-20:])}
    if shifts:
        # The first layer has nothing below it: its shift is 0 by definition.
        above = list(shifts[0])[1:]
        for name in (*MEASURES, "cosine"):
            table = [[getattr(shift[layer], name) for layer in above] for shift in shifts]
            values[f"{name} by step"] = [statistics.median(row) for row in table]
            values[f"{name} by layer"] = [statistics.median(c) for c in zip(*table, strict=True)]
            values[name] = statistics.median(values[f"{name} by step"])
    return values


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Ask whether BatchNorm's shift is smaller than that without a norm, in both measures."""
    ratios = {
        (name, norm): paired_ratio(
            by_seed(measurements, name, norm=norm),
            by_seed(measurements, name, norm="none"),
            confidence=settings.confidence,
        )
        for name in MEASURES
        for norm in NORMS[1:]
    }
    deciding = [ratios[name, "batch"] for name in MEASURES]
    verdict = decide(
        confirmed=all(each.high < REDUCED for each in deciding),
        refuted=any(each.low > REDUCED for each in deciding),
    )
    numbers: dict[str, float | None] = {}
    for (name, norm), each in ratios.items():
        numbers |= as_numbers(f"{MEASURES[name]}, {norm} / none", each)
    for norm in NORMS:
        numbers[f"cosine of G and G′, {norm}"] = _median(measurements, "cosine", norm)
    final = {norm: _median(measurements, "final loss", norm) for norm in ARMS}
    numbers |= {f"loss of the last 20 steps, {norm}": loss for norm, loss in final.items()}
    shifts = [
        f"{MEASURES[name]} {written(ratios[name, 'batch'])} with BatchNorm (below {REDUCED:g}: "
        f"{held_below(ratios[name, 'batch'], REDUCED)}) and "
        f"{written(ratios[name, 'layer'])} with LayerNorm"
        for name in MEASURES
    ]
    return Finding(
        verdict,
        f"Internal covariate shift over that without a norm: {'; '.join(shifts)}. Loss of the last "
        f"20 steps: {', '.join(f'{norm} {loss:.3g}' for norm, loss in final.items())}.",
        numbers,
    )


def _median(measurements: Sequence[Measurement], value: str, norm: str) -> float:
    return statistics.median(by_seed(measurements, value, norm=norm))


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the shift over training and by layer, and the loss, with the noisy BatchNorm too."""
    figure, (absolute, relative, layers, losses) = new_figure(4, columns=2)
    for norm in NORMS:
        chosen = [m.values for m in where(measurements, norm=norm)]
        for name, axis in (("difference", absolute), ("relative", relative)):
            runs = [values[f"{name} by step"] for values in chosen]
            steps = [EVERY * k for k in range(len(runs[0]))]
            line_with_band(axis, steps, median_band(runs), **look_of(norm))
        by_layer = [values["relative by layer"] for values in chosen]
        places = range(2, 2 + len(by_layer[0]))
        line_with_band(layers, places, median_band(by_layer), **look_of(norm))
    for norm in ARMS:
        runs = [_blocks(m.values["losses"]) for m in where(measurements, norm=norm)]
        at = [10 * k + 5 for k in range(len(runs[0]))]
        line_with_band(losses, at, median_band(runs), **_look(norm))
    for axis, (name, label) in zip((absolute, relative), MEASURES.items(), strict=True):
        ratio = paired_ratio(
            *(by_seed(measurements, name, norm=norm) for norm in ("batch", "none"))
        )
        title = f"median of layers: BatchNorm × {ratio.mean:.2f}"
        label_axes(axis, "step", label, y_log=True, title=title)
    label_axes(layers, "layer", "‖G − G′‖ / ‖G‖", y_log=True, title="by layer, median of steps")
    label_axes(losses, "step", "training loss", y_unit="nats", y_log=True, title="speed")
    for axis in (relative, layers):
        mark_level(axis, 1)
    legend_below(figure, losses)
    return figure


def _blocks(losses: Sequence[float]) -> list[float]:
    """Average the losses over ten steps each."""
    return [statistics.fmean(losses[k : k + 10]) for k in range(0, len(losses) - 9, 10)]


def _look(norm: str) -> dict[str, Any]:
    if norm == NOISY:
        return {"color": PALETTE[3], "linestyle": "--", "label": "BatchNorm, disturbed"}
    return look_of(norm)


STUDY: Final = Study(
    name="covariate-shift",
    claim="Normalization reduces internal covariate shift, the change of what a layer has to learn "
    "by the updates of the layers below.",
    source="Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167; measured, and denied, by "
    "Santurkar et al. 2018, definition 2.1 and fig. 2, https://arxiv.org/abs/1805.11604.",
    prediction="With BatchNorm the gradient of a layer changes less when the layers below it are "
    "updated: by less than 0.9 times as without a norm, in its size and in proportion to itself. "
    "(Santurkar et al. lead to expect the contrary, and that a BatchNorm whose result is disturbed "
    "by noise trains nearly as well.)",
    protocol="MLP of 10 hidden layers of 100 on the digits, ReLU, weights of He's size, SGD with "
    "the rate 0.1 and batches of 128, 300 steps. At every 15th step ‖G - G′‖ of every layer but "
    "the first, on the batch of the step; the median over layers, then over steps. 10 seeds. "
    "Beside the rule LayerNorm, the cosine of G and G′, and the loss with a BatchNorm behind which "
    "every unit is scaled and shifted at random at every step, every sample a little differently.",
    rule="Geometric mean over seeds of BatchNorm / none with its 95% interval, of ‖G - G′‖ and of "
    "‖G - G′‖ / ‖G‖ (gradients shrink as training succeeds, whatever their direction does). "
    "Confirmed if both intervals lie below 0.9. Not confirmed if one lies above 0.9.",
    seconds=60,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
