"""The page docs/catalogue.md against what its commands print and take."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from graphnorms import cli
from graphnorms.layers import CATALOG
from graphnorms.layers.spec import split_specs

PAGE = (Path(__file__).parents[3] / "docs" / "catalogue.md").read_text(encoding="utf-8")


def test_the_list_is_what_the_command_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["graphnorms", "norms"])
    assert cli.main() == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.strip().splitlines()]
    shown = re.search(r"```text\n(.*?)\n```", PAGE, re.DOTALL)
    assert shown is not None
    assert shown[1].splitlines() == printed


def test_the_comparison_and_the_costs_are_of_the_whole_catalogue() -> None:
    command = re.search(r"^graphnorms compare --norms (\S+)$", PAGE, re.MULTILINE)
    assert command is not None
    assert split_specs(command[1]) == list(CATALOG)
    costs = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert costs == [(row.name, row.title) for row in CATALOG.values()]
