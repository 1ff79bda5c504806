"""Where are the gradients of a transformer large at initialization, with post-LN and pre-LN?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.lab.statistics import Estimate
from graphnorms.probes import gradient_norms
from graphnorms.report.text_table import TextTable
from graphnorms.studies import drawing
from graphnorms.studies.evidence import concluded, decide, numbers_of, paired_ratio, ratio, written
from graphnorms.studies.measured_values import curves, mean_by_seed, where
from graphnorms.studies.sequence_transformer import SequenceTransformer
from graphnorms.studies.study import Case, Figure, Finding, Measured, Settings, Study, Values, World
from graphnorms.studies.study_data import ALPHABET, characters, excerpts

PLACES = ("post-LN", "pre-LN")
DEPTHS = {
    "tiny": (2, 8),
    "planted": (2, 8, 32),
    "default": (2, 4, 6, 8, 12, 16),
    "full": (2, 4, 6, 8, 12, 16, 24, 32),
}
CHANNELS = {"tiny": 16, "default": 256, "full": 512}
PIECES = {"tiny": 4, "default": 16, "full": 32}
LENGTH = 64  # characters of a piece
OF_A_HEAD = 64  # channels
SEEDS = {"planted": 8, "default": 8, "full": 20}
DEEP = 8  # layers, from which on the two are compared
APART = 2.0  # post-LN's gradient over pre-LN's


def cases(settings: Settings) -> list[Case]:
    """Both placements at every depth."""
    return [
        {"place": place, "depth": depth, "seed": seed}
        for seed in settings.seeds(**SEEDS)
        for place in PLACES
        for depth in DEPTHS[settings.size]
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Take the gradient of the loss of one batch, before any training."""
    seed, channels, depth = int(case["seed"]), settings.pick(**CHANNELS), int(case["depth"])
    name, text = characters(settings.data)
    draw = torch.Generator().manual_seed(seed)
    piece = excerpts(text, settings.pick(**PIECES), LENGTH + 1, draw)
    inputs, targets = piece[:, :-1], piece[:, 1:]
    model = SequenceTransformer(
        len(ALPHABET),
        len(ALPHABET),
        channels=channels,
        heads=channels // OF_A_HEAD or 1,
        layers=depth,
        norm_first=case["place"] == "pre-LN",
        seed=seed,
    )

    def loss() -> Tensor:
        return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    names = [f"transformer.layers.{number}.linear2.weight" for number in range(depth)]
    return observe(model, loss, names) | {"text": name}


def observe(model: nn.Module, loss: Callable[[], Tensor], names: Sequence[str]) -> Values:
    """Take the gradient of a loss by one parameter of each layer; the last one is compared."""
    norms = gradient_norms(model, loss, by="parameter")
    layers = [norms[name] for name in names]
    return {"layers": layers, "last": layers[-1]}


def judge(measured: Measured, settings: Settings) -> Finding:
    """Compare pre-LN from depth to depth, and both placements in deep models."""
    depths, sure = _depths(measured), settings.confidence
    deepest = depths[-1]
    steps = {
        (shallow, deep): ratio(
            measured, "last", place="pre-LN", depth=(deep, shallow), confidence=sure
        )
        for shallow, deep in pairwise(depths)
    }
    apart = {
        depth: ratio(measured, "last", place=PLACES, depth=depth, confidence=sure)
        for depth in depths
        if depth >= DEEP
    }
    means = {
        (place, depth): mean_by_seed(measured, "last", place=place, depth=depth)
        for depth in depths
        for place in PLACES
    }
    numbers: dict[str, float | None] = {
        f"{place}, {depth} layers": mean for (place, depth), mean in means.items()
    }
    numbers |= numbers_of(
        {f"pre-LN, {deep} over {low} layers": each for (low, deep), each in steps.items()}
        | {f"post-LN over pre-LN, {depth} layers": each for depth, each in apart.items()}
        | {
            f"{place}, last over first of {deepest} layers": _slope(measured, place, deepest)
            for place in PLACES
        }
    )
    decays = all(found.high < 1 for found in steps.values())
    grows = any(found.low > 1 for found in steps.values())
    verdict = decide(
        confirmed=decays and all(found.low > APART for found in apart.values()),
        refuted=grows or any(found.high < APART for found in apart.values()),
    )
    conclusion = concluded(
        verdict,
        yes="Gradients near the output are large with post-LN and fall with the depth with pre-LN.",
        no="Gradients near the output do not differ between post-LN and pre-LN as predicted.",
    )
    rows = tuple(
        (
            str(depth),
            *(f"{means[place, depth]:.2f}" for place in PLACES),
            written(apart[depth]) if depth in apart else "–",
        )
        for depth in depths
    )
    return Finding(
        verdict,
        f"{conclusion} From {depths[0]} to {deepest} layers the gradient of the last W² goes from "
        f"{means['pre-LN', depths[0]]:.2f} to {means['pre-LN', deepest]:.2f} with pre-LN "
        f"(predicted: it falls with every step) and from {means['post-LN', depths[0]]:.2f} to "
        f"{means['post-LN', deepest]:.2f} with post-LN, which is {written(apart[deepest])} times "
        f"pre-LN's at {deepest} layers (predicted: more than {APART:g} from {DEEP} layers on). "
        f"Text: {measured[0].values['text']}.",
        numbers,
        (TextTable("Gradient of the last W²", ("layers", *PLACES, "post-LN / pre-LN"), rows),),
    )


