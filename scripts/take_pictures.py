"""Take the pictures of docs/report.md from the pages of two runs, in Chromium.

    graphnorms compare MUTAG
    graphnorms compare nci5k --protocol split --norms none,batch,graph \\
        --layers 2 --hidden 32 --epochs 5 --lr 0.005 --runs 6
    python scripts/take_pictures.py runs/MUTAG-gin runs/nci5k-gine-split

Pictures are stored with 256 colours.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import Browser, find  # noqa: E402

WIDE: Final = 1160
PHONE: Final = (390, 1460)
GAP: Final = 20
GREY: Final = "#b8b8b8"


def taken(browser: Browser) -> Image.Image:
    """Return what is in the window."""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        browser.picture(Path(file.name))
        return Image.open(io.BytesIO(Path(file.name).read_bytes())).convert("RGB")


def wide(browser: Browser, page: Path, last: str) -> Image.Image:
    """Return a page on a screen, from its top to the end of the section with heading `last`."""
    browser.size(WIDE)
    browser.media()
    browser.open(page)
    end = browser.evaluate(f"{_section(last)}.getBoundingClientRect().bottom + window.scrollY")
    browser.size(WIDE, round(end) + GAP)
    browser.settle()
    return taken(browser)


def on_a_phone(browser: Browser, page: Path, first: str, *, dark: bool) -> Image.Image:
    """Return a page on a phone from the section with heading `first` on; empty for the top."""
    browser.size(*PHONE, phone=True)
    browser.media(dark=dark)
    browser.open(page)
    if first:
        browser.evaluate(f"window.scrollTo(0, {_section(first)}.getBoundingClientRect().top - 90)")
        browser.settle()
    return taken(browser).resize(PHONE, Image.Resampling.LANCZOS)


def _section(heading: str) -> str:
    """JavaScript for the section that a heading stands in."""
    return (
        "[...document.querySelectorAll('h2')]"
        f".find(h => h.textContent.trim() === {heading!r}).closest('section')"
    )


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Return pictures of one size beside each other, on grey."""
    width, height = pictures[0].size
    size = (len(pictures) * (width + GAP) + GAP, height + 2 * GAP)
    sheet = Image.new("RGB", size, GREY)
    for place, picture in enumerate(pictures):
        sheet.paste(picture, (GAP + place * (width + GAP), GAP))
    return sheet


def main(arguments: Sequence[str]) -> None:
    """Write the pictures."""
    mutag, nci5k = (Path(folder) / "report.html" for folder in arguments)
    binary = find()
    if binary is None:
        sys.exit("there is no Chromium on the path")
    folder = ROOT / "docs" / "images"
    figure = mutag.with_name("report-figures") / "learning_curves.png"
    with Browser(binary) as browser:
        pictures = {
            "learning-curves": Image.open(figure).convert("RGB"),
            "report": wide(browser, mutag, "Learning curves"),
            "report-nci5k": wide(browser, nci5k, "Seed by seed"),
            "report-phone": side_by_side(
                [
                    on_a_phone(browser, mutag, "", dark=False),
                    on_a_phone(browser, mutag, "Learning curves", dark=True),
                    on_a_phone(browser, mutag, "Time to target", dark=True),
                ]
            ),
        }
    for name, picture in pictures.items():
        picture.quantize(256).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
