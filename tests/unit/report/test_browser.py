"""The pages of real comparisons in a real browser: they open, every control works, all is told."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.browser import NAMES, Browser, find
from tests.verdicts import judge

from graphnorms import layers, training
from graphnorms.lab.compare import compare
from graphnorms.lab.comparison import Comparison, ComparisonInterrupted, open_comparison
from graphnorms.lab.trials import group_trials
from graphnorms.report.page import write_page
from graphnorms.report.several import Part, write_several

CHROMIUM = find()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is installed"
)

NORMS = ("none", "batch", "graph")
TITLES = {"none": "none", "batch": "BatchNorm", "graph": "GraphNorm"}

HELPERS = """
// The view of each figure by the place that it has in the page.
const figures = Object.fromEntries([...Bokeh.index].filter((view) => view.model.type === "Figure")
  .map((view) => [view.el.parentElement.id, view]));

const scrollTo = (name) => {
  document.getElementById(name).scrollIntoView({ block: "center", behavior: "instant" });
};

// Where a point of a figure lies in the window.
const place = (name, x, y) => {
  const { canvas_view, frame } = figures[name];
  const corner = canvas_view.el.getBoundingClientRect();
  return [corner.x + frame.x_scale.compute(x), corner.y + frame.y_scale.compute(y)];
};

const marks = () => {
  const counts = {};
  for (const { model } of Object.values(figures))
    for (const mark of model.renderers)
      for (const tag of mark.tags.filter((tag) => tag.startsWith("norm:")))
        counts[tag.slice("norm:".length)] = (counts[tag.slice("norm:".length)] ?? 0) + mark.visible;
  return counts;
};

const tips = (root = document) => [...root.querySelectorAll("*")].map((element) =>
  element.classList.contains("bk-Tooltip") ? element.shadowRoot.textContent
    : element.shadowRoot ? tips(element.shadowRoot) : "").join("");

const colours = ({ canvas_view }) => {
  const { canvas } = canvas_view.primary;
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(pixels.data.buffer)).size;
};

const axesOf = ({ model, frame }) => ({
  below: model.below.filter((axis) => axis.visible).map((axis) => [axis.type, axis.axis_label]),
  left: model.left.filter((axis) => axis.visible).map((axis) => axis.type),
  x: [model.x_range.start, model.x_range.end],
  y: [model.y_range.start, model.y_range.end],
  scales: [frame.x_scale.type, frame.y_scale.type],
});
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(str(CHROMIUM)) as started:
        yield started


@pytest.fixture(scope="module")
def mutag(in_this_process_of_module, tmp_path_factory) -> Comparison:
    """A real comparison, small."""
    return compare(
        "MUTAG", norms=NORMS, folds=3, epochs=8, learning_rate=(0.003, 0.02), hidden=16, layers=2,
        out=tmp_path_factory.mktemp("runs") / "MUTAG-gin",
    )  # fmt: skip


@pytest.fixture
def opened(browser, mutag) -> Iterator[Browser]:
    """The page of `mutag` on a wide, light screen; after the test it has complained of nothing."""
    browser.size(1280)
    browser.media()
    browser.open(mutag.folder / "report.html")
    yield browser
    assert browser.complaints == []
    assert browser.requests == [(mutag.folder / "report.html").as_uri()]


def ask(browser: Browser, expression: str):
    """Return the value of a JavaScript expression that may use the helpers."""
    return browser.evaluate(f"(() => {{ {HELPERS} return {expression}; }})()")


def test_it_opens_and_every_figure_is_drawn(opened: Browser) -> None:
    assert len(ask(opened, "Object.keys(figures)")) == 11
    assert min(ask(opened, "Object.values(figures).map(colours)")) > 10


def test_a_click_on_a_norm_takes_it_out_of_every_figure_and_back(opened: Browser) -> None:
    before = ask(opened, "marks()")
    assert all(before[norm] > 8 for norm in NORMS)
    pixels = picture_of(opened, "validation_score")
    opened.click("button[data-norm=batch]")
    pressed = "document.querySelector('button[data-norm=batch]').getAttribute('aria-pressed')"
    assert opened.evaluate(pressed) == "false"
    without = ask(opened, "marks()")
    assert without["batch"] == 0
    assert without["graph"] < before["graph"], "pairs with it are gone as well"
    assert picture_of(opened, "validation_score") != pixels
    opened.click("button[data-norm=batch]")
    assert opened.evaluate(pressed) == "true"
    assert ask(opened, "marks()") == before
    assert picture_of(opened, "validation_score") == pixels


