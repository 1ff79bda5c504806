"""Which norm suits a recurrent network whose sequences differ in length?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.report.style import display_name
from graphnorms.studies.drawing import (
    label_axes,
    legend_below,
    line_with_band,
    look_of,
    mean_band,
    new_figure,
)
from graphnorms.studies.material import digits
from graphnorms.studies.models import RecurrentNet
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
from graphnorms.studies.text import ALPHABET, characters, excerpts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TASKS = ("digits", "text")
SHARED, PER_STEP = "batch, shared", "batch, per step"
NORMS = ("none", "layer", SHARED, PER_STEP)
TARGET = {"digits": 1.0, "text": 2.75}  # training loss whose first step is reported, nats
TRAINED = 16  # the longest training sequence
LONGER = 48  # steps of a test sequence


@dataclass(frozen=True)
class Task:
    """A model, its training batches and its test.

    Args:
        model: The recurrent network.
        loss: Draws a batch of short sequences, and computes the loss on it.
        test: Computes the loss on sequences of so many steps, at their ends.
    """

    model: nn.Module
    loss: Callable[[], Tensor]
    test: Callable[[int], Tensor]


def cases(settings: Settings) -> list[Case]:
    """Every norm in both tasks."""
    return [
        {"task": task, "norm": norm, "seed": seed}
        for seed in settings.seeds(default=5, full=10)
        for task in TASKS
        for norm in NORMS
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train on short sequences, and test on sequences as long and longer."""
    task = (_digits if case["task"] == "digits" else _text)(case, settings)
    steps = settings.pick(tiny=12, default=200, full=3000)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=3e-3, fused=True)
    curve = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = task.loss()
        value.backward()
        optimizer.step()
        curve.append(value.item())
    task.model.eval()
    with torch.no_grad():
        tests = {f"test {length}": task.test(length).item() for length in _lengths()}
    smooth = np.convolve(curve, np.full(10, 0.1), "valid")  # ends at step 10, 11, …
    reached = np.flatnonzero(smooth < TARGET[str(case["task"])])
    tenths = [float(part.mean()) for part in np.array_split(np.array(curve), 10)]
    return {**tests, "reached": int(reached[0]) + 10 if len(reached) else None, "curve": tenths}


def _lengths() -> tuple[int, ...]:
    return (8, TRAINED, 32, LONGER)


def _network(case: Case, settings: Settings, **arguments: Any) -> RecurrentNet:
    norm = str(case["norm"]).partition(",")[0]
    return RecurrentNet(
        hidden=settings.pick(tiny=16, default=64, full=256), norm=norm,
        statistics_steps=TRAINED if case["norm"] == PER_STEP else None,
        seed=int(case["seed"]), **arguments,
    )  # fmt: skip


