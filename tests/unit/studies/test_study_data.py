"""Data that the studies train on."""

from __future__ import annotations

import gzip

import pytest
import torch

from graphnorms.data import load_dataset
from graphnorms.errors import DatasetError
from graphnorms.studies.study_data import (
    ALPHABET,
    characters,
    digits,
    excerpts,
    graph_set,
    own_part,
)

TOY = "2\n2 0\n0 1 1\n1 1 0\n1 1\n0 0\n"


def test_digits():
    x, y = digits()
    assert x.shape == (1797, 64)
    assert (x.min(), x.max()) == (0, 1)
    assert y.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_graphs_from_a_folder(tmp_path):
    (tmp_path / "TOY").mkdir()
    packed = tmp_path / "TOY" / "TOY.txt.gz"
    packed.write_bytes(gzip.compress(TOY.encode()))
    assert len(graph_set("TOY", tmp_path)) == 2
    packed.unlink()
    (tmp_path / "TOY" / "TOY.txt").write_text(TOY)
    assert len(graph_set("TOY", tmp_path)) == 2


def test_parts_of_a_set_have_no_graph_in_common():
    given = load_dataset("nci5k")
    numbered = given.with_targets(torch.arange(float(len(given))).view_as(given.y))
    parts = [own_part(numbered, 1000, seed).y for seed in range(2000, 2004)]
    assert torch.cat(parts).unique().numel() == 4000
    assert not torch.equal(parts[0], own_part(numbered, 1000, 3000).y)
    with pytest.raises(ValueError, match="4991 graphs have no part 5 of 1000 graphs"):
        own_part(numbered, 1000, 2004)


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
