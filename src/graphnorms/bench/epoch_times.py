"""One epoch of GIN with GraphNorm, against the same written with PyG, and its matrix products."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.bench import pyg_layers
from graphnorms.bench.gin import Block, PygGIN, as_pyg_data
from graphnorms.bench.number_checks import Check, relative_error
from graphnorms.bench.results import Case
from graphnorms.bench.session import Session, circumstances
from graphnorms.bench.timing import in_turn
from graphnorms.data import GraphSet
from graphnorms.data.synthetic import random_graphs
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.factory import make_norm
from graphnorms.models import GNN, ModelConfig

MATRIX_PRODUCTS: Final = "torch's matrix products alone"
PYG: Final = "PyG"
_NORM: Final = "graph"
_TOLERANCE: Final = 1e-8
"""In float64: eight normalizations behind each other lose a digit or two."""


@dataclass(frozen=True)
class _Size:
    """How much is trained on.

    Args:
        graphs, nodes: How many, and of how many nodes on average.
        batch: Graphs in a minibatch.
        hidden: Channels.
        layers: Convolutions.
    """

    graphs: int = 2000
    nodes: float = 30.0
    batch: int = 128
    hidden: int = 64
    layers: int = 4


def measure(session: Session) -> Iterator[Case]:
    """Time an epoch: batching, forward, backward and optimizer; dropout is off, order random.

    Raises:
        GraphnormsError: PyG is not installed.
        WrongNumbersError: The models do not compute the same.
    """
    settings = session.settings
    pyg_layers.load()
    size = _Size(graphs=40, nodes=8, batch=16, hidden=8, layers=2) if settings.quick else _Size()
    if settings.dtypes != ("float32",):
        session.note("the epoch is measured in float32 alone")
    graphs = random_graphs(size.graphs, size.nodes)
    items = as_pyg_data(graphs)  # PyG's collate asks each graph for numbers: not on a GPU
    graphs = graphs.to(settings.device)
    session.checks += check_models(graphs, items, size)
    for threads, dtype in settings.circumstances():
        if dtype != torch.float32:
            continue
        values = in_turn(
            {
                "graphnorms": _ours(graphs, size),
                PYG: _theirs(graphs, items, size, fused=False),
                "PyG with our GraphNorm": _theirs(graphs, items, size, fused=True),
                MATRIX_PRODUCTS: _matrix_products(graphs, size),
                **session.elsewhere(
                    "graphnorms", "epoch", threads=threads, norm=_NORM, **asdict(size)
                ),
            },
            settings.rounds,
            settings.device,
        )
        title = (
            f"GIN, {size.layers} layers × {size.hidden}, GraphNorm; {size.graphs} graphs of "
            f"{graphs.num_nodes / size.graphs:.0f} nodes in batches of {size.batch}; "
            f"{circumstances(dtype, threads)}; one epoch"
        )
        session.say(f"{title}: done")
        where = {"dtype": "float32", "threads": threads, "graphs": size.graphs}
        yield Case(title, where, "seconds", values, (MATRIX_PRODUCTS, PYG))


def check_models(graphs: GraphSet, items: list[Any], size: _Size) -> list[Check]:
    """Compare logits and gradients of the models on one batch in float64.

    Raises:
        WrongNumbersError: They differ.
    """
    ours = _model(graphs, size).double()
    batch = graphs.batch(torch.arange(min(size.batch, len(graphs))))
    logits = ours(batch.x.double(), batch.adjacency, batch.segments)
    F.cross_entropy(logits, batch.y).backward()
    checks = []
    for name, fused in ((PYG, False), ("PyG with our GraphNorm", True)):
        theirs = _pyg_model(ours, graphs, size, fused=fused).double()
        data = pyg_layers.load("data").Batch.from_data_list(items[: batch.num_graphs])
        data.x = data.x.double()
        other = theirs(data.to(graphs.device))
        F.cross_entropy(other, data.y).backward()
        pairs = [(other.detach(), logits.detach())]
        for mine, our in theirs.linear_pairs(ours):
            assert mine.weight.grad is not None
            assert our.weight.grad is not None
            pairs.append((mine.weight.grad, our.weight.grad))
        error = max(relative_error(found, exact) for found, exact in pairs)
        checks.append(Check(name, "graphnorms in float64", "float64", error, _TOLERANCE).require())
    return checks


def _model(graphs: GraphSet, size: _Size) -> GNN:
    config = ModelConfig(name="gin", layers=size.layers, hidden=size.hidden, dropout=0.0)
    model = GNN(config, _NORM, graphs.num_features, graphs.num_classes, seed=0)
    return model.to(graphs.device)


def _pyg_model(like: GNN, graphs: GraphSet, size: _Size, *, fused: bool) -> PygGIN:
    def block(channels: int) -> Block:
        if fused:
            return Block(make_norm(_NORM, channels, activation="relu"), fused=True)
        norm = pyg_layers.twin(CATALOG[_NORM], channels)
        assert norm is not None
        return Block(norm, fused=False)

    widths = [graphs.num_features] + [size.hidden] * size.layers
    model = PygGIN(widths, graphs.num_classes, block).to(graphs.device)
    model.copy_from(like)
    return model


def _ours(graphs: GraphSet, size: _Size) -> Callable[[], object]:
    """Return an epoch on packed batches, as `graphnorms.training` trains it."""
    model = _model(graphs, size)
    order = torch.Generator().manual_seed(0)

    def losses() -> Iterator[Tensor]:
        for ids in torch.randperm(len(graphs), generator=order).split(size.batch):
            batch = graphs.batch(ids)
            yield F.cross_entropy(model(batch.x, batch.adjacency, batch.segments), batch.y)

    return _training(model, losses)


def _theirs(
    graphs: GraphSet, items: list[Any], size: _Size, *, fused: bool
) -> Callable[[], object]:
    """Return an epoch on PyG's DataLoader."""
    model = _pyg_model(_model(graphs, size), graphs, size, fused=fused)
    loader = pyg_layers.load("loader").DataLoader(
        items, size.batch, shuffle=True, generator=torch.Generator().manual_seed(0)
    )

    def losses() -> Iterator[Tensor]:
        for data in loader:
            batch = data.to(graphs.device)
            yield F.cross_entropy(model(batch), batch.y)

    return _training(model, losses)


