"""Where are the gradients of a transformer large at initialization, with post-LN and pre-LN?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.lab.statistics import Estimate
from graphnorms.probes import gradient_norms
from graphnorms.studies.drawing import (
    label_axes,
    legend_below,
    line_with_band,
    look,
    mean_band,
    new_figure,
)
from graphnorms.studies.models import SequenceTransformer
from graphnorms.studies.ratios import as_numbers, by_seed, curves, paired_ratio, written
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

PLACES = ("post-LN", "pre-LN")
DEEP = 8  # layers, from which on the two are compared
APART = 2.0  # post-LN's gradient over pre-LN's


def cases(settings: Settings) -> list[Case]:
    """Both placements at every depth."""
    depths = settings.pick(
        tiny=(2, 8), planted=(2, 8, 32), default=(2, 4, 6, 8, 12, 16),
        full=(2, 4, 6, 8, 12, 16, 24, 32),
    )  # fmt: skip
    return [
        {"place": place, "depth": depth, "seed": seed}
        for seed in settings.seeds(planted=8, default=8, full=20)
        for place in PLACES
        for depth in depths
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Take the gradient of the loss of one batch, before any training."""
    seed, channels = int(case["seed"]), settings.pick(tiny=16, default=256, full=512)
    name, text = characters(settings.data)
    sequences = settings.pick(tiny=4, default=16, full=32)
    piece = excerpts(text, sequences, 65, torch.Generator().manual_seed(seed))
    inputs, targets = piece[:, :-1], piece[:, 1:]
    model = SequenceTransformer(
        len(ALPHABET), len(ALPHABET), channels=channels, heads=channels // 64 or 1,
        layers=int(case["depth"]), norm_first=case["place"] == "pre-LN", seed=seed,
    )  # fmt: skip

    def loss() -> Tensor:
        return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    names = [f"transformer.layers.{n}.linear2.weight" for n in range(int(case["depth"]))]
    return observe(model, loss, names) | {"text": name}


def observe(model: nn.Module, loss: Callable[[], Tensor], names: Sequence[str]) -> Values:
    """Take the gradient of a loss by one parameter of each layer; the last one is compared."""
    norms = gradient_norms(model, loss, by="parameter")
    layers = [norms[name] for name in names]
    return {"layers": layers, "last": layers[-1]}


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Compare pre-LN from depth to depth, and both placements in deep models."""
    depths = _depths(measurements)
    last = {
        (place, depth): by_seed(measurements, "last", place=place, depth=depth)
        for place in PLACES
        for depth in depths
    }
    steps = {
        (shallow, deep): paired_ratio(
            last["pre-LN", deep], last["pre-LN", shallow], confidence=settings.confidence
        )
        for shallow, deep in pairwise(depths)
    }
    apart = {
        depth: paired_ratio(
            last["post-LN", depth], last["pre-LN", depth], confidence=settings.confidence
        )
        for depth in depths
        if depth >= DEEP
    }
    decays = all(found.high < 1 for found in steps.values())
    grows = any(found.low > 1 for found in steps.values())
    deepest = depths[-1]
    means = {place: [float(np.mean(last[place, depth])) for depth in depths] for place in PLACES}
    numbers: dict[str, float | None] = {}
    for depth in depths:
        for place in PLACES:
            numbers[f"{place}, {depth} layers"] = means[place][depths.index(depth)]
    for (shallow, deep), found in steps.items():
        numbers |= as_numbers(f"pre-LN, {deep} over {shallow} layers", found)
    for depth, found in apart.items():
        numbers |= as_numbers(f"post-LN over pre-LN, {depth} layers", found)
    for place in PLACES:
        slope = _slope(measurements, place, deepest)
        numbers |= as_numbers(f"{place}, last over first of {deepest} layers", slope)
    return Finding(
        decide(
            confirmed=decays and all(found.low > APART for found in apart.values()),
            refuted=grows or any(found.high < APART for found in apart.values()),
        ),
        f"From {depths[0]} to {deepest} layers the gradient of the last W² goes from "
        f"{means['pre-LN'][0]:.2f} to {means['pre-LN'][-1]:.2f} with pre-LN and from "
        f"{means['post-LN'][0]:.2f} to {means['post-LN'][-1]:.2f} with post-LN; post-LN over "
        "pre-LN is "
        + ", ".join(f"{written(found)} at {depth}" for depth, found in apart.items())
        + f" layers. Text: {measurements[0].values['text']}.",
        numbers,
    )


def _depths(measurements: Sequence[Measurement]) -> list[int]:
    return sorted({int(one.case["depth"]) for one in measurements})


def _slope(measurements: Sequence[Measurement], place: str, depth: int) -> Estimate:
    """Return the gradient of the last layer over that of the first."""
    layers = [one.values["layers"] for one in where(measurements, place=place, depth=depth)]
    return paired_ratio([one[-1] for one in layers], [one[0] for one in layers])


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Draw the gradient of the last layer over the depth, and of every layer of the deepest."""
    figure, (left, right) = new_figure(2, sharey=True)
    depths = _depths(measurements)
    for number, place in enumerate(PLACES):
        how = look(number, place)
        runs = curves(measurements, "last", "depth", depths, place=place)
        line_with_band(left, depths, mean_band(runs), **how)
        layers = [r.values["layers"] for r in where(measurements, place=place, depth=depths[-1])]
        line_with_band(right, range(1, depths[-1] + 1), mean_band(layers), **how)
    deepest = paired_ratio(*(
        by_seed(measurements, "last", place=place, depth=depths[-1]) for place in PLACES
    ))  # fmt: skip
    label_axes(
        left, "layers", "‖∂L/∂W²‖ of the last layer", x_log=True, y_log=True,
        title=f"post-LN over pre-LN: × {deepest.mean:.2g} at {depths[-1]} layers",
    )  # fmt: skip
    left.set_xticks(depths, [str(depth) for depth in depths])
    right.set_xticks(range(2, depths[-1] + 1, 2))
    label_axes(
        right, "layer, the last is next to the output", "‖∂L/∂W²‖", y_log=True,
        title=f"by layer, of {depths[-1]}",
    )  # fmt: skip
    for axis in (left, right):
        axis.set_yticks((0.5, 1, 2, 4, 8), ("0.5", "1", "2", "4", "8"))
        axis.minorticks_off()
    legend_below(figure, left)
    return figure


STUDY = Study(
    name="residual-gradients",
    claim="At initialization a post-LN transformer has large gradients near the output, whatever "
    "its depth; with pre-LN they are well-behaved and fall with the depth.",
    source="Xiong et al. 2020, theorem 1 and fig. 3, https://arxiv.org/abs/2002.04745.",
    prediction="The norm of the gradient of the last feed-forward network's W² falls with every "
    f"step in depth with pre-LN, and post-LN's is more than {APART:g} times pre-LN's from {DEEP} "
    "layers on. The exponent, -1/2 in the theorem, is not predicted.",
    protocol="Causal character model, 256 channels, 4 heads, feed-forward networks of 1024, "
    "Xavier weights, embeddings N(0, 1), no dropout, 2 to 16 layers; gradient of the mean loss of "
    "16 pieces of 64 characters of Python's manual (with a data folder, of tinyshakespeare). "
    "Eight seeds of weights and pieces.",
    rule="Confirmed if for pre-LN the 95% interval of the ratio of every depth to the one before "
    f"lies below 1, and that of post-LN over pre-LN above {APART:g} at every depth from {DEEP} on; "
    f"not confirmed if one of the first lies above 1 or one of the second below {APART:g}.",
    seconds=35,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
