"""What a file that `GraphSet` was written to says of the set, beside its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self, cast

import torch
from torch import Tensor

from graphnorms.data.graphset import GraphSet
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading
from graphnorms.data.tasks import TaskKind
from graphnorms.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class StoredWords:
    """The words of a set.

    Args:
        name: Of the set.
        task: The kind of its task, `"auto"` if it is not said.
        features: What its node features are.
        class_names, target_names: The names of its targets; those of classes for classification.
        unit: Of the targets.
        metric: The official metric.
        notes: What a user should be told.
    """

    name: str
    task: TaskKind = "auto"
    features: str = ""
    class_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    unit: str = ""
    metric: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, graphs: GraphSet) -> Self:
        """Return the words of a set.

        Raises:
            DatasetError: It has atoms, which no such file keeps.
        """
        if graphs.atoms is not None:
            raise DatasetError(
                f"{graphs.name} has atoms, which .npz and Parquet files of graphs do not keep; "
                "keep its extended-XYZ file"
            )
        classes = graphs.class_names
        return cls(
            name=graphs.name,
            task=cast(TaskKind, graphs.task.kind),
            features=graphs.features,
            class_names=classes,
            target_names=() if classes else graphs.task.targets,
            unit=graphs.task.unit,
            metric=graphs.metric,
            notes=graphs.notes,
        )

    @classmethod
    def read(cls, found: Mapping[str, Any], name: str) -> Self:
        """Read what `to_dict` wrote.

        Args:
            found: The words; other entries are left out.
            name: The name of the set, if there is none.
        """
        words = {key: found[key] for key in cls.__dataclass_fields__ if found.get(key)}
        lists = {key: tuple(value) for key, value in words.items() if isinstance(value, list)}
        return cls(**{"name": name, **words, **lists})

    def to_dict(self) -> dict[str, Any]:
        """Return the words that there are, with lists for tuples."""
        words = {name: value for name, value in asdict(self).items() if value}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in words.items()}

    def pack(self, raw: RawGraphs, reading: Reading) -> GraphSet:
        """Pack raw graphs with these words; what is asked for overrides them.

        Raises:
            DatasetError: The graphs lack what is requested.
        """
        task = self.task if reading.task == "auto" else reading.task
        if task == "auto" and self.class_names:
            task = "classification"
        graphs = replace(
            raw,
            target_names=self.class_names if task == "classification" else self.target_names,
            unit=self.unit,
            unknown=-1 if self.class_names or raw.level == "node" else None,
            metric=self.metric,
            notes=(*raw.notes, *self.notes),
        ).pack(replace(reading, task=task))
        described = self.features and reading.features == "auto"
        return graphs._with(features=self.features) if described else graphs


def local_targets(graphs: GraphSet) -> Tensor:
    """Return the target of each edge, counted from 0 within its graph, `(edges,)`."""
    first = torch.repeat_interleave(graphs.ptr[:-1], graphs.ptr.diff())  # (nodes,)
    local = torch.arange(graphs.num_nodes) - first
    return torch.repeat_interleave(local, graphs.edge_ptr.diff())