def _training(model: nn.Module, losses: Callable[[], Iterable[Tensor]]) -> Callable[[], object]:
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def epoch() -> None:
        for loss in losses():
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def _matrix_products(graphs: GraphSet, size: _Size) -> Callable[[], object]:
    """Return torch's Linears forward and backward, on as many rows as the batches have."""
    model = _model(graphs, size)
    widths = [
        (module.in_features, module.out_features)
        for module in model.convolutions.modules()
        if isinstance(module, nn.Linear)
    ]
    # Behind each other, so that every one but the first gives a gradient of its input too.
    on_nodes = nn.Sequential(*(nn.Linear(*width) for width in widths)).to(graphs.device)
    head = nn.Linear(size.hidden, graphs.num_classes).to(graphs.device)
    inputs, readouts = [], []
    for ids in torch.arange(len(graphs)).split(size.batch):
        batch = graphs.batch(ids)
        inputs.append(batch.x)
        readouts.append(batch.x.new_ones(batch.num_graphs, size.hidden).requires_grad_())
    gradients = [
        (x.new_ones(x.shape[0], size.hidden), graph.new_ones(graph.shape[0], graphs.num_classes))
        for x, graph in zip(inputs, readouts, strict=True)
    ]

    def epoch() -> None:
        for x, graph, (grad_nodes, grad_graphs) in zip(inputs, readouts, gradients, strict=True):
            on_nodes.zero_grad()
            head.zero_grad()
            graph.grad = None
            on_nodes(x).backward(grad_nodes)
            head(graph).backward(grad_graphs)

    return epoch
