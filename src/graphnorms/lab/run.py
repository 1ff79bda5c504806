"""A run's folder: its settings, its journal and its report.

    runs/MUTAG-gin/
      config.json     the settings, and the code and data they were used with
      records.jsonl   one record per trial, see `graphnorms.lab.journal`
      judgement.json  what was found, to be read again, see `graphnorms.lab.judgement`
      report.html     the page, written when the run ends
      checkpoints/    of trials that have not ended, see `graphnorms.training.checkpoints`
      weights/        that trials keep

A folder belongs to one comparison: the same settings continue it, a larger one of the same kind
grows it, and others are refused, see `graphnorms.lab.run_changes`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from graphnorms.errors import GraphnormsError, RunExistsError
from graphnorms.files import replacing, sync_folder
from graphnorms.lab.journal import Journal, read_records
from graphnorms.lab.run_changes import Change, change_of

if TYPE_CHECKING:
    from graphnorms.lab.engines import Engine, OnProgress, Then
    from graphnorms.training import Record, TrialConfig
    from graphnorms.training.checkpoints import Checkpoints

RUNS = Path("runs")
CONFIG = "config.json"
RECORDS = "records.jsonl"
REPORT = "report.html"
_LONGEST_NAME = 100  # bytes; file systems take 255, and other names are made of this one


class Run:
    """The folder of one comparison, open for writing.

    Records of trials that are tried again (see `graphnorms.lab.engines.is_settled`) stay in the
    file, but not in `journal`: these trials have no outcome there. `changes` lists the changes to
    the run that was in the folder, in words.

    Args:
        folder: Where it lies; made when it does not exist.
        config: JSON-able data that defines the run. If it grows the run in the folder, it replaces
            the config there; the records stay.

    Raises:
        RunExistsError: The folder holds another run, something that is not a run, or a run that
            another process is working on.
        GraphnormsError: A file in the folder is damaged.
        OSError: The folder cannot be made or written.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        # As it will be when it is read back: tuples become lists.
        wanted: dict[str, Any] = json.loads(json.dumps(config))
        if folder.exists() and not folder.is_dir():
            raise RunExistsError(f"{folder} is a file, not a folder for a run")
        existing = _config_or_none(folder)
        if existing is None:
            self._require_empty()
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
            self._write(wanted)
        else:
            _changes(folder, existing, wanted)  # refused before anything is touched
        self.journal = Journal(folder / RECORDS)
        try:
            # Two processes may have created the folder at once: the one that holds the journal
            # reads the config again.
            existing = read_config(folder)
            self.changes = _changes(folder, existing, wanted, self.journal)
            if existing != wanted:
                self._write(wanted)
            for record in self.journal:
                if not _is_settled(record):
                    self.journal.forget(record.key)
        except BaseException:
            self.journal.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.journal.close()
        with suppress(OSError):  # there is none, or trials go on from what is in it
            self._checkpoints().path.parent.rmdir()

    def complete(
        self,
        engine: Engine,
        configs: Iterable[TrialConfig],
        on_progress: OnProgress | None = None,
        then: Then | None = None,
    ) -> Generator[Record, None, None]:
        """Run every trial that has no outcome yet, and those that follow from the outcomes.

        A record is on the disk before it is yielded. Earlier records are not yielded, but `then`
        gets them before any new one. It may get the same record, and return the same trial, more
        than once; its result must depend on the records alone, so that a run continues as it
        began.

        Args:
            engine: What runs them.
            configs: The trials that are known from the start.
            on_progress: Told how far the running trials are.
            then: Given the record of a trial, which `journal` already has, returns the trials that
                follow from it and from the other records.

        Raises:
            OSError: A record could not be written; what is running is stopped.
            GraphnormsError: There are no processes to run trials in.
        """
        with closing(engine.run(self._open(configs, then), on_progress, self._then(then))) as ended:
            for record in ended:
                kept = self.journal.append(record)
                if _is_settled(record):
                    self._checkpoints(record.key).remove()
                yield kept

    def _checkpoints(self, key: str = "") -> Checkpoints:
        # Imported here, as a list of runs needs no torch.
        from graphnorms.training.checkpoints import Checkpoints

        return Checkpoints(self.folder, key)

    def _write(self, config: Mapping[str, Any]) -> None:
        with replacing(self.folder / CONFIG) as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def _then(self, then: Then | None) -> Then | None:
        return None if then is None else lambda record: self._open(then(record), then)

    def _open(self, configs: Iterable[TrialConfig], then: Then | None) -> list[TrialConfig]:
        """Return the trials without an outcome, also among those that follow from outcomes."""
        waiting, seen, found = deque(configs), set[str](), []
        while waiting:
            config = waiting.popleft()
            if config.key in seen:
                continue
            seen.add(config.key)
            record = self.journal.get(config.key)
            if record is None:
                found.append(config)
            elif then is not None:
                waiting.extend(then(record))
        return found

    def _require_empty(self) -> None:
        foreign = [] if not self.folder.exists() else sorted(os.listdir(self.folder))
        # A process killed while it wrote its config has left only a hidden temporary file.
        if any(not name.startswith(".") for name in foreign):
            raise RunExistsError(
                f"{self.folder} is not empty and holds no run ({CONFIG} is missing); "
                f"choose another folder with --out"
            )


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The part of a planned run that a folder has already.

    Args:
        records: Outcomes that count, by key.
        change: How the plan changes the run in the folder.
    """

    records: Mapping[str, Record] = field(default_factory=dict)
    change: Change = field(default_factory=Change)


def standing(folder: Path, config: Mapping[str, Any]) -> Standing:
    """Find the part of a planned run that a folder has; nothing is locked or changed.

    Raises:
        GraphnormsError: A file in the folder is damaged.
        OSError: A file cannot be read.
    """
    existing = _config_or_none(folder)
    if existing is None:
        return Standing()
    records = []
    with suppress(FileNotFoundError):
        records = read_records(folder / RECORDS)
    change = change_of(folder, existing, json.loads(json.dumps(config)), records)
    kept = {} if change.refusal else {r.key: r for r in records if _is_settled(r)}
    return Standing(records=kept, change=change)


def _is_settled(record: Record) -> bool:
    # Imported here, as a list of runs has no use for engines.
    from graphnorms.lab.engines import is_settled

    return is_settled(record)


def _changes(
    folder: Path,
    there: Mapping[str, Any],
    here: Mapping[str, Any],
    records: Iterable[Record] = (),
) -> tuple[str, ...]:
    """Return the changes to the run in the folder, in words.

    Raises:
        RunExistsError: The run cannot be changed so.
    """
    change = change_of(folder, there, here, records)
    if change.refusal:
        raise RunExistsError(change.refusal)
    return change.words


def default_folder(
    dataset: str,
    model: str,
    preset: str = "default",
    protocol: str = "nested",
    vary: Sequence[str] = (),
) -> Path:
    """Return the default folder of a run: `runs/MUTAG-gin`.

    Args:
        dataset: Name of the data set; characters that are unsafe in a file name become `_`, and a
            name that is too long is cut and gets a hash.
        model: `"gin"` or `"gcn"`; empty if it is varied.
        preset, protocol: Named as well unless they are the defaults.
        vary: Options that are varied, named as well.
    """
    parts = [dataset, *filter(None, [model])]
    parts += [preset] if preset != "default" else []
    parts += [protocol] if protocol != "nested" else []
    parts += ["vary", *vary] if vary else []
    whole = "-".join(parts)
    name = re.sub(r"[^\w.-]+", "_", whole).lstrip(".")
    if len(name.encode()) > _LONGEST_NAME:
        digest = hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:8]
        start = name.encode()[:_LONGEST_NAME].decode(errors="ignore")
        name = f"{start}-{digest}"
    return RUNS / name


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config of the run in a folder.

    Raises:
        GraphnormsError: There is none, or it is not what `Run` wrote.
    """
    config = _config_or_none(folder)
    if config is None:
        raise GraphnormsError(f"{folder} holds no run ({CONFIG} is missing)")
    return config


def _config_or_none(folder: Path) -> dict[str, Any] | None:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise GraphnormsError(
            f"{path}: not the config of a run, the file is damaged; restore it, or begin a run in "
            "another folder"
        )
    return config
