"""The content hash of a graph set."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from graphnorms.data.onehot import OneHot

if TYPE_CHECKING:
    from graphnorms.data.graphset import GraphSet


def fingerprint_of(graphs: GraphSet) -> str:
    """Hash the content of a set, see `GraphSet.fingerprint`."""
    task = graphs.task
    usual = task.kind == "classification" and task.level == "graph"
    start = str(task.outputs) if usual else f"{task.level} {task.kind} {task.outputs}"
    digest = hashlib.sha256(start.encode())
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


def _add_features(digest: Any, mark: str, features: Tensor | OneHot) -> None:
    digest.update(f"{mark}<f4{tuple(features.shape)}".encode())
    # Hash one-hot features in chunks, so that the dense matrix never exists as a whole.
    for part in features.chunks() if isinstance(features, OneHot) else (features,):
        digest.update(_little_endian(part).data)


def _add(digest: Any, mark: str, tensor: Tensor) -> None:
    array = _little_endian(tensor)
    digest.update(f"{mark}{array.dtype.str}{array.shape}".encode())
    digest.update(array.data)


def _little_endian(tensor: Tensor) -> np.ndarray[Any, Any]:
    array = tensor.detach().cpu().contiguous().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False)
