"""Running a study: its cases in worker processes, each kept the moment it is measured.

The processes and the journal are those of the lab: a case is a trial whose config is the study,
the settings, the case and the code that measures. What is in the journal under the same config
is not measured again, so that an interrupted study goes on where it stopped, and one whose code
was changed starts anew.
"""

from __future__ import annotations

import hashlib
import inspect
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from graphnorms.errors import GraphnormsError
from graphnorms.interrupts import how_ended
from graphnorms.lab.engines import make_engine
from graphnorms.lab.journal import Journal
from graphnorms.studies.drawing import drawn, write
from graphnorms.studies.results import (
    MEASUREMENTS,
    RESULT,
    SVG,
    StudyResult,
    judgement,
    load,
    save,
    texts,
)
from graphnorms.studies.study import Case, Measurement, Settings, Study, measured

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a study is.

    Args:
        study: Its name.
        done: Cases measured so far, those of earlier runs included.
        total: All of them.
        kept: Cases that earlier runs have measured.
        elapsed: Seconds since this run began.
        case: The one that was measured last; `None` at the start.
        seconds: How long that took.
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
        """About how many seconds are left; `None` as long as nothing was measured."""
        new = self.done - self.kept
        return (self.total - self.done) * self.elapsed / new if new else None


class StudyInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a study; it says how to go on.

    Args:
        message: That.
        code: The exit code of a command.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class CaseConfig:
    """What defines one measurement, as the config of a trial does: hashed by its content."""

    study: str
    case: Case
    size: str
    seed: int
    data: str | None
    source_hash: str
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-able data."""
        return {
            "study": self.study,
            "case": self.case,
            "size": self.size,
            "seed": self.seed,
            "data": self.data,
            "source_hash": self.source_hash,
            "versions": self.versions,
        }

    @cached_property
    def key(self) -> str:
        """The content hash."""
        from graphnorms.training.config import content_hash

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
    """Measure what is not measured yet, judge, draw, and write all of it.

    Args:
        study: Which.
        settings: How.
        folder: The study's own; made when it does not exist.
        workers: Cases at a time; 0 measures in this process.
        command: What to write down as the command that repeats this.
        on_progress: Told after every case, and once at the start.

    Raises:
        GraphnormsError: A case failed, or the journal is damaged.
        RunExistsError: Another process is measuring this study.
        StudyInterrupted: Ctrl-C.
        OSError: The folder cannot be written.
    """
    records = _measure(study, settings, folder, workers, on_progress or _say_nothing)
    measurements = tuple(Measurement(r.config["case"], r.outcome) for r in records)
    result = StudyResult(
        **texts(study),
        settings=settings,
        **judgement(study, measurements, settings),
        measurements=measurements,
        cases=len(measurements),
        machine=_machine(),
        command=command,
        measured=max(record.environment["ended"] for record in records),
        core_seconds=round(sum(record.timing["total"] for record in records), 2),
        source_hash=source_hash(study),
    )
    _write(study, result, folder)
    return result


def redraw_study(study: Study, folder: Path) -> StudyResult:
    """Judge and draw again what was measured, by the study as it is now; measure nothing.

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
    """Hash the file that a study is written in: 16 hexadecimal digits."""
    file = inspect.getsourcefile(study.measure)
    assert file is not None, "a study stands in a file"
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]


def measure_case(
    config: CaseConfig, given: tuple[Study, Settings], on_done: Callable[[], None]
) -> Record:
    """Measure one case: what a worker process runs."""
    from graphnorms.training import Record

    study, settings = given
    begin = time.process_time()
    values = measured(study, config.case, settings).values
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
            if record.status != "done":  # what went wrong may be mended now
                journal.forget(record.key)
        missing = [config for config in configs if config.key not in journal]
        kept = len(configs) - len(missing)

        def tell(done: int, **last: Any) -> None:
            passed = time.monotonic() - begin
            on_progress(Progress(study.name, done, len(configs), kept, passed, **last))

        tell(kept)
        engine = make_engine(
            "local",
            measure_case,
            (study, settings),
            # A worker that has no case left would only cost its start.
            workers=min(workers, len(missing)),
        )
        try:
            # An engine asks of a config what `CaseConfig` has: a key, and its content.
            wanted = cast("list[TrialConfig]", missing)
            with _quiet(), engine, closing(engine.run(wanted)) as ended:
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep a warning of loky's back: libraries that a first case loads look like a leak to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A worker was restarted while some jobs")
        yield


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
    figure = draw_result(study, result.measurements)
    write(figure, folder / SVG)
    save(result, folder)


def draw_result(study: Study, measurements: Sequence[Measurement]) -> Any:
    """Draw the figure of a study in the style of all."""
    return drawn(study.draw, measurements)


def _machine() -> dict[str, Any]:
    from graphnorms.bench.machine import describe

    return describe("cpu")


def _say_nothing(progress: Progress) -> None:
    pass
