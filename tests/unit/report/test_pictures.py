"""The figures as files: the same numbers, names, order and colours as those of the page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from tests.verdicts import judge

from graphnorms.lab.trials import group_trials
from graphnorms.lab.trivial import Trivial
from graphnorms.report.page import render_page
from graphnorms.report.pictures import PICTURES, draw, folder_beside, write_pictures
from graphnorms.report.series import differences_of, scores_of
from graphnorms.report.style import display_name, style_of
from graphnorms.training.record import Record

Make = Callable[..., list[Record]]
NORMS = ("none", "batch", "layer", "instance", "graph")
SMALL = {"folds": 5, "epochs": 6, "rates": (0.003, 0.01, 0.03)}


@pytest.fixture(scope="module")
def records(make_records: Make) -> list[Record]:
    return make_records(**SMALL)


@pytest.fixture(scope="module")
def verdict(records):
    return judge(records, protocol="nested")


def test_equal_records_give_equal_files(records, verdict, tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "one", records, verdict)
    assert {file.stem for file in files} == set(PICTURES)
    assert {file.suffix for file in files} == {".svg", ".png"}
    assert sorted(files) == sorted((tmp_path / "one").iterdir())
    again = write_pictures(tmp_path / "two", records[::-1], verdict)
    for first, second in zip(files, again, strict=True):
        assert first.read_bytes() == second.read_bytes(), first
        assert first.stat().st_size < 400_000
    assert folder_beside(tmp_path / "a page.html") == tmp_path / "a page-figures"


@pytest.mark.parametrize("name", PICTURES)
def test_every_axis_has_a_name_and_every_norm_its_look(name: str, records, verdict) -> None:
    figure = draw(name, records, verdict)
    assert figure.axes
    colors = {style_of(row.norm).color.lower() for row in verdict.rows}
    for axis in figure.axes:
        below = axis.get_shared_x_axes().get_siblings(axis)
        assert any(other.get_xlabel() for other in below)
        beside = axis.get_shared_y_axes().get_siblings(axis)
        rows = " ".join(t.get_text() for other in beside for t in other.get_yticklabels()).split()
        named = {display_name(row.norm) for row in verdict.rows} & set(rows)
        assert axis.get_ylabel() or named
        drawn = {to_hex(line.get_color()) for line in axis.get_lines()}
        assert drawn & colors
        assert drawn <= colors | {"#8a8a8a"}
    if name.startswith("learning") or name == "rate_sensitivity":
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        assert legend == [display_name(row.norm) for row in verdict.rows], "by score"


def test_curves_are_the_means_over_trials(records, verdict) -> None:
    figure = draw("learning_curves", records, verdict)
    lines = {axis.get_ylabel(): axis.get_lines() for axis in figure.axes}
    of_graph = [r for r in records if (r.config["norm"], r.config["stage"]) == ("graph", "final")]
    for label, quantity, factor in (
        ("Training accuracy (%)", "train_score", 100),
        ("Validation accuracy (%)", "validation_score", 100),
        ("Training loss (nats)", "train_loss", 1),
        ("Validation loss (nats)", "validation_loss", 1),
    ):
        (line,) = [line for line in lines[label] if line.get_label() == "GraphNorm"]
        x, y = line.get_data()
        np.testing.assert_array_equal(x, np.arange(1, 7))
        expected = factor * np.mean([record.history[quantity] for record in of_graph], axis=0)
        np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_seconds_are_those_of_training(records, verdict) -> None:
    line = draw("learning_curves_by_second", records, verdict).axes[0].get_lines()[0]
    np.testing.assert_allclose(line.get_xdata(), 0.02 * np.arange(1, 7), rtol=1e-12)


def test_every_trial_is_a_point(records, verdict) -> None:
    axis = draw("score_by_pair", records, verdict).axes[0]
    points = [x for line in axis.get_lines() if line.get_marker() in "os^DX" for x in
              line.get_xdata()]  # fmt: skip
    finals = [r for r in records if r.config["stage"] == "final"]
    expected = sorted(100 * record.outcome["test_score"] for record in finals)
    np.testing.assert_allclose(sorted(points), expected, rtol=1e-12)


def test_every_difference_is_that_to_the_best_on_its_fold(records, verdict) -> None:
    """Worked out from the records, which know neither verdicts nor figures."""
    score = {(r.config["norm"], r.config["split"]["fold"]): r.outcome["test_score"] for r in records
             if r.config["stage"] == "final"}  # fmt: skip
    axis = draw("score_by_pair", records, verdict).axes[1]
    best = max(NORMS, key=lambda norm: np.mean([score[norm, fold] for fold in range(5)]))
    assert axis.get_xlabel() == f"Difference to {display_name(best)} (points)"
    for norm in set(NORMS) - {best}:
        style = style_of(norm)
        drawn = [x for line in axis.get_lines() if to_hex(line.get_color()) == style.color.lower()
                 and line.get_marker() in "osD^X" for x in line.get_xdata()]  # fmt: skip
        expected = [100 * (score[norm, fold] - score[best, fold]) for fold in range(5)]
        np.testing.assert_allclose(sorted(drawn), sorted(expected), atol=1e-9)


def test_the_recommended_norm_is_marked(make_records: Make) -> None:
    records = make_records(epochs=3, rates=(0.003, 0.01))
    verdict = judge(records, protocol="nested")
    assert verdict.recommendation is not None
    name = f"★ {display_name(verdict.recommendation.norm)}"
    legend = [text.get_text() for text in
              draw("learning_curves", records, verdict).legends[0].get_texts()]  # fmt: skip
    for picture in ("score_by_pair", "time_to_target"):
        axis = draw(picture, records, verdict).axes[0]
        for names in ([label.get_text() for label in axis.get_yticklabels()], legend):
            assert [text for text in names if "★" in text] == [name]


def test_only_trials_that_count_have_a_difference(make_records: Make) -> None:
    missing = {"missing": lambda norm, fold: norm == "batch" and fold == 3}
    records = make_records(("none", "batch", "graph"), **{**SMALL, "folds": 8}, **missing)
    verdict = judge(records, protocol="nested")
    assert verdict.shared == 7
    trials = group_trials(records, protocol="nested")
    scores = scores_of(trials, verdict)
    assert {norm: len(of_norm) for norm, of_norm in scores.items()} == {
        "graph": 8, "batch": 7, "none": 8,
    }  # fmt: skip
    differences = differences_of(scores, verdict)
    assert differences.keys() == scores.keys() - {verdict.best}
    assert {len(of_norm) for of_norm in differences.values()} == {7}
    for norm, of_norm in differences.items():
        test = verdict.row(norm).difference
        assert test is not None
        assert np.mean([*of_norm.values()]) == pytest.approx(100 * test.estimate.mean)


def test_chance_is_drawn_and_named(records, make_records: Make) -> None:
    def drawn(level: float):
        trivial = Trivial(held_out=[level] * 5, train=[0.6] * 5)
        verdict = judge(records, protocol="nested", trivial=trivial)
        axis = draw("score_by_pair", records, verdict).axes[0]
        names = [label.get_text() for label in axis.get_yticklabels()]
        assert names[-1] == "chance: the most\nfrequent class"
        lines = [line for line in axis.get_lines() if line.get_linestyle() == ":"]
        return [text.get_text() for text in axis.texts], [x for line in lines for x in
                                                          line.get_xdata()]  # fmt: skip

    assert drawn(0.665) == (["66.5%"], [66.5, 66.5])
    assert drawn(0.1) == (["◂ 10.0%"], []), "far off: it would take most of the axis"


@pytest.mark.parametrize("name", PICTURES)
def test_numbers_of_an_axis_do_not_overlap(name: str, records, verdict) -> None:
    figure = draw(name, records, verdict)
    figure.draw_without_rendering()
    for axis in figure.axes:
        for of_axis in (axis.xaxis, axis.yaxis):
            low, high = sorted(of_axis.get_view_interval())
            boxes = [
                tick.label1.get_window_extent()
                for tick in of_axis.get_major_ticks()
                if tick.label1.get_text() and tick.label1.get_visible()
                and low <= tick.get_loc() <= high
            ]  # fmt: skip
            for one, other in itertools.combinations(boxes, 2):
                assert not one.overlaps(other), (name, one, other)


def test_there_are_the_figures_of_the_page(records, verdict) -> None:
    page = render_page(records, verdict, {"dataset": "MUTAG"}, "graphnorms compare")
    for axis in draw("learning_curves", records, verdict).axes:
        assert f'"axis_label":"{axis.get_ylabel()}"' in page
    for name in ("score_by_pair", "rate_sensitivity"):
        for axis in draw(name, records, verdict).axes:
            assert f'"axis_label":"{axis.get_xlabel()}"' in page, name


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
    ids=[
        "failed norm", "failed folds", "missing folds", "one fold", "one epoch", "one rate",
        "regression", "paper", "split",
    ],
)  # fmt: skip
def test_failed_and_missing_trials_break_nothing(make_records: Make, choice: dict) -> None:
    records = make_records(("none", "batch", "graph"), **{**SMALL, **choice})
    verdict = judge(records, protocol=choice.get("protocol", "nested"))
    for name in PICTURES:
        if name == "rate_sensitivity" and "rates" in choice:
            with pytest.raises(ValueError, match="no picture 'rate_sensitivity'; it has learning_"):
                draw(name, records, verdict)
            continue
        figure = draw(name, records, verdict)
        figure.draw_without_rendering()
        for axis in figure.axes:
            assert all(math.isfinite(end) for end in (*axis.get_xlim(), *axis.get_ylim()))


def test_where_every_trial_failed_there_is_nothing_to_draw(make_records: Make, tmp_path) -> None:
    records = make_records(("none", "graph"), **SMALL, failed=lambda norm, fold: True)
    verdict = judge(records, protocol="nested")
    assert write_pictures(tmp_path / "none", records, verdict) == []
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="it has none"):
        draw("pairwise", records, verdict)


def test_names_are_no_formulas(make_records: Make) -> None:
    name = r"$\frac{$ <script> _x"
    records = make_records(("none", name), **SMALL)
    verdict = judge(records, protocol="nested")
    for picture in PICTURES:
        draw(picture, records, verdict).draw_without_rendering()


def test_an_unknown_picture_is_refused(records, verdict) -> None:
    with pytest.raises(ValueError, match="unknown picture 'learning_curve'; did you mean learning"):
        draw("learning_curve", records, verdict)


def test_a_notebook_shows_it(records, verdict) -> None:
    assert draw("pairwise", records, verdict)._repr_png_().startswith(b"\x89PNG")
