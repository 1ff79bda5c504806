"""Run the worked examples and write them as notebooks with their outcomes into docs/examples.

    python scripts/make_examples.py            # all of them
    python scripts/make_examples.py molecules  # one

An example is a script in percent format, which also runs by itself. The documentation shows the
notebooks as they are and runs nothing, so they are committed. Of a figure the picture is kept, in
256 colours, and not what draws it.
"""

from __future__ import annotations

import argparse
import base64
import io
import tempfile
from pathlib import Path
from typing import Any, Final

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

from graphnorms.files import replacing

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = ROOT / "docs" / "examples"
NAMES: Final = ("molecules", "own_model", "ten_splits", "force_field")
SECONDS: Final = 3600
"""That a cell may take; on an idle machine all of an example takes two minutes at most."""


def executed(script: Path) -> Any:
    """Run a script as a notebook in an empty folder, and return the notebook."""
    notebook = jupytext.read(script, fmt="py:percent")
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=SECONDS,
            record_timing=False,
            resources={"metadata": {"path": folder}},
        ).execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # a random one would change with every run
        for output in cell.get("outputs", ()):
            _keep_one_form(output)
    notebook.metadata.pop("jupytext", None)
    return notebook


def _keep_one_form(output: Any) -> None:
    """Leave a figure its picture alone, and make that small."""
    picture = output.get("data", {}).get("image/png")
    if picture is None:
        return
    small = io.BytesIO()
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image.quantize(256).save(small, "PNG", optimize=True)
    output["data"] = {"image/png": base64.b64encode(small.getvalue()).decode()}


def main() -> None:
    """Write the notebooks."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help="default: all")
    for name in parser.parse_args().names:
        page = PAGES / f"{name}.ipynb"
        notebook = executed(ROOT / "examples" / f"{name}.py")
        with replacing(page) as temporary:
            temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        print(f"{page.relative_to(ROOT)}: {page.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
