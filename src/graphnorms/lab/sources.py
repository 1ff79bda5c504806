"""The graphs of a comparison: read by name or path, or given as objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
        name: The name or path that the user gave, or the name of the object.
        reading: Arguments of `graphnorms.data.load_dataset` that they were read with.
        in_memory: Whether they came as an object and cannot be read again.
        objects: The items as the user gave them, for trials that user code trains.
    """

    graphs: GraphSet
    name: str
    reading: dict[str, Any] = field(default_factory=dict)
    in_memory: bool = False
    objects: Sequence[Any] | None = None


def load_source(dataset: Dataset, reading: Mapping[str, Any]) -> Source:
    """Return the graphs for `compare`.

    Args:
        dataset: See `compare`.
        reading: Arguments of `graphnorms.data.load_dataset`.

    Raises:
        ValueError: The graphs cannot be read, or a `GraphSet` is given with options of reading.
    """
    from graphnorms.data import GraphSet, Reading, from_networkx, from_pyg, load_dataset
    from graphnorms.data.readers.networkx_graphs import is_networkx

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
            f"dataset is {dataset!r:.100}, expected a name, a path, a GraphSet, a list of PyG's "
            "Data, or NetworkX graphs"
        )
    if "root" in reading:
        raise ValueError("root says where data are, but they are given as objects; leave it out")
    if is_networkx(dataset):
        graphs = from_networkx(dataset, reading=Reading(**reading))
    else:
        graphs = from_pyg(dataset, **reading)
    return Source(graphs=graphs, name=graphs.name, reading=reading, in_memory=True)


Load: TypeAlias = Callable[[Dataset, Mapping[str, Any]], Source]


def load_again(
    stored: Mapping[str, Any],
    folder: Path,
    dataset: Dataset,
    reading: Mapping[str, Any],
    load: Load = load_source,
) -> Source:
    """Return the graphs of a stored run.

    Args:
        stored: Its config.
        folder: The folder, for the message.
        dataset: The graphs, if they are given; None takes those that the run names.
        reading: Arguments of `graphnorms.data.load_dataset`.
        load: Reads them.

    Raises:
        GraphnormsError: They were objects in memory, and are not given.
        ValueError: As `load_source` does.
    """
    if dataset is None:
        if stored.get("in_memory"):
            raise GraphnormsError(
                f"the run in {folder} was made from graphs in memory; call compare() with them"
            )
        dataset = stored["dataset"]
    return load(dataset, reading)
