"""The figures: the numbers of the records, one look everywhere, the same in page and files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from tests.charts import data_of, marks_of, rows_of, specs_of, titles_of
from tests.verdicts import judge, judged, trials_of

from graphnorms.lab.across_datasets import compare_datasets
from graphnorms.lab.curves import CURVES
from graphnorms.lab.paired_tests import differences_to
from graphnorms.lab.trivial import Trivial
from graphnorms.lab.verdict import Verdict
from graphnorms.report import chart
from graphnorms.report.chart import SUFFIXES, Figure
from graphnorms.report.curve_figures import curve_rows
from graphnorms.report.figures import FIGURES, draw, figures_of
from graphnorms.report.pair_figures import critical_difference
from graphnorms.report.pictures import folder_beside, write_pictures
from graphnorms.report.style import DASHES, MARKERS, display_name, style_of, swatch
from graphnorms.report.vega import lanes_of
from graphnorms.training.metrics import metric_named
from graphnorms.training.record import Record

Make = Callable[..., list[Record]]
NORMS = ("none", "batch", "layer", "instance", "graph")


@pytest.fixture(scope="module")
def figures(records, verdict) -> dict[str, Figure]:
    return figures_of(trials_of(records, verdict), verdict)


def panel(figures: dict[str, Figure], place: str) -> dict:
    panels = (one for figure in figures.values() for one in figure.panels)
    return next(one.spec for one in panels if one.name == place)


def test_equal_records_give_equal_files(make_records: Make, tmp_path: Path) -> None:
    records = make_records(("none", "graph"), folds=6, rates=(0.01,))
    verdict = judge(records, protocol="nested")
    files = write_pictures(tmp_path / "one", trials_of(records, verdict), verdict)
    assert sorted(files) == sorted((tmp_path / "one").iterdir())
    names = set(FIGURES) - {"rate_sensitivity"}
    assert {file.name for file in files} == {name + suffix for name in names for suffix in SUFFIXES}
    starts = {".svg": b"<svg", ".png": b"\x89PNG", ".pdf": b"%PDF"}
    for file in files:
        data = file.read_bytes()
        assert data.startswith(starts[file.suffix])
        assert len(data) < 600_000
    again = figures_of(trials_of(records[::-1], verdict), verdict)
    assert again == figures_of(trials_of(records, verdict), verdict)
    for file in files:
        # The resources of a PDF have no order of their own, which shows in figures of many colours.
        if file.suffix == ".pdf" or file.stem == "score_by_pair":
            second = again[file.stem].save(tmp_path / f"again{file.suffix}")
            assert file.read_bytes() == second.read_bytes(), file.name
    assert folder_beside(tmp_path / "a page.html") == tmp_path / "a page-figures"


def test_page_and_files_draw_the_same(figures, html: str) -> None:
    """Without what a page adds: its width, its colours, and what answers the pointer."""
    charts = specs_of(html)
    own = {"width", "autosize", "params", "config"}
    drawn = set()
    for figure in figures.values():
        if figure.name == "learning_curves_by_second":
            continue
        (panels, *_) = figure.spec["vconcat"]
        for one, in_file in zip(figure.panels, panels["concat"], strict=True):
            drawn.add(one.name)
            on_page = {key: part for key, part in charts[one.name].items() if key not in own}
            on_page["layer"] = on_page["layer"][: len(in_file["layer"])]
            assert on_page == {key: part for key, part in plain(in_file).items() if key != "width"}
    assert drawn == set(charts)


def plain(spec):
    """A specification as JSON gives it back."""
    if isinstance(spec, dict):
        return {key: plain(part) for key, part in spec.items()}
    return [plain(part) for part in spec] if isinstance(spec, list | tuple) else spec


def test_a_norm_looks_the_same_in_every_figure_and_legend(figures) -> None:
    looks = {
        "color": lambda style: style.color,
        "shape": lambda style: MARKERS[style.marker],
        "strokeDash": lambda style: DASHES[style.dash],
    }
    seen = dict.fromkeys(looks, 0)
    for figure in figures.values():
        for mark in marks_of(figure.spec):
            for channel, look in looks.items():
                scale = mark["encoding"].get(channel, {}).get("scale")
                if scale is None:
                    continue
                seen[channel] += 1
                expected = [look(style_of(norm)) for norm in scale["domain"]]
                assert scale["range"] == expected, (figure.name, channel)
    assert min(seen.values()) >= 5
    for norm in NORMS:
        style, drawing = style_of(norm), str(swatch(norm))
        assert style.color in drawing
        assert MARKERS[style.marker] in drawing
        assert " ".join(f"{length:g}" for length in DASHES[style.dash]) in drawing


def test_a_file_has_every_norm_in_its_legend_with_its_colour_and_dash(
    figures, verdict: Verdict, tmp_path: Path
) -> None:
    svg = figures["learning_curves"].save(tmp_path / "curves.svg").read_text(encoding="utf-8")
    for row in verdict.rows:
        style = style_of(row.norm)
        assert display_name(row.norm) in svg
        assert style.color.lower() in svg.lower()
    dashes = {
        tuple(map(float, re.split("[, ]", found)))
        for found in re.findall(r'stroke-dasharray="([\d., ]+)"', svg)
    }
    assert {tuple(map(float, DASHES[style_of(norm).dash])) for norm in NORMS} <= dashes


def test_curves_are_the_means_over_trials(figures, records) -> None:
    of_graph = [r for r in records if (r.config["norm"], r.config["stage"]) == ("graph", "final")]
    quantities = ("accuracy (%)", "loss (nats)")
    labels = [f"{part} {what}" for what in quantities for part in ("Training", "Validation")]
    for label, quantity in zip(labels, CURVES, strict=True):
        spec = panel(figures, quantity)
        assert titles_of(spec) == {"Epoch", label}
        (row,) = [row for row in spec["data"]["values"] if row["norm"] == "graph"]
        assert row["epoch"] == [1, 2, 3, 4, 5]
        factor = 1 if "loss" in quantity else 100
        expected = factor * np.mean([record.history[quantity] for record in of_graph], axis=0)
        np.testing.assert_allclose(row["mean"], expected, rtol=1e-5)
        assert all(
            low <= mean <= high
            for low, mean, high in zip(row["low"], row["mean"], row["high"], strict=True)
        )
    spec = figures["learning_curves_by_second"].panels[0].spec
    assert titles_of(spec) >= {"Seconds of training"}
    np.testing.assert_allclose(
        spec["data"]["values"][0]["seconds"], 0.02 * np.arange(1, 6), rtol=1e-5
    )


def test_many_epochs_are_thinned(make_records: Make) -> None:
    records = make_records(("graph",), epochs=900, folds=2, rates=(0.01,))
    trials, verdict = judged(records, protocol="nested")
    for norms, most in ((2, 600), (20, 60), (100, 50)):
        shared = replace(verdict, rows=norms * verdict.rows)
        (row,) = curve_rows("train_score", trials, shared)
        epochs = row["epoch"]
        assert len(epochs) == len(row["mean"]) == most
        assert (epochs[0], epochs[-1]) == (1, 900)


def test_every_trial_is_a_point(figures, records) -> None:
    points = [
        row["x"] for row in data_of(panel(figures, "score_by_pair"), "point") if "trial" in row
    ]
    finals = [r for r in records if r.config["stage"] == "final"]
    expected = sorted(100 * record.outcome["test_score"] for record in finals)
    np.testing.assert_allclose(sorted(points), expected, rtol=5e-6)  # six digits


def test_every_difference_is_that_to_the_best_on_its_fold(figures, records) -> None:
    """Worked out from the records, which know neither verdicts nor figures."""
    score = {
        (r.config["norm"], r.config["split"]["fold"]): r.outcome["test_score"]
        for r in records
        if r.config["stage"] == "final"
    }
    spec = panel(figures, "difference_by_pair")
    best = max(NORMS, key=lambda norm: np.mean([score[norm, fold] for fold in range(8)]))
    assert titles_of(spec) == {f"Difference to {display_name(best)} (points)"}
    drawn = [row for row in data_of(spec, "point") if "trial" in row]
    assert {row["norm"] for row in drawn} == set(NORMS) - {best}
    for row in drawn:
        fold = int(row["trial"].split()[1])
        expected = 100 * (score[row["norm"], fold] - score[best, fold])
        assert row["x"] == pytest.approx(expected, rel=5e-6)  # six digits


def test_only_trials_that_count_have_a_difference(make_records: Make) -> None:
    missing = {"missing": lambda norm, fold: norm == "batch" and fold == 3}
    records = make_records(("none", "batch", "graph"), **missing)
    verdict = judge(records, protocol="nested")
    assert verdict.shared == 7
    scores = {norm: of_norm.scores() for norm, of_norm in trials_of(records, verdict).items()}
    assert {norm: len(of_norm) for norm, of_norm in scores.items()} == {
        "graph": 8,
        "batch": 7,
        "none": 8,
    }
    differences = differences_to("graph", scores, verdict.contenders)
    assert differences.keys() == scores.keys() - {verdict.best}
    assert {len(of_norm) for of_norm in differences.values()} == {7}
    for norm, of_norm in differences.items():
        test = verdict.row(norm).difference
        assert test is not None
        assert np.mean([*of_norm.values()]) == pytest.approx(test.estimate.mean)


def test_chance_is_drawn_or_said_to_be_far_off(records) -> None:
    def drawn(level: float) -> tuple[str, int]:
        trivial = Trivial(held_out=[level] * 8, train=[0.6] * 8)
        found = judge(records, protocol="nested", trivial=trivial)
        marks = [*marks_of(panel(figures_of(trials_of(records, found), found), "score_by_pair"))]
        (note,) = [mark for mark in marks if mark["type"] == "text"]
        lines = [m for m in marks if m["type"] == "rule" and "datum" in m["encoding"]["x"]]
        return note["encoding"]["text"]["value"], len(lines)

    assert drawn(0.665) == ("chance 66.5%", 1)
    assert drawn(0.1) == ("◂ chance 10.0%", 0), "it would take most of the axis"


def test_every_fold_has_its_own_lane_above_the_mean(figures) -> None:
    heights = list(lanes_of([(9, fold, 0) for fold in range(50)]).values())
    assert len(set(heights)) == 50
    means = {
        row["lane"] for row in data_of(panel(figures, "score_by_pair"), "rule") if "low" in row
    }
    assert 0 < min(heights) < max(heights) < min(means) < 1


def test_bars_join_the_norms_that_are_tied_in_ranks() -> None:
    scores = {
        f"set {row}": {"none": 0.5, "batch": 0.6 + row % 2 / 5, "graph": 0.7} for row in range(12)
    }
    across = compare_datasets(scores, dict.fromkeys(scores, metric_named("accuracy")))
    assert [set(group) for group in across.groups] == [{"graph", "batch"}]
    spec = critical_difference(across).panels[0].spec
    length, *ranked, tied = rows_of(spec)
    assert length.endswith(f"{across.critical_difference:.2f}")
    assert ranked == [f"{display_name(norm)}  {rank:.2f}" for norm, rank in across.ranks.items()]
    assert tied == "not told apart"
    above, below = data_of(spec, "bar")
    assert above["high"] - above["low"] == pytest.approx(across.critical_difference)
    assert [below["low"], below["high"]] == [across.ranks[norm] for norm in across.groups[0]]


def test_rows_are_pairs_of_norms_filled_where_told_apart(figures, verdict: Verdict) -> None:
    spec = panel(figures, "pairwise_score")
    names = [
        f"{display_name(test.first)} −\n{display_name(test.second)}" for test in verdict.differences
    ]
    assert rows_of(spec) == names
    drawn = {row["row"]: row["apart"] for row in data_of(spec, "point")}
    assert [*drawn.values()] == [test.told_apart for test in verdict.differences]
    assert len(set(drawn.values())) == 2


@pytest.mark.parametrize(
    "choice",
    [
        {"failed": lambda norm, fold: norm == "graph"},
        {"failed": lambda norm, fold: norm == "none" and fold in (1, 2)},
        {"missing": lambda norm, fold: norm == "batch" and fold > 0},
        {"missing": lambda norm, fold: fold > 0},
        {"epochs": 1},
        {"rates": (0.01,)},
        {"metric": "mae"},
        {"protocol": "paper"},
        {"protocol": "split"},
    ],
    ids=["norm", "folds", "missing", "one fold", "epoch", "rate", "mae", "paper", "split"],
)
def test_failed_and_missing_trials_break_nothing(make_records: Make, choice: dict) -> None:
    records = make_records(("none", "batch", "graph"), **choice)
    verdict = judge(records, protocol=choice.get("protocol", "nested"))
    found = figures_of(trials_of(records, verdict), verdict)
    json.dumps([figure.spec for figure in found.values()], allow_nan=False)
    assert ("rate_sensitivity" in found) == ("rates" not in choice)
    if "rates" in choice:
        with pytest.raises(ValueError, match="no figure 'rate_sensitivity'; it has learning_"):
            draw("rate_sensitivity", trials_of(records, verdict), verdict)


def test_where_every_trial_failed_there_is_nothing_to_draw(make_records: Make, tmp_path) -> None:
    records = make_records(("none", "graph"), failed=lambda norm, fold: True)
    verdict = judge(records, protocol="nested")
    assert write_pictures(tmp_path / "none", trials_of(records, verdict), verdict) == []
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="it has none"):
        draw("pairwise", trials_of(records, verdict), verdict)


def test_names_are_neither_code_nor_formulas(make_records: Make, tmp_path: Path) -> None:
    name = "\"'] + alert(1) + ['$\\frac{$ <script> _x"
    records = make_records(("none", name), folds=6, rates=(0.01,), epochs=2)
    figure = draw("score_by_pair", *judged(records, protocol="nested"))
    assert any(name in row for row in rows_of(figure.panels[0].spec))
    svg = figure.save(tmp_path / "names.svg").read_text(encoding="utf-8")
    assert "alert(1)" in svg
    assert "<script" not in svg


def test_unknown_figures_and_suffixes_are_refused(figures, records, verdict, tmp_path) -> None:
    with pytest.raises(ValueError, match="unknown figure 'learning_curve'; did you mean learning"):
        draw("learning_curve", trials_of(records, verdict), verdict)
    with pytest.raises(ValueError, match=r"unknown suffix '\.gif'"):
        figures["pairwise"].save(tmp_path / "pairwise.gif")


def test_a_notebook_shows_it(figures) -> None:
    shown = figures["pairwise"]._repr_mimebundle_()
    assert shown["application/vnd.vegalite.v6+json"] == figures["pairwise"].spec
    assert bytes(shown["image/png"]).startswith(b"\x89PNG")


@pytest.fixture
def nothing_bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart, "start_bundling", cache(chart.start_bundling.__wrapped__))


@pytest.mark.parametrize(
    ("found", "words"), [(object(), "does not bundle Vega"), (None, "pip install")]
)
def test_why_there_is_no_script_is_said_until_there_is(
    found: object, words: str, nothing_bundled, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    """In a notebook vl-convert may be installed after the first page; a json.py is a user's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("raise SystemExit(1)")
    monkeypatch.setattr(chart, "find_spec", lambda _: found)
    monkeypatch.setattr(chart, "_BUNDLE", "raise SystemExit(1)")
    for _ in range(2):
        with pytest.raises(ImportError, match=words):
            chart.javascript.__wrapped__()
    monkeypatch.setattr(chart, "_BUNDLE", "import json; print('</script>')")
    assert chart.javascript.__wrapped__() == "<\\/script>\n"


def test_after_ctrl_c_the_next_page_waits_again(nothing_bundled, monkeypatch) -> None:
    monkeypatch.setattr(chart, "_BUNDLE", "print('Vega')")
    process, _ = chart.start_bundling()
    with monkeypatch.context() as interrupted:
        interrupted.setattr(process, "wait", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            chart.javascript.__wrapped__()
    assert chart.javascript.__wrapped__() == "Vega\n"
