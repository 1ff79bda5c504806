"""Data that the studies train on: digits, graph sets, and text as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from graphnorms.data import GraphSet, load_dataset
from graphnorms.errors import DatasetError

ALPHABET: Final = "\n" + "".join(map(chr, range(32, 127)))
"""The characters that have a number; any other becomes a question mark."""


def digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's digits: images `(1797, 64)` from 0 to 1, and labels from 0 to 9.

    Source: Alpaydin & Kaynak 1998, UCI, https://archive.ics.uci.edu/dataset/80.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return torch.from_numpy(pixels / 16).float(), torch.from_numpy(labels).long()


def graph_set(name: str, folder: Path | None = None) -> GraphSet:
    """Load an embedded graph set, or `NAME/NAME.txt` in a folder, plain or gzip.

    Raises:
        DatasetError: There is no such file in the folder, or it is malformed.
    """
    if folder is None:
        return load_dataset(name)
    path = folder / name / f"{name}.txt"
    packed = path.with_suffix(".txt.gz")
    if packed.is_file() and not path.is_file():
        return load_dataset(packed)
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; --data is the folder that has {name}/{name}.txt")
    return load_dataset(path)


def own_part(given: GraphSet, size: int, seed: int) -> GraphSet:
    """Return `size` graphs of a set; the parts of seeds of one thousand do not overlap.

    Raises:
        ValueError: The set is too small for a part of this seed.
    """
    thousand, place = divmod(seed, 1000)
    order = torch.randperm(len(given), generator=torch.Generator().manual_seed(thousand))
    ids = order[place * size : (place + 1) * size]
    if len(ids) < size:
        raise ValueError(f"{len(given)} graphs have no part {place + 1} of {size} graphs")
    return given.subset(ids)


def characters(data: Path | None) -> tuple[str, Tensor]:
    """Return the name of a text and its characters as numbers of `ALPHABET`, `(characters,)`.

    Without a folder it is Python's own reference manual, as `help()` shows it: 0.46 million
    characters in Python 3.11; other versions differ a little.

    Args:
        data: The folder that has `tinyshakespeare/input.txt`, or `None`.

    Raises:
        DatasetError: There is no such file in the folder.
    """
    if data is None:
        from pydoc_data.topics import topics

        name, text = "Python's manual", "\n".join(topics[key] for key in sorted(topics))
    else:
        name, path = "tinyshakespeare", data / "tinyshakespeare" / "input.txt"
        if not path.is_file():
            raise DatasetError(f"{path}: no such file; --data is the folder that has it")
        text = path.read_text(encoding="utf-8")
    numbers = {character: number for number, character in enumerate(ALPHABET)}
    return name, torch.tensor([numbers.get(character, numbers["?"]) for character in text])


def excerpts(text: Tensor, number: int, length: int, generator: torch.Generator) -> Tensor:
    """Draw pieces of a text at random, `(number, length)`."""
    starts = torch.randint(len(text) - length + 1, (number, 1), generator=generator)
    return text[starts + torch.arange(length)]
