from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from graphnorms.lab.judge import judge
from graphnorms.report.page import render_page, write_page
from graphnorms.training.record import Record

Make = Callable[..., list[Record]]
SETTINGS = {"dataset": "MUTAG", "model": "gin", "norms": ["none", "graph"], "epochs": 30}
COMMAND = "graphnorms compare MUTAG --norms none,graph"
SCRIPT = "<script>alert('x')</script>"


class Page(HTMLParser):
    """What a browser would find: elements, their attributes, scripts and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif not self._inside:
            self.text += data

    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.elements if "id" in attributes]


@pytest.fixture(scope="module")
def html(make_records: Make) -> str:
    """The page of five norms, every trial done."""
    return rendered(make_records())


def rendered(records: list[Record], protocol: str = "nested", unit: str = "") -> str:
    verdict = judge(records, protocol=protocol, unit=unit)
    return render_page(records, verdict, SETTINGS, COMMAND)


def embedded(html: str) -> dict:
    found = re.search(r'<script id="figures" type="application/json">(.*?)</script>', html, re.S)
    assert found
    return json.loads(found[1])


def test_what_no_encoding_knows_is_written_all_the_same(make_records: Make, tmp_path: Path) -> None:
    """As in the reason of a failure, or the name of a file."""
    records = make_records(failed=lambda norm, fold: fold == 0, reason="no file \udcff")
    verdict = judge(records, protocol="nested")
    write_page(tmp_path / "report.html", records, verdict, SETTINGS | {"dataset": "\udcff"}, "c")
    assert "no file " in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_it_is_written_whole_under_its_name(make_records: Make, tmp_path: Path) -> None:
    records = make_records()
    verdict = judge(records, protocol="nested")
    write_page(tmp_path / "report.html", records, verdict, SETTINGS, COMMAND)
    assert os.listdir(tmp_path) == ["report.html"]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert text.rstrip().endswith("</html>")


def test_verdict_first_then_numbers_settings_versions_and_command(html: str) -> None:
    text = Page(html).text
    places = [
        text.index(part)
        for part in ("Recommended:", "Test accuracy:", "Speed:", "Leaderboard", COMMAND, "2.13.0")
    ]
    assert places == sorted(places)
    for name in ("GraphNorm", "InstanceNorm", "LayerNorm", "BatchNorm", "none"):
        assert name in text
    assert "optimistic" in text


def test_the_tied_norms_and_what_it_cost(html: str, make_records: Make) -> None:
    records = make_records()
    tied = judge(records, protocol="nested").tied
    assert len(tied) > 1
    assert html.count("<small>tied</small>") == len(tied) - 1
    facts = " ".join(Page(html).text.split())
    assert f"trials{len(records)} " in facts
    assert f"time of all trials{len(records) / 60:.1f} min" in facts


def test_it_loads_nothing(html: str) -> None:
    page = Page(html)
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert attributes.get(name) in (None, "data:,"), (tag, attributes)
    policies = [a["content"] for _, a in page.elements if a.get("http-equiv")]
    assert policies
    assert "default-src 'none'" in str(policies[0])
    assert "connect-src" not in str(policies[0])
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_every_figure_has_a_place_and_named_axes(html: str) -> None:
    ids = Page(html).ids()
    assert len(ids) == len(set(ids))
    data = embedded(html)
    places = {root["place"] for root in data["roots"]}
    assert places < set(ids)
    assert {"train_score", "validation_loss", "score_by_pair", "steps_to_target"} < places
    assert {"pairwise_score", "pairwise_speed", "seconds_to_target", "rate_sensitivity"} < places
    roots = data["document"]["roots"]
    assert [root["id"] for root in roots] == [root["id"] for root in data["roots"]]
    for root in roots:
        for axis in root["attributes"]["below"]:
            assert axis["attributes"]["axis_label"], root["id"]


def test_marks_belong_to_norms(html: str) -> None:
    norms = {a["data-norm"] for _, a in Page(html).elements if "data-norm" in a}
    assert norms == {"none", "batch", "layer", "instance", "graph"}
    for root in embedded(html)["document"]["roots"]:
        for mark in root["attributes"]["renderers"]:
            tagged = [tag for tag in mark["attributes"]["tags"] if tag.startswith("norm:")]
            assert {tag.removeprefix("norm:") for tag in tagged} <= norms
            assert tagged


@pytest.mark.parametrize("name", [SCRIPT, "</script><!--", "a\"b'c&d", "{{ 7 * 7 }}"])
def test_names_do_no_harm(html: str, make_records: Make, name: str) -> None:
    records = make_records(
        ("none", name),
        dataset=name,
        reason=name,
        failed=lambda norm, fold: norm == "none" and fold == 0,
    )
    settings = {"dataset": name, "model": {"kind": name}, name: [name]}
    named = render_page(
        records, judge(records, protocol="nested"), settings, f"graphnorms compare {name}"
    )
    page = Page(named)
    assert name in page.text
    assert len(page.scripts) == len(Page(html).scripts)
    assert "<!--" not in named
    assert {a["data-norm"] for _, a in page.elements if "data-norm" in a} == {"none", name}
    assert embedded(named)["document"]


@pytest.mark.parametrize(
    "choice",
    [
        {"failed": lambda norm, fold: True},
        {"failed": lambda norm, fold: norm == "graph"},
        {"failed": lambda norm, fold: norm == "none" and fold in (2, 5)},
        {"missing": lambda norm, fold: fold > 0},
        {"missing": lambda norm, fold: norm == "batch" and fold > 2},
        {"missing": lambda norm, fold: norm != "graph"},
        {"epochs": 1},
        {"folds": 2},
        {"rates": (0.01,)},
        {"runs": 2, "failed": lambda norm, fold: norm == "none" and fold == 3},
    ],
    ids=[
        *("all fail", "one fails", "some fail", "one fold", "a short norm", "alone"),
        *("1", "2", "one rate", "runs"),
    ],
)
def test_failed_and_missing_trials_break_nothing(make_records: Make, choice: dict) -> None:
    records = make_records(("none", "batch", "graph"), **choice)
    html = rendered(records)
    page = Page(html)
    assert "Test accuracy:" in page.text
    if any(record.status == "failed" for record in records):
        assert "the loss is not finite in epoch 3" in page.text
    if any(r.status == "done" and r.config["stage"] == "final" for r in records):
        assert embedded(html)["roots"]
        assert "NaN" not in html.split('type="application/json">')[1].split("</script>")[0]
    else:
        assert "Learning curves" not in page.text


def test_a_norm_that_was_never_run_has_a_row(make_records: Make) -> None:
    records = make_records(("none", "graph"))
    verdict = judge(records, protocol="nested", norms=("none", "graph", "instance"))
    assert "InstanceNorm" in Page(render_page(records, verdict, SETTINGS, COMMAND)).text


def test_records_without_times_have_a_page(make_records: Make) -> None:
    records = make_records(("none", "graph"))
    for record in records:
        record.timing.clear()
    assert "Learning curves" in rendered(records)


def test_it_is_small(make_records: Make) -> None:
    assert len(rendered(make_records(epochs=100)).encode()) < 3_000_000


@pytest.mark.parametrize(
    ("protocol", "metric"),
    [("nested", "mae"), ("split", "roc_auc"), ("paper", "accuracy"), ("paper", "mae")],
)
def test_every_protocol_and_metric_has_a_page(
    make_records: Make, protocol: str, metric: str
) -> None:
    records = make_records(("none", "batch", "graph"), protocol=protocol, metric=metric)
    html = rendered(records, protocol, "kcal/mol" if metric == "mae" else "")
    text = Page(html).text
    assert embedded(html)["roots"]
    optimistic = "Optimistic" in text.partition("Leaderboard")[0]
    assert optimistic == (protocol == "paper")
    assert ("one split only" in text) == (protocol == "split")
    labels = [
        axis["attributes"].get("axis_label")
        for root in embedded(html)["document"]["roots"]
        for axis in (*root["attributes"]["below"], *root["attributes"].get("left", []))
    ]
    if metric == "mae":
        assert "Training MAE (kcal/mol, lower is better)" in labels
        assert "Difference in MAE (kcal/mol, lower is better)" in labels
        assert "points" not in text
        assert "%)" not in " ".join(filter(None, labels))
    else:
        title = "accuracy" if metric == "accuracy" else "ROC-AUC"
        assert f"Training {title} (%)" in labels
        assert f"Difference in {title} (points)" in labels


def test_optimistic_scores_are_called_so_wherever_they_stand(make_records: Make) -> None:
    text = Page(rendered(make_records(protocol="paper"), "paper")).text
    verdict, leaderboard = text.split("Leaderboard")
    assert "Optimistic: learning rate and epoch are chosen on the same folds" in verdict
    assert "Recommended, as far as optimistic scores allow" in verdict
    assert "Validation optimistic" in " ".join(leaderboard.split())
    assert "Last epoch" in leaderboard


def test_all_pairs_stand_in_numbers(html: str) -> None:
    text = Page(html).text
    assert text.count(" − ") >= 10
    assert "All pairs in numbers" in text
    assert "Bayesian correlated t-test" in text


@pytest.mark.slow
def test_a_large_comparison_stays_below_eight_megabytes(make_records: Make) -> None:
    norms = ("none", *(f"norm{number}" for number in range(19)))
    assert (
        len(rendered(make_records(norms, folds=50, epochs=400, rates=(0.01, 0.1))).encode())
        < 8_000_000
    )


def test_equal_arguments_give_equal_bytes(make_records: Make) -> None:
    records = make_records(("none", "graph"))
    first = rendered(records)
    assert rendered(records) == first
    assert rendered(records[::-1]) == first


def test_each_of_several_targets_has_its_error(make_records: Make) -> None:
    records = [
        replace(record, target_scores={"test": {"gap": 0.5 + place % 2, "energy": 2e6}})
        for place, record in enumerate(make_records(metric="std_mae", rates=(0.01,)))
        if record.config["stage"] == "final"
    ]
    verdict = judge(records, protocol="nested", unit="eV")
    assert dict(verdict.rows[0].targets) == {"gap": 1.0, "energy": 2e6}
    assert verdict.scale.score_unit == "", "MAE/σ has no unit"
    assert "mean MAE/σ" in verdict.score_sentence
    text = render_page(records, verdict, SETTINGS, COMMAND)
    assert "Error of each target" in text
    assert "<td>2e+06</td>" in text
