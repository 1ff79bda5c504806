"""Does BatchNorm depend on the size of the batch, and LayerNorm not?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from graphnorms.lab.statistics import Estimate
from graphnorms.models import MLP
from graphnorms.studies.drawing import (
    label_axes,
    legend_below,
    line_with_band,
    look_of,
    mark_level,
    mean_band,
    new_figure,
)
from graphnorms.studies.material import digits
from graphnorms.studies.ratios import as_numbers, by_seed, curves, paired_ratio, written
from graphnorms.studies.study import (
    CONFIDENCE,
    Case,
    Finding,
    Measurement,
    Settings,
    Study,
    Values,
    decide,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NORMS = ("none", "batch", "layer")
SMALL, LARGE = 4, 128
LOWEST, HIGHEST = 0.75, 1.25  # LayerNorm lies between
HARMED = 1.3  # BatchNorm lies above
TEST_IMAGES = 360


def cases(settings: Settings) -> list[Case]:
    """Every norm with every batch size."""
    sizes = settings.pick(tiny=(4, 128), default=(4, 16, 128), full=(4, 8, 16, 32, 64, 128))
    return [
        {"norm": norm, "batch": batch, "seed": seed}
        for seed in settings.seeds(default=6, full=20)
        for norm in NORMS
        for batch in sizes
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train on as many examples, in the same order, whatever the batch size; test once."""
    x, y = digits()
    seed, batch = int(case["seed"]), int(case["batch"])
    draw = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(x), generator=draw)
    test, train = shuffled[:TEST_IMAGES], shuffled[TEST_IMAGES:]

    examples = LARGE * settings.pick(tiny=6, default=300, full=300)
    epochs = -(-examples // len(train))
    order = torch.cat([train[torch.randperm(len(train), generator=draw)] for _ in range(epochs)])

    model = MLP(64, 10, width=256, depth=2, norm=str(case["norm"]), seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    for chosen in order[:examples].view(-1, batch):
        optimizer.zero_grad()
        F.cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()

    model.eval()
    with torch.no_grad():
        logits = model(x[test])
    nll = F.cross_entropy(logits, y[test]).item()
    return {"nll": nll, "accuracy": (logits.argmax(1) == y[test]).double().mean().item()}


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Compare what a small batch costs with what it costs without a norm."""
    harm = {norm: _harm(measurements, norm, settings.confidence) for norm in ("batch", "layer")}
    layer, batch = harm["layer"], harm["batch"]
    kept = layer.low >= LOWEST and layer.high <= HIGHEST
    changed = layer.high < LOWEST or layer.low > HIGHEST
    means = ", ".join(
        f"{norm} {np.mean(by_seed(measurements, 'nll', norm=norm, batch=LARGE)):.3f} → "
        f"{np.mean(by_seed(measurements, 'nll', norm=norm, batch=SMALL)):.3f}"
        for norm in NORMS
    )
    return Finding(
        decide(
            confirmed=kept and batch.low > HARMED,
            refuted=changed or batch.high < HARMED,
        ),
        f"From batches of {LARGE} to batches of {SMALL} the test loss grows by a factor that is, "
        f"over that without a norm, {written(layer)} with LayerNorm and {written(batch)} with "
        f"BatchNorm. Mean losses: {means} nats.",
        as_numbers("LayerNorm", layer) | as_numbers("BatchNorm", batch),
    )


def _harm(
    measurements: Sequence[Measurement], norm: str, confidence: float = CONFIDENCE
) -> Estimate:
    """Return NLL(small) / NLL(large) of a norm, divided by the same without one."""

    def losses(norm: str, batch: int) -> NDArray[np.float64]:
        return np.array(by_seed(measurements, "nll", norm=norm, batch=batch))

    grown, grown_without = (losses(each, SMALL) / losses(each, LARGE) for each in (norm, "none"))
    return paired_ratio(grown, grown_without, confidence=confidence)


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the loss over the batch size, and what the rule looks at."""
    figure, (left, right) = new_figure(2)
    sizes = sorted({int(one.case["batch"]) for one in measurements})
    for norm in NORMS:
        runs = curves(measurements, "nll", "batch", sizes, norm=norm)
        line_with_band(left, sizes, mean_band(runs), **look_of(norm))
    label_axes(
        left, "batch size", "test loss", y_unit="nats", x_log=True, y_log=True,
        title="digits, the same examples seen",
    )  # fmt: skip
    left.set_xticks(sizes, [str(size) for size in sizes], minor=False)
    left.minorticks_off()
    for place, norm in enumerate(("layer", "batch")):
        found, look = _harm(measurements, norm), look_of(norm)
        right.plot([place], [found.mean], color=look["color"], marker=look["marker"])
        right.vlines(place, found.low, found.high, color=look["color"])
    right.axhspan(LOWEST, HIGHEST, color="#E69F00", alpha=0.12, linewidth=0)
    right.annotate("expected of LayerNorm", (1.45, 1), ha="right", va="center", fontsize=7)
    mark_level(right, HARMED, "expected of BatchNorm: above")
    label_axes(right, "", f"loss({SMALL}) / loss({LARGE}), none = 1", title="the rule")
    right.set_xticks((0, 1), ("LayerNorm", "BatchNorm"))
    right.set_xlim(-0.5, 1.5)
    legend_below(figure, left)
    return figure


STUDY = Study(
    name="batch-size",
    claim="LayerNorm does not depend on the batch, BatchNorm does and fails in small ones.",
    source="Ba et al. 2016, sections 3 and 6.6, https://arxiv.org/abs/1607.06450.",
    prediction=f"Let r be the test loss after training in batches of {SMALL} over that in batches "
    f"of {LARGE}, divided by the same ratio without a norm. LayerNorm has r within "
    f"{LOWEST} … {HIGHEST}, BatchNorm r > {HARMED}.",
    protocol="MLP 64-256-256-10 with ReLU on scikit-learn's digits, 360 of 1797 images kept for "
    f"the test by seed. Adam, learning rate 1e-3, {300 * LARGE} examples in an order that does "
    "not depend on the batch size (300 steps at 128, 9600 at 4). Test loss in eval mode, where "
    "BatchNorm has its running averages. Six seeds; ratios are paired by seed.",
    rule=f"Confirmed if the 95% interval of r of LayerNorm lies within {LOWEST} … {HIGHEST} and "
    f"that of BatchNorm above {HARMED}; not confirmed if the first lies outside altogether or the "
    f"second below {HARMED}.",
    seconds=75,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
