"""The graph sets embedded in the package."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files
from typing import Unpack

import numpy as np

from graphnorms.data import clusters
from graphnorms.data.feature_columns import Features
from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import offsets
from graphnorms.data.readers.npz import read_npz
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading, ReadOptions
from graphnorms.errors import DatasetError, unknown_name

_NAMES = ("MUTAG", "nci5k", clusters.NAME)


def embedded_names() -> tuple[str, ...]:
    """Return the names of the embedded graph sets."""
    return _NAMES


def read_embedded(
    name: str,
    features: Features = "auto",
    **options: Unpack[ReadOptions],
) -> GraphSet:
    """Read an embedded graph set.

    MUTAG: 188 nitro compounds, 3371 atoms (the label is the element: C N O F I Cl Br), 3721
    bonds; the classes are -1 (63 compounds) and 1 (125, mutagenic). The graphs, nodes and labels
    are those of the TU collection, in its order; `scripts/make_mutag.py` made the file.

    nci5k: the first 4991 compounds of the open NCI database that RDKit parses, 81986 atoms with
    nine labels, 84317 bonds with three; the target is Crippen's logP, computed by RDKit 2026.09.1,
    and there is a scaffold split. `scripts/make_nci5k.py` made the file and documents the labels
    and the rule of the split. The data are from RDKit, BSD 3-clause; see `files/LICENSE-nci5k`.

    clusters: 1000 clusters of 3 to 12 atoms of H, C, N and O with energies and forces of a
    classical potential, generated when loaded; see `graphnorms.data.clusters`.

    Args:
        name: One of `embedded_names()`, in any case.
        features: The policy for node features, see `node_columns`.
        options: See `Reading`.

    Raises:
        ValueError: The name is unknown.
        DatasetError: The set lacks what is requested.

    Source: Debnath et al., J. Med. Chem. 1991; TU collection, Morris et al. 2020. Wildman and
    Crippen, J. Chem. Inf. Comput. Sci. 1999; RDKit, https://www.rdkit.org.
    """
    reading = Reading(features=features, **options)
    known = {known.lower(): known for known in _NAMES}
    if name.lower() not in known:
        raise unknown_name("embedded data set", name, known)
    name = known[name.lower()]
    if name == clusters.NAME:
        if replace(reading, encoding=None) != Reading():
            raise DatasetError(
                f"{name} is generated with its features and targets, and takes no options of "
                "reading; leave them out"
            )
        return clusters.clusters(encoding=reading.encoding)
    with as_file(files("graphnorms.data") / "files" / f"{name.lower()}.npz") as path:
        if name != "MUTAG":
            return read_npz(path, name, features, **options)
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key].astype(np.int64) for key in stored.files}
    ptr = offsets(arrays["node_counts"])  # (graphs + 1,)
    bonds = arrays["bonds"] + np.repeat(ptr[:-1], arrays["bond_counts"])  # (2, bonds)
    return RawGraphs(
        name=name,
        ptr=ptr,
        # A bond is stored once, and means an edge in both directions.
        source=np.concatenate((bonds[0], bonds[1])),
        target=np.concatenate((bonds[1], bonds[0])),
        y=arrays["graph_labels"],
        labels=arrays["node_labels"][:, None],
    ).pack(reading)
