"""The graph sets that the package carries, so that it works without a network."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from graphnorms.data.features import Features, check_policy
from graphnorms.data.graphset import GraphSet
from graphnorms.data.raw import RawGraphs
from graphnorms.errors import unknown_name

_NAMES = ("MUTAG",)


def embedded_names() -> tuple[str, ...]:
    """The names of the graph sets that the package carries."""
    return _NAMES


def read_embedded(name: str, features: Features = "auto") -> GraphSet:
    """Read a graph set that the package carries.

    MUTAG: 188 nitro compounds, 3371 atoms (the label is the element: C N O F I Cl Br), 3721
    bonds; the classes are -1 (63 compounds) and 1 (125, mutagenic). The graphs, nodes and labels
    are those of the TU collection, in its order; `scripts/make_mutag.py` made the file.

    Args:
        name: One of `embedded_names()`, in any case.
        features: What the node features are made of, see `make_features`.

    Raises:
        ValueError: The name is unknown.

    Source: Debnath et al., J. Med. Chem. 1991; TU collection, Morris et al. 2020.
    """
    check_policy(features)
    known = {known.lower(): known for known in _NAMES}
    if name.lower() not in known:
        raise unknown_name("embedded data set", name, known)
    path = files("graphnorms.data") / "files" / f"{name.lower()}.npz"
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        arrays = {key: stored[key].astype(np.int64) for key in stored.files}
    ptr = np.concatenate(([0], np.cumsum(arrays["node_counts"])))  # (graphs + 1,)
    bonds = arrays["bonds"] + np.repeat(ptr[:-1], arrays["bond_counts"])  # (2, bonds)
    return RawGraphs(
        name=known[name.lower()],
        ptr=ptr,
        # A bond is stored once, and stands for an edge in either direction.
        source=np.concatenate((bonds[0], bonds[1])),
        target=np.concatenate((bonds[1], bonds[0])),
        y=arrays["graph_labels"],
        labels=arrays["node_labels"][:, None],
    ).pack(features)
