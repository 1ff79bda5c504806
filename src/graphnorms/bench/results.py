"""Result files: one per benchmark, device and version, written whole and never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from graphnorms.bench.machine import slug
from graphnorms.errors import GraphnormsError
from graphnorms.files import replacing

FORMAT: Final = 1
FOLDER: Final = Path("benchmarks/results")


class ResultExistsError(GraphnormsError):
    """A result of that name is there already."""


@dataclass(frozen=True)
class Case:
    """Measurements of several contenders on the same problem.

    Args:
        title: Shape, dtype, threads and so on in words.
        labels: The same as data.
        unit: `"seconds"`, `"bytes"`, or `"costs"`: seconds and the bytes of a process.
        values: The quantities measured, e.g. minimum and median, by contender.
        baselines: The contenders by which the others are divided.
        elements: Entries of the features, for costs per element; 0 if that has no meaning.
    """

    title: str
    labels: Mapping[str, Any]
    unit: str
    values: Mapping[str, Mapping[str, float]]
    baselines: tuple[str, ...] = ()
    elements: int = 0


@dataclass(frozen=True)
class Result:
    """One run of one benchmark.

    Args:
        benchmark: Its name.
        command: The command that repeats it.
        taken: When the run ended, ISO 8601 in UTC.
        machine: See `graphnorms.bench.machine.describe`.
        settings: See `graphnorms.bench.bench_settings.Settings`.
        cases: What was measured.
        checks: The checks of the numbers; a note names those that failed.
        notes: What was left out, and why.
    """

    benchmark: str
    command: str
    taken: str
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    cases: tuple[Case, ...]
    checks: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    format: int = field(default=FORMAT)

    @property
    def path(self) -> Path:
        """Path of the result below the folder of results."""
        version = self.machine["versions"]["graphnorms"]
        return Path(slug(self.machine["device"])) / f"{self.benchmark}-{version}.json"

    def to_json(self) -> str:
        """Return the text of the file."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def require_free(path: Path, *, force: bool) -> None:
    """Refuse an existing path before anything is measured.

    Raises:
        ResultExistsError: There is one, and `force` is not set.
    """
    if path.exists() and not force:
        raise ResultExistsError(
            f"{path} exists, and results are not changed; give another --out, or --force"
        )


def save(result: Result, path: Path, *, force: bool = False) -> None:
    """Write a result in one step.

    Raises:
        ResultExistsError: There is one already, and `force` is not set.
        OSError: It cannot be written.
    """
    require_free(path, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(result.to_json(), encoding="utf-8")


def read(path: Path) -> Result:
    """Read a result file.

    Raises:
        GraphnormsError: It is not one.
        OSError: It cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise GraphnormsError(f"{path}: of format {data['format']}, expected {FORMAT}")
        cases = tuple(
            Case(**{**case, "baselines": tuple(case["baselines"])}) for case in data.pop("cases")
        )
        checks, notes = tuple(data.pop("checks")), tuple(data.pop("notes"))
        return Result(**data, cases=cases, checks=checks, notes=notes)
    except (ValueError, KeyError, TypeError):
        raise GraphnormsError(f"{path}: not a result of `graphnorms bench`") from None


def read_all(folder: Path) -> list[tuple[Path, Result]]:
    """Read the results in the device folders below a folder, by path."""
    return [(path, read(path)) for path in sorted(folder.glob("*/*.json"))]
