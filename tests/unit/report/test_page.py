from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tests.charts import data_of, marks_of, rows_of, specs_of, titles_of
from tests.verdicts import judge, judged, trials_of

from graphnorms import layers
from graphnorms.data import SplitConfig, load_dataset, split_items
from graphnorms.lab.curves import CURVES
from graphnorms.lab.sentences import sentences
from graphnorms.lab.trivial import trivial_scores
from graphnorms.lab.verdict import Verdict
from graphnorms.lab.verdict_phrases import near
from graphnorms.layers.catalog import CATALOG
from graphnorms.report.chart import javascript
from graphnorms.report.page import render_page, write_page
from graphnorms.report.style import display_name
from graphnorms.report.templating import chunks, without_home
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


def rendered(records: list[Record], protocol: str = "nested", unit: str = "") -> str:
    verdict = judge(records, protocol=protocol, unit=unit)
    return render_page(trials_of(records, verdict), verdict, SETTINGS, COMMAND)


def flat(text: str) -> str:
    return " ".join(text.split())


def test_why_norms_differ_stands_behind_the_verdict(make_records: Make) -> None:
    records = make_records()
    verdict = judge(records, protocol="nested")
    trials = trials_of(records, verdict)
    without = render_page(trials, verdict, SETTINGS, COMMAND)
    page = render_page(trials, verdict, SETTINGS, COMMAND, why=["One reason.", "a leads <b>"])
    assert "<h2>Why</h2>" not in without
    assert page.count("<li>") == without.count("<li>") + 1
    assert "a leads &lt;b&gt;" in page
    assert page.index("<h2>Why</h2>") < page.index("<h2>Leaderboard</h2>")


def test_what_no_encoding_knows_is_written_all_the_same(make_records: Make, tmp_path: Path) -> None:
    """As in the reason of a failure, or the name of a file."""
    records = make_records(failed=lambda norm, fold: fold == 0, reason="no file \udcff")
    verdict = judge(records, protocol="nested")
    write_page(
        tmp_path / "report.html",
        trials_of(records, verdict),
        verdict,
        SETTINGS | {"dataset": "\udcff"},
        "c",
    )
    assert "no file " in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_it_is_written_whole_under_its_name(
    records: list[Record], verdict: Verdict, tmp_path: Path
) -> None:
    write_page(tmp_path / "report.html", trials_of(records, verdict), verdict, SETTINGS, COMMAND)
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


@pytest.mark.parametrize("path", ["/home/someone/data/MUTAG/raw", "C/data/MUTAG/raw", "MUTAG"])
def test_the_headline_is_the_name_of_the_set(make_records: Make, path: str) -> None:
    records = make_records(("none", "graph"), dataset=path)
    for settings in ({"dataset": path}, {}):
        text = render_page(*judged(records, protocol="nested"), settings, COMMAND)
        assert re.findall(r"<h1>(.*?)</h1>", text) == ["Normalizations on MUTAG"]
        assert re.findall(r"<title>(.*?)</title>", text) == ["Normalizations on MUTAG · graphnorms"]


