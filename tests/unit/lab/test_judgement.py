"""What a comparison found is read again from its file, and only if that is of the run as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from graphnorms.lab.compare import compare
from graphnorms.lab.comparison import open_comparison
from graphnorms.lab.judgement import JUDGEMENT, Judgement, judgement_of

HEAVY = ("torch", "numpy._core", "scipy._lib", "pandas", "sklearn", "jinja2", "rich.live")


@pytest.fixture(scope="module")
def folder(in_this_process_of_module, stub_page_of_module, tmp_path_factory) -> Path:
    """A small comparison, with enough folds to be judged; one norm has arguments."""
    folder = tmp_path_factory.mktemp("judged") / "run"
    compare(
        "MUTAG",
        norms="none,pair:scale=2",
        folds=6,
        epochs=1,
        learning_rate=(0.01,),
        hidden=8,
        layers=2,
        out=folder,
    )
    return folder


def show(folder: Path, *more: str) -> tuple[str, set[str]]:
    """What a new process shows, and which heavy modules it has imported."""
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['graphnorms', 'show', {str(folder)!r}, *{more!r}]\n"
        "sys.orig_argv = [sys.executable, '-m', 'graphnorms']\n"
        "try:\n"
        "    runpy.run_module('graphnorms', run_name='__main__')\n"
        "except SystemExit as exit:\n"
        "    assert not exit.code, exit.code\n"
        f"print('imported', *(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text, _, imported = done.stdout.rpartition("imported")
    return text, set(imported.split())


def test_show_loads_neither_torch_nor_numpy(folder):
    text, imported = show(folder)
    assert imported == set()
    assert "pair:scale=2" in text
    shown, imported = show(folder, "--json")
    assert imported == set()
    assert json.loads(shown)["trials"] == {"planned": 12, "done": 12, "failed": 0}
    shown, imported = show(folder, "--margin", "0.3")
    assert {"torch", "numpy._core", "scipy._lib"} <= imported  # judged anew
    assert "within 30 points" in shown


def test_what_is_read_is_what_was_found(folder):
    kept, settings = judgement_of(folder)
    comparison = open_comparison(folder)
    assert repr(kept) == repr(Judgement.of(comparison))
    assert settings == comparison.settings
    assert kept.verdict is not None
    assert kept.verdict.conclusive
    # With another margin it is judged anew, and the file stays.
    other, _ = judgement_of(folder, margin=0.3)
    assert other.verdict is not None
    assert other.verdict.margin == 0.3
    assert repr(judgement_of(folder)[0]) == repr(kept)


@pytest.mark.parametrize("change", ["records", "damage", "code"])
def test_a_file_of_another_state_is_not_read(folder, tmp_path, monkeypatch, change):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.glob("*.json*"):
        (copy / path.name).write_bytes(path.read_bytes())
    before, _ = judgement_of(copy)
    if change == "records":
        lines = (copy / "records.jsonl").read_text().splitlines(keepends=True)
        (copy / "records.jsonl").write_text("".join(lines[:-1]))
    elif change == "damage":
        (copy / JUDGEMENT).write_text((copy / JUDGEMENT).read_text()[:-9])
    else:
        monkeypatch.setattr("graphnorms.lab.judgement._JUDGES", ("lab", "report"))
    judged = []
    of = Judgement.of
    monkeypatch.setattr(Judgement, "of", lambda one: judged.append(one) or of(one))
    found, _ = judgement_of(copy)
    assert len(judged) == 1
    assert found.done == before.done - (change == "records")
    assert judgement_of(copy)[0].done == found.done
    assert len(judged) == 1  # it was written, and read