CURVES = ("train_score", "validation_score", "train_loss", "validation_loss")


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
    before = {name: picture_of(opened, name) for name in changed}
    first = opened.evaluate(
        f"document.querySelector('[data-choice={choice}] [aria-pressed=true]').dataset.value"
    )
    opened.click(f"[data-choice={choice}] [data-value={other}]")
    for name in changed:
        assert picture_of(opened, name) != before[name], name
    axes = {name: ask(opened, f"axesOf(figures.{name})") for name in changed}
    for name in changed:
        kind = "LogAxis" if (choice, other) == ("horizontal", "log") else "LinearAxis"
        assert axes[name]["below"] == [[kind, label]]
        assert axes[name]["scales"][0] == kind.replace("Axis", "Scale")
        low, high = axes[name]["x"]
        assert low < high <= 1.2 * last_of(mutag, other if choice == "unit" else "epoch")
        if choice == "vertical":
            assert axes[name]["left"] == ["LinearAxis"]
            assert axes[name]["scales"][1] == "LinearScale"
    opened.click(f"[data-choice={choice}] [data-value={first}]")
    for name in changed:
        assert picture_of(opened, name) == before[name], name


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
    text = ask(opened, "tips()")
    assert f"{mean:.1f}%" in text
    assert "5 (step " in text


def test_zoom_and_reset(opened: Browser) -> None:
    """A box drawn with the tool of the toolbar, and back."""
    ask(opened, "scrollTo('train_loss')")
    tool = "figures.train_loss.model.toolbar.tools.find(({ type }) => type === 'BoxZoomTool')"
    ask(opened, f"({tool}).active = true")
    before = ask(opened, "axesOf(figures.train_loss)")
    (first, last), (low, high) = before["x"], before["y"]
    opened.drag(
        *ask(opened, f"place('train_loss', {first + (last - first) / 4}, {low})"),
        *ask(opened, f"place('train_loss', {first + (last - first) / 2}, {high})"),
    )
    zoomed = ask(opened, "axesOf(figures.train_loss).x")
    assert first < zoomed[0] < zoomed[1] < last
    ask(opened, "figures.train_loss.reset()")
    opened.settle()
    assert ask(opened, "axesOf(figures.train_loss)") == before


def test_all_pairs_are_there_to_open(opened: Browser) -> None:
    text = "document.querySelector('details .scroll').innerText"
    assert opened.evaluate(text) == ""
    opened.click("summary")
    assert "BatchNorm" in opened.evaluate(text)


def test_dark_and_light_at_once_and_white_on_paper(opened: Browser) -> None:
    look = (
        "(() => { const style = getComputedStyle(document.body); return [style.backgroundColor,"
        " style.color, [...Bokeh.index][0].model.below[0].major_label_text_color]; })()"
    )
    looks = {}
    for name, media in {
        "light": {},
        "dark": {"dark": True},
        "printed": {"dark": True, "printed": True},
        "again": {},
    }.items():
        opened.media(**media)
        opened.wait(
            "[...Bokeh.index][0].model.below[0].major_label_text_color === "
            "getComputedStyle(document.documentElement).getPropertyValue('--muted').trim()"
        )
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
    opened.open(mutag.folder / "report.html")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    widths = ask(opened, "Object.values(figures).map((view) => view.frame.bbox.width)")
    assert min(widths) > 180, "room for what is drawn"
    opened.click("button[data-norm=graph]")
    assert ask(opened, "marks()")["graph"] == 0


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
    frames = [ask(opened, f"figures.{name}.frame.bbox.height") for name in names]
    assert frames[0] == pytest.approx(frames[1], abs=1)
    ranges = [ask(opened, f"axesOf(figures.{name}).y") for name in names]
    assert ranges[0] == ranges[1]
    tops = opened.evaluate(
        f"{names}.map((name) => document.getElementById(name).getBoundingClientRect().top)"
    )
    assert (tops[0] == tops[1]) == (width == 1280)


