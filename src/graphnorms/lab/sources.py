"""The graphs of a comparison: read by name or path, or given as objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from graphnorms.errors import GraphnormsError

if TYPE_CHECKING:
    from graphnorms.data import GraphSet

Dataset: TypeAlias = "str | Path | GraphSet | Sequence[Any] | None"
DEFAULT_DATASET: Final = "MUTAG"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Graphs, and where they come from.

    Args:
        graphs: The graphs.
        name: What they are called: as the user named them, or as an object calls itself.
        reading: Options they were read with, those of `graphnorms.data.load_dataset`.
        in_memory: Whether they came as an object, so that nobody can read them again.
    """

    graphs: GraphSet
    name: str
    reading: dict[str, Any] = field(default_factory=dict)
    in_memory: bool = False


def load_source(dataset: Dataset, reading: Mapping[str, Any]) -> Source:
    """Return the graphs that `compare` was asked for.

    Args:
        dataset: See `compare`.
        reading: How they are to be read, where anything is said.

    Raises:
        ValueError: The graphs cannot be read, or it is said how to read a `GraphSet`.
    """
    from graphnorms.data import GraphSet, from_pyg, load_dataset

    reading = dict(reading)
    if dataset is None or isinstance(dataset, str | Path):
        name = DEFAULT_DATASET if dataset is None else str(dataset)
        return Source(graphs=load_dataset(name, **reading), name=name, reading=reading)
    if isinstance(dataset, GraphSet):
        if reading:
            raise ValueError(
                f"{next(iter(reading))} says how data are read, but the data are a GraphSet; "
                "make it as it is wanted"
            )
        return Source(graphs=dataset, name=dataset.name, in_memory=True)
    if not isinstance(dataset, Iterable):
        raise ValueError(
            f"dataset is {dataset!r:.100}, expected a name, a path, a GraphSet or a list of PyG's "
            "Data"
        )
    graphs = from_pyg(dataset, **reading)
    return Source(graphs=graphs, name=graphs.name, reading=reading, in_memory=True)


def load_again(
    stored: Mapping[str, Any], folder: Path, dataset: Dataset, reading: Mapping[str, Any]
) -> Source:
    """Return the graphs of a run that is there.

    Args:
        stored: What its folder keeps.
        folder: The folder, for the message.
        dataset: The graphs, if they are given; None takes those that the run names.
        reading: How they are to be read.

    Raises:
        GraphnormsError: They are nobody's but the user's, and are not given.
        ValueError: As `load_source` does.
    """
    if dataset is None:
        if stored.get("in_memory"):
            raise GraphnormsError(
                f"the run in {folder} was made from graphs in memory; call compare() with them"
            )
        dataset = stored["dataset"]
    return load_source(dataset, reading)
