"""Text as numbers, for the studies of sequences: a text that comes with Python, or a longer one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from graphnorms.errors import DatasetError

ALPHABET: Final = "\n" + "".join(map(chr, range(32, 127)))
"""The characters that are told apart; any other becomes a question mark."""

_NUMBERS: Final = {character: number for number, character in enumerate(ALPHABET)}


def characters(data: Path | None) -> tuple[str, Tensor]:
    """Return a text by name, and its characters as numbers of `ALPHABET`, `(characters,)` int64.

    Without a folder it is Python's own reference manual, as `help()` shows it: 0.46 million
    characters in Python 3.11, other versions differ a little.

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
    unknown = _NUMBERS["?"]
    return name, torch.tensor([_NUMBERS.get(character, unknown) for character in text])


def excerpts(text: Tensor, number: int, length: int, generator: torch.Generator) -> Tensor:
    """Draw pieces of a text at random, `(number, length)`."""
    starts = torch.randint(len(text) - length + 1, (number, 1), generator=generator)
    return text[starts + torch.arange(length)]
