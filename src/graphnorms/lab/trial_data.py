"""Trials that user code trains: their data, what they are scored by, and what they return."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from graphnorms.errors import DatasetError, GraphnormsError
from graphnorms.lab.phrases import listing
from graphnorms.lab.sources import Dataset, Source, load_source
from graphnorms.user_code import is_spec

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.lab.options import Options
    from graphnorms.training.record import Record
    from graphnorms.training.trainer import Trainer

ITEMS: Final = "the trial's own"
"""The `features` of a set without graphs."""


def load_trial_source(dataset: Dataset, reading: Mapping[str, Any]) -> Source:
    """Return the data of a comparison of trials that user code trains.

    Besides what `load_source` reads: a list of objects with a target `y`, which trials get as they
    are; a list or an array of targets, or a number of items, if trials have data of their own. The
    function of `"module:function"` may return any of these.

    Args:
        dataset, reading: See `load_source`.

    Raises:
        ValueError: The data cannot be read.
    """
    from graphnorms.data import GraphSet
    from graphnorms.data.readers.networkx_graphs import is_networkx

    given: Any = dataset
    name, in_memory = "items", True
    if isinstance(dataset, str) and is_spec(dataset):
        from graphnorms.data.load import result_of

        given, in_memory = result_of(dataset), False
        name = dataset.rpartition(":")[2].rpartition(".")[2]
        if isinstance(given, GraphSet):
            return replace(load_source(given, reading), name=dataset, in_memory=False)
    elif isinstance(dataset, str) and dataset.isdecimal():
        given, in_memory = int(dataset), False
    elif dataset is None or isinstance(dataset, str | GraphSet) or hasattr(dataset, "__fspath__"):
        return load_source(dataset, reading)
    spec = str(dataset) if not in_memory else ""
    if is_networkx(given):
        source = load_source(given, reading)
        return source if in_memory else replace(source, name=spec, in_memory=False)
    if "root" in reading:
        raise ValueError("root says where data are, but they are given as objects; leave it out")
    if isinstance(given, int) and not isinstance(given, bool):
        return Source(graphs=_unlabelled(given, name), name=spec or name, in_memory=in_memory)
    if not isinstance(given, Iterable):
        raise DatasetError(
            f"dataset is {given!r:.100}, expected graphs, a list of objects with y, a list of "
            "targets, or a number of items"
        )
    objects: Sequence[Any] | None = list(given)
    assert objects is not None
    if not objects:
        raise DatasetError("the list of items is empty, expected at least two")
    if hasattr(objects[0], "edge_index"):
        from graphnorms.data import from_pyg

        graphs = from_pyg(objects, "graphs" if in_memory else name, **reading)
        if len(graphs) != len(objects):
            raise DatasetError(
                f"{len(objects)} objects make {len(graphs)} graphs ({'; '.join(graphs.notes)}); "
                "leave the others out of the list"
            )
    else:
        graphs, objects = _labelled(objects, name, reading)
    return Source(
        graphs=graphs,
        name=spec or graphs.name,
        reading=dict(reading),
        in_memory=in_memory,
        objects=objects,
    )


def has_graphs(graphs: GraphSet) -> bool:
    """Whether a set holds graphs, and not just targets."""
    return graphs.features != ITEMS


def with_monitored(options: Options, source: Source, trainer: Trainer) -> Options:
    """Return the options of a LightningModule with the value that it monitors as metric.

    Raises:
        ValueError: It monitors nothing, or does not log what was asked for.
    """
    from graphnorms.data import SplitConfig, split_items
    from graphnorms.training.lightning_monitor import monitored
    from graphnorms.training.own_training import TrialSplit

    graphs = source.graphs
    kind = "given" if graphs.split is not None else "random"
    parts = split_items(graphs, SplitConfig(kind=kind))
    split = TrialSplit(parts.train, parts.validation, parts.test, graphs, source.objects)
    return replace(options, metric=monitored(trainer, split, options.metric))


class SameScores:
    """Checks that every trial returns the same scores.

    Args:
        records: Outcomes that are there already.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._seen: dict[str, tuple[set[str], str]] = {}  # by stage
        for record in records:
            self.check(record)

    def check(self, record: Record) -> None:
        """Compare the scores of a trial with those of the first.

        Raises:
            GraphnormsError: They are others.
        """
        if record.status != "done":
            return
        stage, found = record.config["stage"], {*record.outcome}
        first, norm = self._seen.setdefault(stage, (found, record.config["norm"]))
        if found != first:
            raise GraphnormsError(
                f"{record.config['model']['trial']} returned {_names(first)} in a trial of {norm}, "
                f"and {_names(found)} in one of {record.config['norm']}; return the same scores in "
                "every trial"
            )


def _names(scores: Iterable[str]) -> str:
    return listing(sorted(scores)) or "nothing"


def _labelled(
    objects: Sequence[Any], name: str, reading: Mapping[str, Any]
) -> tuple[GraphSet, Sequence[Any] | None]:
    """Return a set with the targets of some objects, or with these targets, and the objects."""
    import numpy as np

    with_y = hasattr(objects[0], "y")
    if with_y and not all(hasattr(each, "y") for each in objects):
        raise DatasetError("some objects have no y, expected the target of each")
    try:
        y = np.array([np.asarray(each.y if with_y else each).reshape(-1) for each in objects])
    except ValueError:
        y = np.empty((0, 0), dtype=object)
    if y.dtype == object or y.dtype.kind not in "iufbU" or not y.size:
        kind = type(objects[0]).__name__
        raise DatasetError(
            f"the items are of type {kind}, expected PyG Data, objects with y, or targets"
        )
    return _set_of(y[:, 0] if y.shape[1] == 1 else y, name, reading), objects if with_y else None


def _unlabelled(number: int, name: str) -> GraphSet:
    import numpy as np

    return _set_of(np.zeros(number), name, {"task": "regression"})


def _set_of(y: Any, name: str, reading: Mapping[str, Any]) -> GraphSet:
    """Return a set of items with targets and without graphs: a node each."""
    import numpy as np

    from graphnorms.data.readers.raw_graphs import RawGraphs
    from graphnorms.data.readers.read_options import OF_TABLES, Reading

    options = Reading(**{**reading, "features": "constant"})
    options.refuse("items without graphs", *OF_TABLES)
    none = np.empty(0, dtype=np.int64)
    raw = RawGraphs(name=name, ptr=np.arange(len(y) + 1), source=none, target=none, y=y)
    packed = raw.pack(options)
    packed.features = ITEMS
    return packed
