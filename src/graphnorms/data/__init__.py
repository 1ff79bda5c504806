"""Packed in-memory graph sets: readers, embedded sets, splits, and minibatches by gathers.

A module is loaded when one of its names is used: texts need the kinds of tasks, and no torch.
"""

from typing import TYPE_CHECKING, Any

from graphnorms.late import attribute

if TYPE_CHECKING:
    from graphnorms.data.atom_frames import Frames
    from graphnorms.data.atoms import Atoms
    from graphnorms.data.batch import GraphBatch
    from graphnorms.data.feature_columns import EdgeFeatures, Features
    from graphnorms.data.folds import stratified_folds
    from graphnorms.data.graphset import GraphSet
    from graphnorms.data.load import load_dataset
    from graphnorms.data.pyg_list import to_pyg
    from graphnorms.data.readers.embedded import embedded_names
    from graphnorms.data.readers.networkx_graphs import from_networkx
    from graphnorms.data.readers.npz import read_npz, save_npz
    from graphnorms.data.readers.packed_parquet import save_parquet
    from graphnorms.data.readers.powerful_gnns import read_powerful_gnns
    from graphnorms.data.readers.pyg_data import from_pyg
    from graphnorms.data.readers.read_options import Reading, ReadOptions
    from graphnorms.data.readers.streamed import pack
    from graphnorms.data.readers.tu import read_tu
    from graphnorms.data.scaffolds import ScaffoldSplit
    from graphnorms.data.split_files import read_split_file
    from graphnorms.data.splits import Split, SplitConfig, split_items
    from graphnorms.data.synthetic import random_graphs
    from graphnorms.data.tasks import Task, TaskKind

__all__ = [
    "Atoms",
    "EdgeFeatures",
    "Features",
    "Frames",
    "GraphBatch",
    "GraphSet",
    "ReadOptions",
    "Reading",
    "ScaffoldSplit",
    "Split",
    "SplitConfig",
    "Task",
    "TaskKind",
    "embedded_names",
    "from_networkx",
    "from_pyg",
    "load_dataset",
    "pack",
    "random_graphs",
    "read_npz",
    "read_powerful_gnns",
    "read_split_file",
    "read_tu",
    "save_npz",
    "save_parquet",
    "split_items",
    "stratified_folds",
    "to_pyg",
]

_MODULES = (
    "atom_frames",
    "atoms",
    "batch",
    "feature_columns",
    "folds",
    "graphset",
    "load",
    "pyg_list",
    "readers.embedded",
    "readers.networkx_graphs",
    "readers.npz",
    "readers.packed_parquet",
    "readers.powerful_gnns",
    "readers.pyg_data",
    "readers.read_options",
    "readers.streamed",
    "readers.tu",
    "scaffolds",
    "split_files",
    "splits",
    "synthetic",
    "tasks",
)
"""The modules that define these names."""


def __getattr__(name: str) -> Any:
    return attribute(__name__, name, _MODULES)
