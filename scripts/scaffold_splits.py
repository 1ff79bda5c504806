"""Compare the scaffold splits of packages on one table of molecules; docs/splits.md has the result.

    python scripts/scaffold_splits.py molecules.csv \
        --python deepchem=ENV1/bin/python --python scikit-fingerprints=ENV2/bin/python

The table has the columns `smiles` and `y`, an answer of 0 or 1. Each package runs in an interpreter
of its own, which this script calls, for no two of them agree on their dependencies. graphnorms and
scikit-learn are those of the interpreter that runs the script. A package without an interpreter is
reported as not run.

For each rule: the sizes of the parts, the share of y = 1 in the test part, the Jaccard index of its
test part with that of deepchem, whether another seed or another order of the rows changes the test
part (the Jaccard index of both, as sets of molecules), molecules without a ring in each part, and
the ROC-AUC of one random forest (300 trees, Morgan fingerprints of radius 2 and 2048 bits).
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

Parts = list[list[int]]


def deepchem(smiles: list[str], seed: int) -> Parts:
    """Its `ScaffoldSplitter`."""
    import deepchem as dc
    import numpy as np

    data = dc.data.NumpyDataset(X=np.zeros((len(smiles), 1)), ids=np.array(smiles))
    return _lists(dc.splits.ScaffoldSplitter().split(data, 0.8, 0.1, 0.1, seed=seed))


def skfp(smiles: list[str], seed: int, **options: Any) -> Parts:
    """`scaffold_train_valid_test_split` of scikit-fingerprints; it takes no seed."""
    from skfp.model_selection import scaffold_train_valid_test_split

    found = scaffold_train_valid_test_split(
        smiles, train_size=0.8, valid_size=0.1, test_size=0.1, return_indices=True, **options
    )
    return _lists(found[:3])


def skfp_csk(smiles: list[str], seed: int) -> Parts:
    """The same with `use_csk`: generic scaffolds."""
    return skfp(smiles, seed, use_csk=True)


def astartes(smiles: list[str], seed: int) -> Parts:
    """`train_val_test_split_molecules` of astartes with its sampler `scaffold`."""
    import numpy as np
    from astartes.molecules import train_val_test_split_molecules

    found = train_val_test_split_molecules(
        np.array(smiles),
        train_size=0.8,
        val_size=0.1,
        test_size=0.1,
        sampler="scaffold",
        random_state=seed or None,
        return_indices=True,
    )
    return _lists(found[-3:])


def chemprop(smiles: list[str], seed: int) -> Parts:
    """`make_split_indices` of chemprop, `scaffold_balanced`."""
    from chemprop.data import make_split_indices
    from rdkit import Chem

    molecules = [Chem.MolFromSmiles(text) for text in smiles]
    found = make_split_indices(molecules, "scaffold_balanced", (0.8, 0.1, 0.1), seed=seed)
    return _lists([part[0] if part and not isinstance(part[0], int) else part for part in found])


def splito(smiles: list[str], seed: int) -> Parts:
    """`ScaffoldSplit` of splito, twice: the rest, then test and validation."""
    import numpy as np
    from splito import ScaffoldSplit

    def once(texts: list[str], share: float) -> tuple[Any, Any]:
        splitter = ScaffoldSplit(
            smiles=texts, n_jobs=1, test_size=share, random_state=seed, make_generic=False
        )
        return next(splitter.split(X=texts))

    rest, test = once(smiles, 0.1)
    train, validation = once([smiles[place] for place in rest], 1 / 9)
    return _lists([np.asarray(rest)[train], np.asarray(rest)[validation], test])


def dgllife(smiles: list[str], seed: int, function: str = "decompose") -> Parts:
    """`ScaffoldSplitter` of dgllife."""
    from dgllife.utils import ScaffoldSplitter
    from rdkit import Chem

    class Molecules:
        def __init__(self) -> None:
            self.smiles = smiles

        def __len__(self) -> int:
            return len(smiles)

        def __getitem__(self, place: int) -> int:
            return place

    parts = ScaffoldSplitter.train_val_test_split(
        Molecules(),
        mols=[Chem.MolFromSmiles(text) for text in smiles],
        frac_train=0.8,
        frac_val=0.1,
        frac_test=0.1,
        log_every_n=None,
        scaffold_func=function,
    )
    return _lists([part.indices for part in parts])


def dgllife_smiles(smiles: list[str], seed: int) -> Parts:
    """The same with `scaffold_func="smiles"`."""
    return dgllife(smiles, seed, "smiles")


PEERS: dict[str, tuple[str, Callable[[list[str], int], Parts]]] = {
    "deepchem": ("deepchem", deepchem),
    "dgllife, default": ("dgllife", dgllife),
    "dgllife, `smiles`": ("dgllife", dgllife_smiles),
    "scikit-fingerprints": ("scikit-fingerprints", skfp),
    "scikit-fingerprints, `use_csk`": ("scikit-fingerprints", skfp_csk),
    "astartes": ("astartes", astartes),
    "chemprop, `scaffold_balanced`": ("chemprop", chemprop),
    "splito": ("splito", splito),
}
OURS = ("scaffold:hashed", "scaffold:deepchem", "scaffold:balanced")


def _lists(parts: Any) -> Parts:
    return [[int(place) for place in part] for part in parts]


def ours(rule: str) -> Callable[[list[str], int], Parts]:
    """A rule of graphnorms."""

    def split(smiles: list[str], seed: int) -> Parts:
        from graphnorms.data import ScaffoldSplit

        name = f"{rule}:{seed}" if rule == "scaffold:balanced" else rule
        made = ScaffoldSplit.named(name)
        part = made.divide(made.scaffolds(smiles))
        return [(part == number).nonzero()[0].tolist() for number in range(3)]

    return split


def in_interpreter(python: str, name: str, smiles: list[str], seed: int) -> tuple[Parts, str]:
    """Run a rule of another package in its own interpreter; return the parts and its version."""
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "smiles.json", Path(folder) / "parts.json"
        given.write_text(json.dumps(smiles))
        command = [python, __file__, str(given), "--run", name, "--seed", str(seed)]
        done = subprocess.run([*command, "--result", str(result)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1][:200])
        found = json.loads(result.read_text())
    return found["parts"], found["version"]


def jaccard(one: set[str] | set[int], other: set[str] | set[int]) -> float:
    """The share of what two sets have in common of what they have together."""
    return len(one & other) / max(1, len(one | other))


def forest_score(smiles: list[str], y: list[int], parts: Parts) -> str:
    """ROC-AUC of a random forest, trained and tested on the parts."""
    import numpy as np
    from rdkit import Chem
    from rdkit.Chem import rdFingerprintGenerator
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score

    make = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    x = np.array([make.GetFingerprintAsNumPy(Chem.MolFromSmiles(text)) for text in smiles])
    # A forest depends on the order of the rows.
    labels, (train, _, test) = np.array(y), map(sorted, parts)
    if len(set(labels[test].tolist())) < 2:
        return "undefined"
    forest = RandomForestClassifier(300, random_state=0, n_jobs=1).fit(x[train], labels[train])
    return f"{roc_auc_score(labels[test], forest.predict_proba(x[test])[:, 1]):.3f}"


def row_of(
    name: str,
    split: Callable[[list[str], int], Parts],
    smiles: list[str],
    y: list[int],
    reference: set[int] | None,
) -> tuple[list[str], Parts]:
    """Measure a rule; return a row of the table, and its parts."""
    import numpy as np
    from rdkit import Chem
    from rdkit.Chem.rdMolDescriptors import CalcNumRings

    parts = split(smiles, 0)
    test = set(parts[2])
    order = np.random.default_rng(1).permutation(len(smiles)).tolist()
    shuffled = {order[place] for place in split([smiles[place] for place in order], 0)[2]}
    other = set(split(smiles, 1)[2])
    flat = [CalcNumRings(Chem.MolFromSmiles(text)) == 0 for text in smiles]
    rings = "/".join(str(sum(flat[place] for place in part)) for part in parts)
    share = sum(y[place] for place in test) / max(1, len(test))
    return [
        name,
        "/".join(str(len(part)) for part in parts),
        f"{share:.0%}",
        "–" if reference is None else f"{jaccard(test, reference):.2f}",
        f"{jaccard(test, other):.2f}",
        f"{jaccard(test, shuffled):.2f}",
        rings,
        forest_score(smiles, y, parts),
    ], parts


def main() -> None:
    """Run everything, or one rule for the interpreter that called."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path, help="a CSV with the columns smiles and y")
    parser.add_argument("--python", action="append", default=[], metavar="PACKAGE=PATH")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        package, split = PEERS[given.run]
        parts = split(json.loads(given.table.read_text()), given.seed)
        given.result.write_text(json.dumps({"parts": parts, "version": version(package)}))
        return
    with given.table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    smiles, y = [row["smiles"] for row in rows], [int(float(row["y"])) for row in rows]
    pythons = dict(each.split("=", 1) for each in given.python)
    head = ["rule", "sizes", "y = 1 in test", "with deepchem's", "seed 1", "rows shuffled"]
    print(f"{given.table.stem}: {len(smiles)} molecules, {sum(y) / len(y):.0%} with y = 1\n")
    print(f"| {' | '.join([*head, 'ring-less', 'forest'])} |")
    print(f"| {' | '.join(['---'] * 8)} |")
    reference = set(ours("scaffold:deepchem")(smiles, 0)[2])
    known: dict[str, Parts] = {}
    for name, (package, _) in PEERS.items():
        if package not in pythons:
            print(f"| {name} | not run | | | | | | |", flush=True)
            continue

        def run(texts: list[str], seed: int, name: str = name, package: str = package) -> Parts:
            return in_interpreter(pythons[package], name, texts, seed)[0]

        try:
            release = in_interpreter(pythons[package], name, smiles[:50], 0)[1]
            row, known[name] = row_of(name, run, smiles, y, reference)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            print(f"| {name} | raises: {reason} | | | | | | |", flush=True)
            continue
        row[0] = row[0].replace(package, f"{package} {release}", 1)
        print(f"| {' | '.join(row)} |", flush=True)
    for rule in OURS:
        row, known[rule] = row_of(f"graphnorms `{rule}`", ours(rule), smiles, y, reference)
        print(f"| {' | '.join(row)} |", flush=True)
    if "deepchem" in known:
        one, other = (list(map(sorted, known[name])) for name in ("deepchem", "scaffold:deepchem"))
        equal = one == other
        print(f"\nscaffold:deepchem and deepchem: {'the same' if equal else 'DIFFERENT'} indices")


if __name__ == "__main__":
    sys.exit(main())
