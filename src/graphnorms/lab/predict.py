"""Predict with an exported model: graphs are read and encoded as in its training."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphnorms.data.task_kinds import FORCES
from graphnorms.errors import GraphnormsError
from graphnorms.lab.sources import Dataset, load_source

if TYPE_CHECKING:
    from torch import Tensor

    from graphnorms.data import GraphSet
    from graphnorms.training import Predictor

_NOT_KEPT: Final = ("task", "drop_rare", "split_by", "split_file", "edges", "root")
"""Reading options of the training that are about its targets, or name its files."""

_CHANGED: Final = ("drop_empty", "smiles", "edges", "root")
"""Reading options that may differ from those of the training."""

_NODES: Final = 1 << 16
"""Nodes of a batch, about."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Predictions:
    """The predictions of a model for a set of graphs.

    Args:
        predictor: The model.
        graphs: The graphs.
        outputs: Probabilities of the classes, or of "yes", or numbers in the unit of the targets,
            `(items, outputs)` float64; of frames of atoms their energies.
        forces: Of frames of atoms the forces, `(atoms, 3)` float64.
    """

    predictor: Predictor
    graphs: GraphSet
    outputs: Tensor
    forces: Tensor | None = None

    @property
    def columns(self) -> list[str]:
        """The names of the columns of `rows`.

        `graph`, and for nodes `node`, both counted from 0 in the order of the data; for a table of
        molecules the row, also where others are no molecules. Then of
        classes `prediction` and `p(CLASS)`, the probability of each; of questions each by its name,
        1 for yes, and `p(QUESTION)`, the probability of that; of numbers each by its name.
        Of frames of atoms there is a row for each atom, counted from 0 in its frame as `node`: the
        energy of the frame, and the force `fx`, `fy`, `fz` on the atom.
        """
        task = self.predictor.task
        chances = [f"p({name})" for name in task.targets]
        names = ["graph"] if task.level == "graph" else ["graph", "node"]
        if self.forces is not None:
            return ["graph", "node", *task.targets, "fx", "fy", "fz"]
        if task.kind == "classification":
            return [*names, "prediction", *chances]
        return [*names, *task.targets, *(chances if task.kind == "binary" else [])]

    def rows(self) -> Iterator[list[Any]]:
        """Iterate over the items, a row each."""
        task = self.predictor.task
        if self.forces is not None:
            yield from self._rows_of_atoms(self.forces.tolist())
            return
        for place, values in zip(self._places(), self.outputs.tolist(), strict=True):
            if task.kind == "classification":
                yield [*place, task.targets[values.index(max(values))], *values]
            elif task.kind == "binary":
                yield [*place, *(int(value > 0.5) for value in values), *values]
            else:
                yield [*place, *values]

    def to_csv(self) -> str:
        """Return `columns` and `rows` as comma-separated text."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows())
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Return the predictions and their model as JSON-able data."""
        predictor, columns = self.predictor, self.columns
        return {
            "trial": predictor.config.to_dict(),
            "outcome": predictor.outcome,
            "task": str(predictor.task),
            "unit": predictor.task.unit,
            "dataset": self.graphs.name,
            "predictions": [dict(zip(columns, row, strict=True)) for row in self.rows()],
        }

    def _rows_of_atoms(self, forces: list[list[float]]) -> Iterator[list[Any]]:
        begin = 0
        sizes = self.graphs.ptr.diff().tolist()
        for (graph,), (energy,), size in zip(
            self._places(), self.outputs.tolist(), sizes, strict=True
        ):
            for node, force in enumerate(forces[begin : begin + size]):
                yield [graph, node, energy, *force]
            begin += size

    def _places(self) -> Iterator[list[int]]:
        rows = self.graphs.source_rows
        numbers = range(len(self.graphs)) if rows is None else rows.tolist()
        for graph, size in zip(numbers, self.graphs.ptr.diff().tolist(), strict=True):
            if self.predictor.task.level == "graph":
                yield [graph]
            else:
                yield from ([graph, node] for node in range(size))