def test_the_home_folder_is_nowhere_told(make_records: Make, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/some.one")
    path = "/home/some.one/data/MUTAG/raw"
    records = make_records(
        dataset=path,
        failed=lambda norm, fold: fold == 0,
        reason=f"no file {path}, no /home/some.one",
    )
    settings = SETTINGS | {"dataset": path}
    command = f"graphnorms compare {path} --model /home/some.one/my.py:Net"
    html = render_page(*judged(records, protocol="nested"), settings, command)
    assert "/home/some.one" not in html
    text = flat(Page(html).text)
    assert "no file ~/data/MUTAG/raw, no ~" in text
    assert "graphnorms compare ~/data/MUTAG/raw --model ~/my.py:Net" in text
    # What only looks like it stays.
    for other in ("/home/some.one2/x", "/mnt/home/some.one/x", "/home/someXone/x"):
        assert without_home(f"a {other}") == f"a {other}"


def test_a_command_may_break_between_options_only(html: str) -> None:
    assert re.findall(r"<pre class=\"command\"><code>(.*?)</code></pre>", html) == [
        "<span>graphnorms compare MUTAG</span> <span>--norms none,graph</span>"
    ]
    assert re.search(r"\.command span \{[^}]*white-space: nowrap", html)
    words = "graphnorms compare 'a --b/c' --norms none,batch --keep-loops --lr 0.1,0.2 --seed 0"
    assert chunks(words)[1:] == [
        "--b/c'",
        *["--norms none,batch", "--keep-loops"],
        *["--lr 0.1,0.2", "--seed 0"],
    ]
    call = "graphnorms.compare(dataset, norms=('none', 'graph'), folds=10, model=Net)"
    assert chunks(call) == [
        "graphnorms.compare(dataset,",
        "norms=('none', 'graph'),",
        "folds=10,",
        "model=Net)",
    ]
    assert " ".join(chunks(words)) == words
    assert " ".join(chunks(call)) == call


def test_the_recommended_norm_is_marked_in_table_legend_and_figures(
    html: str, verdict: Verdict
) -> None:
    advice = verdict.recommendation
    assert advice is not None
    name = display_name(advice.norm)
    rows = re.findall(r'<tr class="recommended">\s*<th scope="row">(.*?)</th>', html, re.S)
    assert len(rows) == 1
    assert f"</svg>{name}<small" in rows[0]
    assert "★ recommended" in rows[0]
    assert html.count('class="recommended"') == html.count("★ recommended") == 1
    buttons = dict(
        re.findall(r'<button type="button" data-norm="(\w+)".*?</svg>(.*?)</button>', html)
    )
    assert [norm for norm, text in buttons.items() if "★" in text] == [advice.norm]
    charts = specs_of(html)
    for place in ("score_by_pair", "difference_by_pair", "steps_to_target", "seconds_to_target"):
        starred = [row for row in rows_of(charts[place]) if "★" in row]
        assert starred == [f"★ {name}"], place
    for place in ("train_score", "validation_loss", "rate_sensitivity"):
        (line,) = [mark for mark in marks_of(charts[place]) if mark["type"] == "line"]
        width = line["encoding"]["strokeWidth"]
        assert width["condition"]["test"] == f'datum.norm === "{advice.norm}"'
        assert width["condition"]["value"] > width["value"]


def test_where_nothing_is_recommended_nothing_is_marked(make_records: Make) -> None:
    text = rendered(make_records(missing=lambda norm, fold: fold > 2))
    assert "★" not in text.partition("<script>")[0]
    assert '<tr class="recommended">' not in text


def test_chance_is_that_of_the_most_frequent_class(make_records: Make) -> None:
    """Counted here by hand: the class that is most frequent in training, in each test fold."""
    graphs = load_dataset("MUTAG")
    splits = [
        split_items(graphs, SplitConfig(kind="fold", folds=10, fold=fold, seed=9, holdout=0.1))
        for fold in range(10)
    ]
    y = graphs.y.numpy()
    by_hand = np.mean(
        [np.mean(y[split.test] == np.bincount(y[split.train]).argmax()) for split in splits]
    )
    assert f"{100 * by_hand:.1f}" == "66.5"
    records = make_records(("none", "graph"), folds=10)
    trivial = trivial_scores(graphs, "accuracy", splits)
    verdict = judge(records, protocol="nested", trivial=trivial)
    html = render_page(trials_of(records, verdict), verdict, SETTINGS, COMMAND)
    (foot,) = re.findall(r"<tfoot>(.*?)</tfoot>", html, re.S)
    assert re.findall(r"<td>(.*?)</td>", foot) == ["66.5"]
    assert "chance<small>the most frequent class</small>" in foot
    marks = [*marks_of(specs_of(html)["score_by_pair"])]
    places = [mark["encoding"]["x"] for mark in marks]
    levels = [place["datum"] for place in places if "datum" in place]
    assert levels == pytest.approx([100 * by_hand] * 2), "the line and what stands above it"
    assert [m["encoding"]["text"]["value"] for m in marks if m["type"] == "text"] == [
        "chance 66.5%"
    ]
    assert "<tfoot>" not in rendered(records), "the run does not say"


@pytest.mark.parametrize("metric", ["accuracy", "mae"])
def test_norms_stand_in_the_order_of_their_scores_everywhere(
    make_records: Make, metric: str
) -> None:
    records = make_records(("batch", "graph", "none", "layer", "instance"), metric=metric)
    verdict = judge(records, protocol="nested")
    scores = {row.norm: row.score.mean for row in verdict.rows if row.score}
    order = sorted(scores, key=lambda norm: scores[norm], reverse=metric == "accuracy")
    assert order != [norm for norm in CATALOG if norm in order]
    html = render_page(trials_of(records, verdict), verdict, SETTINGS, COMMAND)
    assert [a["data-norm"] for _, a in Page(html).elements if "data-norm" in a] == order
    body = html.partition("<tbody>")[2].partition("</tbody>")[0]
    named = re.findall(r'<th scope="row"><svg.*?</svg>(\w+)', body)
    assert named == list(map(display_name, order))
    for place, chart in specs_of(html).items():
        for mark in marks_of(chart):
            if "color" in mark["encoding"]:
                shown = mark["encoding"]["color"]["scale"]["domain"]
                assert shown == [norm for norm in order if norm in shown], place
        if place not in CURVES and place != "rate_sensitivity":
            firsts = [row.removeprefix("★ ").split()[0] for row in rows_of(chart)]
            ranks = [[*map(display_name, order)].index(name) for name in firsts]
            assert ranks == sorted(ranks), place


def test_a_ratio_is_turned_with_its_pair(verdict: Verdict) -> None:
    turned = [
        replace(test, first=test.second, second=test.first) for test in verdict.speed_differences
    ]
    # In half of the pairs the sooner norm is not the better one.
    turned[::2] = verdict.speed_differences[::2]
    ratios = replace(verdict, speed_differences=tuple(turned[::-1])).speed_ratios
    assert [(one.first, one.second) for one in ratios] == [
        (test.first, test.second) for test in verdict.differences
    ]
    for one in ratios:
        (given,) = [test for test in turned if test.involves(one.first, one.second)]
        if given.first == one.first:
            assert one == given
            continue
        assert one.estimate.mean == 1 / given.estimate.mean
        assert (one.estimate.low, one.estimate.high) == (
            1 / given.estimate.high,
            1 / given.estimate.low,
        )


def test_numbers_of_axes_never_overlap_and_figures_are_told_in_words(html: str) -> None:
    for place, chart in specs_of(html).items():
        assert chart["config"]["axis"]["labelOverlap"] is True, place
    plots = [a for _, a in Page(html).elements if a.get("class") == "plot"]
    assert len(plots) == 11
    for plot in plots:
        assert plot["role"] == "img"
        assert len(str(plot["aria-label"])) > 30
    (scores,) = [a["aria-label"] for a in plots if a["id"] == "score_by_pair"]
    assert "GraphNorm, InstanceNorm, LayerNorm, BatchNorm and none" in str(scores)


def test_the_page_says_that_twins_are_in_one_fold(records: list[Record], verdict: Verdict) -> None:
    words = "isomorphic graphs, features included, are in one fold (--group-twins)"
    for grouped in (True, False):
        page = Page(
            render_page(
                trials_of(records, verdict), verdict, SETTINGS | {"group_twins": grouped}, COMMAND
            )
        )
        assert (words in flat(page.text)) == grouped


def test_page_table_and_sentence_say_the_same_of_rates(make_records: Make) -> None:
    records = make_records(metric="mae")
    verdict = judge(records, protocol="nested", unit="kcal/mol")
    text = flat(Page(render_page(trials_of(records, verdict), verdict, SETTINGS, COMMAND)).text)
    amount = near(verdict)
    assert f"within {amount} of that of the leader's best rate" in text
    assert f"come within {amount} of the best of" in text


def test_p_values_are_called_by_their_adjustment(html: str, make_records: Make) -> None:
    folds = flat(Page(html).text)
    seeds = flat(Page(rendered(make_records(("none", "graph"), protocol="split"), "split")).text)
    assert "pHolm" in folds
    assert "pmax-t" in seeds
    assert "max-t" not in folds


def test_the_tied_norms_and_what_it_cost(
    html: str, records: list[Record], verdict: Verdict
) -> None:
    tied = verdict.tied
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
    charts = specs_of(html)
    assert set(charts) == {a["id"] for _, a in Page(html).elements if a.get("class") == "plot"}
    assert {"train_score", "validation_loss", "score_by_pair", "steps_to_target"} < set(charts)
    assert {"pairwise_score", "pairwise_speed", "seconds_to_target"} < set(charts)
    for place, chart in charts.items():
        assert titles_of(chart), place


def test_every_norm_has_a_switch_that_every_figure_obeys(html: str) -> None:
    norms = [a["data-norm"] for _, a in Page(html).elements if "data-norm" in a]
    assert sorted(map(str, norms)) == sorted(["none", "batch", "layer", "instance", "graph"])
    for place, chart in specs_of(html).items():
        rows = [row for kind in ("line", "point") for row in data_of(chart, kind)]
        assert {row[key] for row in rows for key in ("norm", "other") if key in row} == set(norms)
        # A filter for each part with rows of norms; what has an empty row belongs to no norm.
        parts = [part for part in (chart, *chart["layer"]) if "data" in part]
        of_norms = [part for part in parts if part["data"]["values"] != [{}]]
        filters = str(chart).count("indexof(hidden, datum.norm)")
        assert filters == len(of_norms) > 0, place


def test_values_stand_under_the_pointer(html: str) -> None:
    charts = specs_of(html)
    told = {
        place: {
            line["field"]
            for mark in marks_of(chart)
            for line in mark["encoding"].get("tooltip", [])
        }
        for place, chart in charts.items()
    }
    curve = {"label", "epoch", "step", "seconds", "mean", "band"}
    for place in CURVES:
        assert told[place] == curve
    for place in ("score_by_pair", "difference_by_pair", "steps_to_target", "seconds_to_target"):
        assert told[place] == {"label", "trial", "x"}
    for place in ("pairwise_score", "pairwise_speed"):
        assert told[place] == {"pair", "x", "interval", "p", "odds", "pairs"}


@pytest.mark.parametrize("name", [SCRIPT, "</script><!--", "a\"b'c&d", "{{ 7 * 7 }}"])
def test_names_do_no_harm(html: str, make_records: Make, name: str) -> None:
    records = make_records(
        ("none", name),
        dataset=name,
        reason=name,
        failed=lambda norm, fold: norm == "none" and fold == 0,
    )
    settings = {"dataset": name, "model": {"kind": name}, name: [name]}
    named = render_page(*judged(records, protocol="nested"), settings, f"graphnorms compare {name}")
    page = Page(named)
    assert name in page.text
    assert len(page.scripts) == len(Page(html).scripts)
    assert "<!--" not in named
    assert {a["data-norm"] for _, a in page.elements if "data-norm" in a} == {"none", name}
    assert specs_of(named)


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
        assert specs_of(html)
        assert "NaN" not in html.split('type="application/json">')[1].split("</script>")[0]
    else:
        assert "Learning curves" not in page.text


def test_a_norm_that_was_never_run_has_a_row(make_records: Make) -> None:
    records = make_records(("none", "graph"))
    verdict = judge(records, protocol="nested", norms=("none", "graph", "instance"))
    assert (
        "InstanceNorm"
        in Page(render_page(trials_of(records, verdict), verdict, SETTINGS, COMMAND)).text
    )


def test_records_without_times_have_a_page(make_records: Make) -> None:
    records = make_records(("none", "graph"))
    for record in records:
        record.timing.clear()
    assert "Learning curves" in rendered(records)


def test_it_is_small(make_records: Make) -> None:
    assert len(rendered(make_records(epochs=100)).encode()) < 1_500_000


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
    assert specs_of(html)
    optimistic = "Optimistic" in text.partition("Leaderboard")[0]
    assert optimistic == (protocol == "paper")
    assert ("one split only" in text) == (protocol == "split")
    labels = set().union(*map(titles_of, specs_of(html).values()))
    if metric == "mae":
        assert "Training MAE (kcal/mol, lower is better)" in labels
        assert "Difference in MAE (kcal/mol, lower is better)" in labels
        assert "points" not in text
        assert "%)" not in " ".join(labels)
    else:
        title = "accuracy" if metric == "accuracy" else "ROC-AUC"
        assert f"Training {title} (%)" in labels
        assert f"Difference in {title} (points)" in labels


def test_optimistic_scores_are_called_so_wherever_they_stand(make_records: Make) -> None:
    text = Page(rendered(make_records(protocol="paper"), "paper")).text
    verdict, leaderboard = text.split("Leaderboard")
    assert "Optimistic: learning rate and epoch are chosen on the folds" in verdict
    assert "Recommended, as far as optimistic scores allow" in verdict
    assert "Validation optimistic" in " ".join(leaderboard.split())
    assert "Last epoch" in leaderboard


def test_all_pairs_stand_in_numbers(html: str) -> None:
    text = Page(html).text
    assert text.count(" − ") >= 10
    assert "All pairs in numbers" in text
    assert "Bayesian correlated t-test" in text


@pytest.mark.slow
def test_a_large_comparison_stays_below_two_megabytes(make_records: Make) -> None:
    norms = ("none", *(f"norm{number}" for number in range(19)))
    assert (
        len(rendered(make_records(norms, folds=50, epochs=400, rates=(0.01, 0.1))).encode())
        < 2_000_000
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
    assert "mean MAE/σ" in sentences(verdict).score
    text = render_page(trials_of(records, verdict), verdict, SETTINGS, COMMAND)
    assert "MAE of each of the 2 targets" in text
    assert "<td>2e+06</td>" in text


def test_a_page_of_many_trials_stays_small(make_records: Make) -> None:
    """A run of 20 norms, 50 folds and 400 epochs then has 1.35 MB, of which scripts take 0.9."""

    def size(**choice: int) -> int:
        records = make_records(layers.names()[:4], rates=(0.01,), **choice)
        html = render_page(*judged(records, protocol="nested"), SETTINGS, COMMAND)
        return len(html.encode()) - len(javascript().encode())

    few, many, long = size(), size(folds=48), size(epochs=300)
    panels, trials = 4, 4 * (48 - 8)
    assert (many - few) / (panels * trials) < 20, "bytes per trial of a figure"
    curves, points = 4, 4 * (300 - 5)
    assert (long - few) / (curves * points) < 48, "bytes per point of a curve"
    assert max(many, long) < 320_000


def test_other_metrics_are_means_without_a_test(make_records: Make) -> None:
    """A trial of an earlier version has none; one without a score is left out."""
    records = [
        replace(
            record,
            scores={
                "test": {
                    "accuracy": record.outcome["test_score"],
                    "mcc": None if norm == "none" and not place % 2 else (-1.0) ** place,
                    "macro_f1": 0.25 + place % 2 / 2,
                }
            },
        )
        for norm in ("none", "graph")
        for place, record in enumerate(make_records(norms=(norm,), rates=(0.01,), runs=1))
        if record.config["stage"] == "final"
    ]
    trials, verdict = judged(records, protocol="nested")
    found = {row.norm: dict(row.others) for row in verdict.rows}
    assert found["graph"].keys() == {"macro_f1", "mcc"}, "that which is judged is no other"
    assert found["graph"]["mcc"].mean == pytest.approx(0)
    assert found["none"]["mcc"].mean == pytest.approx(-1)
    assert found["none"]["macro_f1"].mean == pytest.approx(0.5)
    score = found["none"]["macro_f1"]
    assert (score.low + score.high) / 2 == pytest.approx(0.5)
    assert score.high > 0.5
    text = render_page(trials, verdict, SETTINGS, COMMAND)
    assert "Other metrics" in text
    assert ">macro-F1<" in text
    old = [replace(record, scores={}) for record in records]
    trials, verdict = judged(old, protocol="nested")
    assert all(row.others == () for row in verdict.rows)
    assert "Other metrics" not in render_page(trials, verdict, SETTINGS, COMMAND)


def test_each_of_many_questions_has_its_score(make_records: Make) -> None:
    """One is undefined in every part, as a journal says it; the page has means alone."""
    names = [f"assay {place}" for place in range(128)]
    records = [
        replace(record, target_scores={"test": dict.fromkeys(names, 0.75) | {"rare": None}})
        for record in make_records(metric="roc_auc", rates=(0.01,))
        if record.config["stage"] == "final"
    ]
    trials, verdict = judged(records, protocol="nested")
    assert dict(verdict.rows[0].targets) == dict.fromkeys(names, 0.75)
    text = render_page(trials, verdict, SETTINGS, COMMAND)
    plain = [replace(record, target_scores={}) for record in records]
    without = render_page(*judged(plain, protocol="nested"), SETTINGS, COMMAND)
    assert text.count("<td>75.0</td>") == 128 * len(verdict.rows)
    assert len(text) - len(without) < 100 * 128 * len(verdict.rows)
