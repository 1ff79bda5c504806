"""Write one page per normalization from its catalogue row and docstring, and one for the API."""

import inspect
import re
from pathlib import Path

import graphnorms
from graphnorms.layers.catalog import CATALOG, Normalization

API = (
    "Segments", "segment_normalize", "Over", "aggregate", "Adjacency", "make_norm", "backends",
    "compare", "Comparison", "load_dataset", "GraphSet",
)  # fmt: skip

_SECTION = re.compile(r"^(Args|Raises|Returns|Attributes):$", re.MULTILINE)


def write_pages(folder: Path) -> None:
    """Write the pages into a folder that nothing else is in."""
    folder.mkdir(exist_ok=True)
    for row in CATALOG.values():
        (folder / f"{row.name}.md").write_text(norm_page(row), encoding="utf-8")
    entries = "\n".join(CATALOG)
    rows = "\n".join(
        f"| [`{row.name}`]({row.name}.md) | {row.title} | {row.summary} | {row.source} |"
        for row in CATALOG.values()
    )
    (folder / "index.md").write_text(
        "# The normalizations\n\n| name | layer | what shares a statistic | source |\n"
        f"|---|---|---|---|\n{rows}\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n",
        encoding="utf-8",
    )
    (folder / "api.md").write_text(api_page(), encoding="utf-8")


def norm_page(row: Normalization) -> str:
    """Return the page of one normalization."""
    built = ", ".join(f"{key}={value!r}" for key, value in row.arguments.items())
    named = f'`make_norm("{row.name}", channels)`' + (f" builds it with `{built}`" if built else "")
    return (
        f"# {row.title}\n\n{named}: {row.summary}.\n\n```python\n"
        f"{row.layer.__name__}{signature(row.layer)}\n```\n\n{markdown(row.layer)}\n"
    )


def api_page() -> str:
    """Return the page of the public functions and classes besides the layers."""
    parts = ["# API\n"]
    for name in API:
        thing = getattr(graphnorms, name)
        parts.append(
            f"## `{name}`\n\n```python\n{name}{signature(thing)}\n```\n\n{markdown(thing)}\n"
        )
    return "\n".join(parts)


def signature(thing: object) -> str:
    """Return a signature, over several lines where it is long."""
    try:
        text = str(inspect.signature(thing, eval_str=True))  # type: ignore[arg-type]
    except NameError:  # an annotation of a module that is imported for type checking only
        text = str(inspect.signature(thing))  # type: ignore[arg-type]
    text = re.sub(r"\b(torch|graphnorms)\.([a-z_]+\.)*", "", text)
    return text if len(text) < 80 else text.replace(", ", ",\n    ").replace("(", "(\n    ", 1)


def markdown(thing: object) -> str:
    """Return a docstring as Markdown: sections become headings, their entries a list."""
    text = re.sub(r"(https?://[^\s,]*[^\s,.])", r"<\1>", inspect.getdoc(thing) or "")
    head, *sections = _SECTION.split(text)
    out = [head.strip()]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        entries, rest = _entries(body)
        out.append(f"**{title}**\n\n" + "\n".join(entries))
        if rest:
            out.append(rest)
    return "\n\n".join(out)


def _entries(body: str) -> tuple[list[str], str]:
    """Split a section into its entries, one bullet each, and the text that follows it."""
    entries: list[str] = []
    rest: list[str] = []
    for line in body.strip("\n").splitlines():
        if rest or (line and not line.startswith(" ")):
            rest.append(line)
        elif line.startswith("     ") and entries:
            entries[-1] += " " + line.strip()
        elif line.strip():
            name, colon, words = line.strip().partition(": ")
            entries.append(f"- `{name}`: {words}" if colon else f"- {line.strip()}")
    return entries, "\n".join(rest)