@pytest.mark.usefixtures("in_this_process")
def test_the_page_of_a_regression_on_its_own_split(browser: Browser, tmp_path: Path) -> None:
    compare(
        "nci5k", norms=("none", "graph"), protocol="split", runs=2, epochs=2, learning_rate=0.01,
        hidden=8, layers=2, batch_size=256, out=tmp_path / "run",
    )  # fmt: skip
    page = tmp_path / "run" / "report.html"
    for width in (1280, 390):
        browser.size(width)
        browser.open(page)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        label = ask(browser, "figures.validation_score.model.left[0].axis_label")
        assert label == "Validation MAE (lower is better)"
        assert "nci5k" in browser.evaluate("document.body.innerText")
    assert browser.complaints == []
    assert browser.requests == [page.as_uri()]


def test_failed_missing_and_diverged_trials_are_told(
    browser: Browser, in_this_process, tmp_path: Path, monkeypatch
) -> None:
    """A journal with all three: what ended is shown, and what is not there is said."""
    run_trial = training.run_trial

    def unlucky(config, dataset, on_epoch=None, **more):
        if config.stage == "final" and config.norm == "batch" and config.split["fold"] == 1:
            raise RuntimeError("out of luck")
        if len(in_this_process) == 40:
            signal.raise_signal(signal.SIGINT)
        return run_trial(config, dataset, on_epoch, **more)

    monkeypatch.setattr(training, "run_trial", unlucky)
    with pytest.raises(ComparisonInterrupted):
        compare(
            "MUTAG", norms=NORMS, folds=6, epochs=2, learning_rate=(0.01, 1e30), hidden=8,
            layers=2, out=tmp_path / "run",
        )  # fmt: skip
    again = open_comparison(tmp_path / "run").report(tmp_path / "again.html")
    browser.size(1280)
    browser.open(again)
    text = browser.evaluate("document.querySelector('.verdict').innerText")
    assert "not finite" in text, "diverged"
    assert "RuntimeError: out of luck" in text
    assert "Not run:" in text
    keys = ask(browser, "Object.keys(figures)")
    assert "rate_sensitivity" in keys
    # Two epochs train nothing beyond the frequent class, and what is at chance is not timed.
    assert "time_to_target" not in keys
    assert browser.complaints == []


def test_names_run_no_script(browser: Browser, make_records, tmp_path: Path) -> None:
    name = "<script>window.harmed = true</script><img src=x onerror='window.harmed = true'>"
    records = make_records(("none", name), dataset=name, epochs=4)
    page = tmp_path / "page.html"
    write_page(page, records, judge(records, protocol="nested"), {"dataset": name}, name)
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
        verdict = judge(records, protocol="nested")
        parts.append(Part(name=name, settings=settings, verdict=verdict, command="graphnorms"))
    page = tmp_path / "page.html"
    write_several(page, parts, figures=True)
    assert {file.name for file in (tmp_path / "page-figures").iterdir()} == {
        "critical_difference.svg",
        "critical_difference.png",
    }
    for width, dark in ((1280, False), (390, True)):
        browser.size(width)
        browser.media(dark=dark)
        browser.open(page)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate("document.querySelector('.picture svg').clientWidth") > width / 2
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
    write_page(page, records, judge(records, protocol="nested"), {"dataset": "MUTAG"}, "graphnorms")
    assert page.stat().st_size < 8_000_000
    browser.size(1280)
    browser.media()
    browser.open(page)
    record_property("seconds until it is painted", browser.evaluate("window.readyAt / 1000"))
    assert min(ask(browser, "Object.values(figures).map(colours)")) > 10
    assert set(ask(browser, "marks()")) == set(norms)
    browser.click("button[data-norm=graph]")
    assert ask(browser, "marks()")["graph"] == 0
    assert browser.complaints == []


def picture_of(browser: Browser, place: str) -> str:
    """What the canvas of a figure shows, as text."""
    browser.settle()
    return ask(browser, f"figures.{place}.canvas_view.primary.canvas.toDataURL()")


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