def _digits(case: Case, settings: Settings) -> Task:
    """One image after the other, row by row, 8 steps each: name the last one.

    The longer sequences have more images before the one that counts.
    """
    pixels, y = digits()
    x = pixels.view(-1, 8, 8)
    draw = torch.Generator().manual_seed(int(case["seed"]))
    shuffled = torch.randperm(len(x), generator=draw)
    test_ids, train_ids = shuffled[:400], shuffled[400:]
    model = _network(case, settings, in_channels=8, out_channels=10)

    def batch(ids: Tensor, number: int, images: int) -> tuple[Tensor, Tensor]:
        chosen = ids[torch.randint(len(ids), (number, images), generator=draw)]
        return x[chosen].flatten(1, 2), chosen  # (number, 8 * images, 8)

    def loss() -> Tensor:
        rows, chosen = batch(train_ids, 32, TRAINED // 8)
        images = torch.randint(1, TRAINED // 8 + 1, (32,), generator=draw)
        last = chosen.gather(1, images.unsqueeze(1) - 1).squeeze(1)
        return F.cross_entropy(model(rows, 8 * images), y[last])

    def test(length: int) -> Tensor:
        rows, chosen = batch(test_ids, 400, length // 8)
        return F.cross_entropy(model(rows), y[chosen[:, -1]])

    return Task(model, loss, test)


def _text(case: Case, settings: Settings) -> Task:
    """Name the next character after each of 4 to 16; the test is about the last 8 of a piece."""
    text = characters(settings.data)[1]
    train, unseen = text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]
    draw = torch.Generator().manual_seed(int(case["seed"]))
    size = len(ALPHABET)
    model = _network(
        case, settings, in_channels=size, out_channels=size, tokens=True, every_step=True
    )

    def loss() -> Tensor:
        piece = excerpts(train, 32, TRAINED + 1, draw)
        lengths = torch.randint(4, TRAINED + 1, (32,), generator=draw)
        counts = torch.arange(TRAINED) < lengths.unsqueeze(1)
        return F.cross_entropy(model(piece[:, :-1], lengths)[counts], piece[:, 1:][counts])

    def test(length: int) -> Tensor:
        piece = excerpts(unseen, 400, length + 1, draw)
        logits = model(piece[:, :-1])[:, -8:]
        return F.cross_entropy(logits.flatten(0, 1), piece[:, -8:].flatten())

    return Task(model, loss, test)


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Compare LayerNorm with none, and either BatchNorm with LayerNorm, on long sequences."""
    longest = f"test {LONGER}"
    numbers: dict[str, float | None] = {}
    layer, batch, said = [], [], []
    for task in TASKS:
        losses = {norm: by_seed(measurements, longest, task=task, norm=norm) for norm in NORMS}
        for norm in NORMS:
            runs = [one.values["reached"] for one in where(measurements, task=task, norm=norm)]
            known = [run for run in runs if run is not None]
            numbers[f"{task}, {norm}, steps to {TARGET[task]:g} nats"] = (
                float(np.mean(known)) if len(known) == len(runs) else None
            )
            short = by_seed(measurements, f"test {TRAINED}", task=task, norm=norm)
            numbers[f"{task}, {norm}, test loss at {TRAINED} steps"] = float(np.mean(short))
            numbers[f"{task}, {norm}, test loss at {LONGER} steps"] = float(np.mean(losses[norm]))
        layer.append(paired_ratio(losses["layer"], losses["none"], confidence=settings.confidence))
        batch += [
            paired_ratio(losses[norm], losses["layer"], confidence=settings.confidence)
            for norm in (SHARED, PER_STEP)
        ]
        numbers |= as_numbers(f"{task}, LayerNorm over none", layer[-1])
        numbers |= as_numbers(f"{task}, BatchNorm shared over LayerNorm", batch[-2])
        numbers |= as_numbers(f"{task}, BatchNorm per step over LayerNorm", batch[-1])
        said.append(
            f"{task}: LayerNorm over none {written(layer[-1])}, BatchNorm over LayerNorm "
            f"{written(batch[-2])} shared and {written(batch[-1])} per step"
        )
    return Finding(
        decide(
            confirmed=all(found.high < 1 for found in layer)
            and all(found.low > 1 for found in batch),
            refuted=any(found.low > 1 for found in layer) or any(found.high < 1 for found in batch),
        ),
        f"Test loss on sequences of {LONGER} steps after training on up to {TRAINED}: "
        + "; ".join(said)
        + ".",
        numbers,
    )


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the training loss, and the test loss over the length: a row for each task."""
    figure, axes = new_figure(4, columns=2, size=(3.5, 2.5))
    for row, task in enumerate(TASKS):
        training, testing = axes[2 * row : 2 * row + 2]
        for norm in NORMS:
            how = look_of(norm.partition(",")[0])
            if norm in (SHARED, PER_STEP):
                how |= {"label": f"{display_name('batch')}{norm.removeprefix('batch')}"}
            if norm == PER_STEP:
                how |= {"linestyle": ":", "marker": "v"}
            curves = [one.values["curve"] for one in where(measurements, task=task, norm=norm)]
            line_with_band(training, range(10, 101, 10), mean_band(curves), **how)
            runs = [
                by_seed(measurements, f"test {length}", task=task, norm=norm)
                for length in _lengths()
            ]
            line_with_band(testing, _lengths(), mean_band(list(zip(*runs, strict=True))), **how)
        label_axes(
            training, "training", "training loss", x_unit="% of the steps", y_unit="nats",
            title=f"{task}, up to {TRAINED} time steps",
        )  # fmt: skip
        label_axes(
            testing, "time steps of a test sequence", "test loss", y_unit="nats",
            title=f"{task}, as long and longer",
        )  # fmt: skip
        testing.axvspan(0, TRAINED, color="#8A8A8A", alpha=0.12, linewidth=0)
        testing.set_xticks(_lengths())
        testing.set_xlim(4, LONGER + 2)
    legend_below(figure, axes[0], columns=4)
    return figure


STUDY = Study(
    name="sequence-length",
    claim="LayerNorm suits recurrent networks, whose sequences differ in length; BatchNorm, shared "
    "by the time steps or with statistics of each, does not.",
    source="Ba et al. 2016, sections 3.1 and 6, https://arxiv.org/abs/1607.06450.",
    prediction=f"After training on sequences of up to {TRAINED} steps, the test loss on {LONGER} "
    "steps is lower with LayerNorm than without a norm, and higher with either BatchNorm than with "
    "LayerNorm, on digits and on text.",
    protocol="LSTM of 64 channels; Adam with rate 3e-3, 200 steps of 32 sequences of different "
    "lengths. Digits: scikit-learn's images one after the other, a row of 8 pixels a time step; "
    "name the last one; 1 or 2 images in training, up to 6 in the test, 400 images kept for it. "
    "Text: the next character of Python's manual (with a data folder, of tinyshakespeare), 4 to "
    f"{TRAINED} characters in training; the test is the last 8 characters of a piece of the last "
    "tenth of the text. BatchNorm as Cooijmans et al. 2017 have it (gain 0.1 at first), its "
    "running averages shared by all time steps, or for each of the first "
    f"{TRAINED} and later ones as the last; in training the two are the same. Steps to a training "
    "loss of 1 nat (digits) and 2.75 (text) are reported beside. Five seeds.",
    rule=f"Six ratios of test losses on {LONGER} steps, paired by seed. Confirmed if in both tasks "
    "the 95% interval of LayerNorm over none lies below 1 and those of both BatchNorms over "
    "LayerNorm above 1; not confirmed if one of the six lies on the other side of 1.",
    seconds=55,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
