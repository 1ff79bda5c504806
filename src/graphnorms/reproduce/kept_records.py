"""Records of a run in little space: what a page is drawn from, and a run goes on from.

MUTAG-gin-paper/
  config.json       the run's, unchanged
  records.jsonl.xz  its journal without measured times, losses rounded, compressed
"""

from __future__ import annotations

import lzma
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphnorms.errors import GraphnormsError
from graphnorms.files import replacing
from graphnorms.lab.journal import Journal, read_records
from graphnorms.lab.run import CONFIG, RECORDS

if TYPE_CHECKING:
    from graphnorms.training import Record

PACKED: Final = f"{RECORDS}.xz"
_DIGITS: Final = 4
"""Significant digits of losses, in figures only; scores are kept as they are."""

_KEPT: Final = ("train_loss", "train_score", "validation_loss", "validation_score")


def keep(run: Path, folder: Path) -> None:
    """Write the config and the records of a run into another folder, or into its own.

    Raises:
        GraphnormsError: A record is damaged.
        OSError: A file cannot be read or written.
    """
    lean = folder / f".{RECORDS}"
    folder.mkdir(parents=True, exist_ok=True)
    lean.unlink(missing_ok=True)
    records = sorted(read_records(run / RECORDS), key=lambda each: each.key)
    try:
        with Journal(lean) as journal:
            for record in records:
                journal.append(_lean(record))
        # Equal records give equal bytes, so that a commit shows what is new.
        packed = lzma.compress(lean.read_bytes(), preset=9 | lzma.PRESET_EXTREME)
    finally:
        lean.unlink(missing_ok=True)
    with replacing(folder / PACKED) as temporary:
        temporary.write_bytes(packed)
    if folder != run:
        with replacing(folder / CONFIG) as temporary:
            temporary.write_bytes((run / CONFIG).read_bytes())
        (folder / RECORDS).unlink(missing_ok=True)  # restored before, from fewer records


def restore(folder: Path) -> None:
    """Write the journal of a folder from its packed records, if it has these alone.

    Raises:
        GraphnormsError: The file is damaged.
        OSError: A file cannot be read or written.
    """
    packed, journal = folder / PACKED, folder / RECORDS
    if journal.exists() or not packed.exists():
        return
    try:
        text = lzma.decompress(packed.read_bytes())
    except (lzma.LZMAError, EOFError):
        raise GraphnormsError(
            f"{packed}: not the records of a run, the file is damaged; restore it, or remove it, "
            "and its trials are run again"
        ) from None
    with replacing(journal) as temporary:
        temporary.write_bytes(text)


def _lean(record: Record) -> Record:
    history: dict[str, Any] = {
        name: [_rounded(value) if name.endswith("loss") else value for value in values]
        for name, values in record.history.items()
        if name in _KEPT
    }
    total = record.timing.get("total")
    timing = {} if total is None else {"total": round(total, 2)}
    return replace(record, history=history, timing=timing, measures={}, start={})


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")
