"""The report: one HTML file that shows a comparison, and needs nothing but itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bokeh.document import Document
from bokeh.plotting import figure
from bokeh.resources import Resources
from markupsafe import Markup

from graphnorms.files import replacing
from graphnorms.lab import phrases, speed
from graphnorms.lab.sentences import goal, label, margin, near, sentences
from graphnorms.lab.trials import group_trials, pair_of
from graphnorms.lab.trivial import trivial_answer, trivial_name
from graphnorms.report import curves, figures
from graphnorms.report.layout import MOST_PAIRS
from graphnorms.report.style import display_name
from graphnorms.report.swatch import CHANCE
from graphnorms.report.templating import chunks, raw, template

if TYPE_CHECKING:
    from graphnorms.lab.verdict import Verdict
    from graphnorms.training.record import Record


def write_page(
    path: Path,
    records: Sequence[Record],
    verdict: Verdict,
    settings: Mapping[str, Any],
    command: str,
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

    Raises:
        OSError: The file cannot be written.
    """
    page = render_page(records, verdict, settings, command)
    with replacing(path) as temporary:
        # A name or an exception may hold what no encoding knows.
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def render_page(
    records: Sequence[Record], verdict: Verdict, settings: Mapping[str, Any], command: str
) -> str:
    """Return the report as HTML; arguments as for `write_page`."""
    scale = verdict.scale
    filters = {
        "score": scale.number,
        "difference": lambda value: scale.number(value, signed=True),
        "share": lambda value: phrases.percent(value, 0),
        "seconds": phrases.seconds,
    }
    plots = _figures(records, verdict)
    return template("page.html", filters).render(
        title=_title(settings, records),
        subtitle=_subtitle(settings, records, verdict),
        verdict=verdict,
        scale=scale,
        targets=list(dict.fromkeys(name for row in verdict.rows for name, _ in row.targets)),
        sentences=sentences(verdict, display_name),
        figures=plots,
        alternatives=_alternatives(verdict),
        embedded=_script_safe(_embed(plots)),
        bokeh=_bokeh(),
        css=raw("page.css"),
        script=raw("page.js"),
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
        environment=[
            *_flat(_agreed(record.environment for record in records)),
            *_cost(records),
        ],
        command=chunks(command),
    )


def _figures(records: Sequence[Record], verdict: Verdict) -> dict[str, figure]:
    trials = group_trials(records, [row.norm for row in verdict.rows], protocol=verdict.protocol)
    plots: dict[str, figure] = {}
    if verdict.best is None:
        return plots
    plots |= curves.learning_curves(trials, verdict)
    plots["score_by_pair"] = figures.score_by_pair(trials, verdict)
    if verdict.differences:
        plots["difference_by_pair"] = figures.difference_by_pair(trials, verdict)
    if verdict.target is not None:
        times = speed.times_to_target(trials, verdict.target)
        plots["steps_to_target"] = figures.time_to_target(times, verdict, "steps")
        plots["seconds_to_target"] = figures.time_to_target(times, verdict, "seconds")
    if verdict.differences:
        plots["pairwise_score"] = figures.pairwise_score(verdict)
    if verdict.speed_differences:
        plots["pairwise_speed"] = figures.pairwise_speed(verdict)
    if any(row.sensitivity is not None and row.sensitivity.judged for row in verdict.rows):
        plots["rate_sensitivity"] = curves.rate_sensitivity(verdict)
    return plots


