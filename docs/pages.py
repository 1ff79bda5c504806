"""Write a page per normalization from its catalogue row and docstring, and those of the API."""

import importlib
import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args, get_origin

from cube import cube

from graphnorms.kernels import Over
from graphnorms.layers.base import Norm
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.normalization import Normalization

PARTS = {
    "graphnorms": "Names of the package itself. A layer has [a page of its own](index.md).",
    "graphnorms.data": "Graph sets, readers, splits and tasks.",
    "graphnorms.models": "The models of the lab, their convolutions and places of norms.",
    "graphnorms.training": "Trials, records, metrics, and models that a run has exported.",
    "graphnorms.probes": "Measurements in a model; [](../probes.md) has examples.",
    "graphnorms.testing": "Batteries for a norm or a backend of your own, see [](../testing.md).",
    "graphnorms.doctor": "What `graphnorms inspect` finds, see [](../inspect.md).",
    "graphnorms.studies": "What a study is made of, see [](../studies.md).",
}
"""The packages with public names (their `__all__`), and what is in them."""

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"

_SECTION = re.compile(r"^(Args|Raises|Returns|Attributes):$", re.MULTILINE)


def write_pages(folder: Path) -> None:
    """Write the pages into a folder that nothing else is in."""
    folder.mkdir(exist_ok=True)
    for row in CATALOG.values():
        (folder / f"{row.name}.md").write_text(norm_page(row), encoding="utf-8")
    (folder / "options.md").write_text(
        "# The options of every layer\n\nArguments that all layers share.\n\n"
        f"```python\nNorm{signature(Norm)}\n```\n\n"
        f"{markdown(Norm)}\n",
        encoding="utf-8",
    )
    entries = "\n".join((*CATALOG, "options"))
    rows = "\n".join(
        f"| [`{row.name}`]({row.name}.md) | {row.title} | {row.summary} | {row.source} |"
        for row in CATALOG.values()
    )
    (folder / "index.md").write_text(
        "# The normalizations, one by one\n\n"
        "What shares a statistic in each layer, and a page for each with its formula.\n\n"
        "| name | layer | what shares a statistic | source |\n"
        f"|---|---|---|---|\n{rows}\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n",
        encoding="utf-8",
    )
    for name, page in api_pages().items():
        (folder / f"{name}.md").write_text(page, encoding="utf-8")


def norm_page(row: Normalization) -> str:
    """Return the page of one normalization."""
    built = ", ".join(f"{key}={value!r}" for key, value in row.arguments.items())
    named = f'`make_norm("{row.name}", channels)`' + (f" builds it with `{built}`" if built else "")
    facts = (
        ("Invariant to", row.invariant),
        ("Loses", row.loses),
        ("When to use it", row.use),
        ("Needs", ", ".join(row.needs)),
        ("Makes use of", ", ".join(row.takes)),
        ("Time", _cost(row)),
        ("Parity with PyG", _parity(row)),
    )
    table = "\n".join(f"| {what} | {words} |" for what, words in facts if words)
    return (
        f"# {row.title}\n\n{named}: {row.summary}.\n\n{_pictures(row)}\n\n"
        f"| | |\n|---|---|\n{table}\n\n```python\n"
        f"{row.layer.__name__}{signature(row.layer)}\n```\n\n{markdown(row.layer)}\n"
    ).replace("See `Norm`", "See [the options of every layer](options.md)")


def _pictures(row: Normalization) -> str:
    """Return the cube for each domain of the row, as one line of HTML."""
    domains = {"mean": domain(row, row.point.center), "second moment": domain(row, row.point.scale)}
    if domains["mean"] == domains["second moment"]:
        domains = {"mean and variance": domains["mean"]}
    pictures = [cube(where, what) for what, where in domains.items() if where is not None]
    return "".join(f"<span>{picture}</span>" for picture in pictures)


def domain(row: Normalization, over: Over | None) -> str | None:
    """Name the entries that share a statistic, as the pictures know them."""
    if over is None:
        return None
    if over is Over.NODES:
        return row.segment
    where = "node" if over is Over.CHANNELS else row.segment
    if row.point.groups > 1:
        return f"{where}-groups"
    return where if over is Over.CHANNELS else f"{where}-channels"