def _depths(measured: Measured) -> list[int]:
    return sorted({int(one.case["depth"]) for one in measured})


def _slope(measured: Measured, place: str, depth: int) -> Estimate:
    """Return the gradient of the last layer over that of the first."""
    layers = [one.values["layers"] for one in where(measured, place=place, depth=depth)]
    return paired_ratio([one[-1] for one in layers], [one[0] for one in layers])


def draw(measured: Measured) -> Figure:
    """Draw the gradient of the last layer over the depth, and of every layer of the deepest."""
    figure, (left, right) = drawing.new_figure(2, sharey=True)
    depths = _depths(measured)
    deepest = depths[-1]
    for number, place in enumerate(PLACES):
        how = drawing.look(number, place)
        runs = curves(measured, "last", "depth", depths, place=place)
        drawing.line_with_band(left, depths, drawing.mean_band(runs), **how)
        layers = [one.values["layers"] for one in where(measured, place=place, depth=deepest)]
        drawing.line_with_band(right, range(1, deepest + 1), drawing.mean_band(layers), **how)
    times = ratio(measured, "last", place=PLACES, depth=deepest).mean
    drawing.label_axes(
        left,
        "layers",
        "‖∂L/∂W²‖ of the last layer",
        log="xy",
        title=f"post-LN over pre-LN: × {times:.2g} at {deepest} layers",
    )
    left.set_xticks(depths, [str(depth) for depth in depths])
    right.set_xticks(range(2, deepest + 1, 2))
    drawing.label_axes(
        right,
        "layer, the last is next to the output",
        "‖∂L/∂W²‖",
        log="y",
        title=f"by layer, of {deepest}",
    )
    for axis in (left, right):
        axis.set_yticks((0.5, 1, 2, 4, 8), ("0.5", "1", "2", "4", "8"))
        axis.minorticks_off()
    drawing.legend_below(figure, left)
    return figure


class _Sum(nn.Module):
    """A sum of Linears of one input, times a gain."""

    def __init__(self, channels: int, depth: int, gain: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(channels, channels) for _ in range(depth))
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * torch.stack([layer(x) for layer in self.layers]).sum(0)


def _planted(case: Case, settings: Settings, *, divided: bool) -> Values:
    """The gradient of each Linear is the gain times a number that the seed draws."""
    depth, pre = int(case["depth"]), case["place"] == "pre-LN"
    draw = torch.Generator().manual_seed(1000 * int(case["seed"]) + 2 * depth + pre)
    model = _Sum(64, depth, depth**-0.5 if divided and pre else 1.0)
    x, target = torch.randn(2, 64, generator=draw)
    names = [f"layers.{layer}.weight" for layer in range(depth)]
    return observe(model, lambda: target @ model(x) / len(x), names) | {"text": "none"}


STUDY = Study(
    name="residual-gradients",
    claim="At initialization a post-LN transformer has large gradients near the output, whatever "
    "its depth; with pre-LN they are well-behaved and fall with the depth.",
    source="Xiong et al. 2020, theorem 1 and fig. 3, https://arxiv.org/abs/2002.04745.",
    prediction="The norm of the gradient of the last feed-forward network's W² falls with every "
    f"step in depth with pre-LN, and post-LN's is more than {APART:g} times pre-LN's from {DEEP} "
    "layers on. The exponent, -1/2 in the theorem, is not predicted.",
    protocol=f"Causal character model, {CHANNELS['default']} channels, "
    f"{CHANNELS['default'] // OF_A_HEAD} heads, feed-forward networks of "
    f"{4 * CHANNELS['default']}, Xavier weights, embeddings N(0, 1), no dropout, "
    f"{DEPTHS['default'][0]} to {DEPTHS['default'][-1]} layers; gradient of the mean loss of "
    f"{PIECES['default']} pieces of {LENGTH} characters of Python's manual (with a data folder, of "
    f"tinyshakespeare). {SEEDS['default']} seeds of weights and pieces.",
    rule="Confirmed if for pre-LN the 95% interval of the ratio of every depth to the one before "
    f"lies below 1, and that of post-LN over pre-LN above {APART:g} at every depth from {DEEP} on; "
    f"not confirmed if one of the first lies above 1 or one of the second below {APART:g}.",
    seconds=35,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
    true=World(
        "A sum of Linears, whose gradients differ by the draw of input and target alone; with "
        "pre-LN it is divided by the root of the depth.",
        lambda case, settings: _planted(case, settings, divided=True),
    ),
    false=World(
        "The same sum, divided by nothing in either placement.",
        lambda case, settings: _planted(case, settings, divided=False),
    ),
)
