"""Take the pictures of reports in docs: two pages of one run beside each other, in Chromium.

    graphnorms compare MUTAG --epochs 20 --folds 5
    python scripts/take_pictures.py old/report.html runs/MUTAG-gin/report.html

Writes `report-1280-light.webp` and its like into docs/images, of the last page also its upper part
(`report.png`; down to the leaderboard `verdict.png`, for README) and its learning curves as a file
has them, and prints the size of each page and how long it takes to paint.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
from pathlib import Path
from typing import Final

from PIL import Image

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import Browser, find_or_exit  # noqa: E402, tests are no package that is installed

IMAGES: Final = ROOT / "docs" / "images"
WIDTHS: Final = (1280, 390)  # a screen and a phone, in CSS pixels
SHOWN: Final = {1280: 620, 390: 280}  # width of a page in the picture
GAP: Final = 16
GREY: Final = "#b8b8b8"
OPENINGS: Final = 7
LAST: Final = {
    "report": "document.getElementById('validation_loss').closest('section')",
    "verdict": "document.querySelector('table')",
}
"""Where the pictures of the upper part end."""


def taken(browser: Browser) -> Image.Image:
    """Return what is in the window."""
    browser.settle()
    return Image.open(io.BytesIO(browser.picture())).convert("RGB")


def upper_part(browser: Browser, page: Path, last: str) -> Image.Image:
    """Return a page from its top to the end of an element, which is given in JavaScript."""
    browser.size(1160)
    browser.media()
    browser.open(page)
    end = browser.evaluate(f"{last}.getBoundingClientRect().bottom + window.scrollY")
    browser.size(1160, round(end) + GAP)
    return taken(browser)


def full_page(browser: Browser, page: Path, width: int, *, dark: bool) -> Image.Image:
    """Return a whole page as it looks at a width."""
    browser.size(width)
    browser.media(dark=dark)
    browser.open(page)
    browser.size(width, browser.evaluate("document.documentElement.scrollHeight"))
    picture = taken(browser)
    height = round(picture.height * SHOWN[width] / picture.width)
    return picture.resize((SHOWN[width], height), Image.Resampling.LANCZOS)


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Return pictures beside each other on grey, aligned at the top."""
    size = (
        sum(picture.width + GAP for picture in pictures) + GAP,
        max(picture.height for picture in pictures) + 2 * GAP,
    )
    sheet = Image.new("RGB", size, GREY)
    left = GAP
    for picture in pictures:
        sheet.paste(picture, (left, GAP))
        left += picture.width + GAP
    return sheet


def paint_times(browser: Browser, page: Path) -> tuple[float, float]:
    """Return the milliseconds to the first paint and to the last figure: medians of openings."""
    first, last = [], []
    browser.size(1280)
    browser.media()
    for _ in range(OPENINGS):
        browser.open(page)
        first.append(browser.evaluate("performance.getEntriesByType('paint')[0].startTime"))
        last.append(browser.evaluate("window.readyAt"))
    return statistics.median(first), statistics.median(last)


def main() -> None:
    """Write the pictures and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pages", nargs="+", type=Path, metavar="PAGE")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with Browser(find_or_exit()) as browser:
        for page in arguments.pages:
            first, last = paint_times(browser, page)
            size = page.stat().st_size / 1e6
            print(f"{page}: {size:.2f} MB, text after {first:.0f} ms, figures after {last:.0f} ms")
        for width in WIDTHS:
            for colors in ("light", "dark"):
                pictures = [
                    full_page(browser, page, width, dark=colors == "dark")
                    for page in arguments.pages
                ]
                file = arguments.out / f"report-{width}-{colors}.webp"
                side_by_side(pictures).save(file, quality=50, method=6)
        page = arguments.pages[-1]
        upper = {name: upper_part(browser, page, last) for name, last in LAST.items()}
    for name, picture in upper.items():
        picture.quantize(256).save(arguments.out / f"{name}.png", optimize=True)
    curves = Image.open(page.with_name(f"{page.stem}-figures") / "learning_curves.png")
    curves.convert("RGB").quantize(256).save(arguments.out / "learning-curves.png", optimize=True)


if __name__ == "__main__":
    main()
