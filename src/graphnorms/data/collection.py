"""The TU graph collection by name: read from disk, downloaded by PyG where it is not there."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Unpack

from graphnorms.data.feature_columns import Features
from graphnorms.data.graphset import GraphSet
from graphnorms.data.readers.read_options import ReadOptions
from graphnorms.data.readers.tu import is_tu_folder, read_tu
from graphnorms.errors import DatasetError

_NAMES = (
    "AIDS", "alchemy_full", "BZR", "BZR_MD", "COIL-DEL", "COIL-RAG", "COLLAB", "COLORS-3", "COX2",
    "COX2_MD", "Cuneiform", "DBLP_v1", "DD", "deezer_ego_nets", "DHFR", "DHFR_MD", "ENZYMES",
    "ER_MD", "Fingerprint", "FIRSTMM_DB", "FRANKENSTEIN", "github_stargazers", "IMDB-BINARY",
    "IMDB-MULTI", "KKI", "Letter-high", "Letter-low", "Letter-med", "MCF-7", "MCF-7H", "MOLT-4",
    "MOLT-4H", "MSRC_9", "MSRC_21", "MSRC_21C", "MUTAG", "Mutagenicity", "NCI1", "NCI109",
    "NCI-H23", "NCI-H23H", "OHSU", "OVCAR-8", "OVCAR-8H", "P388", "P388H", "PC-3", "PC-3H",
    "Peking_1", "PROTEINS", "PROTEINS_full", "PTC_FM", "PTC_FR", "PTC_MM", "PTC_MR", "QM9",
    "REDDIT-BINARY", "REDDIT-MULTI-5K", "REDDIT-MULTI-12K", "reddit_threads", "SF-295", "SF-295H",
    "SN12C", "SN12CH", "SW-620", "SW-620H", "SYNTHETIC", "SYNTHETICnew", "Synthie", "TRIANGLES",
    "twitch_egos", "TWITTER-Real-Graph-Partial", "UACC257", "UACC257H", "Yeast", "YeastH",
    "ZINC_full", "ZINC_test", "ZINC_train", "ZINC_val",
)  # fmt: skip
_HOME = "https://www.chrsmrrs.com/graphkerneldatasets"


def collection_names() -> tuple[str, ...]:
    """The sets of the collection that are looked for by name; others only if they are on disk."""
    return _NAMES


def find_in_collection(name: str, root: str | os.PathLike[str]) -> str | None:
    """Return what the collection calls a set, or None if `name` names none.

    A name is found in any case; it may also be that of any folder in TU format in `root`.
    """
    if name in ("", ".", ".."):
        return None
    known = {known.lower(): known for known in _NAMES}
    here = Path(root) / name
    return name if here.name == name and is_tu_folder(here) else known.get(name.lower())


def read_collection(
    name: str,
    root: str | os.PathLike[str] = "data",
    features: Features = "auto",
    **options: Unpack[ReadOptions],
) -> GraphSet:
    """Read a set of the TU collection from `root/NAME`, or `root/NAME/raw` as PyG leaves it.

    What is not there is downloaded by PyG's `TUDataset`, which then also leaves its own copy in
    `root/NAME/processed`; only the text files are read here.

    Args:
        name: As the collection writes it.
        root: The folder that holds the sets.
        features: What the node features are made of, see `node_columns`.
        options: See `Reading`.

    Raises:
        DatasetError: The files are not there and cannot be had, and the message says which to
            put where; or they are malformed.
    """
    folder = Path(root) / name
    if not is_tu_folder(folder):
        reason = _download(name, root)
        if not is_tu_folder(folder):
            raise DatasetError(
                f"data set {name!r} is not in {folder}, and {reason}; put {name}_A.txt, "
                f"{name}_graph_indicator.txt, {name}_graph_labels.txt and, if there are any, "
                f"{name}_node_labels.txt and {name}_node_attributes.txt of {_HOME}/{name}.zip "
                f"into {folder / 'raw'}"
            )
    return read_tu(folder, features=features, **options)


def _download(name: str, root: str | os.PathLike[str]) -> str:
    """Have PyG download a set; why there may be none."""
    try:
        # What PyG has deprecated of torch's is no news to whoever asks for a data set.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch_geometric.datasets import TUDataset

            TUDataset(os.fspath(root), name)
    except ImportError as error:
        return f"PyTorch Geometric, which would download it, cannot be imported ({error})"
    # Whatever a network, a proxy, a server and three libraries can raise.
    except Exception as error:
        lines = str(error).splitlines()
        return (
            f"PyG could not download it ({type(error).__name__}{f': {lines[0]}' if lines else ''})"
        )
    return "PyG's download left nothing there"
