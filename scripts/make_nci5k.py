"""Make `src/graphnorms/data/files/nci5k.npz` from the molecules that the wheel of RDKit carries.

    pip install rdkit==2026.9.1
    python scripts/make_nci5k.py

`Data/NCI/first_5K.smi` of that wheel lists 4999 compounds of the open NCI database as SMILES,
of which RDKit parses 4991; the others (valences that cannot be) are left out and counted. RDKit
and its data are under the BSD 3-clause licence, which goes with the file as `LICENSE-nci5k`.

The arrays are those that `graphnorms.data.read_npz` describes. Labels of an atom (columns of
`x`): atomic number, chirality tag, degree, formal charge + 5, hydrogens, radical electrons,
hybridization, aromatic, in a ring. Labels of a bond (columns of `edge_attr`): type, stereo,
conjugated. Tags and types are RDKit's numbers. `y` is the logarithm of the partition coefficient
between octanol and water, as Wildman and Crippen's atom contributions add up to it (J. Chem. Inf.
Comput. Sci. 1999).

`scaffold_split` has 80, 10 and 10 percent of the molecules: those with one Bemis-Murcko scaffold
are in one part, and the scaffolds with most molecules are trained on, of equally frequent ones
those that are listed first (MoleculeNet takes the last: its test molecules are others). The 1149
molecules without a ring have one scaffold and are trained on. Molecules that the list
holds twice have one scaffold, so that no part sees another's.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import rdkit
from rdkit import Chem, RDConfig, RDLogger
from rdkit.Chem import Crippen
from rdkit.Chem.Scaffolds import MurckoScaffold

from graphnorms.data import read_npz

MOLECULES = Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi"
RESULT = Path(__file__).parents[1] / "src" / "graphnorms" / "data" / "files" / "nci5k.npz"
CHARGES = 5  # added, for the column holds no negative numbers


def main() -> None:
    """Read the molecules, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULT, help="default: %(default)s")
    arguments = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    smiles = [line.split()[0] for line in MOLECULES.read_text().splitlines()]
    parsed = [Chem.MolFromSmiles(text) for text in smiles]
    molecules = [molecule for molecule in parsed if molecule is not None]
    np.savez_compressed(arguments.out, **arrays_of(molecules))
    left_out = len(parsed) - len(molecules)
    print(f"RDKit {rdkit.__version__}: {len(molecules)} molecules, {left_out} not parsed")
    nci5k = read_npz(arguments.out)
    size = arguments.out.stat().st_size
    print(f"{arguments.out}: {size} bytes, fingerprint {nci5k.fingerprint}\n{nci5k.describe()}")


def arrays_of(molecules: list[Any]) -> dict[str, Any]:
    """Put the molecules below each other."""
    atoms = [[labels_of_atom(atom) for atom in molecule.GetAtoms()] for molecule in molecules]
    ends = [
        [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()]
        for molecule in molecules
    ]
    bonds = [labels_of_bond(bond) for molecule in molecules for bond in molecule.GetBonds()]
    # A bond is two edges, one after the other.
    edges = [
        edge for pairs in ends for one, other in pairs for edge in ((one, other), (other, one))
    ]
    return {
        "node_ptr": np.cumsum([0, *map(len, atoms)], dtype=np.int32),
        "edge_ptr": np.cumsum([0, *(2 * len(pairs) for pairs in ends)], dtype=np.int32),
        "x": np.array([labels for rows in atoms for labels in rows], dtype=np.uint8),
        "edge_index": np.array(edges, dtype=np.uint8).T,
        "edge_attr": np.repeat(np.array(bonds, dtype=np.uint8), 2, axis=0),
        "y": np.array([[Crippen.MolLogP(molecule)] for molecule in molecules], dtype=np.float32),
        "target_names": np.array(["Crippen logP"]),
        "scaffold_split": scaffold_split(molecules),
    }


def labels_of_atom(atom: Any) -> list[int]:
    """The columns of `x`."""
    return [
        atom.GetAtomicNum(),
        int(atom.GetChiralTag()),
        atom.GetTotalDegree(),
        atom.GetFormalCharge() + CHARGES,
        atom.GetTotalNumHs(),
        atom.GetNumRadicalElectrons(),
        int(atom.GetHybridization()),
        int(atom.GetIsAromatic()),
        int(atom.IsInRing()),
    ]


def labels_of_bond(bond: Any) -> list[int]:
    """The columns of `edge_attr`."""
    return [int(bond.GetBondType()), int(bond.GetStereo()), int(bond.GetIsConjugated())]


def scaffold_split(molecules: list[Any]) -> Any:
    """The part of each molecule: 0 training, 1 validation, 2 test, `(molecules,)`."""
    members = defaultdict(list)
    for number, molecule in enumerate(molecules):
        members[MurckoScaffold.MurckoScaffoldSmiles(mol=molecule)].append(number)
    # The most frequent scaffold first; equally frequent ones in the order of the list.
    groups = sorted(members.values(), key=lambda group: (-len(group), group[0]))
    sizes = [round(0.8 * len(molecules)), round(0.9 * len(molecules))]
    split = np.full(len(molecules), 2, dtype=np.int8)
    taken = [0, 0]
    for group in groups:
        if taken[0] + len(group) <= sizes[0]:
            split[group] = 0
            taken[0] += len(group)
        elif taken[0] + taken[1] + len(group) <= sizes[1]:
            split[group] = 1
            taken[1] += len(group)
    return split


if __name__ == "__main__":
    main()
