"""The pages of comparisons in a real browser: they open, every control works, all is told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.browser import NAMES, Browser, find
from tests.verdicts import judged

from graphnorms import layers
from graphnorms.lab.curves import CURVES
from graphnorms.lab.trials import group_trials
from graphnorms.report.chart import SUFFIXES
from graphnorms.report.page import write_page
from graphnorms.report.several import Part, write_several
from graphnorms.report.style import style_of
from graphnorms.training.record import Record

CHROMIUM = find()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is installed"
)

NORMS = ("none", "batch", "graph")
TITLES = {"none": "none", "batch": "BatchNorm", "graph": "GraphNorm"}

HELPERS = """
const scrollTo = (name) => {
  document.getElementById(name).scrollIntoView({ block: "center", behavior: "instant" });
};

// Where a point of a chart lies in the window.
const place = (name, x, y) => {
  const view = charts[name];
  const corner = document.querySelector(`#${name} svg.marks`).getBoundingClientRect();
  const [left, top] = view.origin();
  const inside = view.padding();
  return [
    corner.x + inside.left + left + view.scale("x")(x),
    corner.y + inside.top + top + view.scale("y")(y),
  ];
};

// How many marks of each norm are drawn, by their colours.
const marks = (root = document) => {
  const counts = {};
  for (const mark of root.querySelectorAll(".plot .mark-line path, .plot .mark-symbol path"))
    for (const color of [mark.getAttribute("fill"), mark.getAttribute("stroke")])
      if (color in COLORS && mark.getAttribute("opacity") !== "0")
        counts[COLORS[color]] = (counts[COLORS[color]] ?? 0) + 1;
  return counts;
};

const tips = () => document.querySelector("#vg-tooltip-element.visible")?.innerText ?? "";

const axesOf = (name) => ({
  titles: [...document.querySelectorAll(`#${name} .role-axis-title text`)]
    .map((title) => title.textContent),
  x: charts[name].scale("x").domain(),
  y: charts[name].scale("y").domain(),
  types: [charts[name].scale("x").type, charts[name].scale("y").type],
});
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(str(CHROMIUM)) as started:
        yield started


@dataclass(frozen=True)
class Comparison:
    """A page, and what it is made of."""

    page: Path
    records: list[Record]
    command: str


@pytest.fixture(scope="module")
def mutag(make_records, tmp_path_factory) -> Comparison:
    """A comparison of three norms."""
    page = tmp_path_factory.mktemp("run") / "report.html"
    records = make_records(NORMS, epochs=8)
    settings = {"dataset": "MUTAG", "model": "gin"}
    command = f"graphnorms compare MUTAG --norms {','.join(NORMS)} --epochs 8 --lr 0.003,0.01,0.03"
    write_page(page, *judged(records, protocol="nested"), settings, command)
    return Comparison(page, records, command)


@pytest.fixture
def opened(browser, mutag) -> Iterator[Browser]:
    """The page of `mutag` on a wide, light screen; after the test it has complained of nothing."""
    browser.size(1280)
    browser.media()
    browser.open(mutag.page)
    yield browser
    assert browser.complaints == []
    assert browser.requests == [mutag.page.as_uri()]


def ask(browser: Browser, expression: str):
    """Return the value of a JavaScript expression that may use the helpers."""
    before = f"const COLORS = {json.dumps(by_color(layers.names()))}; {HELPERS}"
    return browser.evaluate(f"(() => {{ {before} return {expression}; }})()")


def by_color(norms: Sequence[str]) -> dict[str, str]:
    """Return a norm for every colour; of a large catalogue some share theirs."""
    return {style_of(norm).color: norm for norm in reversed(norms)}


def test_it_opens_and_every_figure_is_drawn(opened: Browser) -> None:
    assert len(ask(opened, "Object.keys(charts)")) == 11
    drawn = "Object.keys(charts).map((name) => document.querySelectorAll(`#${name} path`).length)"
    assert min(opened.evaluate(drawn)) > 10


