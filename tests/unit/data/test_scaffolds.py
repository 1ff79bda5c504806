"""Splits by scaffold: each rule against slow loops of its own, and with RDKit against molecules."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from graphnorms.data import ScaffoldSplit, from_pyg, load_dataset, read_npz, save_npz
from graphnorms.data.scaffolds import RULES
from graphnorms.errors import DatasetError


@pytest.fixture
def names() -> list[str]:
    """Scaffolds of 200 molecules: one of none, few large, many of one molecule."""
    draw = np.random.default_rng(0)
    many = [f"ring {number}" for number in range(70)]
    weights = 1 / np.arange(1, 71)
    drawn = draw.choice(["", *many[1:]], 170, p=weights / weights.sum()).tolist()
    return [*drawn, *(f"alone {number}" for number in range(30))]


def deepchem(names: list[str]) -> list[int]:
    """Its rule by slow loops: the largest first, of equals that whose first row is the last."""
    remaining = set(names)
    part = [2] * len(names)
    while remaining:
        sizes = Counter(names)
        largest = max(sizes[name] for name in remaining)
        name = max((n for n in remaining if sizes[n] == largest), key=names.index)
        remaining.remove(name)
        places = [place for place, other in enumerate(names) if other == name]
        if part.count(0) + len(places) <= 0.8 * len(names):
            chosen = 0
        elif part.count(0) + part.count(1) + len(places) <= 0.9 * len(names):
            chosen = 1
        else:
            chosen = 2
        for place in places:
            part[place] = chosen
    return part


def test_deepchem_takes_the_last_of_equal_scaffolds_first(names: list[str]) -> None:
    assert ScaffoldSplit("deepchem").divide(names).tolist() == deepchem(names)
    # Eight alone and a pair: the pair and the last rows train, the first are tested.
    few = ["a", "b", "c", "d", "x", "e", "f", "g", "x", "h"]
    assert ScaffoldSplit("deepchem").divide(few).tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("rule", RULES)
def test_scaffolds_are_in_one_part(names: list[str], rule: str) -> None:
    split = ScaffoldSplit(rule).divide(names)
    for name in set(names):
        assert len({split[place] for place, other in enumerate(names) if other == name}) == 1
    sizes = np.bincount(split, minlength=3)
    assert sizes.sum() == 200
    assert abs(sizes - [160, 20, 20]).max() <= 8


@pytest.mark.parametrize("rule", ["hashed", "balanced"])
def test_the_order_of_the_rows_does_not_matter(names: list[str], rule: str) -> None:
    split = ScaffoldSplit(rule).divide(names)
    order = np.random.default_rng(1).permutation(len(names))
    shuffled = ScaffoldSplit(rule).divide([names[place] for place in order])
    assert np.array_equal(shuffled, split[order])
    other = ScaffoldSplit("deepchem").divide([names[place] for place in order])
    assert not np.array_equal(other, ScaffoldSplit("deepchem").divide(names)[order])


def test_seeds_make_splits(names: list[str]) -> None:
    rule = ScaffoldSplit.named("scaffold:balanced:3,4")
    both = rule.divide(names)
    assert both.shape == (200, 2)
    for column, seed in enumerate((3, 4)):
        one = ScaffoldSplit.named(f"scaffold:balanced:{seed}").divide(names)
        assert np.array_equal(both[:, column], one)
    assert (both[:, 0] != both[:, 1]).any()
    assert ScaffoldSplit.named("scaffold:balanced") == ScaffoldSplit("balanced", (0,))
    # More than a twentieth of the molecules is gone through first, and so trained on.
    large = {name for name, size in Counter(names).items() if size > 10}
    assert {both[place, 0] for place, name in enumerate(names) if name in large} == {0}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scaffold", "unknown split 'scaffold'; did you mean scaffold:"),
        ("scaffold:hash", "did you mean scaffold:hashed"),
        ("scaffold:deepchem:1", "the other rules have none"),
        ("scaffold:balanced:1,1", "with different seeds"),
        ("scaffold:balanced:-1", "expected scaffold:balanced:0,1,2"),
    ],
)
def test_names_of_no_rule(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_dataset("MUTAG", split_by=name)


def molecules(pyg_data: ModuleType, smiles: list[str], y: list[int]) -> list[Any]:
    edges = torch.empty(2, 0).long()
    return [
        pyg_data.Data(edge_index=edges, num_nodes=2, y=torch.tensor([label]), smiles=text)
        for text, label in zip(smiles, y, strict=True)
    ]


@pytest.fixture
def first_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of RDKit: a molecule's scaffold is its first letter, a dot for none."""
    monkeypatch.setattr(
        ScaffoldSplit, "scaffolds", lambda self, smiles: [text[0].strip(".") for text in smiles]
    )


