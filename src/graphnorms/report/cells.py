"""How the cells of text tables are written: estimates, p-values, effects, and in ASCII."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box

from graphnorms.report.labels import STAR

if TYPE_CHECKING:
    from graphnorms.lab.number_format import Scale
    from graphnorms.lab.paired_tests import PairedTest
    from graphnorms.lab.statistics import Estimate

_ASCII = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "±": "+-", "×": "x", "…": "...", "≥": ">=", STAR: "<-"}
)


PLAIN_BOX = box.Box(box.SIMPLE_HEAD.__str__().replace("─", "-"), ascii=True)


def justified(heading: str, cells: Sequence[str], sign: str) -> list[str]:
    """Bring heading and cells to one width, ± below ± and numbers without one below the means.

    Done by hand: what trails a cell is taken off where a table puts it to the right.
    """
    tails = [cell[cell.find(sign) :] if sign in cell else "" for cell in cells]
    longest = max(map(len, tails))
    padded = [
        cell + " " * (longest - len(tail)) if cell[-1:].isdigit() else cell
        for cell, tail in zip(cells, tails, strict=True)
    ]
    lines = heading.split("\n")
    width = max(map(len, (*padded, *lines)))
    return ["\n".join(line.rjust(width) for line in lines), *(cell.rjust(width) for cell in padded)]


def ascii_only(text: str) -> str:
    """Spell the signs that our texts use in ASCII, for outputs that take nothing else."""
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def estimate_text(estimate: Estimate | None, scale: Scale, *, signed: bool = False) -> str:
    """Write a mean and the longer side of its interval: `91.2±2.3`."""
    if estimate is None:
        return "–"
    mean = scale.number(estimate.mean, signed=signed)
    return mean if math.isnan(estimate.low) else f"{mean}±{scale.number(estimate.half_width)}"


def mean_text(estimate: Estimate | None, scale: Scale) -> str:
    """Write a mean alone."""
    return "–" if estimate is None else scale.number(estimate.mean)


def effect_text(test: PairedTest | None) -> str:
    """Write an effect size: `+1.24`."""
    if test is None or test.effect is None:
        return "–"
    return f"{test.effect.mean:+.2f}".replace("-", "−")


def needed_text(test: PairedTest | None) -> str:
    """Write the pairs that tell two apart and that show them equal: `24 | –`."""
    if test is None or test.pairs < 2:
        return "–"
    return f"{test.needed or '–'} | {test.needed_to_equal or '–'}"


def p_text(p: float | None) -> str:
    """Write a p-value: `.012`."""
    return "–" if p is None else "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")