def test_a_click_on_a_norm_takes_it_out_of_every_figure_and_back(opened: Browser) -> None:
    before = ask(opened, "marks()")
    assert all(before[norm] > 8 for norm in NORMS)
    drawing = drawing_of(opened, "validation_score")
    opened.click("button[data-norm=batch]")
    pressed = "document.querySelector('button[data-norm=batch]').getAttribute('aria-pressed')"
    assert opened.evaluate(pressed) == "false"
    without = ask(opened, "marks()")
    assert "batch" not in without
    assert without["graph"] < before["graph"], "pairs with it are gone as well"
    assert drawing_of(opened, "validation_score") != drawing
    opened.click("button[data-norm=batch]")
    assert opened.evaluate(pressed) == "true"
    assert ask(opened, "marks()") == before
    assert drawing_of(opened, "validation_score") == drawing


@pytest.mark.parametrize(
    ("choice", "other", "label"),
    [
        ("unit", "step", "Optimizer step"),
        ("unit", "seconds", "Seconds of training"),
        ("horizontal", "log", "Epoch"),
        ("vertical", "linear", "Epoch"),
    ],
)
def test_axes_are_exchanged_and_back(
    opened: Browser, mutag: Comparison, choice: str, other: str, label: str
) -> None:
    changed = CURVES[2:] if choice == "vertical" else CURVES
    before = {name: drawing_of(opened, name) for name in changed}
    first = opened.evaluate(
        f"document.querySelector('[data-choice={choice}] [aria-pressed=true]').dataset.value"
    )
    opened.click(f"[data-choice={choice}] [data-value={other}]")
    opened.settle()
    for name in changed:
        assert drawing_of(opened, name) != before[name], name
    for name in changed:
        axes = ask(opened, f"axesOf('{name}')")
        assert label in axes["titles"]
        kinds = ["linear", "linear" if choice == "vertical" or name.endswith("score") else "log"]
        if (choice, other) == ("horizontal", "log"):
            kinds[0] = "log"
        assert axes["types"] == kinds
        low, high = axes["x"]
        assert low < high <= 1.2 * last_of(mutag, other if choice == "unit" else "epoch")
    opened.click(f"[data-choice={choice}] [data-value={first}]")
    for name in changed:
        assert drawing_of(opened, name) == before[name], name


def last_of(comparison: Comparison, unit: str) -> float:
    """The end of training, in the unit of the horizontal axis."""
    finals = [record for record in comparison.records if record.config["stage"] == "final"]
    if unit == "seconds":
        return max(sum(record.timing["train"]) for record in finals)
    epochs = finals[0].config["epochs"]
    return epochs * (finals[0].counts["steps_per_epoch"] if unit == "step" else 1)


def test_hover_tells_the_values(opened: Browser, mutag: Comparison) -> None:
    trials = group_trials(mutag.records, NORMS, protocol="nested")["graph"]
    mean = 100 * float(np.mean(trials.curves("validation_score")[:, 4]))
    ask(opened, "scrollTo('validation_score')")
    assert "GraphNorm" not in ask(opened, "tips()")
    opened.point(*ask(opened, f"place('validation_score', 5, {mean})"))
    opened.wait(f"(() => {{ {HELPERS} return tips().includes('GraphNorm'); }})()")
    cells = "[...row.cells].map((cell) => cell.innerText)"
    rows = f"[...document.querySelectorAll('#vg-tooltip-element tr')].map((row) => {cells})"
    lines = dict(opened.evaluate(rows))
    assert lines["norm"] == "★ GraphNorm"
    assert lines["epoch"] == "5"
    assert lines["step"] == "10"
    assert lines["Validation accuracy (%)"] == f"{mean:.1f}"


def test_pull_and_return(opened: Browser) -> None:
    ask(opened, "scrollTo('train_loss')")
    before = ask(opened, "axesOf('train_loss')")
    first, last = before["x"]
    start, end = (
        ask(opened, f"place('train_loss', {x}, {before['y'][0] * 1.2})")
        for x in (first + (last - first) / 4, first + (last - first) / 2)
    )
    opened.drag(*start, *end)
    moved = ask(opened, "axesOf('train_loss').x")
    assert moved[0] < first
    assert moved[1] < last
    opened.drag(*end, *start)
    assert ask(opened, "axesOf('train_loss').x") == pytest.approx(before["x"])