@pytest.mark.usefixtures("first_letters")
def test_a_split_is_told_and_stored(pyg_data: ModuleType, tmp_path: Path) -> None:
    smiles = [f"{letter}{place}" for place, letter in enumerate("." * 8 + "aabbcdefghij")]
    y = [place % 2 for place in range(20)]
    graphs = from_pyg(molecules(pyg_data, smiles, y), split_by="scaffold:deepchem")
    assert graphs.split is not None
    # 16 train: the eight, the two pairs, and the four last of those alone.
    assert graphs.split.tolist() == [0] * 12 + [2, 2, 1, 1, 0, 0, 0, 0]
    assert graphs.split_name == "scaffold:deepchem"
    assert graphs.notes == (
        "scaffold:deepchem, 11 scaffolds: training 16 (0 50.0%, 1 50.0%, 8 without a ring), "
        "validation 2 (0 50.0%, 1 50.0%, 0 without a ring), test 2 (0 50.0%, 1 50.0%, 0 without a "
        "ring)",
    )
    save_npz(graphs, tmp_path / "set.npz")
    again = read_npz(tmp_path / "set.npz")
    assert (again.split_name, again.fingerprint) == (graphs.split_name, graphs.fingerprint)
    assert again.notes == graphs.notes
    several = from_pyg(
        molecules(pyg_data, smiles, y), split_by="scaffold:balanced:0,4", task="regression"
    )
    assert several.num_splits == 2
    assert several.notes[0].startswith("scaffold:balanced:0,4, of the first, 11 scaffolds: tr")

    ptr = np.arange(21)
    np.savez(
        tmp_path / "smiles.npz",
        node_ptr=ptr,
        edge_ptr=ptr * 0,
        edge_index=np.zeros((2, 0), int),
        y=y,
        smiles=smiles,
        split=np.zeros(20, int),
    )
    packed = load_dataset(tmp_path / "smiles.npz", split_by="scaffold:deepchem")
    assert packed.split is not None
    assert packed.split.tolist() == graphs.split.tolist()


@pytest.mark.usefixtures("first_letters")
def test_a_part_of_one_class_is_refused(pyg_data: ModuleType) -> None:
    """As on BACE, whose test part had no molecule of one class by another order of equal ones."""
    smiles = [f"{letter}{place}" for place, letter in enumerate("." * 8 + "aabbcdefghij")]
    y = [place % 2 for place in range(12)] + [1, 1] + [0, 1] * 3
    with pytest.raises(DatasetError, match="split scaffold:deepchem: the test part has one class"):
        from_pyg(molecules(pyg_data, smiles, y), split_by="scaffold:deepchem")
    with pytest.raises(DatasetError, match="the training part has no molecules"):
        from_pyg(molecules(pyg_data, ["a", "a"], [0, 1]), split_by="scaffold:hashed")


def test_what_has_no_smiles_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match="split scaffold:hashed takes the SMILES of each graph"):
        load_dataset("nci5k", split_by="scaffold:hashed")
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(DatasetError, match=r"take RDKit: pip install 'graphnorms\[chem\]'"):
        ScaffoldSplit("hashed").scaffolds(["CCO"])


def test_scaffolds_of_molecules() -> None:
    pytest.importorskip("rdkit")
    smiles = {
        "c1ccccc1CC(=O)O": "c1ccccc1",
        "c1ccccc1CC(=O)[O-].[Na+]": "c1ccccc1",  # its salt
        "C[C@H](N)c1ccc(C2CC2)cc1.Cl": "c1ccc(C2CC2)cc1",
        "CCO": "",
        "O=C1CCCCC1": "O=C1CCCCC1",
    }
    assert ScaffoldSplit("hashed").scaffolds(list(smiles)) == list(smiles.values())
    # Of the molecule as it is given, a ring in the smaller component counts too.
    both = "CCCCCCCCCCCC(=O)O.c1ccncc1"
    assert ScaffoldSplit("hashed").scaffolds([both]) == [""]
    assert ScaffoldSplit("deepchem").scaffolds([both]) == ["c1ccncc1"]
    with pytest.raises(DatasetError, match=r"SMILES of 2 of 3 molecules \(1: 'C\(', 2: ''\)"):
        ScaffoldSplit("hashed").scaffolds(["C", "C(", ""])
