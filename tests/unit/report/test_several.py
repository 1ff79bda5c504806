"""One page over several comparisons."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tests.charts import rows_of, specs_of
from tests.records import synthetic_records
from tests.verdicts import judged

from graphnorms.lab.curves import CURVES
from graphnorms.lab.rank_sentences import ranks_sentence
from graphnorms.report.several import Part, names_of, write_several
from graphnorms.report.style import display_name

METRICS = {"first": "accuracy", "second": "mae", "third": "roc_auc"}


def part(name: str, metric: str = "accuracy", **changes) -> Part:
    protocol = changes.get("protocol", "nested")
    choice = {"folds": 8, "epochs": 3, "rates": (0.003, 0.01, 0.03), **changes}
    records = synthetic_records(metric=metric, dataset=name, **choice)
    settings = {"dataset": name, "model": "gin", "protocol": protocol}
    trials, verdict = judged(records, protocol=protocol)
    return Part(
        name=name,
        settings=settings,
        trials=trials,
        verdict=verdict,
        command=f"graphnorms compare {name}",
    )


def test_ranks_and_the_verdict_of_each(tmp_path):
    parts = [part(name, metric) for name, metric in METRICS.items()]
    path = tmp_path / "page.html"
    across = write_several(path, parts)

    # an oracle that knows neither verdicts nor directions: the ranks of the mean test scores
    means = {
        p.name: {row.norm: row.score.mean for row in p.verdict.rows if row.score} for p in parts
    }
    norms = sorted(across.ranks)
    table = np.array(
        [
            [means[name][norm] * (1 if metric == "mae" else -1) for norm in norms]
            for name, metric in METRICS.items()
        ]
    )
    ranks = stats.rankdata(table, axis=1).mean(axis=0)
    assert {norm: across.ranks[norm] for norm in norms} == pytest.approx(
        dict(zip(norms, ranks, strict=True))
    )
    page = path.read_text(encoding="utf-8")
    assert ranks_sentence(across, display_name).replace("'", "&#39;") in page
    for each in parts:
        assert each.command in page
        best = each.verdict.row(each.verdict.best)
        assert each.verdict.scale.number(best.score.mean) in page
    charts = specs_of(page)
    assert rows_of(charts["critical_difference"])[1:6] == [
        f"{display_name(norm)}  {rank:.2f}" for norm, rank in across.ranks.items()
    ]
    for place in range(len(parts)):
        for curve in CURVES:
            shown = charts[f"run{place + 1}_{curve}"]["data"]["values"]
            assert {row["norm"] for row in shown} == set(norms)
    assert len(page.encode()) < 1_500_000
    own = page.partition("<script>")[0]
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", own), "nothing is loaded"
    assert list(tmp_path.iterdir()) == [path]


def test_what_flatters_is_said_and_what_is_missing_too(tmp_path):
    path = tmp_path / "page.html"
    norms = ("none", "graph", "batch")
    parts = [part("paper", protocol="paper", norms=norms), part("honest", norms=norms[:2])]
    write_several(path, parts)
    page = path.read_text(encoding="utf-8")
    assert "paper: Optimistic" in page
    assert re.search(r"left out of the ranks:\s+BatchNorm", page)


def test_an_unfinished_run_is_shown_but_does_not_count(tmp_path):
    """Later norms are better: by hand graph is first and none last in both finished runs.

    In the unfinished one it is the other way round, which would give graph rank 7/3.
    """
    norms = ("none", "batch", "layer", "instance", "graph")
    parts = [
        part("first"),
        part("turned", norms=norms[::-1], missing=lambda norm, fold: norm == "none" and fold == 7),
        part("second"),
    ]
    assert [each.verdict.finished for each in parts] == [True, False, True]
    path = tmp_path / "page.html"
    across = write_several(path, parts)
    assert across.ranks == dict(zip(norms[::-1], (1.0, 2.0, 3.0, 4.0, 5.0), strict=True))
    assert across.left_out == ("turned",)
    assert across.datasets == ("first", "second")
    assert "Left out, as unfinished: turned." in across.sentence
    page = path.read_text(encoding="utf-8")
    assert page.count("unfinished, not ranked") == 1
    assert page.count("Unfinished: it does not count in the ranks.") == 1
    assert "Left out, as unfinished: turned." in page
    with pytest.raises(ValueError, match="only 1 is; finish turned first"):
        write_several(path, parts[:2])


def test_norms_stand_in_one_order(tmp_path):
    path = tmp_path / "page.html"
    across = write_several(path, [part("first"), part("second", "mae")])
    page = path.read_text(encoding="utf-8")
    rows = re.findall(r'<th scope="row"><svg.*?</svg>([^<\n]+)', page)
    assert [row.strip() for row in rows] == list(map(display_name, across.ranks))


def test_no_folder_is_told_but_in_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    paths = {name: f"/home/someone/data/{name}/raw" for name in ("MUTAG", "PTC")}
    parts = [part(path) for path in paths.values()]
    names = names_of([*paths.values()], [Path("a"), Path("b")])
    assert names == ["MUTAG", "PTC"]
    path = tmp_path / "page.html"
    write_several(path, [replace(each, name=name) for each, name in zip(parts, names, strict=True)])
    page = path.read_text(encoding="utf-8")
    assert "/home/someone" not in page
    assert "<span>graphnorms compare ~/data/MUTAG/raw</span>" in page
    assert "MUTAG · GIN · protocol nested" in page


def test_names_do_no_harm(tmp_path):
    path = tmp_path / "page.html"
    script = "<script>alert('x')</script>"
    write_several(path, [part(script), part("{{ 7 * 7 }}")])
    page = path.read_text(encoding="utf-8")
    assert script not in page
    assert "{{ 7 * 7 }}" in page


def test_one_comparison_is_too_few(tmp_path):
    with pytest.raises(ValueError, match="a comparison over data sets takes two"):
        write_several(tmp_path / "page.html", [part("only")])
    assert not list(tmp_path.iterdir())


def test_comparisons_of_the_same_data_are_told_by_their_folders():
    folders = [Path("runs/a"), Path("runs/b"), Path("runs/c")]
    found = names_of(["MUTAG", "data/esol.npz", "MUTAG"], folders)
    assert found == ["runs/a", "esol", "runs/c"]
