"""A trained model with everything needed for predictions, its inputs, and its file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.data import GraphBatch, Task
from graphnorms.data.feature_columns import Columns, Encoding, labels_or_attributes
from graphnorms.data.onehot import OneHot
from graphnorms.data.task_kinds import FORCES
from graphnorms.errors import GraphnormsError
from graphnorms.files import replacing
from graphnorms.kernels.point import widest_float
from graphnorms.layers.own_norm import OwnNorm
from graphnorms.models import ForceModelConfig
from graphnorms.models.model_config import EDGE_MODELS
from graphnorms.models.own import ModelFactory
from graphnorms.segments import Segments, as_segments
from graphnorms.training.force_objective import ForceObjective
from graphnorms.training.forces import EnergyForces, energies_and_forces, energies_of
from graphnorms.training.objective import Objective
from graphnorms.training.trial_config import TrialConfig
from graphnorms.training.trial_model import Factory, Model, build_for, is_own

_FORMAT: Final = 2
_HEADER: Final = "graphnorms"
"""A single entry: safetensors writes several in random order, and equal models should give equal
files."""


class Predictor(nn.Module):
    """The model of a trial: from graphs to predictions.

    Args:
        model: The model.
        objective: The training objective, for the unit of the predictions.
        encoding: The task, and the encoding of graphs as inputs of the model.
        config: The trial.
        outcome: The `outcome` of the trial's record: the epoch of the model, and its scores.
        reading: The reading options of the data, see `graphnorms.data.Reading`.
        norm: The text of the normalization as built; `None` for that of the trial.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        model: Model,
        objective: Objective,
        encoding: Encoding,
        config: TrialConfig,
        outcome: Mapping[str, float] | None = None,
        reading: Mapping[str, Any] | None = None,
        norm: str | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.encoding = encoding
        self.config = config
        self.outcome = dict(outcome or {})
        self.reading = dict(reading or {})
        self.norm = norm or config.norm
        self.register_buffer("mean", None)
        self.register_buffer("std", None)
        self._place(objective.mean, objective.std)

    @property
    def task(self) -> Task:
        """What it predicts."""
        return self.encoding.task

    def forward(
        self,
        data: GraphBatch | Tensor | Any,
        edge_index: Tensor | None = None,
        batch: Tensor | None = None,
        edge_attr: Tensor | None = None,
    ) -> Tensor | EnergyForces:
        """Predict for the items of a batch, `(items, outputs)`.

        These are logits of the classes or questions, or numbers in the unit of the targets, in
        float64 (on the host if the device has no float64). Of frames of atoms they are a pair of
        energies and forces.

        Args:
            data: A `GraphBatch`, PyG's `Data` or `Batch`, or the features of the nodes.
            edge_index, batch, edge_attr: With node features, as in PyG's models; without `batch`
                they form one graph.

        Raises:
            ValueError: The graphs lack the features that the model was trained on.
        """
        if self.task.kind == FORCES:
            return self._energy_forces(data)
        widths = self.model.in_channels, self.model.edge_channels if self.sees_edges else 0
        given = as_graph_batch(data, edge_index, batch, edge_attr, self.encoding, widths)
        objective = Objective(self.task, self.mean, self.std)
        return objective.predictions(apply(self.model, given))

    def _energy_forces(self, data: Any) -> EnergyForces:
        if not isinstance(data, GraphBatch) or data.atoms is None:
            raise ValueError(
                f"data is a {type(data).__name__} without atoms, expected a batch of frames, such "
                "as GraphSet.batch of an extended-XYZ file"
            )
        if data.atoms.cutoff < self.cutoff:
            raise ValueError(
                f"the cutoff of the atoms is {data.atoms.cutoff:g} Å, expected {self.cutoff:g} Å "
                "or more, as in the training"
            )
        assert self.mean is not None
        assert self.std is not None
        objective, counts = ForceObjective(self.task, self.mean, self.std), data.segments.counts
        rows = objective.predictions(apply(self.model, data))
        of_elements = objective.element_energies(data.atoms.z, counts)
        return EnergyForces(energies_of(rows, counts) + of_elements, rows[:, 1:])

    @property
    def cutoff(self) -> float:
        """The distance in Å up to which atoms act on each other; 0 for other models."""
        config = self.model.config
        return config.cutoff if isinstance(config, ForceModelConfig) else 0.0

    @property
    def sees_edges(self) -> bool:
        """Whether the model uses edge features."""
        sees = is_own(self.config.model) or self.model.config.name in EDGE_MODELS
        return sees and self.model.edge_channels > 0

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Predictor:
        # They stay float64 when the model is converted, and must not be moved to a device without
        # float64.
        mean, std = self.mean, self.std
        self.mean = self.std = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._place(mean, std)
        return self

    def _place(self, mean: Tensor | None, std: Tensor | None) -> None:
        """Move mean and deviation of the targets to the device of the predictions."""
        if mean is None or std is None:
            return
        device = next(self.model.parameters()).device
        if widest_float(device) != torch.float64:
            device = torch.device("cpu")
        self.mean, self.std = (each.to(device, torch.float64) for each in (mean, std))


