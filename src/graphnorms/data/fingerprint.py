"""The content hash of a graph set."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from graphnorms.data.array_files import pieces
from graphnorms.data.onehot import OneHot

if TYPE_CHECKING:
    from graphnorms.data.graphset import GraphSet


def fingerprint_of(graphs: GraphSet) -> str:
    """Hash the content of a set, see `GraphSet.fingerprint`."""
    task = graphs.task
    usual = task.kind == "classification" and task.level == "graph"
    start = str(task.outputs) if usual else f"{task.level} {task.kind} {task.outputs}"
    digest = _Digest(graphs)
    digest.update(start.encode())
    _add_features(digest, ";", graphs.kept_x)
    tensors = [graphs.ptr, graphs.edge_ptr, graphs.edge_index, graphs.y]
    if not graphs.symmetric:
        tensors += [graphs.transpose_ptr, graphs.transpose_index]
    for tensor in tensors:
        _add(digest, ";", tensor)
    if graphs.kept_edge_features is not None:
        _add_features(digest, ";edge features", graphs.kept_edge_features)
    if graphs.split is not None:
        _add(digest, ";split", graphs.split)
    if (atoms := graphs.atoms) is not None:
        digest.update(f";cutoff{atoms.cutoff!r}".encode())
        for name, tensor in atoms.tensors().items():
            _add(digest, f";{name}", tensor)
    return digest.hexdigest()[:16]


class _Digest:
    """The hash of what was added; mapped pages are released on the way."""

    def __init__(self, graphs: GraphSet) -> None:
        self._hash = hashlib.sha256()
        self._release = graphs.release
        self.hexdigest = self._hash.hexdigest

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def add(self, rows: Tensor) -> None:
        for part in pieces(rows):
            self._hash.update(_little_endian(part).data)
            self._release()


def _add_features(digest: _Digest, mark: str, features: Tensor | OneHot) -> None:
    digest.update(f"{mark}<f4{tuple(features.shape)}".encode())
    # Hash one-hot features in chunks, so that the dense matrix never exists as a whole.
    for part in features.chunks() if isinstance(features, OneHot) else (features,):
        digest.add(part)


def _add(digest: _Digest, mark: str, tensor: Tensor) -> None:
    dtype = _little_endian(tensor[:0]).dtype.str
    digest.update(f"{mark}{dtype}{tuple(tensor.shape)}".encode())
    digest.add(tensor)


def _little_endian(tensor: Tensor) -> np.ndarray[Any, Any]:
    array = tensor.detach().cpu().contiguous().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False)
