"""Files that say which items are trained on, validated and tested."""

from __future__ import annotations

import csv
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphnorms.data.describe import PARTS
from graphnorms.data.integer_arrays import Integers
from graphnorms.data.text_format import as_name, count, some
from graphnorms.errors import DatasetError, one_line

Parts = NDArray[np.int8]

_WORDS: Final = (
    ("train", "training"),
    ("val", "valid", "validation", "dev"),
    ("test", "testing", "holdout"),
)
_UNUSED: Final = ("", "unused", "none", "na", "nan")
_NUMBER: Final = {
    **{word: part for part, words in enumerate(_WORDS) for word in words},
    **{str(part): part for part in (-1, 0, 1, 2)},
    **dict.fromkeys(_UNUSED, -1),
}
_INDEX_NAMES: Final = ("index", "idx", "id", "row", "item", "graph", "node", "")


def read_split_file(path: str | os.PathLike[str], items: int, noun: str = "items") -> Parts:
    """Read the part of each item: 0 training, 1 validation, 2 test, -1 unused.

    Items count from 0 in the order of the data. Formats:

    - `.json`, as chemprop writes it: a list of `{"train": […], "val": […], "test": […]}`, one entry
      for each split, with indices or ranges such as `"0-9,12"`, which include their end;
    - `.npz`: arrays `train`, `val` and `test` (or `train_idx`, `idx_train`, `train_mask`, …) of
      indices, or of booleans for each item;
    - other text: a line for each item, with the name of its part (`train`, `val`, `test`, or 0, 1,
      2, or nothing for an unused one), one column for each split; or lines `index,part`. A header
      is optional.

    Args:
        path: The file.
        items: Number of items of the data.
        noun: Name of the items, for messages.

    Returns:
        `(items,)`, or `(items, splits)` for several.

    Raises:
        DatasetError: The file is missing or malformed, or belongs to other data.

    Source: https://chemprop.readthedocs.io/en/latest/tutorial/cli/train.html.
    """
    path = Path(path).expanduser()
    try:
        if path.suffix == ".npz":
            splits = [_of_arrays(path, items, noun)]
        else:
            text = path.read_text(encoding="utf-8-sig")
            entries = path.suffix == ".json" or text.lstrip().startswith(("[", "{"))
            splits = _of_json(path, text, items, noun) if entries else _of_lines(path, text, items)
    except OSError as error:
        raise DatasetError(f"split file {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DatasetError(
            f"split file {path}: no text; expected .json as of chemprop, an .npz file of indices, "
            "or a line for each item"
        ) from None
    return splits[0] if len(splits) == 1 else np.stack(splits, axis=1)


def _of_json(path: Path, text: str, items: int, noun: str) -> list[Parts]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise DatasetError(f"split file {path}: no JSON ({error})") from None
    entries = [data] if isinstance(data, dict) else data
    if not (isinstance(entries, list) and entries and all(isinstance(e, dict) for e in entries)):
        raise DatasetError(
            f'split file {path}: expected a list of {{"train": […], "val": […], "test": […]}}'
        )
    splits = []
    for number, entry in enumerate(entries):
        where = f"split file {path}, entry {number}"
        chosen = [_indices(where, key, entry[key]) for key in _keys(where, entry)]
        splits.append(merged(where, chosen, items, noun))
    return splits


def _keys(where: str, there: Mapping[str, Any]) -> Iterator[str]:
    """Yield the name of each part among some names."""
    for words in _WORDS:
        names = [
            name
            for name in there
            if name.lower() in words or any(name.lower() in _affixed(word) for word in words)
        ]
        if len(names) != 1:
            has = some(map(as_name, there)) or "nothing"
            raise DatasetError(f"{where}: expected one key {words[0]!r} (the keys are {has})")
        yield names[0]


def _affixed(word: str) -> Iterator[str]:
    for noun in ("idx", "index", "indices", "mask", "ids"):
        yield from (f"{word}_{noun}", f"{noun}_{word}")


def _indices(where: str, key: str, given: Any) -> Integers:
    """Convert a list of indices, or ranges in a text."""
    try:
        if isinstance(given, str):
            ranges = [part.split("-") for part in given.split(",") if part.strip()]
            bounds = [(int(part[0]), int(part[-1])) for part in ranges if len(part) <= 2]
            if len(bounds) < len(ranges):
                raise ValueError
            pieces = [np.arange(first, last + 1) for first, last in bounds]
            return np.concatenate(pieces) if pieces else np.empty(0, np.int64)
        array = np.asarray(given)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise ValueError
        return array.astype(np.int64)
    except ValueError:
        raise DatasetError(
            f"{where}: {key!r} is {given!r:.60}, expected a list of indices, or ranges as in "
            "'0-9,12'"
        ) from None


