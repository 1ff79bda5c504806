"""Results of studies: one file of data, and the figure beside it.

studies/landscape/
  measurements.jsonl   one checked line per case, added the moment it is measured
  result.json          the texts, the settings, the measurements, the finding, the machine
  figure.svg, figure.png
  full/, data/, full-data/   the same files of a run with --full, with --data, or with both
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from graphnorms.errors import GraphnormsError
from graphnorms.files import replacing
from graphnorms.report.text_table import TextTable
from graphnorms.studies.study import (
    SIZES,
    VERDICTS,
    Finding,
    Measurement,
    Settings,
    Study,
    Verdict,
)
from graphnorms.studies.study_list import NAMES

STUDIES: Final = Path("studies")
"""The default folder of results."""

MEASUREMENTS: Final = "measurements.jsonl"
RESULT: Final = "result.json"
SVG: Final = "figure.svg"
PNG: Final = "figure.png"
_KINDS: Final = ("", "data", "full", "full-data")  # see `own_folder`
_TEXTS: Final = ("name", "claim", "source", "prediction", "protocol", "rule", "changed")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """The outcome of a study.

    Args:
        name, claim, source, prediction, protocol, rule, changed: Texts of the study when it was
            judged.
        settings: How it was run.
        finding: The outcome.
        measurements: What it was judged by; empty in a copy that leaves them out.
        cases: Number of cases.
        machine: Where it was measured, see `graphnorms.bench.machine.describe`.
        command: The command that repeats it.
        measured: When the last case was measured, ISO 8601 in UTC.
        core_seconds: Processor time of all cases.
        source_hash: Hash of the code that measured, see `graphnorms.studies.runner.source_hash`.
        together: The verdict if all studies are judged at once, see `Settings.together`; `None`
            if unknown.
    """

    name: str
    claim: str
    source: str
    prediction: str
    protocol: str
    rule: str
    settings: Settings
    finding: Finding
    measurements: tuple[Measurement, ...]
    cases: int
    machine: dict[str, Any]
    command: str
    measured: str
    core_seconds: float
    source_hash: str
    changed: str = ""
    together: Verdict | None = None

    def __post_init__(self) -> None:
        known = {
            name: value if value is not None and math.isfinite(value) else None
            for name, value in self.finding.numbers.items()
        }
        object.__setattr__(self, "finding", replace(self.finding, numbers=known))

    def judged(self, study: Study) -> Self:
        """Return the result as the present study judges the same measurements.

        Raises:
            GraphnormsError: The measurements were left out of this copy.
        """
        if not self.measurements:
            raise GraphnormsError(
                f"the result of {self.name} has no measurements in it, they were left out of this "
                f"copy; measure again with: graphnorms study {self.name}"
            )
        return replace(self, **judgement(study, self.measurements, self.settings), **texts(study))

    def to_json(self) -> str:
        """Return the result as JSON, a measurement on a line."""
        data = asdict(self)
        measurements = data.pop("measurements")
        data["settings"]["data"] = None if self.settings.data is None else str(self.settings.data)
        head = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        lines = [json.dumps(each, separators=(",", ":"), allow_nan=False) for each in measurements]
        body = ",\n    ".join(lines)
        listed = f"[\n    {body}\n  ]" if lines else "[]"
        return f'{head[:-2]},\n  "measurements": {listed}\n}}\n'

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is not JSON, or not a result.
        """
        data = json.loads(text)
        try:
            settings, finding = data.pop("settings"), data.pop("finding")
            folder = settings.pop("data")
            data["settings"] = Settings(**settings, data=None if folder is None else Path(folder))
            tables = [TextTable(**each) for each in _tuples(finding.pop("tables", []))]
            data["finding"] = Finding(**finding, tables=tuple(tables))
            data["measurements"] = tuple(Measurement(**each) for each in data["measurements"])
            result = cls(**data)
        except (TypeError, KeyError, AttributeError):
            raise ValueError("not the result of a study") from None
        if result.finding.verdict not in VERDICTS or result.settings.size not in SIZES:
            raise ValueError("not the result of a study: its verdict or size is unknown")
        return result


def _tuples(value: Any) -> Any:
    """Return what JSON made a list as a tuple, at every depth."""
    if isinstance(value, dict):
        return {key: _tuples(each) for key, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def judgement(
    study: Study, measurements: tuple[Measurement, ...], settings: Settings
) -> dict[str, Any]:
    """Judge measurements, alone and as one of all studies."""
    among = settings.together(len(NAMES))
    return {
        "finding": study.judge(measurements, settings),
        "together": study.judge(measurements, among).verdict,
    }


def texts(study: Study) -> dict[str, Any]:
    """Return the texts of a study that a result keeps."""
    return {name: getattr(study, name) for name in _TEXTS}


def own_folder(folder: Path, settings: Settings) -> Path:
    """Return the folder of a run: one with --full or --data does not replace the default run."""
    full, data = settings.size == "full", settings.data is not None
    return folder / "-".join(word for word, given in (("full", full), ("data", data)) if given)


def label(settings: Settings) -> str:
    """Name the options of a run; the default run has the empty name."""
    size = [] if settings.size == "default" else [settings.size]
    return ", ".join(size + ([] if settings.data is None else ["data"]))


def save(result: StudyResult, folder: Path) -> None:
    """Write a result in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / RESULT) as temporary:
        temporary.write_text(result.to_json(), encoding="utf-8")


def load(folder: Path) -> StudyResult:
    """Read the result in a study's folder.

    Raises:
        FileNotFoundError: There is none.
        GraphnormsError: The file is not a result.
    """
    path = folder / RESULT
    try:
        return StudyResult.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GraphnormsError(f"{path}: not the result of a study ({error})") from None


def load_runs(folder: Path, names: tuple[str, ...]) -> list[dict[Path, StudyResult]]:
    """Read the runs of these studies by folder: that of the default size first, then larger ones.

    A study that has no run is left out.
    """
    runs = [
        {own: load(own) for own in (folder / name / kind for kind in _KINDS) if _has_result(own)}
        for name in names
    ]
    return [of_study for of_study in runs if of_study]


def _has_result(folder: Path) -> bool:
    return (folder / RESULT).is_file()
