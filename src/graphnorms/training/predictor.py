"""A trained model with all that its predictions need, and its file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.data import GraphBatch, Task
from graphnorms.errors import GraphnormsError
from graphnorms.files import replacing
from graphnorms.models import GNN, ModelConfig
from graphnorms.training.config import TrialConfig
from graphnorms.training.objective import Objective

_FORMAT: Final = 1
_HEADER: Final = "graphnorms"
"""One entry: safetensors writes several in any order, and equal models should give equal files."""


class Predictor(nn.Module):
    """A model as it came out of a trial: from graphs to predictions.

    Args:
        model: The model.
        objective: What it was trained with, for the unit of its results.
        task: What it predicts.
        config: The trial.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self, model: GNN, objective: Objective, task: Task, config: TrialConfig
    ) -> None:  # fmt: skip
        super().__init__()
        self.model = model
        self.task = task
        self.config = config
        self.register_buffer("mean", objective.mean)
        self.register_buffer("std", objective.std)

    def forward(self, batch: GraphBatch) -> Tensor:
        """Predict for the items of a batch, `(items, outputs)`.

        Logits of the classes or questions, or numbers in the unit of the targets.
        """
        objective = Objective(self.task, self.mean, self.std)
        return objective.predictions(apply(self.model, batch))


def apply(model: GNN, batch: GraphBatch, factors: Tensor | None = None) -> Tensor:
    """Return what a model gives for a batch, in its own precision.

    Args:
        model: The model.
        batch: The graphs.
        factors: The subgraph factors of their nodes, where they are known already.
    """
    dtype = model.head.weight.dtype
    edges = batch.edge_features
    outputs: Tensor = model(
        batch.x.to(dtype), batch.adjacency, batch.segments,
        None if edges is None else edges.to(dtype), factors,
    )  # fmt: skip
    return outputs


def save_checkpoint(path: Path, predictor: Predictor) -> None:
    """Write a predictor as safetensors, in one step; what it is built from goes into the header.

    Raises:
        OSError: The file cannot be written.
    """
    from safetensors.torch import save_file

    model = predictor.model
    about = {
        "format": _FORMAT,
        "norm": predictor.config.norm,
        "model": model.config.to_dict(),
        "in_channels": model.in_channels,
        "out_channels": model.out_channels,
        "edge_channels": model.edge_channels,
        "task": asdict(predictor.task),
        "trial": predictor.config.to_dict(),
    }
    tensors = {name: value.cpu().contiguous() for name, value in predictor.state_dict().items()}
    with replacing(path) as temporary:
        temporary.touch()  # safetensors has an exception of its own, which names no file
        save_file(tensors, temporary, {_HEADER: json.dumps(about)})


def load_model(path: Path | str) -> Predictor:
    """Read what `save_checkpoint` wrote: a module from `GraphBatch` to predictions.

    It is in eval mode and on the CPU. Nothing in the file is executed.

    Raises:
        GraphnormsError: The file is damaged, or not one of these.
        OSError: It cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    path.open("rb").close()  # the errors of the system name the file, those of safetensors do not
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()[_HEADER])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["format"] != _FORMAT:
            raise GraphnormsError(
                f"{path}: of format {about['format']}, expected {_FORMAT}; "
                "read it with the version of graphnorms that wrote it"
            )
        task = Task(**{**about["task"], "targets": tuple(about["task"]["targets"])})
        config = TrialConfig(**about["trial"])
        model = GNN(
            ModelConfig(**about["model"]), about["norm"], about["in_channels"],
            about["out_channels"], edge_channels=about["edge_channels"], seed=config.seed,
        )  # fmt: skip
        objective = Objective(task, state.get("mean"), state.get("std"))
        predictor = Predictor(model.to(getattr(torch, config.dtype)), objective, task, config)
        predictor.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AttributeError):
        raise GraphnormsError(f"{path}: not a model that graphnorms wrote") from None
    return predictor.eval()