def predict(
    model: str | Path,
    dataset: Dataset,
    *,
    factory: str | Callable[..., Any] | None = None,
    norm: str | Callable[..., Any] | None = None,
    **reading: Any,
) -> Predictions:
    """Have a model on a file predict for graphs, which need no targets.

    The graphs are read as those that it was trained on were, and their labels get the columns that
    they had there.

    Args:
        model: The file, see `Comparison.export`.
        dataset: The graphs, see `graphnorms.compare`.
        factory, norm: The code of a model or norm of your own, see
            `graphnorms.training.load_model`.
        reading: How these data are read, where it differs from the training: `drop_empty` leaves
            out graphs without nodes, which are an error otherwise (the others are numbered without
            them); `smiles`, `edges` and `root` as in `graphnorms.compare`.

    Raises:
        GraphnormsError: The file is no such model, or needs code.
        ValueError: The graphs cannot be read, or do not have what the model was trained on.
        OSError: The file cannot be read.
    """
    import torch

    from graphnorms.training import load_model, threads

    predictor = load_model(model, factory, norm)
    graphs = _read(predictor, dataset, reading)
    _require_fit(predictor, graphs)
    with torch.no_grad(), threads(1):
        parts = [predictor(graphs.batch(ids)) for ids in _parts(graphs)]
    if predictor.task.kind == FORCES:
        energy, forces = (torch.cat(each) for each in zip(*parts, strict=True))
        return Predictions(predictor=predictor, graphs=graphs, outputs=energy, forces=forces)
    outputs = torch.cat(parts).double()
    if predictor.task.kind == "classification":
        outputs = outputs.softmax(1)
    elif predictor.task.kind == "binary":
        outputs = outputs.sigmoid()
    return Predictions(predictor=predictor, graphs=graphs, outputs=outputs)


def _read(predictor: Predictor, dataset: Dataset, changes: Mapping[str, Any]) -> GraphSet:
    """Read the graphs as the model has its input."""
    from graphnorms.data import GraphSet

    if isinstance(dataset, GraphSet):
        return dataset
    reading = {name: v for name, v in predictor.reading.items() if name not in _NOT_KEPT}
    if wrong := changes.keys() - _CHANGED:
        raise ValueError(f"{min(wrong)} is no option of predict; expected {', '.join(_CHANGED)}")
    reading |= {name: value for name, value in changes.items() if value is not None}
    if predictor.task.kind == FORCES:
        reading["cutoff"] = predictor.cutoff
    encoding = predictor.encoding
    if not predictor.sees_edges:
        encoding = replace(encoding, edges=None)
    return load_source(dataset, {**reading, "encoding": encoding}).graphs


def _require_fit(predictor: Predictor, graphs: GraphSet) -> None:
    """Refuse graphs with other features than the model was trained on.

    Raises:
        GraphnormsError: They have other features, or another number of them.
    """
    encoding, model = predictor.encoding, predictor.model
    if encoding.task.kind == FORCES or graphs.task.kind == FORCES:
        _require_atoms(predictor, graphs)
        return
    edges = model.edge_channels if predictor.sees_edges else 0
    parts = [("node", graphs.num_features, model.in_channels, graphs.columns, encoding.nodes)]
    if edges:
        number = graphs.num_edge_features
        parts.append(("edge", number, edges, graphs.edge_columns, encoding.edges))
    for noun, number, expected, columns, trained in parts:
        known = columns is not None and trained is not None
        has, had = (columns, trained) if known else (number, expected)
        if has != had:
            raise GraphnormsError(
                f"the {noun} features of {graphs.name} are of {has} columns, but the model was "
                f"trained on {had}"
            )


def _require_atoms(predictor: Predictor, graphs: GraphSet) -> None:
    """Refuse graphs without atoms for a model of these, and atoms for another model."""
    if graphs.task.kind != predictor.task.kind:
        raise GraphnormsError(
            f"{graphs.name} has {graphs.task}, but the model was trained on {predictor.task}"
        )
    if graphs.columns != predictor.encoding.nodes:
        raise GraphnormsError(
            f"{graphs.name} has {graphs.features}, but the model was trained on "
            f"{predictor.encoding.nodes}"
        )
    cutoff = predictor.cutoff
    if graphs.atoms is not None and graphs.atoms.cutoff < cutoff:
        raise GraphnormsError(
            f"the cutoff of {graphs.name} is {graphs.atoms.cutoff:g} Å, expected {cutoff:g} Å or "
            "more, as in the training"
        )


def _parts(graphs: GraphSet) -> Sequence[Tensor]:
    """Split the graphs into batches that fit into memory."""
    import torch

    place = torch.div(graphs.ptr[1:].cpu(), _NODES, rounding_mode="floor")
    sizes = torch.unique_consecutive(place, return_counts=True)[1].tolist()
    parts: Sequence[Tensor] = torch.arange(len(graphs)).split(sizes)
    return parts
