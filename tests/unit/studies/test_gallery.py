"""The gallery and the page of the documentation: whole, self-contained, and safe."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from graphnorms.errors import GraphnormsError
from graphnorms.report.text_table import TextTable
from graphnorms.studies.calibration import FILE, Calibration, save_calibrations
from graphnorms.studies.gallery import tally, write_gallery
from graphnorms.studies.runner import run_study
from graphnorms.studies.studies_page import fill, keep
from graphnorms.studies.study import Finding, Settings
from graphnorms.studies.study_list import NAMES, TOPICS
from graphnorms.studies.study_results import PNG, RESULT, SVG, load, own_folder, save
from tests.unit.studies.fake import make_study

HOSTILE = "<script>alert(1)</script> & \"quotes\" 'n' `ticks` | *stars* <!-- end -->"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Two results, one of hostile texts."""
    folder = tmp_path_factory.mktemp("results")
    plain, hostile = (
        make_study(),
        make_study(
            name="landscape",
            **dict.fromkeys(("claim", "source", "prediction", "protocol", "rule"), HOSTILE),
            judge=lambda measurements, settings: Finding(
                "not confirmed",
                HOSTILE,
                {HOSTILE: None},
                (TextTable(HOSTILE, (HOSTILE,), ((HOSTILE,),)),),
            ),
        ),
    )
    for study in (plain, hostile):
        run_study(study, Settings(), folder / study.name, workers=0, command=HOSTILE)
    return folder


