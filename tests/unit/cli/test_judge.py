"""The command `judge`, the formats of `show`, and the page that explains them."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.charts import specs_of
from tests.records import synthetic_records

import graphnorms
from graphnorms import cli
from graphnorms.lab.frames import records_to_frame

Run = Callable[..., tuple[int, str, str]]
NUMBER = re.compile(r"-?\d+\.\d+(e-?\d+)?")
PAGE = Path(__file__).parents[3] / "docs" / "judge.md"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the command line in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["graphnorms", *arguments])
        code = cli.main()
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def blocks(kind: str) -> list[str]:
    """The fenced blocks of a kind on the page."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def file_of_the_page(folder: Path) -> Path:
    path = folder / "results.csv"
    path.write_text(blocks("csv")[0])
    return path


def test_json_is_the_verdict_of_python(run: Run, tmp_path: Path) -> None:
    path = file_of_the_page(tmp_path)
    code, out, _ = run("judge", str(path), "--json", "--margin", "0.02")
    assert code == 0
    data = json.loads(out)
    expected = graphnorms.judge(path, margin=0.02)
    assert data == json.loads(json.dumps(expected.to_dict()))
    assert data["datasets"][0]["verdict"]["noun"] == "method"


def test_one_format_at_a_time(run: Run, tmp_path: Path) -> None:
    path = str(file_of_the_page(tmp_path))
    code, out, err = run("judge", path, "--csv")
    assert code == 0
    assert err == ""
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 3
    code, out, err = run("judge", path, "--csv", "--latex")
    assert (code, out) == (2, "")
    assert "exclude each other" in err


@pytest.mark.parametrize("several", [False, True])
def test_a_page_that_loads_nothing(run: Run, tmp_path: Path, several: bool) -> None:
    path = file_of_the_page(tmp_path)
    if several:
        head, *lines = path.read_text().splitlines()
        named = [f"{head},dataset", *(f"{line},{name}" for name in "AB" for line in lines)]
        path.write_text("\n".join(named))
    code, out, _ = run("judge", str(path), "--out", "page.html")
    assert code == 0
    assert out.rstrip().endswith("report:  page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "If that is wrong:" in html
    assert f"graphnorms judge {path}" in html.replace("<span>", "").replace("</span>", "")
    assert "Learning curves" not in html
    expected = {"critical_difference"} if several else {"score_by_pair", "pairwise_score"}
    assert expected <= specs_of(html).keys()
    assert not re.search(r"""(src|href)=["']?https?:""", html)


def test_bad_input_is_one_line(run: Run, tmp_path: Path) -> None:
    for arguments in (("nothing.csv",), (str(file_of_the_page(tmp_path)), "--score", "acc")):
        code, out, err = run("judge", *arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1


def test_our_own_trials_are_judged_as_norms(run: Run, tmp_path: Path) -> None:
    records = synthetic_records(("none", "batch", "graph"), folds=8, epochs=3)
    records_to_frame(records).to_csv(tmp_path / "trials.csv", index=False)
    code, out, _ = run("judge", "trials.csv")
    assert code == 0
    assert "trials of graphnorms compare" in " ".join(out.split())
    assert "Test accuracy" in out
    assert "If that is wrong" not in out, "its trials say what they are"