def as_graph_batch(
    data: GraphBatch | Tensor | Any,
    edge_index: Tensor | None,
    batch: Tensor | Segments | None,
    edge_attr: Tensor | None,
    encoding: Encoding,
    widths: tuple[int, int],
) -> GraphBatch:
    """Convert data to the input batch of a model.

    PyG is not needed: `data` is any object with `edge_index`, and optionally `x`, `edge_attr`,
    `batch` and `num_graphs`. Features with the width of the model's input are used unchanged;
    others (integer labels, or none for a model on degrees) are encoded like the training data.

    Args:
        data: A `GraphBatch`, PyG's `Data` or `Batch`, or the node features.
        edge_index, batch, edge_attr: Given with node features.
        encoding: The encoding of the model's input.
        widths: Numbers of features of a node and of an edge in the model's input.

    Raises:
        ValueError: `data` has another type, or lacks the features that the model was trained on.
    """
    if isinstance(data, GraphBatch):
        return data
    count = None
    if isinstance(data, Tensor):
        x: Any = data
    elif hasattr(data, "edge_index"):
        x, edge_index = getattr(data, "x", None), data.edge_index
        edge_attr, batch = getattr(data, "edge_attr", None), getattr(data, "batch", None)
        count = None if batch is None else getattr(data, "num_graphs", None)
    else:
        raise ValueError(
            f"data is a {type(data).__name__}, expected a GraphBatch, PyG's Data or Batch, or x, "
            "edge_index and batch"
        )
    if not isinstance(edge_index, Tensor):
        raise ValueError("edge_index is missing, expected a tensor (2, edges) beside x")
    nodes = x.shape[0] if isinstance(x, Tensor) else int(getattr(data, "num_nodes", 0))
    adjacency = Adjacency.from_edge_index(edge_index, nodes)
    degree = adjacency.in_degree
    x = _features(x, nodes, encoding.nodes, widths[0], degree)
    edges = None
    if widths[1]:
        edges = _features(edge_attr, edge_index.shape[1], encoding.edges, widths[1], None)
    segments = as_segments(batch, rows_of=x, num_segments=count)
    items = segments.num_segments if encoding.task.level == "graph" else nodes
    y = encoding.unknown(items)
    return GraphBatch(x=x, y=y, segments=segments, adjacency=adjacency, edge_features=edges)


def _features(
    given: Tensor | None, rows: int, columns: Columns | None, width: int, degree: Tensor | None
) -> Tensor:
    """Encode features for the model, `(rows, width)`."""
    values = given[:, None] if given is not None and given.dim() == 1 else given
    if values is not None and values.is_floating_point() and values.shape[1] == width:
        return values
    if columns is None:
        shape = None if given is None else tuple(given.shape)
        raise ValueError(f"features are of shape {shape}, expected floats ({rows}, {width})")
    array = None if values is None else values.detach().cpu().numpy()
    labels, attributes = labels_or_attributes(array, "auto")
    made = columns.encode(
        rows,
        labels=labels,
        attributes=attributes,
        degree=None if degree is None else np.asarray(degree.cpu()),
    )
    dense = made.dense() if isinstance(made, OneHot) else made
    return dense if given is None else dense.to(given.device)


def apply(model: Model, batch: GraphBatch, factors: Tensor | None = None) -> Tensor:
    """Return the outputs of a model for a batch, in the precision of the model.

    Of frames of atoms these are rows of energies and forces, see `graphnorms.training.forces`.

    Args:
        model: The model.
        batch: The graphs.
        factors: The subgraph factors of their nodes, if known.
    """
    if batch.atoms is not None:
        return energies_and_forces(model, batch)
    dtype = model.dtype
    edges = batch.edge_features
    outputs: Tensor = model(
        batch.x.to(dtype),
        batch.adjacency,
        batch.segments,
        None if edges is None else edges.to(dtype),
        factors,
    )
    return outputs


