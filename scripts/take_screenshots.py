"""Take the pictures of docs/looks.md: pages of the built site on a screen and on a phone.

make docs
python scripts/take_screenshots.py
python scripts/take_screenshots.py maths force --dark --out /tmp/pictures
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Final

from PIL import Image

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import Browser, find_or_exit  # noqa: E402, tests are no package that is installed

SITE: Final = ROOT / "docs" / "_build"
PAGES: Final = ("index", "start", "dropin", "norms/graph", "studies")
SIZES: Final = {1280: 900, 390: 844}
"""Widths in CSS pixels, with the height of what is shown."""
COLORS: Final = 128
"""Of the palette: enough for text and figures on one ground, at some 50 kB a picture."""


def taken(browser: Browser, page: Path, width: int) -> Image.Image:
    """Return the upper part of a page at a width.

    Raises:
        SystemExit: The page is wider than the window, so that a phone would scroll sideways.
    """
    browser.size(width, SIZES[width])
    browser.send("Page.navigate", url=page.resolve().as_uri())
    browser.wait(f"document.readyState === 'complete' && location.pathname.endsWith('{page.name}')")
    browser.settle()
    if (found := browser.evaluate("document.documentElement.scrollWidth")) > width:
        raise SystemExit(f"{page} is {found} pixels wide, expected at most {width}")
    return Image.open(io.BytesIO(browser.picture())).convert("RGB")


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pages", nargs="*", default=PAGES, metavar="PAGE")
    parser.add_argument("--dark", action="store_true", help="in the colours of the night")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with Browser(find_or_exit()) as browser:
        for name in arguments.pages:
            page = SITE / f"{name}.html"
            if not page.is_file():
                parser.error(f"{page} is not there; make docs builds it, or the name is another")
            for width in SIZES:
                browser.media(dark=arguments.dark)
                picture = taken(browser, page, width).quantize(COLORS, dither=Image.Dither.NONE)
                ending = f"{width}-dark" if arguments.dark else str(width)
                file = arguments.out / f"{name.replace('/', '_')}-{ending}.png"
                picture.save(file, optimize=True)
                print(f"{file}: {file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
