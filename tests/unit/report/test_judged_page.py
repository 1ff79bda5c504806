"""The figures and the page of a judged table."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tests.charts import specs_of

import graphnorms
from graphnorms.report.judged_lines import judged_lines


def rows(datasets: str = "A", methods: int = 3, repeats: int = 8) -> list[dict[str, object]]:
    rng = np.random.default_rng([len(datasets), methods])
    return [
        {"model": f"m{method}", "seed": seed, "dataset": name, "mae": rng.normal(1 + method, 0.1)}
        for name in datasets
        for method in range(methods)
        for seed in range(repeats)
    ]


def test_figures_by_name() -> None:
    judged = graphnorms.judge(rows())
    assert {judged.plot(name).name for name in ("score_by_pair", "pairwise")} == {
        "score_by_pair",
        "pairwise",
    }
    with pytest.raises(ValueError, match="unknown figure"):
        judged.plot("learning_curves")
    with pytest.raises(ValueError, match="two data sets"):
        judged.plot("critical_difference")


def test_figures_of_several_data_sets() -> None:
    judged = graphnorms.judge(rows("ABC"))
    assert judged.plot("critical_difference").name == "critical_difference"
    assert judged.plot("pairwise", "B").name == "pairwise"
    with pytest.raises(ValueError, match="say which"):
        judged.plot("pairwise")
    with pytest.raises(ValueError, match="unknown data set"):
        judged.plot("pairwise", "D")


def test_the_page_of_several_has_the_ranks_without_each(tmp_path: Path) -> None:
    judged = graphnorms.judge(rows("ABC"))
    html = judged.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Ranks with one set dropped" in html
    assert judged.ranks.replace("'", "&#39;") in html
    assert "critical_difference" in specs_of(html)
    with pytest.raises(ValueError, match="suffix"):
        judged.report(tmp_path / "page.pdf")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("plain", [False, True])
def test_what_is_printed_fits(width: int, plain: bool) -> None:
    for table in (rows(), rows("ABC"), rows(repeats=1), rows("ABCD", repeats=1)):
        console = Console(file=io.StringIO(), width=width, color_system=None)
        for part in judged_lines(graphnorms.judge(table), width=width, plain=plain):
            console.print(part)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert max(map(len, text.splitlines())) <= width
        assert text.isascii() or not plain


def test_a_notebook_and_a_prompt_show_the_same() -> None:
    judged = graphnorms.judge(rows())
    assert "m0" in repr(judged)
    assert judged._repr_html_().startswith("\n<pre") or "<pre" in judged._repr_html_()
