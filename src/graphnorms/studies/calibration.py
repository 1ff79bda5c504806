"""Calibration: a study's own measure and rule on material on which the answer is known.

A study must reach *confirmed* in a world in which its claim is true by construction, and *not
confirmed* in one in which it is false, for nearly all seeds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from graphnorms.errors import GraphnormsError
from graphnorms.files import replacing
from graphnorms.studies.study import Settings, Study, Verdict, World, measure_case
from graphnorms.studies.study_list import NAMES, study_named

SEEDS: Final = 10
ENOUGH: Final = 9
"""A study is calibrated with this many right answers of `SEEDS` in each world."""

FILE: Final = "calibration.json"


@dataclass(frozen=True, slots=True)
class Calibration:
    """The verdicts of a study in its two worlds, one per seed.

    Args:
        name: The name of the study.
        true, false: What makes the claim true, and false.
        said_true, said_false: The verdicts in these worlds.
        core_seconds: Processor time.
    """

    name: str
    true: str
    false: str
    said_true: tuple[Verdict, ...]
    said_false: tuple[Verdict, ...]
    core_seconds: float

    @property
    def right(self) -> tuple[int, int]:
        """Number of right verdicts in the true and in the false world."""
        return self.said_true.count("confirmed"), self.said_false.count("not confirmed")

    @property
    def passed(self) -> bool:
        """Whether nine of ten are right in both."""
        numbers = (len(self.said_true), len(self.said_false))
        return all(
            SEEDS * right >= ENOUGH * number
            for right, number in zip(self.right, numbers, strict=True)
        )


def calibrated() -> tuple[str, ...]:
    """Return the names of the studies that have calibration worlds."""
    return tuple(name for name in NAMES if study_named(name).true is not None)


def worlds_of(name: str) -> tuple[World, World]:
    """Return the worlds of a study, the true one first.

    Raises:
        ValueError: The study is unknown, or has none.
    """
    study = study_named(name)
    if study.true is None or study.false is None:
        raise ValueError(
            f"{name} has no calibration worlds, expected a study that has; choose one of "
            f"{', '.join(calibrated())}"
        )
    return study.true, study.false


def said_in(study: Study, world: World, seed: int) -> Verdict:
    """Measure all cases of a study in a world, and return its verdict."""
    settings = Settings(size="planted", seed=seed)
    measurements = [
        measure_case(study, case, settings, world.measure) for case in study.cases(settings)
    ]
    return study.judge(measurements, settings).verdict


def calibrate(
    name: str, *, seeds: int = SEEDS, on_verdict: Callable[[bool, int, Verdict], None]
) -> Calibration:
    """Run a study in both worlds with the seeds 0, 1, ….

    Args:
        name: The name of the study.
        seeds: Number of seeds.
        on_verdict: Called with whether the claim holds, the seed, and each verdict.

    Raises:
        ValueError: The study has no worlds.
    """
    study, worlds = study_named(name), worlds_of(name)
    begin = time.process_time()
    said: list[tuple[Verdict, ...]] = []
    for holds, world in zip((True, False), worlds, strict=True):
        verdicts = []
        for seed in range(seeds):
            verdicts.append(said_in(study, world, seed))
            on_verdict(holds, seed, verdicts[-1])
        said.append(tuple(verdicts))
    seconds = round(time.process_time() - begin, 1)
    return Calibration(name, worlds[0].how, worlds[1].how, said[0], said[1], seconds)


def save_calibrations(found: Sequence[Calibration], path: Path) -> None:
    """Write calibrations; the file keeps those of other studies."""
    kept = {each.name: each for each in load_calibrations(path)} if path.is_file() else {}
    kept |= {each.name: each for each in found}
    ordered = [asdict(kept[name]) for name in NAMES if name in kept]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        text = json.dumps(ordered, indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def load_calibrations(path: Path) -> list[Calibration]:
    """Read what `save_calibrations` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        GraphnormsError: It is not such a file.
    """
    try:
        return [
            Calibration(**each | {key: tuple(each[key]) for key in ("said_true", "said_false")})
            for each in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (ValueError, TypeError, KeyError):
        raise GraphnormsError(f"{path}: not the calibration of studies") from None