def test_all_pairs_are_there_to_open(opened: Browser) -> None:
    text = "document.querySelector('section > details .scroll').innerText"
    assert opened.evaluate(text) == ""
    opened.click("section > details > summary")
    assert "BatchNorm" in opened.evaluate(text)


def test_dark_and_light_at_once_and_white_on_paper(opened: Browser) -> None:
    look = (
        "(() => { const body = getComputedStyle(document.body);"
        " const label = document.querySelector('.role-axis-label text');"
        " return [body.backgroundColor, body.color, getComputedStyle(label).fill]; })()"
    )
    looks = {}
    for name, media in {
        "light": {},
        "dark": {"dark": True},
        "printed": {"dark": True, "printed": True},
        "again": {},
    }.items():
        opened.media(**media)
        looks[name] = opened.evaluate(look)
    assert looks["again"] == looks["light"]
    assert looks["printed"][:2] == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    for name, (paper, ink, label) in looks.items():
        assert contrast(paper, ink) > 7, name
        assert contrast(paper, label) > 4.5, name
    assert contrast(looks["light"][0], looks["dark"][0]) > 10


def test_on_paper_the_controls_are_gone(opened: Browser) -> None:
    opened.media(printed=True)
    assert opened.evaluate("document.querySelector('.choices').offsetHeight") == 0
    assert opened.printed().startswith(b"%PDF")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_scrolls_in_one_direction(opened: Browser, mutag: Comparison, dark: bool) -> None:
    opened.size(390, 844, phone=True)
    opened.media(dark=dark)
    opened.open(mutag.page)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    widths = ask(opened, "Object.values(charts).map((view) => view.signal('width'))")
    assert min(widths) > 180, "room for what is drawn"
    opened.click("button[data-norm=graph]")
    assert "graph" not in ask(opened, "marks()")


@pytest.mark.parametrize("width", [1280, 600, 390])
def test_the_command_breaks_inside_no_option(
    opened: Browser, mutag: Comparison, width: int
) -> None:
    opened.size(width)
    command = "document.querySelector('.command')"
    pieces = opened.evaluate(
        f"[...{command}.querySelectorAll('span')].map((piece) =>"
        " [piece.innerText, piece.getClientRects().length])"
    )
    assert [lines for _, lines in pieces] == [1] * len(pieces)
    assert " ".join(text for text, _ in pieces) == mutag.command
    assert all(len(text.split()) == 2 for text, _ in pieces[1:]), "an option and its value"
    assert opened.evaluate(f"{command}.scrollWidth <= {command}.clientWidth")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 390])
def test_rows_of_the_two_figures_of_trials_lie_side_by_side(opened: Browser, width: int) -> None:
    opened.size(width)
    opened.settle()
    names = ["score_by_pair", "difference_by_pair"]
    heights = [ask(opened, f"charts.{name}.signal('height')") for name in names]
    assert heights[0] == heights[1]
    origins = [ask(opened, f"charts.{name}.origin()[1]") for name in names]
    assert origins[0] == pytest.approx(origins[1], abs=1)
    assert len({str(ask(opened, f"axesOf('{name}').y")) for name in names}) == 1
    tops = opened.evaluate(
        f"{names}.map((name) => document.getElementById(name).getBoundingClientRect().top)"
    )
    assert (tops[0] == tops[1]) == (width == 1280)


