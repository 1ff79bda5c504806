"""Run the worked examples and write them as notebooks with their outcomes into docs/examples.

    python scripts/make_examples.py            # those whose code has changed
    python scripts/make_examples.py molecules --again

An example is a script in percent format, which also runs by itself. The documentation shows the
notebooks as they are and runs nothing, so they are committed. Where only the text has changed, the
outcomes are kept, unless `--again` is given. Of a figure the picture is kept, in 256 colours, and
not what draws it.
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
KERNEL: Final = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SECONDS: Final = 3600
"""That a cell may take; on an idle machine all of an example takes two minutes at most."""


def filled(notebook: Any, page: Path) -> bool:
    """Take the outcomes over from an earlier page, if that has the same code."""
    if not page.exists():
        return False
    earlier = _code(nbformat.read(page, as_version=4))
    if [cell.source for cell in earlier] != [cell.source for cell in _code(notebook)]:
        return False
    for cell, known in zip(_code(notebook), earlier, strict=True):
        cell.outputs, cell.execution_count = known.outputs, known.execution_count
    return True


def _code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def execute(notebook: Any) -> None:
    """Run a notebook in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=SECONDS,
            record_timing=False,
            resources={"metadata": {"path": folder}},
        ).execute()
    for cell in _code(notebook):
        # What packages remark of notebooks is no outcome; an error would have been raised.
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            _keep_one_form(output)


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
    parser.add_argument("--again", action="store_true", help="run also what has not changed")
    arguments = parser.parse_args()
    for name in arguments.names:
        page = PAGES / f"{name}.ipynb"
        notebook = jupytext.read(ROOT / "examples" / f"{name}.py", fmt="py:percent")
        if arguments.again or not filled(notebook, page):
            execute(notebook)
        notebook.metadata = nbformat.from_dict(KERNEL)
        for number, cell in enumerate(notebook.cells):
            cell.id = f"cell-{number}"  # a random one would change with every run
        with replacing(page) as temporary:
            temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        print(f"{page.relative_to(ROOT)}: {page.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
