"""Make `src/graphnorms/data/files/mutag.npz` from the wheel of grakel, which carries MUTAG.

    pip download --no-deps grakel -d DIR
    python scripts/make_mutag.py DIR/grakel-*.whl

The arrays are as small as they get: `node_counts` and `bond_counts` `(188,)`, `node_labels`
`(3371,)`, `bonds` `(2, 3721)` with node ids within the graph and each bond once, the lower id
first, all uint8; `graph_labels` `(188,)` int8.
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from graphnorms.data import GraphSet, read_tu

MEMBERS = "grakel/tests/data/MUTAG/"
RESULT = Path(__file__).parents[1] / "src" / "graphnorms" / "data" / "files" / "mutag.npz"


def main() -> None:
    """Read the wheel, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="the wheel of grakel")
    parser.add_argument("--out", type=Path, default=RESULT, help="default: %(default)s")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel, tempfile.TemporaryDirectory() as folder:
        members = [name for name in wheel.namelist() if name.startswith(MEMBERS)]
        if not members:
            parser.error(f"{arguments.wheel} has no {MEMBERS}; use the wheel of grakel 0.1.11")
        wheel.extractall(folder, members)
        mutag = read_tu(Path(folder) / MEMBERS, edge_features="none")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.out, **arrays_of(mutag))
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes, fingerprint {mutag.fingerprint}")


def arrays_of(mutag: GraphSet) -> dict[str, Any]:
    """Pack what the package needs of MUTAG in small integers."""
    if not mutag.symmetric or mutag.features != "one-hot node labels" or mutag.num_features != 7:
        raise SystemExit(f"expected undirected molecules with 7 node labels, read {mutag}")
    ptr = mutag.ptr.numpy()
    target = np.repeat(np.arange(mutag.num_nodes), np.diff(mutag.edge_ptr.numpy()))
    graph = np.searchsorted(ptr, target, side="right") - 1  # (edges,)
    target = target - ptr[graph]
    source = mutag.edge_index.numpy()
    once = target < source
    arrays = {
        "node_counts": np.diff(ptr).astype(np.uint8),
        "bond_counts": np.bincount(graph[once], minlength=len(mutag)).astype(np.uint8),
        # All seven labels occur, so that a label is the number of its column.
        "node_labels": mutag.x.argmax(dim=1).numpy().astype(np.uint8),
        "bonds": np.stack((target[once], source[once])).astype(np.uint8),
        "graph_labels": np.array([int(name) for name in mutag.class_names], dtype=np.int8)[
            mutag.y.numpy()
        ],
    }
    if 2 * arrays["bonds"].shape[1] != mutag.num_edges:
        raise SystemExit(f"expected no self loops, read {mutag}")
    return arrays


if __name__ == "__main__":
    main()
