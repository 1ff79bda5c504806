"""The documentation of studies: copies results and figures, writes a list and a page of each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from graphnorms.errors import GraphnormsError
from graphnorms.files import fill_slots, replacing
from graphnorms.report.text_table import TextTable
from graphnorms.studies.calibration import (
    FILE,
    Calibration,
    load_calibrations,
    save_calibrations,
)
from graphnorms.studies.gallery import circumstances, tally
from graphnorms.studies.study_list import LIMITS, NAMES, TOPICS, study_named
from graphnorms.studies.study_results import (
    PNG,
    RESULT,
    SVG,
    StudyResult,
    label,
    load_runs,
    own_folder,
    save,
)

_WITHOUT: Final = ", without the measurements, which an earlier version left out of the copy."
_UNCHANGED: Final = "Nothing: measure, rule and verdict are as before."
_LARGEST_SVG: Final = 200_000  # bytes; above, the figure is copied as PNG


def keep(folder: Path, page: Path) -> list[StudyResult]:
    """Copy results and figures into a folder beside a page, fill it in, and write those of studies.

    Runs with --full or --data are copied beside the default run, see `own_folder`.

    Args:
        folder: The folder of results; that beside the page fills it in again.
        page: The page, with the slot `<!-- studies -->` … `<!-- end -->`.

    Raises:
        GraphnormsError: The page has no slot, there is no result, or one is of size tiny.
        OSError: A file cannot be read or written.
    """
    results = {own: result for runs in load_runs(folder, NAMES) for own, result in runs.items()}
    if not results:
        raise GraphnormsError(f"{folder} has no results; measure them with: graphnorms study all")
    for own, result in results.items():
        if result.settings.size == "tiny":
            raise GraphnormsError(
                f"{own}: the result is of size tiny, which means nothing; "
                f"measure it with: graphnorms study {result.name}"
            )
    copies = page.with_suffix("")
    for own, result in results.items():
        copy = own_folder(copies / result.name, result.settings)
        save(result, copy)
        _copy_figure(own, copy)
    if (folder / FILE).is_file():
        save_calibrations(load_calibrations(folder / FILE), copies / FILE)
    fill(page)
    return list(results.values())


def fill(page: Path) -> None:
    """Fill in a page from all results in the folder beside it, and write a page of each there.

    Raises:
        GraphnormsError: The page has no slot, or a result is damaged.
        OSError: A file cannot be read or written.
    """
    copies = page.with_suffix("")
    runs = load_runs(copies, NAMES)
    found = load_calibrations(copies / FILE) if (copies / FILE).is_file() else []
    calibrations = {each.name: each for each in found}
    body = _body(runs, calibrations, copies.name) if runs else "Not measured yet."
    fill_slots(page, "studies", lambda _: body)
    for of_study in runs:
        name = next(iter(of_study.values())).name
        with replacing(copies / f"{name}.md") as temporary:
            text = _page(of_study, copies, calibrations.get(name), page.name)
            temporary.write_text(text, encoding="utf-8")


def _copy_figure(source: Path, target: Path) -> None:
    """Copy a figure as SVG, or as PNG where that is large; the folders may be the same one."""
    svg = source / SVG
    small = svg.is_file() and svg.stat().st_size <= _LARGEST_SVG
    chosen, other = (SVG, PNG) if small else (PNG, SVG)
    content = (source / chosen).read_bytes()
    with replacing(target / chosen) as temporary:
        temporary.write_bytes(content)
    (target / other).unlink(missing_ok=True)


def _body(
    runs: Sequence[dict[Path, StudyResult]], calibrations: dict[str, Calibration], folder: str
) -> str:
    every = [tuple(of_study.values()) for of_study in runs]
    results = [first for first, *_ in every]
    rows = [
        f"| [{result.name}]({folder}/{result.name}.md) | {TOPICS[result.name]} | "
        f"{_verdict(result)}{' (earlier rule)' if _outdated(result) else ''} | "
        f"{result.together or 'not known'} | {_larger_in_short(larger)} | "
        f"{_right(calibrations.get(result.name))} |"
        for result, *larger in every
    ]
    table = "\n".join(
        [
            "| study | question | verdict | all at once | larger runs "
            "| right, planted true and false |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )
    pages = "\n".join(f"{folder}/{result.name}" for result in results)
    tree = f"```{{toctree}}\n:hidden:\n\n{pages}\n```"
    measured = "\n".join(f"- {_text(machine)}" for machine in _machines(itertools.chain(*every)))
    minutes = sum(result.core_seconds for result in results) / 60
    cost = f"Processor time of the verdicts in the third column: {minutes:.0f} min of one core."
    return "\n\n".join([tally(results), table, tree, cost, f"Measured on:\n\n{measured}"])


def _machines(results: Iterable[StudyResult]) -> list[str]:
    """List the machines: each with its versions once, and all its commits."""
    commits: dict[str, dict[str, None]] = {}
    for result in results:
        versions = dict(result.machine.get("versions", {}))
        commit = versions.pop("commit", None) or "unknown"
        how = circumstances(replace(result, machine=result.machine | {"versions": versions}))
        commits.setdefault(f"{how['machine']}; {how['versions']}", {})[commit] = None
    return [f"{machine}; commits {', '.join(known)}" for machine, known in commits.items()]


def _right(found: Calibration | None) -> str:
    if found is None:
        return "not calibrated"
    numbers = (len(found.said_true), len(found.said_false))
    return ", ".join(f"{a} of {b}" for a, b in zip(found.right, numbers, strict=True))


def _planted(found: Calibration | None) -> str:
    if found is None:
        return "Not calibrated: the rule has not been tried where the answer is known."
    return f"{_right(found)} right. True: {found.true} False: {found.false}"


def _page(
    runs: dict[Path, StudyResult], copies: Path, calibration: Calibration | None, others: str
) -> str:
    (own, result), *larger = runs.items()
    at = _address(own, copies)
    return (
        "\n\n".join(
            [
                f"# {TOPICS[result.name]}",
                "A claim of the literature: what was predicted, how it was judged, and what came "
                f"out. [All studies](../{others}) says how far a verdict goes.",
                f"Verdict: {_verdict(result)}. {_text(result.finding.statement)}"
                f"{_outdated(result)}",
                *_tables(result),
                f"![Figure of the study {result.name}]({at}/{_picture(own)})",
                "\n".join(
                    f"- *{what}*: {_text(words)}"
                    for what, words in (
                        ("Claim", result.claim),
                        ("Source", result.source),
                        ("Prediction", result.prediction),
                        ("Protocol", result.protocol),
                        ("Rule", result.rule),
                        ("Planted", _planted(calibration)),
                        ("Changed", result.changed or _UNCHANGED),
                        ("Limits", LIMITS.get(result.name, "")),
                        ("Cost", _cost(result)),
                    )
                    if words
                ),
                f"```text\n{result.command}\n```",
                f"The numbers: {{download}}`{RESULT} <{at}/{RESULT}>`"
                + (", all measurements in it." if result.measurements else _WITHOUT),
                *(_larger(run, at, _address(at, copies)) for at, run in larger),
            ]
        )
        + "\n"
    )


def _larger_in_short(runs: Sequence[StudyResult]) -> str:
    return "; ".join(f"{label(run.settings)}: {_verdict(run)}" for run in runs) or "–"


def _larger(result: StudyResult, own: Path, at: str) -> str:
    """Write a larger run: its finding, cost, files and tables."""
    finding = (
        f"*Larger* ({label(result.settings)}): {_verdict(result)}. "
        f"{_text(result.finding.statement)}{_outdated(result)} "
        f"{_cost(result)}, `{result.command}`: {{download}}`{RESULT} <{at}/{RESULT}>`, "
        f"{{download}}`figure <{at}/{_picture(own)}>`."
    )
    return "\n\n".join([finding, *_tables(result)])


def _tables(result: StudyResult) -> list[str]:
    """Write the tables of a finding, each behind its title."""
    return [f"{_text(table.title)}:\n\n{_cells(table)}" for table in result.finding.tables]


def _cells(table: TextTable) -> str:
    rows = tuple(tuple(map(_text, row)) for row in table.rows)
    return replace(table, header=tuple(map(_text, table.header)), rows=rows).as_markdown()


def _address(own: Path, copies: Path) -> str:
    """Return the address of a run relative to the page of its study."""
    return own.relative_to(copies).as_posix()


def _picture(own: Path) -> str:
    return SVG if (own / SVG).is_file() else PNG


def _cost(result: StudyResult) -> str:
    how = circumstances(result)
    return f"{how['processor time']}, {how['cases']} cases"


def _outdated(result: StudyResult) -> str:
    """Say if the rule has changed since the result was judged."""
    if result.rule == study_named(result.name).rule:
        return ""
    return " *By an earlier rule: the study has another one now, and has not been run with it.*"


def _verdict(result: StudyResult) -> str:
    return f"**{result.finding.verdict}**"


def _text(words: str) -> str:
    """Escape text for Markdown; addresses become links."""
    parts = re.split(r"(https?://[^\s,;]+[^\s,;.)])", words)
    return "".join(
        f"<{part}>" if number % 2 else re.sub(r"([\\`*_{}\[\]<>#|$~])", r"\\\1", part)
        for number, part in enumerate(parts)
    )
