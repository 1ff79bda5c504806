"""The example of an unmodified model of PyG runs, and does what it says."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from graphnorms.bench.pyg_layers import load

EXAMPLE = Path(__file__).parents[3] / "examples/pyg_dropin.py"


@pytest.mark.parametrize("norm", ["graph", "pair:scale=2"])
def test_trained_both_ways(
    norm: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load()  # PyG warns while it is imported
    arguments = ["--norm", norm, "--graphs", "64", "--epochs", "4"]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *arguments])
    scores = runpy.run_path(str(EXAMPLE), run_name="__main__")["scores"]
    text = capsys.readouterr().out
    assert "5 of 6 norms replaced." in text
    assert "head.norms.0" in text
    assert "it is applied after the pooling" in text
    assert set(scores) == {"as it is", norm}
    assert scores["as it is"].loss != scores[norm].loss
    assert all(0 < score.loss < 1.5 and 0.3 < score.accuracy <= 1 for score in scores.values())