@pytest.mark.full("a second page")
def test_the_page_of_a_regression_on_its_own_split(
    browser: Browser, make_records, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    records = make_records(("none", "graph"), metric="mae", protocol="split", dataset="nci5k")
    write_page(page, *judged(records, protocol="split"), {"dataset": "nci5k"}, "graphnorms")
    for width in (1280, 390):
        browser.size(width)
        browser.open(page)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        titles = ask(browser, "axesOf('validation_score').titles")
        assert "Validation MAE (lower is better)" in titles
        assert "nci5k" in browser.evaluate("document.body.innerText")
    assert browser.complaints == []
    assert browser.requests == [page.as_uri()]


@pytest.mark.full("a third page")
def test_failed_and_missing_trials_are_told(browser: Browser, make_records, tmp_path: Path) -> None:
    records = make_records(
        NORMS,
        failed=lambda norm, fold: norm == "batch" and fold == 1,
        missing=lambda norm, fold: norm == "none" and fold > 4,
    )
    page = tmp_path / "page.html"
    write_page(page, *judged(records, protocol="nested"), {"dataset": "MUTAG"}, "graphnorms")
    browser.size(1280)
    browser.open(page)
    text = browser.evaluate("document.querySelector('.verdict').innerText")
    assert "not finite" in text, "diverged"
    assert "Not run:" in text
    assert "rate_sensitivity" in ask(browser, "Object.keys(charts)")
    assert browser.complaints == []


def test_names_run_no_script(browser: Browser, make_records, tmp_path: Path) -> None:
    name = "<script>window.harmed = true</script><img src=x onerror='window.harmed = true'>"
    records = make_records(("none", name), dataset=name, epochs=4)
    page = tmp_path / "page.html"
    write_page(page, *judged(records, protocol="nested"), {"dataset": name}, name)
    browser.open(page)
    assert name in browser.evaluate("document.body.innerText")
    browser.evaluate("document.querySelectorAll('button').forEach((button) => button.click())")
    assert browser.evaluate("window.harmed === undefined")
    assert browser.complaints == []
    assert browser.requests == [page.as_uri()]


def test_a_page_over_several_comparisons(browser: Browser, make_records, tmp_path: Path) -> None:
    parts = []
    for name, metric in {"first": "accuracy", "second": "mae", "third": "roc_auc"}.items():
        records = make_records(metric=metric, dataset=name, epochs=2, folds=5, rates=(0.01,))
        settings = {"dataset": name, "model": "gin", "protocol": "nested"}
        trials, verdict = judged(records, protocol="nested")
        parts.append(
            Part(name=name, settings=settings, verdict=verdict, command="graphnorms", trials=trials)
        )
    page = tmp_path / "page.html"
    write_several(page, parts, figures=True)
    assert {file.name for file in (tmp_path / "page-figures").iterdir()} == {
        f"critical_difference{suffix}" for suffix in SUFFIXES
    }
    for width, dark in ((1280, False), (390, True)):
        browser.size(width)
        browser.media(dark=dark)
        browser.open(page)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        widths = ask(browser, "Object.values(charts).map((view) => view.signal('width'))")
        assert len(widths) == 1 + 4 * len(parts)
        assert min(widths) > 180, "room for what is drawn"
    assert browser.complaints == []
    assert browser.requests == [page.as_uri()]


@pytest.mark.slow
def test_a_large_page_opens(
    browser: Browser, make_records, tmp_path: Path, record_property
) -> None:
    """20 norms × 50 trials × 400 epochs; how long it takes is written down, not judged."""
    norms = layers.names()[:20]
    records = make_records(norms, folds=50, epochs=400, rates=(0.01, 0.1))
    page = tmp_path / "page.html"
    write_page(page, *judged(records, protocol="nested"), {"dataset": "MUTAG"}, "graphnorms")
    assert page.stat().st_size < 1_500_000
    browser.size(1280)
    browser.media()
    browser.open(page)
    record_property("seconds until it is painted", browser.evaluate("window.readyAt / 1000"))
    assert set(ask(browser, "marks()")) == set(by_color(norms).values())
    browser.click("button[data-norm=graph]")
    assert "graph" not in ask(browser, "marks()")
    assert browser.complaints == []


def drawing_of(browser: Browser, place: str) -> list[str]:
    """The lines, areas and points of a chart, in any order."""
    browser.settle()
    paths = f"[...document.querySelectorAll('#{place} .role-mark path, #{place} text')]"
    drawn: list[str] = browser.evaluate(f"{paths}.map((path) => path.outerHTML)")
    return sorted(drawn)


def contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG 2 of two colours, as #rrggbb or rgb(…)."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    if color.startswith("#"):
        full = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
        channels = [int(full[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    else:
        channels = [int(part) / 255 for part in color[4:-1].split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
