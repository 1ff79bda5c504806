"""List the runs in a folder, with their progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnorms.errors import GraphnormsError
from graphnorms.lab.journal import read_records
from graphnorms.lab.run import CONFIG, RECORDS, read_config
from graphnorms.lab.settings import Settings

if TYPE_CHECKING:
    from graphnorms.training import Record


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One folder in a list of runs.

    Args:
        folder: Where it lies.
        problem: Why the run cannot be read, on one line; empty if it can. The other fields then
            have what is known.
        dataset, model, protocol, budget: From the config, or empty.
        norms: Normalizations as text, or treatments.
        planned: Trials that the run has when it is complete, if that is known.
        done, failed: Trials with an outcome.
        written: When a record was last added, or the run was begun; in UTC.
    """

    folder: Path
    problem: str = ""
    dataset: str = ""
    model: str = ""
    protocol: str = ""
    budget: str = ""
    norms: tuple[str, ...] = ()
    planned: int | None = None
    done: int = 0
    failed: int = 0
    written: datetime | None = None

    @property
    def complete(self) -> bool:
        """Whether every trial that was planned has an outcome."""
        return self.planned is not None and self.done + self.failed >= self.planned

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return asdict(self) | {
            "folder": str(self.folder),
            "norms": list(self.norms),
            "complete": self.complete,
            "written": None if self.written is None else self.written.isoformat(timespec="seconds"),
        }


def list_runs(folder: Path) -> list[RunSummary]:
    """Look at every folder in a folder, or at itself if it is a run; the latest comes first.

    A folder that is damaged, or holds no run, is listed with its problem. Files and hidden folders
    are skipped. Nothing is locked or changed, so runs may be in progress.

    Raises:
        GraphnormsError: There is no such folder.
    """
    if not folder.is_dir():
        raise GraphnormsError(f"no runs: there is no folder {folder}")
    if (folder / CONFIG).is_file():
        return [summarize(folder)]
    inside = [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()]
    never = datetime.min.replace(tzinfo=UTC)
    found = [summarize(path) for path in sorted(inside)]
    return sorted(found, key=lambda run: run.written or never, reverse=True)


def summarize(folder: Path) -> RunSummary:
    """Summarize one folder; an error becomes its `problem`."""
    try:
        config = read_config(folder)
    except (GraphnormsError, OSError) as error:
        return RunSummary(folder=folder, problem=_one_line(error, folder))
    planned, problem, treatments, models = None, "", None, ""
    try:
        settings = Settings.from_dict(config)
        planned, treatments = settings.planned, tuple(settings.treatments)
        models = "/".join(settings.vary.get("model", []))
    except ValueError as error:
        if Settings.required() <= config.keys():  # else it is of another version
            problem = f"{CONFIG}: {error}; the file is damaged"
    known = {name: _text(config.get(name)) for name in ("dataset", "model", "protocol", "budget")}
    norms = config.get("norms")
    summary: dict[str, Any] = {
        **known,
        "model": models or known["model"],
        "folder": folder,
        "norms": treatments or (tuple(map(_text, norms)) if isinstance(norms, list) else ()),
        "planned": planned,
        "problem": problem,
        "written": _written(folder),
    }
    try:
        records = _records(folder)
    except (GraphnormsError, OSError) as error:
        return RunSummary(**summary | {"problem": problem or _one_line(error, folder)})
    tests = tests_among(records)
    records = [record for record in records if record.key not in tests]
    done = sum(record.status == "done" for record in records)
    return RunSummary(**summary, done=done, failed=len(records) - done)


def open_run(folder: Path) -> tuple[dict[str, Any], list[Record]]:
    """Read a run's config and records, also while it is going on.

    Returns:
        What `Run` was given, and one record per trial that has an outcome: none if the run was
        ended before its first.

    Raises:
        GraphnormsError: The folder holds no run, or a file in it is damaged.
        OSError: A file cannot be read.
    """
    return read_config(folder), _records(folder)


def tests_among(records: Iterable[Record]) -> dict[str, Record]:
    """Return the trials that test reasons, which no verdict depends on, by key."""
    return {record.key: record for record in records if record.config.get("intervention")}


def _records(folder: Path) -> list[Record]:
    try:
        return read_records(folder / RECORDS)
    except FileNotFoundError:
        return []


def settings_of(config: Mapping[str, Any], folder: Path) -> Settings:
    """Read and check the settings in a run's config.

    Raises:
        GraphnormsError: Something is missing, or not of its type.
    """
    try:
        for name in ("fingerprint", "graphnorms_version", "torch_version"):
            if not isinstance(config.get(name), str):
                raise ValueError(f"{name!r} is missing, or no text")
        for name, kind in (("reading", dict), ("in_memory", bool), ("model_in_memory", bool)):
            if not isinstance(config.get(name, kind()), kind):
                raise ValueError(f"{name!r} is {config[name]!r:.100}")
        return Settings.from_dict(dict(config))
    except ValueError as error:
        raise GraphnormsError(
            f"{folder / CONFIG}: {error}; the file is damaged, or of another version"
        ) from None


def _written(folder: Path) -> datetime | None:
    for name in (RECORDS, CONFIG):
        try:
            return datetime.fromtimestamp((folder / name).stat().st_mtime, UTC)
        except OSError:
            continue
    return None


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _one_line(error: Exception, folder: Path) -> str:
    """Return the message without the folder, which the summary names already."""
    if isinstance(error, OSError):
        return f"{Path(error.filename or folder).name}: {error.strerror or error}"
    return str(error).removeprefix(f"{folder}/").removeprefix(f"{folder} ")
