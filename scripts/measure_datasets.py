"""Measure public data sets by `graphnorms data`, and write the tables of `docs/datasets.md`.

    git clone --mirror https://github.com/OWNER/NAME CLONES/OWNER/NAME    # each of datasets.csv
    pip install rdkit==2026.9.1                                           # for the molecules
    python scripts/measure_datasets.py CLONES RESULTS

`datasets.csv`, beside this script, lists the sets: repository, commit and path of the file, and the
options of the command. What was measured is kept in RESULTS, a file of JSON for each set; what is
there is not measured again. The list of `--local DIR` is of files that no repository has.

Tables of molecules become graphs by RDKit, with the labels of `make_nci5k.py`; all columns of
numbers are targets where none is named. What RDKit does not parse is left out and counted.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import re
import shlex
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from graphnorms.files import fill_slots

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "datasets.md"
HELD = (
    "set",
    "file",
    "graphs",
    "loops",
    "repeats merged",
    "isolated nodes, in graphs",
    "of one node",
    "without edges",
    "constant columns",
    "twins",
    "by structure",
    "tested with a twin in training",
)
ALLOWED = (
    "set",
    "score",
    "ceiling: twins",
    "by structure",
    "message passing",
    "constant",
    "size alone",
    "degrees alone",
    "features without edges",
)


def main() -> None:
    """Measure what is not measured yet, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clones", type=Path, help="a folder of OWNER/NAME")
    parser.add_argument("results", type=Path, help="the folder for what is measured")
    parser.add_argument("--local", type=Path, help="a folder with files of no repository")
    arguments = parser.parse_args()
    arguments.results.mkdir(parents=True, exist_ok=True)
    with (HERE / "datasets.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        result = arguments.results / f"{row['name'].replace(', ', '-').replace(' ', '-')}.json"
        if not result.exists():
            text = measured(row, arguments.clones, arguments.local)
            result.write_text(text)
        row["facts"] = json.loads(result.read_text())
    repositories = dict.fromkeys(
        (row["repository"], row["commit"]) for row in rows if row["commit"]
    )
    letters = {pair: chr(ord("a") + at) for at, pair in enumerate(repositories)}
    parts = {
        "from": sources(letters),
        "held": table(HELD, [held(row, letters) for row in rows]),
        "allowed": table(ALLOWED, [allowed(row) for row in rows]),
    }
    fill_slots(PAGE, "|".join(parts), parts.__getitem__)


def measured(row: dict[str, Any], clones: Path, local: Path | None) -> str:
    """What the command says of a set, as JSON."""
    print(row["name"], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = fetched(row, clones, local, Path(folder))
        command = [sys.executable, "-m", "graphnorms", "data", str(path), "--json"]
        done = subprocess.run(
            [*command, *shlex.split(row["options"])], capture_output=True, text=True, check=False
        )
    if done.returncode:
        sys.exit(f"{row['name']}: {done.stderr.strip()}")
    return done.stdout


def fetched(row: dict[str, Any], clones: Path, local: Path | None, folder: Path) -> Path:
    """Put the file of a set into a folder, unpacked where it has to be."""
    name = Path(row["path"]).name
    if not row["commit"]:
        if local is None:
            sys.exit(f"{row['name']} is of no repository: give --local")
        content = (local / row["path"]).read_bytes()
    else:
        clone = clones / row["repository"]
        where = f"{row['commit']}:{row['path']}"
        done = subprocess.run(
            ["git", "-C", str(clone), "show", where], capture_output=True, check=False
        )
        if done.returncode:
            sys.exit(f"{row['name']}: {clone}: {done.stderr.decode().strip()}")
        content = done.stdout
    if row["smiles"]:
        text = gzip.decompress(content) if name.endswith(".gz") else content
        path = folder / f"{name.split('.')[0]}.npz"
        np.savez(path, **arrays_of(text.decode(), row["smiles"], row["targets"]))
        return path
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            archive.extractall(folder)
        return next(folder.rglob("*_A.txt")).parent
    (folder / name).write_bytes(content)
    return folder / name


def arrays_of(text: str, smiles: str, targets: str) -> dict[str, Any]:
    """The molecules of a table as arrays for `graphnorms.data.read_npz`."""
    import rdkit
    from make_nci5k import labels_of_atom, labels_of_bond
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    rows = list(csv.DictReader(io.StringIO(text)))
    names = targets.split(";") if targets else [name for name in rows[0] if numbers(rows, name)]
    parsed = [Chem.MolFromSmiles(row[smiles]) for row in rows]
    kept = [at for at, molecule in enumerate(parsed) if molecule and molecule.GetNumAtoms()]
    molecules = [parsed[at] for at in kept]
    bonds = [list(molecule.GetBonds()) for molecule in molecules]
    ends = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for each in bonds for b in each]
    edges = np.array(ends, dtype=np.int64).reshape(-1, 2).repeat(2, 0)
    edges[1::2] = edges[1::2, ::-1]  # a bond is two edges
    kinds = np.array([labels_of_bond(b) for each in bonds for b in each], dtype=np.int64)
    y = [[float(rows[at][name] or "nan") for name in names] for at in kept]
    notes = [f"graphs by RDKit {rdkit.__version__}"]
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept)} of {len(rows)} molecules left out, not parsed")
    return {
        "node_ptr": np.cumsum([0, *(molecule.GetNumAtoms() for molecule in molecules)]),
        "edge_ptr": np.cumsum([0, *(2 * len(each) for each in bonds)]),
        "x": np.array([labels_of_atom(atom) for each in molecules for atom in each.GetAtoms()]),
        "edge_index": edges.T,
        "edge_attr": kinds.reshape(-1, 3).repeat(2, 0),
        "y": np.array(y, dtype=np.float32),
        "target_names": np.array(names),
        "notes": np.array(notes),
    }