def _cost(row: Normalization) -> str:
    """Say how long it takes, forward and backward, from the committed measurements."""
    best = {}
    for file in sorted(RESULTS.glob("*/layers-*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        for case in result["cases"]:
            circumstances = [case["labels"][name] for name in ("shape", "dtype", "threads")]
            if circumstances == ["large", "float32", 1] and row.title in case["values"]:
                values = case["values"]
                ratio = values[row.title]["minimum"] / values["nn.LayerNorm"]["minimum"]
                best[result["machine"]["device"]] = ratio
    if not best:
        return "not measured"
    measured = ", ".join(
        f"{ratio:.2f} × `nn.LayerNorm` ({device})" for device, ratio in best.items()
    )
    return f"{measured}; forward and backward, 35110 × 128, one thread"


def _parity(row: Normalization) -> str:
    import torch_geometric.nn

    if row.layer is getattr(torch_geometric.nn, row.layer.__name__, row.layer):
        return "PyG has no such layer"
    return "same arguments, parameters and checkpoints as PyG's"


def api_pages() -> dict[str, str]:
    """Return a page of the public names of each package, and one that lists all of them."""
    pages = {}
    rows = []
    for package, words in PARTS.items():
        module = importlib.import_module(package)
        name = "package" if package == "graphnorms" else package.rpartition(".")[2]
        names = sorted(module.__all__, key=str.lower)
        own = [each for each in names if not (package == "graphnorms" and is_layer(each))]
        rows.append(f"| [`{package}`](api-{name}.md) | {words} | {len(names)} |")
        pages[f"api-{name}"] = "\n".join(
            [f"# `{package}`\n\n{words}\n", *_layers(names, own)]
            + [entry(each, getattr(module, each)) for each in own]
        )
    head = "# API\n\nEvery public name, with its signature, arguments, errors and sources.\n\n"
    contents = "\n".join(pages)
    pages["api"] = (
        f"{head}| package | | names |\n|---|---|---:|\n" + "\n".join(rows) + "\n\n"
        "The options of a comparison are those of `graphnorms compare --help`.\n\n"
        f"```{{toctree}}\n:hidden:\n\n{contents}\n```\n"
    )
    return pages


def is_layer(name: str) -> bool:
    """Whether a name of the package is a layer with a page of its own."""
    return any(row.layer.__name__ == name for row in CATALOG.values())


def _layers(names: list[str], others: list[str]) -> list[str]:
    layers = [name for name in names if name not in others]
    if not layers:
        return []
    page = {row.layer.__name__: row.name for row in reversed(CATALOG.values())}
    links = ", ".join(f"[`{name}`]({page[name]}.md)" for name in layers)
    return [f"**Layers with pages of their own:** {links}; all take [these options](options.md).\n"]


def entry(name: str, thing: object) -> str:
    """Return what the page of a package says of one name."""
    if inspect.isclass(thing) or inspect.isroutine(thing):
        return f"## `{name}`\n\n```python\n{name}{signature(thing)}\n```\n\n{markdown(thing)}\n"
    if get_origin(thing) is Literal:
        return f"## `{name}`\n\nOne of {', '.join(f'`{each!r}`' for each in get_args(thing))}.\n"
    if get_origin(thing) is not None:
        short = re.sub(r"([a-z_]+\.)+", "", str(thing))
        return f"## `{name}`\n\nThe type `{short}`.\n"
    if isinstance(thing, Mapping):
        return f"## `{name}`\n\nA mapping of {', '.join(f'`{each}`' for each in thing)}.\n"
    text = repr(thing) if isinstance(thing, str | tuple | frozenset | set | float | int) else ""
    shown = f": `{text}`" if text and len(text) < 300 else ""
    return f"## `{name}`\n\nA constant of type `{type(thing).__name__}`{shown}.\n"


def signature(thing: object) -> str:
    """Return a signature, over several lines where it is long."""
    try:
        text = str(inspect.signature(thing, eval_str=True))  # type: ignore[arg-type]
    except (NameError, TypeError):  # an annotation that is imported for type checking only
        text = str(inspect.signature(thing))  # type: ignore[arg-type]
    except ValueError:  # of a type that Python makes without one
        return ""
    text = re.sub(r"\b(torch|graphnorms)\.([a-z_]+\.)*", "", text)
    text = re.sub(r"\*<class '(\w+)'>", r"Unpack[\1]", text)  # keywords of a TypedDict
    text = re.sub(r": '([^']+)'", r": \1", text)  # an annotation that is written as a string
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
