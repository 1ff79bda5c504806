"""One trial: a pure function of its config, measured times aside."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from graphnorms.data import GraphBatch, GraphSet, stratified_folds
from graphnorms.models import GNN, ModelConfig, derive_seed
from graphnorms.training.config import TrialConfig
from graphnorms.training.record import Record

_EVALUATION_NODES = 1 << 16  # evaluated at once: bounds the memory, not the result


def run_trial(
    config: TrialConfig, dataset: GraphSet, on_epoch: Callable[[], None] | None = None
) -> Record:
    """Train one model on one fold and return what happened.

    After each epoch the training and validation graphs are evaluated in eval mode. Weights,
    batch order and dropout masks come from the seed, each from a stream of its own, so that
    trials that differ in the norm only see the same of all three. A loss that is not finite
    ends the trial as failed, with the epochs before it kept.

    Args:
        config: Everything that the outcome depends on.
        dataset: The data that `config.dataset` names.
        on_epoch: Called after each epoch.

    Raises:
        ValueError: `dataset` is not the data of the config.
    """
    started = time.perf_counter()
    if dataset.fingerprint != config.fingerprint:
        raise ValueError(
            f"the data set has the fingerprint {dataset.fingerprint}, but the trial is about "
            f"{config.fingerprint}; was the file changed?"
        )
    device = torch.device(config.device)
    dtype = getattr(torch, config.dtype)
    train_ids, validation_ids = stratified_folds(dataset.y.cpu(), config.folds, config.split_seed)[
        config.fold
    ]
    graphs = dataset.to(device)
    train_ids, validation_ids = train_ids.to(device), validation_ids.to(device)
    model = GNN(
        ModelConfig(**config.model), config.norm, dataset.num_features, dataset.num_classes,
        seed=config.seed,
    ).to(device, dtype)  # fmt: skip
    optimizer = torch.optim.Adam(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    order = torch.Generator().manual_seed(derive_seed(config.seed, "order"))
    train_parts = _evaluation_batches(graphs, train_ids)
    validation_parts = _evaluation_batches(graphs, validation_ids)

    names = (
        "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate",
    )  # fmt: skip
    history: dict[str, list[float]] = {name: [] for name in names}
    timing: dict[str, Any] = {"train": [], "evaluation": []}
    reason = ""
    for epoch in range(config.epochs):
        begin = time.perf_counter()
        rate = _learning_rate(config, epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        permutation = torch.randperm(train_ids.shape[0], generator=order).to(device)
        total = torch.zeros((), device=device)
        model.train()
        for step, ids in enumerate(train_ids[permutation].split(config.batch_size)):
            torch.manual_seed(derive_seed(config.seed, "dropout", epoch, step))
            batch = graphs.batch(ids)
            optimizer.zero_grad()
            loss = F.cross_entropy(_logits(model, batch, dtype), batch.y)
            loss.backward()
            optimizer.step()
            total += loss.detach() * ids.shape[0]
        train_loss = float(total) / train_ids.shape[0]
        trained = time.perf_counter()
        _, train_accuracy = _evaluate(model, train_parts, dtype)
        validation_loss, validation_accuracy = _evaluate(model, validation_parts, dtype)
        evaluated = time.perf_counter()
        if not _finite(train_loss) or not _finite(validation_loss):
            which = "training" if not _finite(train_loss) else "validation"
            reason = f"the {which} loss was not finite in epoch {epoch + 1}"
            break
        outcome = (train_loss, train_accuracy, validation_loss, validation_accuracy, rate)
        for name, value in zip(names, outcome, strict=True):
            history[name].append(value)
        timing["train"].append(trained - begin)
        timing["evaluation"].append(evaluated - trained)
        if on_epoch is not None:
            on_epoch()
    timing["total"] = time.perf_counter() - started
    return Record(
        key=config.key,
        config=config.to_dict(),
        status="failed" if reason else "done",
        reason=reason,
        history=history,
        counts={
            "parameters": model.num_parameters(),
            "train_graphs": train_ids.shape[0],
            "validation_graphs": validation_ids.shape[0],
            "steps_per_epoch": -(-train_ids.shape[0] // config.batch_size),
        },
        environment=_environment(config),
        timing=timing,
    )


def _learning_rate(config: TrialConfig, epoch: int) -> float:
    """Return the step size of an epoch: falling linearly to 0 after the last, or constant."""
    if config.schedule == "linear":
        return config.learning_rate * (1 - epoch / config.epochs)
    return config.learning_rate


def _logits(model: GNN, batch: GraphBatch, dtype: torch.dtype) -> Tensor:
    logits: Tensor = model(batch.x.to(dtype), batch.adjacency, batch.segments)
    return logits


def _evaluation_batches(graphs: GraphSet, ids: Tensor) -> list[GraphBatch]:
    """Pack graphs once for all evaluations, in parts of bounded size."""
    nodes = graphs.ptr.diff()[ids].cumsum(0)
    parts = torch.unique_consecutive(
        torch.div(nodes, _EVALUATION_NODES, rounding_mode="floor"), return_counts=True
    )[1]
    return [graphs.batch(part) for part in ids.split(parts.tolist())]


def _evaluate(model: GNN, parts: list[GraphBatch], dtype: torch.dtype) -> tuple[float, float]:
    """Return the mean loss and the accuracy in eval mode."""
    model.eval()
    loss, right, graphs = 0.0, 0, 0
    with torch.no_grad():
        for batch in parts:
            logits = _logits(model, batch, dtype)
            loss += float(F.cross_entropy(logits, batch.y, reduction="sum"))
            right += int((logits.argmax(1) == batch.y).sum())
            graphs += batch.num_graphs
    return loss / graphs, right / graphs


def _finite(value: float) -> bool:
    return value - value == 0


def _environment(config: TrialConfig) -> dict[str, Any]:
    device = torch.device(config.device)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "graphnorms": config.graphnorms_version,
        "platform": platform.platform(),
        "processor": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else processor_name(),
        "threads": torch.get_num_threads(),
    }


def processor_name() -> str:
    """Return what the processor calls itself, or its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