class Elements(HTMLParser):
    """The elements of a page, and what it refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_page_has_everything_and_loads_nothing(results, tmp_path):
    shown = write_gallery(tmp_path / "new" / "page.html", results)
    assert [each.name for each in shown] == ["gradient-flow", "landscape"]
    page = Elements((tmp_path / "new" / "page.html").read_text())
    for result in shown:
        for text in (
            result.claim,
            result.source,
            result.prediction,
            result.protocol,
            result.rule,
            result.finding.statement,
            result.finding.verdict,
            TOPICS[result.name],
        ):
            assert text in page.text
    assert "Of 2 claims 1 confirmed, 1 not confirmed and 0 inconclusive." in page.text
    assert page.tags.count("img") == 2
    assert all(re.match(r"data:|#", address) for address in page.addresses)
    assert "script" not in page.tags


def test_hostile_text_is_text(results, tmp_path):
    write_gallery(tmp_path / "page.html", results)
    page = (tmp_path / "page.html").read_text()
    assert "<script>" not in page
    assert Elements(page).text.count(HOSTILE) >= 10


def test_a_result_without_figure_is_shown_without(results, tmp_path):
    save(load(results / "landscape"), tmp_path / "landscape")
    write_gallery(tmp_path / "page.html", tmp_path)
    assert "img" not in Elements((tmp_path / "page.html").read_text()).tags


def test_no_results(tmp_path):
    with pytest.raises(GraphnormsError, match="measure some with: graphnorms study all"):
        write_gallery(tmp_path / "page.html", tmp_path)


def test_tally(results):
    first = load(results / "landscape")
    alone = "Of 2 claims 0 confirmed, 2 not confirmed and 0 inconclusive."
    assert tally([first, replace(first, together=None)]) == alone
    assert tally([first, first]) == (
        f"{alone} With intervals that hold for all {len(NAMES)} studies at once, "
        "0 confirmed, 2 not confirmed and 0 inconclusive."
    )


@pytest.fixture
def page(tmp_path) -> Path:
    path = tmp_path / "docs" / "studies.md"
    path.parent.mkdir()
    path.write_text("Before.\n\n<!-- studies -->\nOld.\n<!-- end -->\n\nAfter.\n")
    return path


def page_of(page: Path, name: str) -> str:
    """Return the page of one study beside that of all."""
    return (page.parent / "studies" / f"{name}.md").read_text()


def test_results_are_copied_and_filled_in(results, page):
    kept = keep(results, page)
    text = page.read_text()
    own = page_of(page, "gradient-flow")
    assert text.startswith("Before.\n\n<!-- studies -->")
    assert text.endswith("<!-- end -->\n\nAfter.\n")
    assert "Old." not in text
    for result in kept:
        copy = page.parent / "studies" / result.name
        assert load(copy) == result
        assert (copy / SVG).read_bytes() == (results / result.name / SVG).read_bytes()
        assert f"| [{result.name}](studies/{result.name}.md) |" in text
        assert f"\nstudies/{result.name}\n" in text.partition("{toctree}")[2]
        assert f"**{result.finding.verdict}**" in text
        assert f"]({result.name}/{SVG})" in page_of(page, result.name)
    assert "Cheese is a norm." in own
    assert "<https://example.org/cheese>." in own
    assert "(../studies.md)" in own
    fill(page)
    assert page.read_text() == text, "filling in again changes nothing"
    assert page_of(page, "gradient-flow") == own
    figure = (page.parent / "studies" / "gradient-flow" / SVG).read_bytes()
    keep(page.parent / "studies", page)
    assert page.read_text() == text, "nor do the copies"
    assert (page.parent / "studies" / "gradient-flow" / SVG).read_bytes() == figure


def test_hostile_text_is_text_in_markdown(results, page):
    keep(results, page)
    body = page_of(page, "landscape").partition("```text")[0]
    assert "<script>" not in body
    assert r"\<script\>alert(1)\</script\>" in body
    assert r"\|" in body
    assert r"\*stars\*" in body


def test_a_large_figure_is_copied_as_png_and_all_measurements_stay(results, page, monkeypatch):
    from graphnorms.studies import studies_page as module

    monkeypatch.setattr(module, "_LARGEST_SVG", 1000)
    keep(results, page)
    copy = page.parent / "studies" / "gradient-flow"
    assert load(copy) == load(results / "gradient-flow")
    assert {path.name for path in copy.iterdir()} == {RESULT, PNG}
    keep(page.parent / "studies", page)
    assert {path.name for path in copy.iterdir()} == {RESULT, PNG}, "nor without an SVG"
    assert f"](gradient-flow/{PNG})" in page_of(page, "gradient-flow")


def test_a_copy_without_measurements_says_so(results, page):
    keep(results, page)
    assert ", all measurements in it." in page_of(page, "landscape")
    copy = page.parent / "studies" / "landscape"
    save(replace(load(copy), measurements=()), copy)
    fill(page)
    assert ", without the measurements, which an earlier version" in page_of(page, "landscape")


def test_a_result_of_an_earlier_rule_says_so(results, page, monkeypatch):
    from graphnorms.studies import studies_page as module

    keep(results, page)
    said = "*By an earlier rule: the study has another one now, and has not been run with it.*"
    assert said in page_of(page, "landscape")
    assert page.read_text().count("(earlier rule)") == 2
    monkeypatch.setattr(module, "study_named", lambda name: load(results / name))
    fill(page)
    assert said not in page_of(page, "landscape")
    assert "(earlier rule)" not in page.read_text()


def test_calibrations_are_copied_and_shown(results, page):
    assert page.read_text().count("calibrated") == 0
    keep(results, page)
    assert page.read_text().count("| not calibrated |") == 2
    said = Calibration(
        "landscape",
        "It holds.",
        "It does not.",
        ("confirmed",) * 10,
        ("not confirmed",) * 9 + ("inconclusive",),
        1.0,
    )
    save_calibrations([said], page.parent / "studies" / FILE)
    fill(page)
    assert "| 10 of 10, 9 of 10 |" in page.read_text()
    assert "10 of 10, 9 of 10 right. True: It holds. False: It does not." in page_of(
        page, "landscape"
    )


def test_tiny_results_are_not_for_the_documentation(results, page, tmp_path):
    tiny = replace(load(results / "landscape"), settings=Settings(size="tiny"))
    save(tiny, tmp_path / "some" / "landscape")
    with pytest.raises(GraphnormsError, match="of size tiny, which means nothing; measure it"):
        keep(tmp_path / "some", page)
    assert "Old." in page.read_text()


@pytest.fixture
def larger(results, tmp_path) -> Path:
    """The plain study at the default size, on other data, and in full on other data."""
    folder = tmp_path / "larger"
    study = make_study()
    for verdict, settings in (
        ("confirmed", Settings()),
        ("inconclusive", Settings(data=Path("sets"))),
        ("not confirmed", Settings(size="full", data=Path("sets"))),
    ):
        finding = Finding(verdict, f"It is {verdict}, says {HOSTILE}", {})
        judged = replace(study, judge=lambda measurements, settings, said=finding: said)
        own = own_folder(folder / study.name, settings)
        run_study(judged, settings, own, workers=0, command="graphnorms study gradient-flow")
    return folder


def test_larger_runs_are_copied_and_shown_beside_the_default_one(larger, page):
    kept = keep(larger, page)
    assert len(kept) == 3
    copies = page.parent / "studies" / "gradient-flow"
    for own in (copies, copies / "data", copies / "full-data"):
        assert load(own) == load(larger / own.relative_to(copies.parent))
        assert (own / SVG).is_file()
    text = page.read_text()
    assert "Of 1 claims 1 confirmed, 0 not confirmed and 0 inconclusive." in text
    row = next(line for line in text.splitlines() if line.startswith("| [gradient-flow]"))
    assert [cell.strip() for cell in row.split("|")][3:6] == [
        "**confirmed** (earlier rule)",
        "confirmed",
        "data: **inconclusive**; full, data: **not confirmed**",
    ]
    own = page_of(page, "gradient-flow")
    assert "<gradient-flow/full-data/result.json>" in own
    assert "<gradient-flow/data/figure.svg>" in own
    assert "<script>" not in text + own
    fill(page)
    assert page.read_text() == text


def test_a_machine_is_named_once_with_all_its_commits(results, page, tmp_path):
    folder = tmp_path / "two"
    shutil.copytree(results, folder)
    for name, commit in (("gradient-flow", "c0ffee"), ("landscape", "decaf")):
        result = load(folder / name)
        versions = result.machine["versions"] | {"commit": commit}
        save(replace(result, machine=result.machine | {"versions": versions}), folder / name)
    keep(folder, page)
    measured = page.read_text().partition("Measured on:\n\n")[2].partition("\n\n")[0]
    assert measured.startswith("- ")
    assert "\n" not in measured
    assert measured.endswith("; commits c0ffee, decaf")


def test_the_cost_of_the_list_is_that_of_its_own_runs(larger, page, tmp_path):
    """The larger runs are not in the list of verdicts, nor in what it cost."""
    folder = tmp_path / "costly"
    shutil.copytree(larger, folder)
    for kind, seconds in (("", 180.0), ("data", 6000.0)):
        own = folder / "gradient-flow" / kind
        save(replace(load(own), core_seconds=seconds), own)
    keep(folder, page)
    assert "third column: 3 min of one core." in page.read_text()


def test_a_later_larger_run_leaves_the_default_copy_alone(larger, page, tmp_path):
    keep(larger, page)
    before = load(page.parent / "studies" / "gradient-flow")
    only = tmp_path / "only"
    again = replace(load(larger / "gradient-flow" / "data"), core_seconds=77.0)
    save(again, only / "gradient-flow" / "data")
    shutil.copy(larger / "gradient-flow" / SVG, only / "gradient-flow" / "data")
    assert keep(only, page) == [again]
    assert load(page.parent / "studies" / "gradient-flow") == before
    assert "77 s of one core" in page_of(page, "gradient-flow")


def test_the_gallery_shows_larger_runs(larger, tmp_path):
    (shown,) = write_gallery(tmp_path / "page.html", larger)
    assert shown.settings == Settings()
    page = Elements((tmp_path / "page.html").read_text())
    for verdict in ("inconclusive", "not confirmed"):
        assert page.text.count(f"It is {verdict}, says {HOSTILE}") == 1
    assert page.tags.count("img") == 1
    assert "script" not in page.tags


def test_a_larger_run_alone_is_shown(larger, tmp_path):
    shutil.copytree(larger / "gradient-flow" / "data", tmp_path / "x" / "gradient-flow" / "data")
    (shown,) = write_gallery(tmp_path / "page.html", tmp_path / "x")
    assert shown.settings.data == Path("sets")
    assert Elements((tmp_path / "page.html").read_text()).tags.count("img") == 1


def test_a_page_without_slot(results, tmp_path):
    (tmp_path / "studies.md").write_text("Nothing.")
    with pytest.raises(GraphnormsError, match="no slot, expected a line <!-- studies -->"):
        keep(results, tmp_path / "studies.md")


def test_a_page_without_results_says_so(page):
    fill(page)
    assert "Not measured yet." in page.read_text()