def numbers(rows: list[dict[str, str]], name: str) -> bool:
    """Whether a column holds numbers and nothing else."""
    return all(re.fullmatch(r"[-+.\deE]*", row[name]) for row in rows)


def sources(letters: dict[tuple[str, str], str]) -> str:
    """Which letter stands for which repository."""
    return "\n".join(
        f"- **{letter}** [{repository}](https://github.com/{repository}/tree/{commit}), commit "
        f"`{commit[:10]}`"
        for (repository, commit), letter in letters.items()
    )


def held(row: dict[str, Any], letters: dict[tuple[str, str], str]) -> list[Any]:
    """What a set holds, a cell for each of `HELD`."""
    facts, letter = row["facts"], letters.get((row["repository"], row["commit"]))
    it = facts["data"]
    said = " ".join(facts["notes"])
    isolated = f"{it['isolated']} in {it['isolated_in']}" if it["isolated"] else 0
    leaked = f"{facts['with_twin_in_training']} of {facts['tested']}" if it["twins"] else "–"
    return [
        row["name"],
        f"{f'{letter}: ' if letter else ''}`{row['path']}`",
        it["graphs"],
        noted(r"(\d+) self loops?", said),
        noted(r"(\d+) repeated edges? merged", said),
        isolated,
        it["one_node"],
        it["edgeless"],
        f"{it['constant']} of {it['columns']}",
        alike(it["twins"]),
        alike(it["structure"]),
        leaked,
    ]


def allowed(row: dict[str, Any]) -> list[Any]:
    """What a set allows, a cell for each of `ALLOWED`."""
    facts = row["facts"]
    metric, ceilings, simple = facts["metric"], facts["ceilings"], facts["baselines"]
    title = {"accuracy": "accuracy", "roc_auc": "ROC-AUC"}.get(metric, metric.upper())
    return [
        row["name"],
        title,
        *(score(metric, ceilings.get(name)) for name in ("twins", "structure", "alike")),
        *(score(metric, simple.get(name)) for name in ("constant", "size", "degree", "features")),
    ]


def noted(pattern: str, text: str) -> int:
    """The number in a note; 0 without it."""
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def alike(likeness: dict[str, int] | None) -> str:
    """How many graphs are like another; in brackets those with other targets."""
    return f"{likeness['items']} ({likeness['contradicting']})" if likeness else "–"


def score(metric: str, value: float | None) -> str:
    """Percent of accuracy and areas; three digits of errors."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}%" if metric in ("accuracy", "roc_auc") else f"{value:.3g}"


def table(head: tuple[str, ...], rows: list[list[Any]]) -> str:
    """A table in Markdown."""
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)


if __name__ == "__main__":
    main()
