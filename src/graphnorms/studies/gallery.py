"""The gallery: one page with every claim, its verdict, its figure and the numbers."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from graphnorms.errors import GraphnormsError
from graphnorms.files import replacing
from graphnorms.report.templating import raw, template
from graphnorms.studies.study import VERDICTS, Verdict
from graphnorms.studies.study_list import LIMITS, NAMES, TOPICS
from graphnorms.studies.study_results import RESULT, SVG, StudyResult, label, load_runs


def write_gallery(path: Path, folder: Path) -> list[StudyResult]:
    """Write one self-contained page over all results in a folder.

    Of a study with several runs it shows the first in full, and the findings of the larger ones.

    Args:
        path: The page; an older one is replaced.
        folder: The folder of results.

    Raises:
        GraphnormsError: There is no result, or one is damaged.
        OSError: A file cannot be read or written.
    """
    found = load_runs(folder, NAMES)
    if not found:
        raise GraphnormsError(
            f"{folder} has no results (none such as {NAMES[0]}/{RESULT}); "
            "measure some with: graphnorms study all"
        )
    results = [next(iter(runs.values())) for runs in found]
    page = template("studies.html", {"label": label, "number": number}).render(
        css=Markup(raw("page.css") + raw("studies.css")),
        tally=tally(results),
        tiny=[result.name for result in results if result.settings.size == "tiny"],
        studies=[
            {
                "result": result,
                "topic": TOPICS.get(result.name, result.name),
                "larger": [run for _, run in larger],
                "limits": LIMITS.get(result.name, ""),
                "picture": _picture(own / SVG),
                "circumstances": circumstances(result),
            }
            for (own, result), *larger in (runs.items() for runs in found)
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return results


def tally(results: Sequence[StudyResult]) -> str:
    """Count the verdicts in words: of each study alone, and of all judged at once."""
    alone = _counted([result.finding.verdict for result in results])
    together = [result.together for result in results if result.together]
    text = f"Of {len(results)} claims {alone}."
    if len(together) == len(results):
        text += f" With intervals that hold for all {len(NAMES)} studies at once, "
        text += f"{_counted(together)}."
    return text


def _counted(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdicts)
    parts = [f"{counts[verdict]} {verdict}" for verdict in VERDICTS]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def number(value: float | None) -> str:
    """Write a number in four significant digits."""
    return "–" if value is None else f"{value:.4g}"


def circumstances(result: StudyResult) -> dict[str, str]:
    """Describe how a study was run."""
    settings, machine = result.settings, result.machine
    versions = {name: value for name, value in machine.get("versions", {}).items() if value}
    return {
        "size": settings.size,
        "seed": str(settings.seed),
        "data": "embedded or generated" if settings.data is None else str(settings.data),
        "cases": str(result.cases),
        "processor time": f"{result.core_seconds:.0f} s of one core",
        "measured": result.measured,
        "machine": f"{machine.get('device', 'unknown')}, {machine.get('cores', '?')} cores",
        "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
    }


def _picture(path: Path) -> str:
    """Return a figure as a data URL: an image can neither run nor load anything."""
    if not path.is_file():
        return ""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
