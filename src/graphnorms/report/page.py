"""The report of a comparison: one HTML file that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphnorms.files import replacing
from graphnorms.lab import phrases
from graphnorms.lab.number_format import Scale
from graphnorms.lab.paired_tests import MOST_PAIRS
from graphnorms.lab.sentences import sentences
from graphnorms.lab.trivial import trivial_answer, trivial_name
from graphnorms.lab.verdict_phrases import goal, label, margin, near, rates_noun
from graphnorms.report.figures import figures_of
from graphnorms.report.style import CHANCE, display_name
from graphnorms.report.templating import charts, chunks, raw, template
from graphnorms.training.metrics import metric_named

if TYPE_CHECKING:
    from graphnorms.lab.statistics import Estimate
    from graphnorms.lab.trials import Trials
    from graphnorms.lab.verdict import Verdict
    from graphnorms.report.chart import Panel
    from graphnorms.training.metrics import Metric


_ARCHITECTURES: Final = "architectures"
"""A setting that the page leaves out: those of treatments, which `vary` and `architecture` say."""


def write_page(
    path: Path,
    trials: Trials,
    verdict: Verdict,
    settings: Mapping[str, Any],
    command: str,
    *,
    live: str = "",
    why: Sequence[str] = (),
) -> None:
    """Write the report of a comparison.

    The page loads nothing: scripts, styles and figures are inside, and a content security policy
    forbids the rest. Equal arguments give equal bytes. The file appears under its name when it
    is complete.

    Args:
        path: Where the page goes; an older one is replaced.
        trials: Those of the comparison.
        verdict: What `graphnorms.lab.judge.judge` says of them.
        settings: Shown as given, the home folder as `~`; `dataset` and `model`, if there, also in
            the heading, without their folders.
        command: The command line that repeats the comparison.
        live: How far a run is that goes on; the page says it, and loads itself again.
        why: Why norms differ, in paragraphs: on the whole, and one for each reason.

    Raises:
        OSError: The file cannot be written.
    """
    page = render_page(trials, verdict, settings, command, live=live, why=why)
    with replacing(path) as temporary:
        # Names and exceptions may hold lone surrogates, which UTF-8 cannot encode.
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def render_page(
    trials: Trials,
    verdict: Verdict,
    settings: Mapping[str, Any],
    command: str,
    *,
    live: str = "",
    why: Sequence[str] = (),
) -> str:
    """Return the report as HTML; arguments as for `write_page`."""
    figures = figures_of(trials, verdict)
    figures.pop("learning_curves_by_second", None)  # the page switches axes
    return render_verdict(
        verdict,
        [panel for figure in figures.values() for panel in figure.panels],
        kicker="graphnorms compare",
        title=f"{_compared(verdict)} on {_title(settings, trials)}",
        subtitle=_subtitle(settings, trials, verdict),
        grouped=settings.get("group_twins", False),
        searched=_searched(settings) if verdict.searched else {},
        settings=_flat({name: value for name, value in settings.items() if name != _ARCHITECTURES}),
        environment=[*_flat(trials.environment), *_cost(trials)],
        command=command,
        live=live,
        why=why,
    )


def render_verdict(
    verdict: Verdict,
    panels: Sequence[Panel],
    *,
    command: str,
    notes: Sequence[str] = (),
    live: str = "",
    why: Sequence[str] = (),
    environment: Sequence[tuple[str, str]] = (),
    **about: Any,
) -> str:
    """Return the page of a verdict.

    Args:
        verdict: What was found.
        panels: The figures.
        command: The command line that repeats it.
        notes: Paragraphs below the verdict: how a table was read.
        live: How far a run is that goes on.
        why: Why norms differ, see `write_page`.
        environment: Versions and machine.
        about: `kicker`, `title`, `subtitle` (its parts), `settings` (names and texts), and
            `grouped`, whether twins are in one fold, and `searched`, what options were searched
            among, by their names.
    """
    scale = verdict.scale
    filters = {
        "score": scale.number,
        "difference": lambda value: scale.number(value, signed=True),
        "share": lambda value: phrases.percent(value, 0),
        "seconds": phrases.seconds,
    }
    by_name = {panel.name: panel for panel in panels}
    return template("page.html", filters).render(
        **{"grouped": False, "searched": {}} | about,
        live=live,
        live_script=raw("live.js"),
        verdict=verdict,
        notes=notes,
        why=why,
        scale=scale,
        others=_others(verdict),
        beside=_others(verdict, verdict.scale.metric.companion),
        targets=_targets(verdict),
        sentences=sentences(verdict, display_name),
        panels=by_name,
        charts=charts(by_name),
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
            "of_target": _of_target(scale.metric),
        },
        rates_noun=rates_noun(verdict),
        has_grid=any(row.sensitivity and row.sensitivity.judged for row in verdict.rows),
        pairs_left_out=len(verdict.differences) > MOST_PAIRS,
        environment=environment,
        command_parts=chunks(command),
    )


def _searched(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return what the options were searched among, the learning rate first."""
    rates: Sequence[float] = settings.get("learning_rates") or ()
    ends = {"learning_rate": f"{rates[0]:g}:{rates[-1]:g}"} if len(rates) > 1 else {}
    return ends | dict(settings.get("search") or {})


