"""`graphnorms study`: what it prints where, its exit codes, and bad input in one line."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace

import pytest
from tests.unit.studies.fake import make_study

from graphnorms import cli
from graphnorms.cli import study_command as module
from graphnorms.errors import unknown_name
from graphnorms.studies.study_list import NAMES


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command line in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["graphnorms", *arguments])
        code = cli.main()
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def fakes(monkeypatch):
    """Two studies in place of all; a test may change one."""
    known = {
        name: make_study(name=name, claim=f"{name} is so.")
        for name in ("gradient-flow", "landscape")
    }
    monkeypatch.setattr(module, "NAMES", tuple(known))
    monkeypatch.setattr(module, "study_named", known.__getitem__)
    return known


def flat(text: str) -> str:
    return " ".join(text.split())


def test_verbose_and_quiet(run, fakes):
    code, out, _ = run("study", "gradient-flow", "--workers", "0", "-q")
    assert (code, out.splitlines()) == (0, ["gradient-flow: confirmed"])
    code, out, _ = run("study", "all", "--workers", "0", "-q")
    assert [line.partition(":")[0] for line in out.splitlines()] == list(fakes)
    _, loud, _ = run("study", "landscape", "--workers", "0", "--seed", "1", "-v")
    assert loud.startswith(" 1/12  landscape")
    code, _, err = run("study", "landscape", "-v", "-q")
    assert code == 2
    assert "give one of them" in err


def test_a_study(run, fakes, tmp_path):
    code, out, err = run("study", "gradient-flow", "--workers", "0")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(" 1/12  gradient-flow  norm none, seed 0  0.0 s")
    assert lines[11].startswith("12/12")
    for words in (
        "claim gradient-flow is so.",
        "source Nobody 2020",
        "prediction More than 1.",
        "rule Confirmed above 1",
        "measured They differ by 3.33.",
        "verdict confirmed",
        "Means [norm] mean graph 4.17 [-]",
        "studies/gradient-flow/result.json, figure.svg, figure.png",
    ):
        assert words in flat(out)
    result = json.loads((tmp_path / "studies/gradient-flow/result.json").read_text())
    assert result["command"] == "graphnorms study gradient-flow --workers 0"


def test_it_goes_on_and_redraws(run, fakes, tmp_path):
    run("study", "gradient-flow", "--workers", "0", "-o", "x")
    _, out, _ = run("study", "gradient-flow", "--workers", "0", "-o", "x")
    assert out.startswith("12 of 12 cases of gradient-flow are measured already")
    fakes["gradient-flow"] = make_study(broken=True, rule="Another rule.")
    code, out, err = run("study", "gradient-flow", "--redraw", "-o", "x")
    assert (code, err) == (0, "")
    assert "rule Another rule." in flat(out)
    assert "12/12" not in out


def test_larger_runs_stand_beside_the_default_one(run, fakes, tmp_path):
    (tmp_path / "sets").mkdir()
    for options in ((), ("--full",), ("--data", "sets"), ("--full", "--data", "sets")):
        code, _, _ = run("study", "gradient-flow", "--workers", "0", *options)
        assert code == 0
    folder = tmp_path / "studies" / "gradient-flow"
    found = {
        kind: json.loads((folder / kind / "result.json").read_text())
        for kind in ("", "full", "data", "full-data")
    }
    assert {kind: (each["settings"]["size"], each["cases"]) for kind, each in found.items()} == {
        "": ("default", 12),
        "full": ("full", 24),
        "data": ("default", 12),
        "full-data": ("full", 24),
    }
    assert [found[kind]["settings"]["data"] for kind in ("full", "data")] == [None, "sets"]
    fakes["gradient-flow"] = make_study(broken=True, rule="Another rule.")
    assert run("study", "gradient-flow", "--full", "--redraw")[0] == 0
    rules = [json.loads((folder / k / "result.json").read_text())["rule"] for k in ("full", "data")]
    assert rules == ["Another rule.", make_study().rule]
    _, out, _ = run("study", "list")
    assert "confirmed, confirmed (data), confirmed (full), confirmed (full, data)" in flat(out)
    _, out, _ = run("study", "list", "--json")
    assert json.loads(out)[0]["larger"] == dict.fromkeys(
        ("data", "full", "full, data"), "confirmed"
    )


@pytest.mark.parametrize("verdict", ["confirmed", "not confirmed", "inconclusive"])
def test_every_verdict_is_printed_alike(run, fakes, verdict):
    def judge(measurements, settings):
        from graphnorms.studies.study import Finding

        return Finding(verdict, "Something.", {})

    fakes["gradient-flow"] = make_study(judge=judge)
    code, out, _ = run("study", "gradient-flow", "--workers", "0")
    assert code == 0
    assert f"verdict {verdict}" in flat(out)


def test_tiny_says_that_it_means_nothing(run, fakes):
    _, out, _ = run("study", "gradient-flow", "--tiny", "--workers", "0")
    assert "of size tiny, to try it out: it means nothing" in out


def test_json_is_all_that_is_printed(run, fakes):
    code, out, err = run("study", "gradient-flow", "--json", "--workers", "0", "--seed", "2")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["finding"]["verdict"] == "confirmed"
    assert data["settings"]["seed"] == 2
    assert len(data["measurements"]) == 12


def test_all_and_its_page(run, fakes, tmp_path):
    code, out, _ = run("study", "all", "--workers", "0", "-o", "x")
    assert code == 0
    assert out.endswith("page: x/index.html\n")
    page = (tmp_path / "x" / "index.html").read_text()
    assert "gradient-flow is so." in page
    assert "landscape is so." in page
    code, out, _ = run("study", "gallery", "x", "-o", "y.html")
    assert (code, out) == (0, "page: y.html\n")
    assert (tmp_path / "y.html").read_text() == page
    _, out, _ = run("study", "all", "--workers", "0", "--json", "-o", "x")
    assert [each["name"] for each in json.loads(out)] == ["gradient-flow", "landscape"]


def test_all_goes_on_after_a_failure(run, fakes, tmp_path):
    fakes["gradient-flow"] = make_study(broken=True)
    code, out, err = run("study", "all", "--workers", "0", "-o", "x")
    assert code == 1
    assert err.startswith("graphnorms: study gradient-flow, norm none, seed 0: RuntimeError")
    assert "verdict confirmed" in flat(out)
    assert "landscape is so." in (tmp_path / "x" / "index.html").read_text()


def test_all_goes_on_after_a_judge_that_raises(run, fakes, tmp_path):
    def judge(measurements, settings):
        raise ZeroDivisionError("no measurements")

    fakes["gradient-flow"] = replace(fakes["gradient-flow"], judge=judge)
    code, _, err = run("study", "all", "--workers", "0", "-o", "x")
    assert (code, err) == (1, "graphnorms: gradient-flow: ZeroDivisionError: no measurements\n")
    assert "landscape is so." in (tmp_path / "x" / "index.html").read_text()


def test_list(run, fakes):
    run("study", "landscape", "--tiny", "--workers", "0", "-o", "x")
    code, out, _ = run("study", "list", "-o", "x")
    assert code == 0
    assert "gradient-flow gradient-flow is so. 1 s" in flat(out)
    assert "landscape landscape is so. 1 s confirmed (tiny)" in flat(out)
    _, out, _ = run("study", "list", "--json", "-o", "x")
    assert [(each["name"], each["verdict"]) for each in json.loads(out)] == [
        ("gradient-flow", None),
        ("landscape", "confirmed"),
    ]


def test_ctrl_c(run, fakes, monkeypatch):
    def interrupted(measurements, settings):
        signal.raise_signal(signal.SIGINT)

    fakes["gradient-flow"] = make_study(measure=interrupted)
    code, _, err = run("study", "gradient-flow", "--workers", "0")
    assert code == 130
    assert err == (
        "graphnorms: interrupted; 0 of 12 cases of gradient-flow are measured and kept, the same "
        "command goes on\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cheese"], "No such command 'cheese'"),
        (["landscape", "--full", "--tiny"], "--full and --tiny were both given"),
        (["landscape", "--workers", "-1"], "workers is -1, expected a number from 0 on"),
        (["landscape", "--data", "nowhere"], "--data nowhere: no such folder"),
        (["landscape", "--redraw", "-o", "x"], "has no result.json to draw again"),
        (["gallery", "x"], "x has no results (none such as activations/result.json); measure some"),
        (["page", "--results", "x"], "x has no results; measure them with: graphnorms study all"),
    ],
)
def test_errors_are_one_line(run, fakes, arguments, says):
    code, out, err = run("study", *arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_help_names_every_study(run):
    code, out, _ = run("study", "--help")
    assert code == 0
    for name in (*NAMES, "list", "all", "gallery", "page"):
        assert f" {name} " in out


def test_an_unknown_study_has_neighbours():
    from graphnorms.studies.study_list import study_named

    with pytest.raises(ValueError, match="did you mean landscape"):
        study_named("landscap")
    assert "landscape" in str(unknown_name("study", "landscap", NAMES))
