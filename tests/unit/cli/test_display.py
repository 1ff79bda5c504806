"""What is shown while trials run: on a terminal, in a pipe, and where there is little room."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from graphnorms.cli.display import Display, progress_table, trial_line
from graphnorms.data import load_dataset
from graphnorms.lab.compare import compare
from graphnorms.lab.comparison_errors import ComparisonInterrupted
from graphnorms.lab.phrases import duration
from graphnorms.lab.plan_sentences import plan_lines
from graphnorms.lab.progress import Outcomes

SMALL = {
    "norms": "none,graph",
    "folds": 2,
    "epochs": 1,
    "learning_rate": (0.003, 0.01),
    "hidden": 8,
    "layers": 2,
    "workers": 1,
}


@pytest.fixture
def shown(in_this_process, stub_page, tmp_path, monkeypatch):
    """Run a small comparison on a console: what is shown until its end, and the statuses."""
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)

    def shown(console: Console, *, stop_after=None, dataset="MUTAG", **choices):
        statuses = []
        with Display(console) as display:

            def progress(status):
                statuses.append(status)
                display(status)
                if len(status.records) == stop_after:
                    raise KeyboardInterrupt

            out = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
            try:
                found = compare(dataset, **SMALL | choices, out=out, progress=progress)
            except ComparisonInterrupted as interruption:
                found = interruption.comparison
        display.show_outcome(found)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue(), statuses

    return shown


def terminal(width: int = 80, **options) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=width,
        height=24,
        color_system="truecolor",
        legacy_windows=False,
        **options,
    )


def without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.mark.parametrize("width", [80, 50])
def test_a_terminal_shows_the_norms_side_by_side_and_cleans_up(shown, width):
    text, _ = shown(terminal(width))
    assert text.index("\x1b[?25l") < text.rindex("\x1b[?25h"), "the cursor comes back"
    assert re.search(r"\x1b\[[0-9;]*38;2;", text), "norms in their colours"
    plain = without_codes(text)
    for words in ("0/6", "6/6", "test accuracy", "Ctrl-C keeps", "report: "):
        assert words in plain
    assert "select  fold" not in plain, "no lines of trials"
    whole = ("report:", "records:")
    lines = [line for part in plain.split("\n") for line in part.split("\r")]
    assert max(len(line) for line in lines if not line.startswith(whole)) <= width


def test_a_terminal_without_colours_gets_none(shown, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text, _ = shown(terminal())
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9;]*m", text), "styles, but no colours"
    assert "\x1b[?25h" in text


def test_a_dumb_terminal_and_a_pipe_get_lines(shown, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    dumb, _ = shown(terminal())
    pipe, _ = shown(Console(file=io.StringIO(), width=80))
    assert "\x1b[?25" not in dumb, "nothing is drawn anew"
    line = re.compile(r"^ ?\d+/12  (?:select|final )  fold  [01]  run 0  lr 0.0", re.MULTILINE)
    for text in (without_codes(dumb), pipe):
        assert len(line.findall(text)) == 12
    assert "\x1b" not in pipe


def test_an_interruption_before_there_are_scores_says_so(shown):
    text, _ = shown(Console(file=io.StringIO(), width=80), stop_after=3)
    assert "No trial that scores come from is done yet." in text
    text, _ = shown(Console(file=io.StringIO(), width=80), stop_after=0)
    assert "records:" not in text


def test_what_was_there_before_is_said(shown, tmp_path):
    console = Console(file=io.StringIO(), width=80)
    shown(console, stop_after=3)
    found = []
    with Display(Console(file=io.StringIO(), width=80)) as display:
        compare("MUTAG", **SMALL, out=tmp_path / "run-0", progress=lambda s: found.append(s))
        display(found[0])
        assert "\n3 of 12 trials are there already.\n" in display.console.file.getvalue()


def test_a_line_of_a_trial(shown):
    _, statuses = shown(Console(file=io.StringIO(), width=80))
    record = next(status.latest for status in reversed(statuses) if status.latest)
    status = replace(statuses[-1], remaining=65.0)
    score = record.outcome["test_score"]
    assert trial_line(status, record) == (
        f"12/12  final   fold  1  run 0  lr {record.config['learning_rate']:<5g}  "
        f"{record.config['norm']:5}  test {100 * score:.1f}%  1 min 5 s left"
    )
    first = statuses[-1].records[0]
    selecting = first.outcome["validation_score"]
    assert f"  validation {100 * selecting:.1f}%  " in trial_line(status, first)
    # Whatever else a record has: what chooses the rate shows nothing of the test data.
    peeping = replace(first, outcome=first.outcome | {"test_score": 0.123})
    assert trial_line(status, peeping) == trial_line(status, first)
    failed = replace(record, status="failed", reason="ValueError: no", outcome={})
    assert trial_line(status, failed).endswith("  failed: ValueError: no  1 min 5 s left")
    unknown = replace(record, outcome=record.outcome | {"test_score": None})
    assert trial_line(status, unknown).endswith("  no test score  1 min 5 s left")


def test_lines_of_a_split_and_of_numbers(shown):
    graphs = load_dataset("nci5k")
    few = graphs.subset(torch.cat([(graphs.split == n).nonzero()[:20, 0] for n in range(3)]))
    text, statuses = shown(
        Console(file=io.StringIO(), width=80), dataset=few, protocol="split", folds=None, runs=2
    )
    lines = [line for line in text.splitlines() if re.match(r" ?\d+/\d+  ", line)]
    assert len(lines) == 12  # two norms, two seeds: two rates to choose from, and the reported one
    assert all("fold" not in line and "%" not in line for line in lines)
    assert sum(line.split()[1] == "final" for line in lines) == 4
    console = Console(file=io.StringIO(), width=60)
    console.print(progress_table(statuses[-1], 60))
    assert "test mae" in console.file.getvalue()


def test_a_failure_is_counted_in_the_table(shown):
    _, statuses = shown(Console(file=io.StringIO(), width=80))
    failed = [replace(r, status="failed", reason="no", outcome={}) for r in statuses[-1].records]
    outcomes = Outcomes(failed)
    status = replace(statuses[-1], outcomes=outcomes, tallies=outcomes.tallies)
    console = Console(file=io.StringIO(), width=60)
    console.print(progress_table(status, 60))
    assert console.file.getvalue().count("–, 6 failed") == 2


def test_plans_name_what_the_data_are(shown):
    _, statuses = shown(Console(file=io.StringIO(), width=80), stop_after=0)
    lines = plan_lines(statuses[0].plan)
    assert lines[0] == "data: MUTAG, 188 graphs of 17.9 nodes and 39.6 directed edges on average"
    assert not any(line != line.strip() or "  " in line for line in lines)


def test_plans_begin_with_what_the_data_allow(shown, monkeypatch):
    _, statuses = shown(Console(file=io.StringIO(), width=80), stop_after=0)
    lines = plan_lines(statuses[0].plan)
    assert any("twin" in line or "isomorphic" in line for line in lines)
    assert sum("size (nodes and edges) alone" in line for line in lines) == 1
    monkeypatch.setattr("graphnorms.lab.plan_sentences.CHEAP_EDGES", 10)
    assert not any("alone" in line for line in plan_lines(statuses[0].plan))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (65, "1 min 5 s"),
        (59.6, "1 min"),
        (3600, "1 h"),
        (3629, "1 h"),
        (90061, "25 h 1 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
