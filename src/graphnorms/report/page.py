"""The report of a comparison: one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnorms.files import replacing
from graphnorms.lab import phrases
from graphnorms.lab.sentences import sentences
from graphnorms.lab.trials import pair_of
from graphnorms.lab.trivial import trivial_answer, trivial_name
from graphnorms.lab.verdict_phrases import goal, label, margin, near
from graphnorms.report.figures import MOST_PAIRS, figures_of
from graphnorms.report.style import CHANCE, display_name
from graphnorms.report.templating import charts, chunks, raw, template

if TYPE_CHECKING:
    from graphnorms.lab.verdict import Verdict
    from graphnorms.training.record import Record


def write_page(
    path: Path,
    records: Sequence[Record],
    verdict: Verdict,
    settings: Mapping[str, Any],
    command: str,
    *,
    live: str = "",
) -> None:
    """Write the report of a comparison.

    The page loads nothing: scripts, styles and figures are inside, and a content security policy
    forbids the rest. Equal arguments give equal bytes. The file appears under its name when it
    is complete.

    Args:
        path: Where the page goes; an older one is replaced.
        records: Outcomes of the comparison, in any order.
        verdict: What `graphnorms.lab.judge.judge` says of them.
        settings: Shown as given, the home folder as `~`; `dataset` and `model`, if there, also in
            the heading, without their folders.
        command: The command line that repeats the comparison.
        live: How far a run is that goes on; the page says it, and loads itself again.

    Raises:
        OSError: The file cannot be written.
    """
    page = render_page(records, verdict, settings, command, live=live)
    with replacing(path) as temporary:
        # Names and exceptions may hold lone surrogates, which UTF-8 cannot encode.
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def render_page(
    records: Sequence[Record],
    verdict: Verdict,
    settings: Mapping[str, Any],
    command: str,
    *,
    live: str = "",
) -> str:
    """Return the report as HTML; arguments as for `write_page`."""
    scale = verdict.scale
    filters = {
        "score": scale.number,
        "difference": lambda value: scale.number(value, signed=True),
        "share": lambda value: phrases.percent(value, 0),
        "seconds": phrases.seconds,
    }
    figures = figures_of(records, verdict)
    figures.pop("learning_curves_by_second", None)  # the page switches axes
    panels = {panel.name: panel for figure in figures.values() for panel in figure.panels}
    return template("page.html", filters).render(
        title=_title(settings, records),
        live=live,
        live_script=raw("live.js"),
        subtitle=_subtitle(settings, records, verdict),
        verdict=verdict,
        scale=scale,
        targets=list(dict.fromkeys(name for row in verdict.rows for name, _ in row.targets)),
        sentences=sentences(verdict, display_name),
        panels=panels,
        charts=charts(panels),
        css=raw("page.css"),
        labels={
            "score": label(verdict),
            "scores": scale.metric.title,
            "score_unit": scale.score_unit,
            "difference_unit": scale.difference_unit,
            "direction": scale.direction,
            "pairs": verdict.design.count(2).split()[1],
            "pair": verdict.design.count(1).split()[1],
            "goal": goal(verdict),
            "margin": margin(verdict),
            "near": near(verdict),
            "chance": trivial_answer(scale.metric),
            "line": CHANCE,
            "trivial": trivial_name(scale.metric),
            "adjusted": verdict.design.adjustment,
        },
        grouped=settings.get("group_twins", False),
        has_grid=any(row.sensitivity and row.sensitivity.judged for row in verdict.rows),
        pairs_left_out=len(verdict.differences) > MOST_PAIRS,
        settings=_flat(settings),
        environment=[*_flat(_agreed(record.environment for record in records)), *_cost(records)],
        command_parts=chunks(command),
    )


def _title(settings: Mapping[str, Any], records: Sequence[Record]) -> str:
    dataset = settings.get("dataset") or records[0].config.get("dataset")
    return phrases.dataset_title(str(dataset)) if dataset else "a data set"


def _subtitle(
    settings: Mapping[str, Any], records: Sequence[Record], verdict: Verdict
) -> list[str]:
    """Return the model and the size of the comparison, part by part."""
    config = records[0].config
    model = settings.get("model") or config.get("model")
    if isinstance(model, Mapping):
        model = model.get("name") or model.get("kind")
    parts = [phrases.model_title(str(model)) if model else "", _items(records)]
    pairs = {pair_of(record) for record in records if record.config["stage"] != "select"}
    folds = max((record.config["split"].get("folds", 0) for record in records), default=0)
    if verdict.design.by_fold:
        sizes = {"repeats": {seed for seed, _, _ in pairs}, "runs": {run for _, _, run in pairs}}
        times = [f" × {len(found)} {what}" for what, found in sizes.items() if len(found) > 1]
        parts.append(verdict.design.count(folds) + "".join(times))
    else:
        parts.append(f"{verdict.design.count(verdict.planned)} on one split")
    rates = {record.config["learning_rate"] for record in records}
    parts.append(f"{len(rates)} learning rates" if len(rates) > 1 else "")
    parts.append(f"{config['epochs']} epochs" if "epochs" in config else "")
    parts.append(f"{len(verdict.rows)} norms")
    return [part for part in parts if part]


def _items(records: Sequence[Record]) -> str:
    """Return the number of items of all parts of a split: `188 items`."""
    counts = [record.counts for record in records if record.counts.get("train_items")]
    if not counts:
        return ""
    parts = ("train_items", "validation_items", "test_items")
    return f"{max(sum(count.get(part, 0) for part in parts) for count in counts)} items"


def _agreed(items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge environments; a key with different values gets a list of them."""
    values: dict[str, list[Any]] = {}
    for item in items:
        for key, value in item.items():
            if value not in values.setdefault(key, []):
                values[key].append(value)
    return {key: found[0] if len(found) == 1 else found for key, found in values.items()}


def _cost(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Return the number of trials and the sum of their times."""
    failed = sum(record.status == "failed" for record in records)
    seconds = sum(record.timing.get("total") or 0.0 for record in records)
    count = f"{len(records)}{f', {failed} failed' if failed else ''}"
    return [("trials", count), ("time of all trials", _minutes(seconds))]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 100 else f"{phrases.seconds(seconds)} s"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """List settings as names and text; nested ones get dotted names."""
    lines: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            lines.append((f"{prefix}{key}", ", ".join(map(str, value))))
        else:
            lines.append((f"{prefix}{key}", "–" if value in (None, "") else str(value)))
    return lines
