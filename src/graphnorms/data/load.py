"""One way in for whatever names a data set."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from graphnorms.data.collection import collection_names, find_in_collection, read_collection
from graphnorms.data.embedded import embedded_names, read_embedded
from graphnorms.data.factory import call_factory
from graphnorms.data.features import EdgeFeatures, Features, check_edge_policy, check_policy
from graphnorms.data.graphset import GraphSet
from graphnorms.data.npz import read_npz
from graphnorms.data.powerful_gnns import read_powerful_gnns
from graphnorms.data.targets import TaskKind, check_task
from graphnorms.data.tu import is_tu_folder, read_tu
from graphnorms.errors import DatasetError, unknown_name
from graphnorms.user_code import is_spec

_ALSO = (
    "a data set is a name, a folder in TU format, a .npz file, a powerful-gnns text file "
    "(.gz or not), or module:factory"
)


def load_dataset(
    spec: str | os.PathLike[str],
    features: Features = "auto",
    *,
    task: TaskKind = "auto",
    edge_features: EdgeFeatures = "auto",
    root: str | os.PathLike[str] = "data",
) -> GraphSet:
    """Load a graph set by name, from disk, or from the user's own code.

    What is inferred, `GraphSet.describe` says in words.

    Args:
        spec: One of these, the first that fits:

            - the name of an embedded set in any case (`embedded_names()`), also where there is a
              folder of that name: write `./MUTAG` for the folder;
            - a folder in TU format, see `read_tu`;
            - a `.npz` file, see `read_npz`, or a powerful-gnns text file;
            - `module:factory`, see `call_factory`;
            - the name of a set of the TU collection, see `read_collection`.
        features: What the node features are made of, see `make_features`.
        task: What the targets are, see `make_targets`.
        edge_features: What the edge features are made of, see `make_edge_features`.
        root: The folder that sets of the TU collection lie in, and are downloaded to.

    Raises:
        ValueError: `features`, `task` or `edge_features` is no policy.
        DatasetError: Nothing is called `spec`, and the nearest names are given; what is there
            is malformed, and the file and line or array are named; or it does not have what is
            asked for.
    """
    check_policy(features)
    check_edge_policy(edge_features)
    check_task(task)
    text = os.fspath(spec)
    if text.lower() in (name.lower() for name in embedded_names()):
        return read_embedded(text, features, task=task, edge_features=edge_features)
    path = Path(text).expanduser()
    if not text:
        raise DatasetError(f"the name of the data set is empty; {_ALSO}")
    if path.is_dir():
        _check_folder(path)
        return read_tu(path, features=features, task=task, edge_features=edge_features)
    if path.is_file() and path.suffix != ".py":
        return _read_file(path, features, task, edge_features)
    if is_spec(text):
        return call_factory(text, features, task=task, edge_features=edge_features)
    if (name := find_in_collection(text, root)) is not None:
        return read_collection(name, root, features, task=task, edge_features=edge_features)
    if path.with_suffix(".py").is_file():
        module = ".".join(path.with_suffix("").parts)
        raise DatasetError(
            f"{text!r} is code, not data; name a function in it that returns graphs: "
            f"{module}:function"
        )
    if path.suffix or path.name != text:  # meant as a path
        raise DatasetError(f"{text!r}: no such file or folder; {_ALSO}")
    embedded = [name.lower() for name in embedded_names()]
    names = dict.fromkeys([*embedded, *(name.lower() for name in collection_names())])
    near = difflib.get_close_matches(text.lower(), names, cutoff=0.5)
    raise DatasetError(f"{unknown_name('data set', text, near or embedded)} ({_ALSO})")


def _read_file(
    path: Path, features: Features, task: TaskKind, edge_features: EdgeFeatures
) -> GraphSet:
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
    if is_archive or path.suffix in (".npz", ".npy"):
        return read_npz(path, features=features, task=task, edge_features=edge_features)
    if edge_features in ("labels", "attributes"):
        raise DatasetError(f"{path}: powerful-gnns text files have no edge {edge_features}")
    return read_powerful_gnns(path, features=features, task=task)


def _check_folder(folder: Path) -> None:
    texts = sorted(path for path in folder.glob("*.txt*") if path.is_file())
    if texts and not is_tu_folder(folder):
        raise DatasetError(
            f"{folder}: not a folder in TU format, for it has no *_A.txt; "
            f"if {texts[0].name} is a powerful-gnns text file, give its path"
        )
