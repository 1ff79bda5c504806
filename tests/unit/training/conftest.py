"""Small sets of every task, and a config for each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from graphnorms.data import GraphSet, SplitConfig, Task, random_graphs
from graphnorms.models import ModelConfig
from graphnorms.training import DEFAULT_METRICS, TrialConfig

CLASSES = Task(kind="classification", targets=("a", "b", "c"))
ANSWERS = Task(kind="binary", targets=("first", "second"))
NUMBERS = Task(kind="regression", targets=("size", "edges"), unit="m")


def with_targets(
    graphs: GraphSet, task: Task, y: Tensor, split: Tensor | None = None, edges: int = 0
) -> GraphSet:
    generator = torch.Generator().manual_seed(5)
    features = torch.rand(graphs.num_edges, edges, generator=generator) if edges else None
    return GraphSet(
        name=f"{task.kind}-{task.level}",
        x=graphs.x,
        ptr=graphs.ptr,
        edge_ptr=graphs.edge_ptr,
        edge_index=graphs.edge_index,
        y=y,
        task=task,
        features="made up",
        split=split,
        edge_features=features,
    )


def set_of(name: str) -> GraphSet:
    """A set of 60 graphs of 9 nodes or, for `"node-one"`, of one of 300.

    Targets follow from the features, so that there is something to learn.
    """
    graphs = random_graphs(1 if name == "node-one" else 60, 300 if name == "node-one" else 9, 5)
    counts = graphs.ptr.diff().float()
    generator = torch.Generator().manual_seed(2)
    if name == "classes":
        return with_targets(graphs, CLASSES, torch.arange(60) % 4 - 1)
    if name == "answers":
        y = torch.stack((counts > 9, graphs.edge_ptr[graphs.ptr].diff() > 16), 1).float()
        y[torch.rand(60, 2, generator=generator) < 0.3] = torch.nan
        return with_targets(graphs, ANSWERS, y, edges=3)
    if name == "numbers":
        y = torch.stack((1000 + 10 * counts, graphs.edge_ptr[graphs.ptr].diff().float()), 1)
        y[torch.rand(60, 2, generator=generator) < 0.2] = torch.nan
        return with_targets(graphs, NUMBERS, y)
    neighbours = (graphs.edge_ptr.diff() > 2).long() + (graphs.x.argmax(1) > 0)
    task = replace(CLASSES, level="node")
    part = torch.randint(-1, 3, (graphs.num_nodes,), generator=generator).to(torch.int8)
    return with_targets(graphs, task, neighbours, part)


SETS = ("classes", "answers", "numbers", "node-one", "node-many")


def config_of(graphs: GraphSet, **changes: Any) -> TrialConfig:
    node = graphs.task.level == "node"
    kind = "given" if node else "fold"
    split = SplitConfig(kind=kind, folds=0 if node else 5)
    model = ModelConfig(
        name="gine" if graphs.num_edge_features else "gin",
        layers=2,
        hidden=8,
        head=graphs.task.level,
    )
    config = TrialConfig(
        dataset=graphs.name,
        fingerprint=graphs.fingerprint,
        model=model.to_dict(),
        norm="graph",
        split=split.to_dict(),
        stage="final",
        run=0,
        metric=DEFAULT_METRICS[graphs.task.kind],
        epochs=3,
        batch_size=16,
        learning_rate=0.01,
        schedule="linear",
        weight_decay=0.0,
        seed=0,
        device="cpu",
        dtype="float32",
        graphnorms_version="0",
        torch_version=torch.__version__,
    )
    return replace(config, **changes)


@pytest.fixture(scope="session", params=SETS)
def graphs(request: pytest.FixtureRequest) -> GraphSet:
    return set_of(request.param)


@pytest.fixture
def config(graphs: GraphSet) -> TrialConfig:
    return config_of(graphs)