def _alternatives(verdict: Verdict) -> dict[str, str]:
    """Say in words what each figure shows, for those who do not see it."""
    norms = phrases.listing(display_name(row.norm) for row in verdict.rows)
    title, best = verdict.scale.metric.title, display_name(verdict.best or "")
    level = "" if verdict.trivial is None else f"; chance is {verdict.scale.score(verdict.trivial)}"
    of_norms = f"one line for each of {norms}"
    rows = f"one row for each of {norms}, the best first"
    return {
        "train_score": f"Training {title} by epoch, {of_norms}",
        "validation_score": f"Validation {title} by epoch, {of_norms}",
        "train_loss": f"Training loss by epoch, {of_norms}",
        "validation_loss": f"Validation loss by epoch, {of_norms}",
        "score_by_pair": f"{label(verdict)} of every trial and mean, {rows}{level}",
        "difference_by_pair": f"Difference of every trial to that of {best}, {rows}",
        "rate_sensitivity": f"Validation {title} by learning rate, {of_norms}",
        "steps_to_target": f"Optimizer steps to the target, a point per trial, {rows}",
        "seconds_to_target": f"Seconds to the target, a point per trial, {rows}",
        "pairwise_score": f"Differences in {title} of all pairs, with 95% intervals",
        "pairwise_speed": "Ratios of the steps to the target of all pairs, with 95% intervals",
    }


def _embed(plots: Mapping[str, figure]) -> str:
    """Serialize figures as one Bokeh document and the place of each of its roots."""
    document = Document(title="graphnorms")
    for plot in plots.values():
        document.add_root(plot)
    text = json.dumps(
        {
            "document": document.to_json(deferred=False),
            "roots": [{"id": plot.id, "place": name} for name, plot in plots.items()],
        },
        separators=(",", ":"),
    )
    return _renumbered(text)


def _renumbered(text: str) -> str:
    """Count Bokeh's identifiers from 1 in each page; Bokeh counts through the whole process."""
    places: dict[str, int] = {}

    def place(match: re.Match[str]) -> str:
        return f'"id":"p{places.setdefault(match[1], len(places) + 1)}"'

    # Inside a JSON string the quotes would be escaped, so that only real keys match.
    return re.sub(r'"id":"(p\d+)"', place, text)


def _bokeh() -> Markup:
    """Return BokehJS without widgets, tables and mathematics, which the figures do not use."""
    scripts = Resources(mode="inline", components=["bokeh"], minified=True).js_raw
    return Markup("\n".join(scripts).replace("</script", "<\\/script"))


def _script_safe(text: str) -> Markup:
    """Let JSON stand in a script element, where `</script>` and `<!--` would end it."""
    return Markup(text.replace("<", "\\u003c"))


def _title(settings: Mapping[str, Any], records: Sequence[Record]) -> str:
    dataset = settings.get("dataset") or records[0].config.get("dataset")
    return phrases.dataset_title(str(dataset)) if dataset else "a data set"


def _subtitle(
    settings: Mapping[str, Any], records: Sequence[Record], verdict: Verdict
) -> list[str]:
    """Say in a few words what was compared: the model, and the size of the comparison."""
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
    """Say how many items there are, with those that test: `188 items, 19 tested at a time`."""
    counts = [record.counts for record in records if record.counts.get("train_items")]
    if not counts:
        return ""
    parts = ("train_items", "validation_items", "test_items")
    return f"{max(sum(count.get(part, 0) for part in parts) for count in counts)} items"


def _agreed(items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge environments; where they differ, all values are kept."""
    values: dict[str, list[Any]] = {}
    for item in items:
        for key, value in item.items():
            if value not in values.setdefault(key, []):
                values[key].append(value)
    return {key: found[0] if len(found) == 1 else found for key, found in values.items()}


def _cost(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Say how many trials there are and how long they took, one after the other."""
    failed = sum(record.status == "failed" for record in records)
    seconds = sum(record.timing.get("total") or 0.0 for record in records)
    count = f"{len(records)}{f', {failed} failed' if failed else ''}"
    return [("trials", count), ("time of all trials", _minutes(seconds))]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 100 else f"{phrases.seconds(seconds)} s"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """List settings as names and text, those inside others with a dotted name."""
    lines: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            lines.append((f"{prefix}{key}", ", ".join(map(str, value))))
        else:
            lines.append((f"{prefix}{key}", "–" if value in (None, "") else str(value)))
    return lines
