"""What a comparison found, as far as a terminal says it, and the file that keeps it.

`graphnorms show` reads the file in place of judging the records again, as long as it was made of
the config, the records and the code that are there: so it needs neither torch nor NumPy.
"""

from __future__ import annotations

import hashlib
import json
import types
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, get_args, get_origin, get_type_hints

from graphnorms.files import replacing
from graphnorms.lab.run import CONFIG, RECORDS, read_config
from graphnorms.lab.run_list import settings_of
from graphnorms.lab.verdict import Verdict
from graphnorms.training.trial_config import content_hash

if TYPE_CHECKING:
    from graphnorms.lab.comparison import Comparison
    from graphnorms.lab.settings import Settings

JUDGEMENT: Final = "judgement.json"

_JUDGES: Final = ("lab", "layers", "training")
"""The packages whose code decides what a comparison finds."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a comparison found.

    Args:
        command: The command, or call, that repeats it.
        planned: Trials of the complete comparison.
        done, failed: Trials with an outcome.
        lost: Failed trials that the same command tries again.
        verdict: None as long as no trial that gives a score has an outcome.
        why: Why norms differ: what is known on the whole, and a sentence for each reason; empty
            where nothing was measured.
        reasons: The reasons as data, see `graphnorms.lab.reason_sentences.reasons_as_data`.
    """

    command: str
    planned: int
    done: int
    failed: int
    lost: int
    verdict: Verdict | None
    why: tuple[str, ...]
    reasons: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, comparison: Comparison) -> Self:
        """Judge a comparison."""
        from graphnorms.lab.engines import is_settled
        from graphnorms.lab.reason_sentences import reasons_as_data

        records = comparison.records
        done = sum(record.status == "done" for record in records)
        return cls(
            command=comparison.command,
            planned=comparison.planned,
            done=done,
            failed=len(records) - done,
            lost=sum(not is_settled(record) for record in records),
            verdict=comparison.verdict if comparison.judgeable else None,
            why=tuple(comparison.why_in_words()),
            reasons=() if comparison.why is None else tuple(reasons_as_data(comparison.why)),
        )

    def to_dict(self, settings: Settings, folder: Path) -> dict[str, Any]:
        """Return settings, verdict and where the records are, as JSON-able data."""
        from graphnorms.lab.sentences import sentences

        return {
            "settings": settings.to_dict(),
            "verdict": None if self.verdict is None else self.verdict.to_dict(),
            "sentences": None if self.verdict is None else sentences(self.verdict).to_dict(),
            "reasons": list(self.reasons),
            "trials": {"planned": self.planned, "done": self.done, "failed": self.failed},
            "folder": str(folder),
            "command": self.command,
        }


def judgement_of(folder: Path, *, margin: float | None = None) -> tuple[Judgement, Settings]:
    """Return what the comparison in a folder found, and its settings.

    The file there is read if it is that of the run as it is; else the records are judged, and the
    file is written, if it can be.

    Args:
        folder, margin: As for `graphnorms.lab.comparison.open_comparison`.

    Raises:
        ValueError, GraphnormsError, OSError: As `open_comparison`.
    """
    state = _state(folder)  # before the records are read: they may be added to meanwhile
    if margin is None and (found := _kept(folder, state)) is not None:
        return found, settings_of(read_config(folder), folder)
    from graphnorms.lab.comparison import open_comparison

    comparison = open_comparison(folder, margin=margin)
    found = Judgement.of(comparison)
    if margin is None:
        with suppress(OSError):  # a folder of somebody else
            _keep(folder, state, found)
    return found, comparison.settings


def keep_judgement(comparison: Comparison) -> None:
    """Write what a comparison found into its folder, whose records are those of the comparison.

    Raises:
        OSError: It cannot be written.
    """
    _keep(comparison.folder, _state(comparison.folder), Judgement.of(comparison))


def _keep(folder: Path, state: str, found: Judgement) -> None:
    with replacing(folder / JUDGEMENT) as temporary:
        text = json.dumps({"state": state} | asdict(found), ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _kept(folder: Path, state: str) -> Judgement | None:
    """Read the file of a run; None if there is none, or of another state, or it is damaged."""
    try:
        data = json.loads((folder / JUDGEMENT).read_text(encoding="utf-8"))
        if data.pop("state") != state:
            return None
        found: Judgement = _rebuilt(Judgement, data)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return found


def _state(folder: Path) -> str:
    """Return a hash of what a judgement depends on: the files of the run, and the code."""
    found = []
    for name in (CONFIG, RECORDS):
        with suppress(FileNotFoundError):
            found.append(hashlib.sha256((folder / name).read_bytes()).hexdigest())
    root = Path(__file__).parents[1]
    for path in sorted(each for part in _JUDGES for each in (root / part).rglob("*.py")):
        status = path.stat()
        found.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    return content_hash(found)


def _rebuilt(kind: Any, value: Any) -> Any:
    """Return JSON data as what they were written from: dataclasses, tuples, mappings, or None."""
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        names = [each.name for each in fields(kind)]
        return kind(**{name: _rebuilt(hints[name], value[name]) for name in names})
    if get_origin(kind) is types.UnionType:
        inner = next(each for each in get_args(kind) if each is not type(None))
        return None if value is None else _rebuilt(inner, value)
    if get_origin(kind) is tuple:
        first, *others = get_args(kind)
        if others == [...]:
            return tuple(_rebuilt(first, each) for each in value)
        return tuple(map(_rebuilt, (first, *others), value))
    return value