def _compared(verdict: Verdict) -> str:
    return "Normalizations" if verdict.noun == "norm" else "Treatments"


def _others(
    verdict: Verdict, only: str | None = None
) -> list[tuple[str, str, dict[str, tuple[str, str]]]]:
    """Return title, unit, and by norm mean and interval of every metric that is not judged.

    Args:
        verdict: What was found.
        only: The name of one metric; None for all.
    """
    every = dict.fromkeys(name for row in verdict.rows for name, _ in row.others)
    names = [name for name in every if only in (None, name)]
    found = []
    for name in names:
        known = {row.norm: one for row in verdict.rows if (one := dict(row.others).get(name))}
        first = next(iter(known.values()))
        scale = Scale.fitting(metric_named(name), first.mean, verdict.scale.unit)
        written = {
            norm: (scale.number(one.mean), _interval(one, scale)) for norm, one in known.items()
        }
        way = "" if scale.metric.higher_is_better else "lower is better"
        unit = ", ".join(filter(None, (scale.score_unit, way)))
        found.append((scale.metric.title, unit, written))
    return found


def _interval(estimate: Estimate, scale: Scale) -> str:
    known = not math.isnan(estimate.low)
    return f"{scale.number(estimate.low)} to {scale.number(estimate.high)}" if known else ""


def _targets(verdict: Verdict) -> dict[str, dict[str, str]]:
    """Return by target and norm the mean score, as it is written."""
    scale, found = verdict.scale, dict[str, dict[str, str]]()
    for row in verdict.rows:
        for target, score in row.targets:
            written = f"{score:.3g}" if scale.metric.standardized else scale.number(score)
            found.setdefault(target, {})[row.norm] = written
    return found


def _of_target(metric: Metric) -> str:
    """Say what is known of each target: `ROC-AUC`, `Accuracy`; of a standardized metric `MAE`."""
    title = metric.name.removeprefix("std_").upper() if metric.standardized else metric.title
    return f"{title[0].upper()}{title[1:]}"


def _title(settings: Mapping[str, Any], trials: Trials) -> str:
    dataset = settings.get("dataset") or trials.every[0].config.get("dataset")
    return phrases.dataset_title(str(dataset)) if dataset else "a data set"


def _subtitle(settings: Mapping[str, Any], trials: Trials, verdict: Verdict) -> list[str]:
    """Return the model and the size of the comparison, part by part."""
    config, items, rates = trials.every[0].config, trials.item_count, len(trials.learning_rates)
    model = settings.get("model") or config.get("model")
    if isinstance(model, Mapping):
        model = model.get("name") or model.get("kind")
    models = (settings.get("vary") or {}).get("model") or [model or ""]
    parts = [
        "/".join(phrases.model_title(str(name)) for name in models),
        f"{items} items" if items else "",
    ]
    if verdict.design.by_fold:
        sizes = {"repeats": trials.repeats, "runs": trials.runs}
        times = [f" × {size} {what}" for what, size in sizes.items() if size > 1]
        parts.append(verdict.design.count(trials.folds) + "".join(times))
    else:
        parts.append(f"{verdict.design.count(verdict.planned)} on one split")
    if verdict.searched and "proposals" in settings:
        parts.append(f"{settings['proposals']} proposals")
    else:
        parts.append(f"{rates} learning rates" if rates > 1 else "")
    parts.append(f"{config['epochs']} epochs" if "epochs" in config else "")
    parts.append(f"{len(verdict.rows)} {verdict.noun}s")
    return [part for part in parts if part]


def _cost(trials: Trials) -> list[tuple[str, str]]:
    """Return the number of trials and the sum of their times."""
    failed = f", {trials.failures} failed" if trials.failures else ""
    return [
        ("trials", f"{len(trials.every)}{failed}"),
        ("time of all trials", _minutes(trials.total_seconds)),
    ]


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
