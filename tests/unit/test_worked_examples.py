"""The worked examples and README's snippet run, and the pages show the scripts as they are."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import graphnorms
from graphnorms.lab import engines

ROOT = Path(__file__).parents[2]
PAGES = ("molecules", "own_model", "ten_splits", "force_field")
NEEDS = {"molecules": "rdkit", "own_model": "torch_geometric", "force_field": "ase"}
SMALL = {"epochs": 1, "learning_rate": [0.01]}
LARGEST = 300_000  # bytes of a picture


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Comparisons of one epoch, whose trials run in this process, in an empty folder."""
    compare = graphnorms.compare

    def of_one_epoch(dataset, **options):
        return compare(dataset, **options | SMALL)

    def here(name, trial, dataset, **options):
        return engines.ThisProcess(trial, dataset)

    monkeypatch.setattr(graphnorms, "compare", of_one_epoch)
    monkeypatch.setattr(engines, "make_engine", here)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_that_of_the_script(name: str) -> None:
    jupytext = pytest.importorskip("jupytext")
    page = jupytext.read(ROOT / "docs" / "examples" / f"{name}.ipynb")
    script = jupytext.read(ROOT / "examples" / f"{name}.py", fmt="py:percent")
    assert [(cell.cell_type, cell.source) for cell in page.cells] == [
        (cell.cell_type, cell.source) for cell in script.cells
    ], "make examples writes the page"
    outputs = [output for cell in page.cells for output in cell.get("outputs", ())]
    pictures = [output["data"]["image/png"] for output in outputs if "data" in output]
    assert pictures
    assert all(len(picture) * 3 / 4 < LARGEST for picture in pictures)
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch_geometric
@pytest.mark.parametrize("name", PAGES)
def test_the_script_runs(name: str, small: None, tmp_path: Path, capsys) -> None:
    pytest.importorskip(NEEDS.get(name, "sklearn"))
    script = tmp_path / "script.py"
    text = (ROOT / "examples" / f"{name}.py").read_text("utf-8")
    script.write_text(text.replace("EPOCHS = 30", "EPOCHS = 1"), "utf-8")
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch_geometric
def test_the_snippet_of_readme_runs(small: None, capsys) -> None:
    pytest.importorskip("torch_geometric")
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    exec(compile(snippet, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert out.count("norms replaced.") == 2
    assert "BatchNorm" in out
