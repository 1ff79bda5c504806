"""Text as numbers."""

from __future__ import annotations

import pytest
import torch

from graphnorms.errors import DatasetError
from graphnorms.studies.text import ALPHABET, characters, excerpts


def test_the_text_that_comes_with_python() -> None:
    name, text = characters(None)
    assert name == "Python's manual"
    assert len(text) > 300_000
    assert 0 <= int(text.min()) <= int(text.max()) < len(ALPHABET) == 96
    assert "assert statement" in "".join(ALPHABET[number] for number in text[:3000]).lower()


def test_another_text(tmp_path) -> None:
    with pytest.raises(DatasetError, match=r"input\.txt: no such file"):
        characters(tmp_path)
    path = tmp_path / "tinyshakespeare" / "input.txt"
    path.parent.mkdir()
    path.write_text("To be,\nößé or", encoding="utf-8")
    name, text = characters(tmp_path)
    assert name == "tinyshakespeare"
    assert "".join(ALPHABET[number] for number in text) == "To be,\n??? or"


def test_excerpts_are_pieces_of_the_text() -> None:
    text = torch.arange(30)
    pieces = excerpts(text, 200, 7, torch.Generator().manual_seed(0))
    assert pieces.shape == (200, 7)
    assert (pieces.diff() == 1).all()
    assert set(pieces[:, 0].tolist()) == set(range(24))  # the first and the last place too