def merged(where: str, chosen: Sequence[Integers], items: int, noun: str) -> Parts:
    """Return the part of each item from the indices of the three parts.

    Args:
        where: Their origin, for messages.
        chosen: Indices of training, validation and test.
        items: Number of items.
        noun: Name of the items, for messages.

    Raises:
        DatasetError: An index is outside the data, or in two parts.
    """
    split = np.full(items, -1, dtype=np.int8)
    for part, indices in enumerate(chosen):
        outside = indices[(indices < 0) | (indices >= items)]
        if len(outside):
            raise DatasetError(
                f"{where}: {count(len(outside), 'index', 'indices')} in the {PARTS[part]} part "
                f"({some(outside.tolist(), few=3)}), but the data have {items} {noun}, 0 … "
                f"{items - 1}; is the split of other data?"
            )
        twice = indices[split[indices] >= 0]
        if len(twice):
            raise DatasetError(
                f"{where}: {twice[0]} is in the {PARTS[split[twice[0]]]} part and in the "
                f"{PARTS[part]} part"
            )
        split[indices] = part
    return split


def _of_arrays(path: Path, items: int, noun: str) -> Parts:
    where = f"split file {path}"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in _keys(where, dict.fromkeys(stored.files))}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{where}: no readable .npz file ({one_line(error)})") from None
    chosen = []
    for key, array in arrays.items():
        if array.dtype.kind == "b" and array.shape != (items,):
            raise DatasetError(
                f"{where}: {key} is a mask of shape {array.shape}, but the data have {items} {noun}"
            )
        chosen.append(
            np.flatnonzero(array) if array.dtype.kind == "b" else _indices(where, key, array)
        )
    return merged(where, chosen, items, noun)


def _of_lines(path: Path, text: str, items: int) -> list[Parts]:
    where = f"split file {path}"
    first = text.split("\n", 1)[0]
    mark = next((mark for mark in "\t,;" if mark in first), " ")
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=mark)]
    while rows and not any(rows[-1]):
        rows.pop()
    rows = [row or [""] for row in rows]
    if not rows:
        raise DatasetError(f"{where}: the file is empty")
    header = rows[0] if not _is_part(rows[0][-1]) or rows[0][-1] == "" else None
    body = rows[1:] if header else rows
    line = 2 if header else 1
    width = len(rows[0])
    for number, row in enumerate(body):
        if len(row) != width:
            raise DatasetError(
                f"{where}, line {line + number}: {count(len(row), 'column')}, expected {width}"
            )
    indexed = width > 1 and (
        header[0].lower() in _INDEX_NAMES
        if header
        else any(row[0].isdecimal() and int(row[0]) > 2 for row in body)
    )
    places = _places(where, [row[0] for row in body], items, line) if indexed else None
    if places is None and len(body) != items:
        raise DatasetError(
            f"{where}: {count(len(body), 'line')}, but the data have {items} items; is it the file "
            "of other data?"
        )
    splits = []
    for column in range(int(indexed), width):
        split = np.full(items, -1, dtype=np.int8)
        part = parts_of(where, [row[column] for row in body], lambda row: f"line {line + row}")
        split[slice(None) if places is None else places] = part
        splits.append(split)
    return splits


def parts_of(where: str, texts: Sequence[str], place: Callable[[int], str]) -> Parts:
    """Convert the names of parts: 0 training, 1 validation, 2 test, -1 unused.

    Args:
        where: The file, for messages.
        texts: Name of each item's part.
        place: The place of an item in the file, for messages.

    Raises:
        DatasetError: A text is no name of a part.
    """
    wrong = next((at for at, text in enumerate(texts) if not _is_part(text)), None)
    if wrong is not None:
        raise DatasetError(
            f"{where}, {place(wrong)}: {as_name(texts[wrong])[:40]!r} is no part; expected train, "
            "val, test (or 0, 1, 2), or nothing"
        )
    return np.array([_NUMBER[text.lower()] for text in texts], dtype=np.int8)


def _is_part(text: str) -> bool:
    return text.lower() in _NUMBER


def _places(where: str, texts: Sequence[str], items: int, line: int) -> Integers:
    """Convert the indices of a file to integers, and check them."""
    wrong = next((at for at, text in enumerate(texts) if not text.isdecimal()), None)
    if wrong is not None:
        raise DatasetError(
            f"{where}, line {line + wrong}: {as_name(texts[wrong])[:40]!r}, expected an index"
        )
    places = np.array(list(map(int, texts)), dtype=np.int64)
    outside = np.flatnonzero(places >= items)
    if len(outside):
        raise DatasetError(
            f"{where}, line {line + outside[0]}: index {places[outside[0]]}, but the data have "
            f"{items} items, 0 … {items - 1}; is the split of other data?"
        )
    if len(np.unique(places)) < len(places):
        raise DatasetError(f"{where}: an index is listed twice")
    return places
