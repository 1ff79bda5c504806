"""InstanceNorm or BatchNorm in a network that stylizes images in one pass?"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from graphnorms.lab.statistics import mean_interval
from graphnorms.report.style import display_name
from graphnorms.studies.drawing import new_figure
from graphnorms.studies.models import RandomFilters, Stylizer
from graphnorms.studies.ratios import as_numbers, by_seed, paired_ratio, written
from graphnorms.studies.study import Case, Finding, Measurement, Settings, Study, Values, decide

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NORMS = ("instance", "batch")
CONTRASTS = ((1.0, 0.0), (0.5, 0.1), (0.25, -0.2))  # gain around grey, and offset
UNCHANGED = 0.05  # how far a result may move with the contrast, in its own standard deviations
SIDE = 64  # pixels of a crop


def cases(settings: Settings) -> list[Case]:
    """Both norms; the pictures are kept of the first seed."""
    seeds = settings.seeds(default=4, full=8)
    return [
        {"norm": norm, "seed": seed, "pictures": seed == seeds[0]}
        for seed in seeds
        for norm in NORMS
    ]


def measure(case: Case, settings: Settings) -> Values:
    """Train a stylizer on crops of any contrast, and look at crops that it has not seen."""
    seed = int(case["seed"])
    content, style = _photographs()
    filters = RandomFilters(
        (3, 5, 7, 11), filters=settings.pick(tiny=4, default=16, full=32), seed=seed
    )
    target = filters.style(style)
    seen, unseen = content[..., :105], content[..., 105:]
    # Each part of the loss in units of its own: the style of the photograph as it is, and the
    # content of a grey image.
    test = torch.cat([
        unseen[..., top : top + SIDE, left : left + SIDE]
        for top in (21, 85, 149)
        for left in (0, 75, 151)
    ])  # fmt: skip
    style_unit = filters.style_loss(test, target)
    content_unit = filters.content_loss(torch.full_like(test, 0.5), test)

    def losses(result: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        return (
            filters.style_loss(result, target) / style_unit,
            filters.content_loss(result, given) / content_unit,
        )

    model = Stylizer(
        width=settings.pick(tiny=4, default=8, full=16),
        blocks=settings.pick(tiny=1, default=2, full=4),
        norm=str(case["norm"]), norm_eps=1e-8, seed=seed,
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(settings.pick(tiny=4, default=200, full=2000)):
        given = _crops(seen, 4, draw)
        optimizer.zero_grad()
        style_loss, content_loss = losses(model(given), given)
        (style_loss + content_loss).backward()
        optimizer.step()

    model.eval()
    with torch.no_grad():
        givens = [_contrast(test, *contrast) for contrast in CONTRASTS]
        results = [model(given) for given in givens]
        parts = [losses(*pair) for pair in zip(results, givens, strict=True)]
    values: Values = {
        "loss": float(np.mean([float(style + content) for style, content in parts])),
        "style": float(np.mean([float(style) for style, _ in parts])),
        "content": float(np.mean([float(content) for _, content in parts])),
        "moved": ((results[2] - results[0]).square().mean().sqrt() / results[0].std()).item(),
    }
    if case["pictures"]:
        shown = [_contrast(unseen[..., 61:189, :128], *contrast) for contrast in CONTRASTS]
        with torch.no_grad():
            values["results"] = [_packed(model(given)) for given in shown]
        values["inputs"] = [_packed(given) for given in shown]
        values["painted"] = _packed(style)
    return values


def _photographs() -> tuple[Tensor, Tensor]:
    """Return the content and the style, `(1, 3, height, width)` in 0 … 1, at half resolution."""
    from sklearn.datasets import load_sample_images

    pagoda, dahlia = (
        F.avg_pool2d(torch.tensor(np.array(image)).permute(2, 0, 1).unsqueeze(0) / 255, 2)
        for image in load_sample_images().images
    )
    return pagoda, dahlia[..., 46:174, 90:218]


def _crops(photograph: Tensor, number: int, draw: torch.Generator) -> Tensor:
    """Draw crops at random places, each with a contrast and a brightness of its own."""
    height, width = photograph.shape[-2:]
    crops = []
    for _ in range(number):
        down, right, gain, offset = torch.rand(4, generator=draw).tolist()
        top, left = int(down * (height - SIDE + 1)), int(right * (width - SIDE + 1))
        crop = photograph[..., top : top + SIDE, left : left + SIDE]
        crops.append(_contrast(crop, 4**-gain, 0.4 * offset - 0.2))
    return torch.cat(crops)


def _contrast(images: Tensor, gain: float, offset: float) -> Tensor:
    return 0.5 + gain * (images - 0.5) + offset


def _packed(image: Tensor) -> str:
    """Write an image as text: the bytes of its pixels, height × width × 3."""
    pixels = (image[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8)
    return base64.b64encode(pixels.numpy().tobytes()).decode()


def _unpacked(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=np.uint8).reshape(128, 128, 3)


def judge(measurements: Sequence[Measurement], settings: Settings) -> Finding:
    """Compare the losses, and how far the results move with the contrast."""
    loss, style, content = (
        paired_ratio(
            *(by_seed(measurements, part, norm=norm) for norm in NORMS),
            confidence=settings.confidence,
        )
        for part in ("loss", "style", "content")
    )
    moved = {
        norm: mean_interval(
            by_seed(measurements, "moved", norm=norm), confidence=settings.confidence
        )
        for norm in NORMS
    }
    instance, batch = moved["instance"], moved["batch"]
    numbers = as_numbers("loss, InstanceNorm over BatchNorm", loss)
    numbers |= as_numbers("style loss, the same", style)
    numbers |= as_numbers("content loss, the same", content)
    for norm in NORMS:
        numbers |= as_numbers(f"moved by the contrast, {display_name(norm)}", moved[norm])
        numbers[f"loss, {display_name(norm)}"] = float(
            np.mean(by_seed(measurements, "loss", norm=norm))
        )
    return Finding(
        decide(
            confirmed=loss.high < 1 and instance.high < UNCHANGED and batch.low > UNCHANGED,
            refuted=loss.low > 1 or instance.low > UNCHANGED or batch.high < UNCHANGED,
        ),
        f"On unseen crops of three contrasts the loss with InstanceNorm is {written(loss)} of that "
        f"with BatchNorm (style {written(style)}, content {written(content)}). From full to a "
        f"quarter of the contrast the result moves by {written(instance, significant=True)} of its "
        f"standard deviation with InstanceNorm, {written(batch, significant=True)} with BatchNorm.",
        numbers,
    )


def draw(measurements: Sequence[Measurement]) -> Figure:
    """Show an unseen crop in three contrasts, and what either norm makes of it."""
    shown = {
        norm: next(
            one.values for one in measurements if one.case["norm"] == norm and one.case["pictures"]
        )
        for norm in NORMS
    }
    figure, axes = new_figure(12, columns=4, size=(1.75, 1.8))
    rows = [
        ("what is to be stylized", shown["instance"]["inputs"]),
        *((f"with {display_name(norm)}", shown[norm]["results"]) for norm in NORMS),
    ]
    for row, (title, pictures) in enumerate(rows):
        for axis, picture, (gain, offset) in zip(
            axes[4 * row :], pictures, CONTRASTS, strict=False
        ):
            axis.imshow(_unpacked(picture))
            if row == 0:
                axis.set_title(f"contrast {gain:g}, offset {offset:+g}", fontsize=7.5)
        axes[4 * row].set_ylabel(title)
    axes[3].imshow(_unpacked(shown["instance"]["painted"]))
    axes[3].set_title("the style", fontsize=7.5)
    for axis in (axes[7], axes[11]):
        axis.remove()
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.grid(False)
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure


STUDY = Study(
    name="stylization",
    claim="A network that stylizes images in one pass wants InstanceNorm, not BatchNorm.",
    source="Ulyanov et al. 2016, https://arxiv.org/abs/1607.08022; the loss network is that of "
    "Ustyuzhaninov et al. 2016, https://arxiv.org/abs/1606.00021.",
    prediction="On unseen crops of differing contrast the loss is lower with InstanceNorm than "
    "with BatchNorm. When contrast and brightness of the image change, the result of InstanceNorm "
    f"moves by less than {UNCHANGED:g} of its standard deviation, that of BatchNorm by more.",
    protocol="Stylizer with 8 channels at full resolution, two halvings and two residual blocks, "
    "ε 1e-8; 200 steps of Adam, rate 3e-3, on 4 crops of 64 × 64 of the left third of "
    "scikit-learn's pagoda at half resolution, each with a gain of 1/4 … 1 around grey and an "
    "offset of -0.2 … 0.2. Style: its dahlia. Loss: Gram matrices of 16 random filters of each of "
    "4 sizes, in units of the photograph's own distance from the style, plus the features of the "
    "smallest, in units of a grey image's distance from the photograph; the content is that of "
    "the image given, as in the paper. Tested on nine crops of "
    "the rest, in three contrasts, in eval mode. Four seeds of filters, weights and crops.",
    rule="Confirmed if the 95% interval of the loss with InstanceNorm over that with BatchNorm "
    f"lies below 1, that of InstanceNorm's movement below {UNCHANGED:g} and that of BatchNorm's "
    "above; not confirmed if one of the three lies on the other side.",
    seconds=50,
    cases=cases,
    measure=measure,
    judge=judge,
    draw=draw,
)