def save_checkpoint(path: Path, predictor: Predictor) -> None:
    """Write a predictor as safetensors, atomically, with its configuration in the header.

    Raises:
        OSError: The file cannot be written.
    """
    from safetensors.torch import save_file

    model = predictor.model
    about = {
        "format": _FORMAT,
        "norm": predictor.norm,
        "model": model.config.to_dict(),
        "in_channels": model.in_channels,
        "out_channels": model.out_channels,
        "edge_channels": model.edge_channels,
        "task": asdict(predictor.task),
        "encoding": predictor.encoding.to_dict(),
        "outcome": predictor.outcome,
        "reading": predictor.reading,
        "trial": predictor.config.to_dict(),
    }
    # Copied, because safetensors refuses shared weights.
    tensors = {
        name: value.cpu().clone(memory_format=torch.contiguous_format)
        for name, value in predictor.state_dict().items()
    }
    with replacing(path) as temporary:
        temporary.touch()  # safetensors' own exception does not name the file
        save_file(tensors, temporary, {_HEADER: json.dumps(about)})


def load_model(
    path: Path | str,
    model: str | Factory | None = None,
    norm: str | Callable[..., Any] | None = None,
) -> Predictor:
    """Load a model written by `save_checkpoint`, see `Predictor`.

    It is in eval mode and on the CPU. Neither code in the file nor code named by it is executed:
    user-defined models and norms are made by the arguments `model` and `norm`.

    Args:
        path: The file.
        model: Makes a user-defined model: `"module:function"`, or the function itself.
        norm: Makes a user-defined norm, likewise.

    Raises:
        GraphnormsError: The file is damaged or of another kind, needs a `model` or `norm`, or does
            not fit the given ones.
        ValueError: `model` or `norm` does not exist.
        OSError: The file cannot be read.
    """
    path = Path(path)
    about, state = _read(path)
    factory, own_norm = None, None
    if is_own(about["model"]):
        factory = ModelFactory.of(_given(path, "model", about["model"].get("name"), model)).function
    trial = about.get("trial")
    if isinstance(trial, dict) and trial.get("norm_source") is not None:
        own_norm = OwnNorm.of(_given(path, "norm", about.get("norm"), norm))
    return _restored(path, about, state, factory, own_norm)


def _given(path: Path, what: str, name: Any, given: Any) -> Any:
    """Return the user's code that a file needs, or raise an error if it is not given."""
    if given is None:
        named = isinstance(name, str) and ":" in name
        raise GraphnormsError(
            f"{path}: its {what} is {name}, which is not imported automatically; pass its code: "
            f"load_model(path, {what}={repr(name) if named else name})"
            f"{f' or predict --{what} {name}' if named else ''}"
        )
    return given


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the configuration and the weights of a file."""
    from safetensors import SafetensorError, safe_open

    path.open("rb").close()  # the system's errors name the file, unlike those of safetensors
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()[_HEADER])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["format"] != _FORMAT:
            raise GraphnormsError(
                f"{path}: the format is {about['format']}, expected {_FORMAT}; "
                "read it with the version of graphnorms that wrote it"
            )
        about["model"].items()
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError):
        raise _foreign(path) from None
    return about, state


def _restored(
    path: Path,
    about: Mapping[str, Any],
    state: dict[str, Tensor],
    factory: Factory | None,
    own_norm: OwnNorm | None,
) -> Predictor:
    """Build the model of a file, and load its weights."""
    try:
        task = Task(**{**about["task"], "targets": tuple(about["task"]["targets"])})
        config = TrialConfig(**about["trial"])
        built = build_for(
            about["model"],
            own_norm or about["norm"],
            about["in_channels"],
            about["edge_channels"],
            task,
            seed=config.seed,
            factory=factory,
        ).to(getattr(torch, config.dtype))
        objective = Objective(task, state.get("mean"), state.get("std"))
        encoding = Encoding.read(about.get("encoding", {}), task)
        predictor = Predictor(
            built,
            objective,
            encoding,
            config,
            about.get("outcome"),
            about.get("reading"),
            about["norm"],
        )
        predictor.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        if factory is None and own_norm is None:
            raise _foreign(path) from None
        first = " ".join(" ".join(str(error).splitlines()[:2]).split())
        raise GraphnormsError(
            f"{path}: the given code does not make the model of this file: {first}"
        ) from error
    return predictor.eval()


def _foreign(path: Path) -> GraphnormsError:
    return GraphnormsError(f"{path}: not a model that graphnorms wrote")
