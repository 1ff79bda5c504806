"""Reads tables of molecules: a column of SMILES, and columns of targets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import Integers, offsets
from graphnorms.data.quality import Likeness
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading
from graphnorms.data.readers.table_files import (
    Table,
    read_table,
    suffix_of,
    target_columns,
    targets_of,
)
from graphnorms.data.tasks import TaskKind
from graphnorms.data.text_format import count, some
from graphnorms.errors import DatasetError

_NAMES: Final = ("smiles", "canonical_smiles", "isomeric_smiles", "smi", "mol", "molecule")
_LETTERS: Final = re.compile(r"[A-Za-z0-9@+\-\[\]()=#$:/\\.%*~>]+")
_TRIED: Final = 50
"""Rows that are looked at for a column of SMILES."""

_HYBRIDIZATIONS: Final = ("SP", "SP2", "SP3", "SP3D", "SP3D2")
_CHIRALITIES: Final = (
    "CHI_UNSPECIFIED",
    "CHI_TETRAHEDRAL_CW",
    "CHI_TETRAHEDRAL_CCW",
    "CHI_OTHER",
)
_BONDS: Final = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
_STEREO: Final = (
    "STEREONONE",
    "STEREOZ",
    "STEREOE",
    "STEREOCIS",
    "STEREOTRANS",
    "STEREOANY",
)


def read_molecules(path: Path, reading: Reading) -> GraphSet:
    """Read a table of molecules: a row each, with its SMILES and its targets.

    Atoms have nine labels and bonds three, those of the Open Graph Benchmark: atomic number − 1,
    chirality, degree, charge + 5, hydrogens, radical electrons, hybridization, aromatic, in a ring;
    bond type, stereo, conjugated. Rows that RDKit does not parse are left out and told, and so are
    repeats of one molecule (by canonical SMILES), which stay.

    Args:
        path: `.csv`, `.tsv` (packed by gzip or not) or `.parquet`.
        reading: The options; `smiles` and `target` name the columns, which are guessed otherwise.

    Raises:
        DatasetError: RDKit is missing, a column is missing or cannot be guessed, or no row is a
            molecule.

    Source: Hu et al. 2020 (Open Graph Benchmark), https://arxiv.org/abs/2005.00687.
    """
    table = read_table(path)
    column, guessed = _smiles_column(table, reading.smiles)
    texts = table.texts(column).tolist()
    molecules = _Molecules.of(texts)
    if not molecules.rows:
        raise DatasetError(
            f"{path}: RDKit parses none of the {count(len(texts), 'row')} of column {column!r} as "
            f"SMILES ({texts[0][:40]!r}, …); name the column by smiles (--smiles) {table.has}"
        )
    notes = [f"SMILES are in column {column!r}{' (guessed)' if guessed else ''}"]
    rows = np.array(molecules.rows)
    y: NDArray[Any] = np.empty(0)
    names: list[str] = []
    if reading.encoding is None:
        names, guessed = target_columns(table, reading.target, [column])
        y, kind = targets_of(table, names, reading.task)
        y, reading = y[rows], replace(reading, task=kind)
        word = "target" if len(names) == 1 else "targets"
        notes.append(f"{word} in {some(map(repr, names))}{' (guessed)' if guessed else ''}")
    lost = (
        [row for row in range(len(texts)) if row not in set(molecules.rows)]
        if len(rows) < len(texts)
        else []
    )
    if lost:
        notes.append(
            f"{len(lost)} of {count(len(texts), 'row')} left out, which RDKit does not parse "
            f"({table.rows(lost)}; the first: {texts[lost[0]][:40]!r})"
        )
    if repeats := _repeats(molecules.canonical, y, reading.task):
        notes.append(repeats)
    source, target = molecules.edges()
    return RawGraphs(
        name=path.name.removesuffix(suffix_of(path)),
        ptr=offsets(np.array(molecules.sizes)),
        source=source,
        target=target,
        y=y,
        labels=np.array(molecules.atoms, dtype=np.uint8).reshape(-1, 9),
        edge_labels=np.repeat(np.array(molecules.bonds, dtype=np.uint8).reshape(-1, 3), 2, axis=0),
        target_names=() if reading.task == "classification" else tuple(names),
        smiles=[texts[row] for row in molecules.rows],
        rows=rows if lost else None,
        num_rows=len(texts),
        notes=tuple(notes),
        file=path,
    ).pack(reading)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Molecules:
    """Molecules below each other.

    Args:
        rows: Row of each molecule.
        canonical: Its canonical SMILES.
        sizes: Its number of atoms.
        atoms, bonds: Labels of all atoms and bonds.
        ends: Atoms of each bond, counted over all molecules.
    """

    rows: list[int]
    canonical: list[str]
    sizes: list[int]
    atoms: list[tuple[int, ...]]
    bonds: list[tuple[int, ...]]
    ends: list[tuple[int, int]]

    @classmethod
    def of(cls, smiles: Iterable[str]) -> _Molecules:
        """Parse SMILES; others are left out.

        Raises:
            DatasetError: RDKit is missing.
        """
        Chem, quiet = rdkit()
        found = cls(rows=[], canonical=[], sizes=[], atoms=[], bonds=[], ends=[])
        with quiet():
            for row, text in enumerate(smiles):
                molecule = Chem.MolFromSmiles(text)
                if molecule is None or not molecule.GetNumAtoms():
                    continue
                first = len(found.atoms)
                found.atoms.extend(map(atom_labels, molecule.GetAtoms()))
                for bond in molecule.GetBonds():
                    found.bonds.append(bond_labels(bond))
                    ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
                    found.ends.append((first + ends[0], first + ends[1]))
                found.rows.append(row)
                found.sizes.append(len(found.atoms) - first)
                found.canonical.append(Chem.MolToSmiles(molecule))
        return found

    def edges(self) -> tuple[Integers, Integers]:
        """Return sources and targets of two edges for each bond, one after the other."""
        ends = np.array(self.ends, dtype=np.int64).reshape(-1, 2)
        return ends.reshape(-1), ends[:, ::-1].reshape(-1)


def rdkit() -> tuple[Any, Any]:
    """Return `rdkit.Chem`, and the context in which RDKit logs nothing.

    Raises:
        DatasetError: RDKit is not installed.
    """
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        raise DatasetError("molecules take RDKit: pip install 'graphnorms[chem]'") from None
    return Chem, rdBase.BlockLogs


def atom_labels(atom: Any) -> tuple[int, ...]:
    """Return the nine labels of an atom; what is rare shares the last value of its column."""
    number, charge = atom.GetAtomicNum(), atom.GetFormalCharge()
    return (
        number - 1 if 1 <= number <= 118 else 118,
        _place(_CHIRALITIES, str(atom.GetChiralTag())),
        min(atom.GetTotalDegree(), 11),
        charge + 5 if -5 <= charge <= 5 else 11,
        min(atom.GetTotalNumHs(), 9),
        min(atom.GetNumRadicalElectrons(), 5),
        _place(_HYBRIDIZATIONS, str(atom.GetHybridization())),
        int(atom.GetIsAromatic()),
        int(atom.IsInRing()),
    )


def bond_labels(bond: Any) -> tuple[int, ...]:
    """Return the three labels of a bond."""
    return (
        _place(_BONDS, str(bond.GetBondType())),
        _place(_STEREO, str(bond.GetStereo())),
        int(bond.GetIsConjugated()),
    )


def _place(known: Sequence[str], name: str) -> int:
    return known.index(name) if name in known else len(known)


def _smiles_column(table: Table, given: str) -> tuple[str, bool]:
    """Return the column of SMILES, and whether it was guessed, by its name or its content."""
    if given:
        return table.require(given, "the SMILES"), False
    named = [name for known in _NAMES for name in table.columns if name.lower() == known]
    named += [name for name in table.columns if "smiles" in name.lower() and name not in named]
    Chem, quiet = rdkit()
    with quiet():
        for name in [*named, *(other for other in table.columns if other not in named)]:
            column = table.columns[name]
            texts = [text for text in column[:_TRIED].tolist() if text] if _is_text(column) else []
            read = sum(
                _LETTERS.fullmatch(text) is not None and Chem.MolFromSmiles(text) is not None
                for text in texts
            )
            if texts and 2 * read > len(texts) and (name in named or max(map(len, texts)) > 3):
                return name, True
    raise DatasetError(
        f"{table.path}: no column holds SMILES; name it by smiles (--smiles), or for the nodes of "
        f"one graph give the table of its edges by edges (--edges) {table.has}"
    )


def _is_text(column: NDArray[Any]) -> bool:
    return column.dtype.kind == "U"


def _repeats(canonical: Sequence[str], y: NDArray[Any], task: TaskKind) -> str:
    """Describe the molecules that are listed again; empty if there are none."""
    group = np.unique(np.array(canonical), return_inverse=True)[1]
    targets = np.full((len(group), 1), np.nan)
    if len(y):
        targets = y.reshape(len(group), -1)
        if targets.dtype.kind == "U":
            number = np.unique(targets, return_inverse=True)[1].reshape(targets.shape)
            targets = np.where(targets == "", np.nan, number.astype(np.float64))
    found = Likeness.of(group, targets.astype(np.float64))
    if not found.items:
        return ""
    differ = f", {found.contradicting or 'none'} of them with different targets" if len(y) else ""
    return (
        f"{found.items} molecules are repeats of {count(found.groups, 'molecule')} by canonical "
        f"SMILES{differ}"
    )
