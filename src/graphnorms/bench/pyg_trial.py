"""The trial of the lab benchmark as a user of PyG writes it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.bench import pyg_layers
from graphnorms.bench.gin import Block, PygGIN, as_pyg_data
from graphnorms.data import GraphSet, SplitConfig, split_items
from graphnorms.layers.catalog import CATALOG
from graphnorms.models import GNN, ModelConfig
from graphnorms.training import Record, TrialConfig


@dataclass(frozen=True)
class PygData:
    """A set of graphs for PyG, with its splits.

    Args:
        items: One `Data` per graph.
        features, classes: Their numbers.
        parts: Graphs to train on, to validate and to test with, by the number of the fold.
    """

    items: list[Any]
    features: int
    classes: int
    parts: dict[int, tuple[list[int], list[int], list[int]]]

    @classmethod
    def of(cls, graphs: GraphSet, configs: Iterable[TrialConfig]) -> PygData:
        """Return a set of ours, with the splits of some trials."""
        parts = {}
        for config in configs:
            split = split_items(graphs, SplitConfig(**config.split))
            ids = (split.train.tolist(), split.validation.tolist(), split.test.tolist())
            parts[config.split["fold"]] = ids
        return cls(as_pyg_data(graphs), graphs.num_features, graphs.num_outputs, parts)


class _OnNodes(nn.Module):
    """A normalization of PyG's, or none, called with features, batch and number of graphs."""

    def __init__(self, norm: str, channels: int) -> None:
        super().__init__()
        layer = None if norm == "none" else pyg_layers.twin(CATALOG[norm], channels)
        self.layer = nn.Identity() if layer is None else layer
        self.takes_batch = "batch" in inspect.signature(self.layer.forward).parameters

    def forward(self, x: Tensor, batch: Tensor, graphs: int) -> Tensor:
        """Normalize."""
        y: Tensor = self.layer(x, batch, graphs) if self.takes_batch else self.layer(x)
        return y


def pyg_trial(
    config: TrialConfig,
    data: PygData,
    on_epoch: Callable[[], None] | None = None,
    *,
    fused: bool = False,
) -> Record:
    """Train a GIN on one fold as `graphnorms.training.run_trial` does, from the same weights.

    Args:
        config, on_epoch: Those of `run_trial`.
        data: The graphs.
        fused: Whether Adam is torch's fused one, as ours is; PyG's examples take the default.
    """
    device, dtype = torch.device(config.device), getattr(torch, config.dtype)
    architecture = ModelConfig(**config.model)
    widths = [data.features] + [architecture.hidden] * architecture.layers
    model = PygGIN(
        widths, data.classes, lambda channels: Block(_OnNodes(config.norm, channels), fused=False)
    )
    model.copy_from(GNN(architecture, config.norm, data.features, data.classes, seed=config.seed))
    model = model.to(device, dtype)
    optimizer = torch.optim.Adam(
        model.parameters(),
        config.learning_rate,
        weight_decay=config.weight_decay,
        fused=fused or None,
    )
    loader = pyg_layers.load("loader").DataLoader
    train_ids, *held_out = data.parts[config.split["fold"]]
    training = loader(
        [data.items[graph] for graph in train_ids],
        config.batch_size,
        shuffle=True,
        generator=torch.Generator().manual_seed(config.seed),
    )
    # Each in one batch: that is the quickest.
    trained_on, validation, test = (
        loader([data.items[graph] for graph in ids], len(ids)) for ids in (train_ids, *held_out)
    )

    def outputs_of(batch: Any) -> tuple[Tensor, Tensor]:
        batch = batch.to(device)
        batch.x = batch.x.to(dtype)
        return model(batch), batch.y

    def evaluate(batches: Any) -> tuple[float, float]:
        model.eval()
        with torch.no_grad():
            (judged,) = [_judge(*outputs_of(batch)) for batch in batches]
        return judged

    names = ("train_loss", "train_score", "validation_loss", "validation_score")
    history: dict[str, list[float]] = {name: [] for name in names}
    best, outcome = (-1.0, 0.0), {}
    for epoch in range(config.epochs):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - epoch / config.epochs)
        model.train()
        losses, graphs = [], []
        for batch in training:
            optimizer.zero_grad()
            logits, y = outputs_of(batch)
            mean_loss = F.cross_entropy(logits, y)
            mean_loss.backward()
            optimizer.step()
            losses.append(mean_loss.detach())
            graphs.append(len(y))
        weights = torch.tensor(graphs, device=device, dtype=dtype) / sum(graphs)
        trained = float((torch.stack(losses) * weights).sum())
        loss, score = evaluate(validation)
        if (score, -loss) > best:
            best = (score, -loss)
            outcome = dict(zip(("test_loss", "test_score"), evaluate(test), strict=True))
        reached = evaluate(trained_on)[1]
        for name, value in zip(names, (trained, reached, loss, score), strict=True):
            history[name].append(value)
        if on_epoch is not None:
            on_epoch()
    return Record(
        key=config.key, config=config.to_dict(), status="done", history=history, outcome=outcome
    )


def _judge(outputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """Return the mean loss and the accuracy."""
    right = (outputs.argmax(1) == targets).double().mean()
    return float(F.cross_entropy(outputs, targets)), float(right)
