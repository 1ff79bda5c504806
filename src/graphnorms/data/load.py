"""One way in for whatever names a data set."""

from __future__ import annotations

import os
from pathlib import Path

from graphnorms.data.embedded import embedded_names, read_embedded
from graphnorms.data.features import Features, check_policy
from graphnorms.data.graphset import GraphSet
from graphnorms.data.powerful_gnns import read_powerful_gnns
from graphnorms.data.tu import is_tu_folder, read_tu
from graphnorms.errors import DatasetError, unknown_name

_ALSO = "a data set is a name, a folder in TU format, or a powerful-gnns text file (.gz or not)"


def load_dataset(spec: str | os.PathLike[str], features: Features = "auto") -> GraphSet:
    """Load a graph set by name or from disk.

    Args:
        spec: The name of an embedded set in any case (`embedded_names()`), a folder in TU
            format, or a powerful-gnns text file. A name wins over a folder of that name in the
            current directory; write `./MUTAG` for the folder.
        features: What the node features are made of, see `make_features`.

    Raises:
        ValueError: `features` is no policy.
        DatasetError: Nothing is called `spec`, and the nearest names are given; or what is
            there is malformed, and the file and line are named.
    """
    check_policy(features)
    text = os.fspath(spec)
    known = [name.lower() for name in embedded_names()]
    if text.lower() in known:
        return read_embedded(text, features)
    path = Path(text).expanduser()
    if not text:
        raise DatasetError(f"the name of the data set is empty; {_ALSO}")
    if path.is_dir():
        return _read_folder(path, features)
    if path.is_file():
        return read_powerful_gnns(path, features=features)
    if path.suffix or path.name != text:  # meant as a path
        raise DatasetError(f"{text!r}: no such file or folder; {_ALSO}")
    raise DatasetError(f"{unknown_name('data set', text, known)} ({_ALSO})")


def _read_folder(folder: Path, features: Features) -> GraphSet:
    texts = sorted(path for path in folder.glob("*.txt*") if path.is_file())
    if texts and not is_tu_folder(folder):
        raise DatasetError(
            f"{folder}: not a folder in TU format, for it has no *_A.txt; "
            f"if {texts[0].name} is a powerful-gnns text file, give its path"
        )
    return read_tu(folder, features=features)
