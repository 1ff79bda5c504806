"""Check the built pages: `python docs/check_site.py docs/_build` says what is wrong, if anything.

Every link and anchor within the pages leads somewhere; every picture has a text; no page asks
anything of the network; and the index leads to every page.
"""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src"}
LOADING_LINKS = {"stylesheet", "preload", "icon", "preconnect", "dns-prefetch", "manifest"}
GENERATED = {"genindex.html", "search.html", "py-modindex.html"}


class Page(HTMLParser):
    """The anchors, links and resources of a page, and its pictures without a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.silent: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag says."""
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and LOADING_LINKS & set(given.get("rel", "").split()):
            self.loaded.append(given["href"])
        elif tag in LOADING and LOADING[tag] in given:
            self.loaded.append(given[LOADING[tag]])
        if tag == "img" and not given.get("alt", "").strip(" ./"):
            self.silent.append(given.get("src", ""))


def problems(site: Path) -> Iterator[str]:
    """Say what is wrong with the pages in a folder."""
    paths = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in paths}
    reached = {(site / name).resolve() for name in ("index.html", *GENERATED)}
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        for source in page.silent:
            yield f"{name}: the picture {source} has no text"
        for address in page.loaded:
            if urlsplit(address).netloc:
                yield f"{name}: {address} is loaded from the network"
            elif urlsplit(address).scheme == "data":
                continue  # the content itself
            elif urlsplit(address).path and not target(path, address).exists():
                yield f"{name}: {address} is not there"
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            found = target(path, address)
            reached.add(found)
            if not found.exists():
                yield f"{name}: {address} is not there"
            elif found in pages and unquote(parts.fragment) not in {"", *pages[found].anchors}:
                yield f"{name}: {address} has no such place"
    for path in sorted(pages.keys() - reached):
        yield f"{path.relative_to(site.resolve())}: no page leads there"
    for style in sorted(site.rglob("*.css")):
        for word in ("url(http", "url(//", '@import "http', "@import url(http"):
            if word in style.read_text(encoding="utf-8"):
                yield f"{style.relative_to(site)}: loads from the network"


def target(page: Path, address: str) -> Path:
    """Return the file that an address means on a page."""
    path = unquote(urlsplit(address).path)
    return (page.parent / path).resolve() if path else page


if __name__ == "__main__":
    found = list(problems(Path(sys.argv[1])))
    print("\n".join(found) or "every link leads somewhere, and nothing is asked of the network")
    sys.exit(bool(found))
