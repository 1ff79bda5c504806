"""Running a study: cases in worker processes, each kept the moment it is measured.

The processes and the journal are those of the lab: a case is a trial whose config is the study,
the settings, the case and a hash of the code. A config that is in the journal is not measured
again: an interrupted study resumes, and one whose code has changed starts anew.
"""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from graphnorms.errors import GraphnormsError
from graphnorms.interrupts import how_ended
from graphnorms.lab.engines import make_engine
from graphnorms.lab.journal import Journal
from graphnorms.studies.drawing import drawn, write
from graphnorms.studies.study import Case, Measurement, Settings, Study, measure_case
from graphnorms.studies.study_results import (
    MEASUREMENTS,
    RESULT,
    SVG,
    StudyResult,
    judgement,
    load,
    save,
    texts,
)

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a study is.

    Args:
        study: The name of the study.
        done: Cases measured so far, by this run and earlier ones.
        total: Number of cases.
        kept: Cases that earlier runs measured.
        elapsed: Seconds since this run began.
        case: The case measured last; `None` at the start.
        seconds: How long that case took.
    """

    study: str
    done: int
    total: int
    kept: int
    elapsed: float
    case: Case | None = None
    seconds: float = 0.0

    @property
    def remaining(self) -> float | None:
        """Estimated seconds left; `None` before the first case of this run."""
        new = self.done - self.kept
        return (self.total - self.done) * self.elapsed / new if new else None


class StudyInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a study.

    Args:
        message: Says how to resume.
        code: The exit code for the command line.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class CaseConfig:
    """What defines one measurement; the content hash is its key in the journal."""

    study: str
    case: Case
    size: str
    seed: int
    data: str | None
    source_hash: str
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-able data."""
        return asdict(self)

    @cached_property
    def key(self) -> str:
        """The content hash."""
        from graphnorms.training.trial_config import content_hash

        return content_hash(self.to_dict())


def run_study(
    study: Study,
    settings: Settings,
    folder: Path,
    *,
    workers: int,
    command: str,
    on_progress: Callable[[Progress], None] | None = None,
) -> StudyResult:
    """Measure the missing cases, judge, draw, and write the result.

    Args:
        study: The study.
        settings: How to run it.
        folder: The folder of the study; created if missing.
        workers: Number of worker processes; 0 measures in this process.
        command: The command to note in the result.
        on_progress: Called at the start and after every case.

    Raises:
        GraphnormsError: A case failed, or the journal is damaged.
        RunExistsError: Another process is measuring this study.
        StudyInterrupted: Ctrl-C.
        OSError: The folder cannot be written.
    """
    from graphnorms.bench.machine import describe

    records = _measure(study, settings, folder, workers, on_progress or (lambda progress: None))
    measurements = tuple(Measurement(r.config["case"], r.outcome) for r in records)
    result = StudyResult(
        **texts(study),
        settings=settings,
        **judgement(study, measurements, settings),
        measurements=measurements,
        cases=len(measurements),
        machine=describe("cpu"),
        command=command,
        measured=max(record.environment["ended"] for record in records),
        core_seconds=round(sum(record.timing["total"] for record in records), 2),
        source_hash=source_hash(study),
    )
    _write(study, result, folder)
    return result


def redraw_study(study: Study, folder: Path) -> StudyResult:
    """Judge and draw kept measurements again by the present study, without measuring.

    Raises:
        GraphnormsError: There is no result, or it is damaged.
        OSError: The folder cannot be written.
    """
    try:
        result = load(folder).judged(study)
    except FileNotFoundError:
        raise GraphnormsError(
            f"{folder} has no {RESULT} to draw again; measure it with: graphnorms study "
            f"{study.name}"
        ) from None
    _write(study, result, folder)
    return result


def source_hash(study: Study) -> str:
    """Hash the file of a study: 16 hexadecimal digits."""
    file = inspect.getsourcefile(study.measure)
    assert file is not None, "a study stands in a file"
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]


def run_case(
    config: CaseConfig, given: tuple[Study, Settings], on_done: Callable[[], None]
) -> Record:
    """Measure one case; runs in a worker process."""
    from graphnorms.training import Record

    study, settings = given
    begin = time.process_time()
    values = measure_case(study, config.case, settings).values
    seconds = time.process_time() - begin
    on_done()
    return Record(
        key=config.key,
        config=config.to_dict(),
        status="done",
        outcome=values,
        environment={"ended": datetime.now(UTC).isoformat(timespec="seconds")},
        timing={"total": seconds},
    )


def _measure(
    study: Study,
    settings: Settings,
    folder: Path,
    workers: int,
    on_progress: Callable[[Progress], None],
) -> list[Record]:
    """Return the records of all cases, in the order of the cases."""
    configs = _configs(study, settings)
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with Journal(folder / MEASUREMENTS) as journal:
        for record in journal:
            if record.status != "done":  # what went wrong may be fixed now
                journal.forget(record.key)
        missing = [config for config in configs if config.key not in journal]
        kept = len(configs) - len(missing)

        def tell(done: int, **last: Any) -> None:
            passed = time.monotonic() - begin
            on_progress(Progress(study.name, done, len(configs), kept, passed, **last))

        tell(kept)
        engine = make_engine(
            "local",
            run_case,
            (study, settings),
            workers=min(workers, len(missing)),
        )
        try:
            # An engine asks of a config what `CaseConfig` has: a key, and its content.
            wanted = cast("list[TrialConfig]", missing)
            with engine, closing(engine.run(wanted)) as ended:
                for done, record in enumerate(ended, start=kept + 1):
                    _require_done(study, record)
                    journal.append(record)
                    tell(done, case=record.config["case"], seconds=record.timing["total"])
        except KeyboardInterrupt as error:
            words, code = how_ended(error)
            done = sum(config.key in journal for config in configs)
            raise StudyInterrupted(
                f"{words}; {done} of {len(configs)} cases of {study.name} are measured and "
                "kept, the same command goes on",
                code,
            ) from None
        found = {record.key: record for record in journal}
    return [found[config.key] for config in configs]


def _configs(study: Study, settings: Settings) -> list[CaseConfig]:
    import torch

    from graphnorms.version import __version__

    code = source_hash(study)
    versions = {"graphnorms": __version__, "torch": torch.__version__}
    data = None if settings.data is None else str(settings.data)
    return [
        CaseConfig(study.name, case, settings.size, settings.seed, data, code, versions)
        for case in study.cases(settings)
    ]


def _require_done(study: Study, record: Record) -> None:
    if record.status != "done":
        case = ", ".join(f"{name} {value}" for name, value in record.config["case"].items())
        raise GraphnormsError(f"study {study.name}, {case}: {record.reason}")


def _write(study: Study, result: StudyResult, folder: Path) -> None:
    write(drawn(study.draw, result.measurements), folder / SVG)
    save(result, folder)
