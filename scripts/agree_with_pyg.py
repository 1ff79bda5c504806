"""Train the GIN of the GraphNorm paper with graphnorms and with PyG, step by step side by side.

    python scripts/agree_with_pyg.py                   # losses of 50 steps, in float64
    python scripts/agree_with_pyg.py --time 5          # and the seconds of an epoch, in float32

PyG's model is made of its GINConv, BatchNorm, GraphNorm and global_add_pool: self loops added to
the graph as the authors do, residual sums except at the first layer, dropout on the logits. Both
begin with the same weights and see the same minibatches and dropout masks.

Adam at the paper's rate. A bias in front of a norm is not trained: that of BatchNorm cannot change
the outputs, that of GraphNorm cannot while α is 1, so that its gradient is a rounding error, which
Adam divides by itself. `--biases` trains them, and shows what becomes of the rounding errors.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.bench import pyg_layers
from graphnorms.bench.gin import Block, PygGIN, as_pyg_data
from graphnorms.data import GraphSet, load_dataset
from graphnorms.models import GNN, preset

NORMS = ("none", "batch", "graph")
STEPS = 50
BATCH = 128
RATE = 0.01
AGREES = 1e-9
"""Of the losses, which begin between 2 and 14 and fall below 1."""


class PaperGIN(PygGIN):
    """The GIN of the authors in PyG's parts; see `graphnorms.models.preset`."""

    dropout = 0.5

    def forward(self, data: Any) -> Tensor:
        """Return the logits of a batch of PyG, `(graphs, classes)`."""
        x, batch, graphs = data.x, data.batch, data.num_graphs
        edges = pyg_layers.load("utils").add_self_loops(data.edge_index, num_nodes=len(x))[0]
        parts = (self.convolutions, self.blocks, self.linears, self.blocks2)
        for layer, (convolution, block, linear, block2) in enumerate(zip(*parts, strict=True)):
            y = block(convolution(x, edges), batch, graphs)
            y = block2(linear(y), batch, graphs)
            x = x + y if layer else y
        return F.dropout(self.head(self.pool(x, batch, graphs)), self.dropout, self.training)


class OfPyG(nn.Module):
    """A norm of PyG, called with features, batch and number of graphs."""

    def __init__(self, norm: str, channels: int) -> None:
        super().__init__()
        layers = pyg_layers.load()
        self.takes_batch = norm == "graph"
        self.layer: nn.Module = nn.Identity()
        if norm == "batch":
            self.layer = layers.BatchNorm(channels)
        elif norm == "graph":
            self.layer = layers.GraphNorm(channels, eps=1e-6)  # the authors' code has it

    def forward(self, x: Tensor, batch: Tensor, graphs: int) -> Tensor:
        """Normalize."""
        y: Tensor = self.layer(x, batch, graphs) if self.takes_batch else self.layer(x)
        return y


@dataclass(frozen=True)
class Side:
    """One of the two: a model, and what makes its batches."""

    model: Any
    loss: Callable[[Tensor], Tensor]


def sides(norm: str, graphs: GraphSet, dtype: torch.dtype, seed: int = 0) -> tuple[Side, Side]:
    """Make both models with the same weights, and what applies them to some graphs."""
    config = preset("gin", "graphnorm-paper")
    ours = GNN(config, norm, graphs.num_features, graphs.num_classes, seed=seed)
    widths = [graphs.num_features] + [config.hidden] * config.layers
    theirs = PaperGIN(
        widths, graphs.num_classes, lambda channels: Block(OfPyG(norm, channels), fused=False)
    )
    theirs.copy_from(ours)
    ours, theirs = ours.to(dtype), theirs.to(dtype)
    items = as_pyg_data(graphs)
    form = pyg_layers.load("data").Batch.from_data_list

    def our_loss(ids: Tensor) -> Tensor:
        batch = graphs.batch(ids)
        return F.cross_entropy(ours(batch.x.to(dtype), batch.adjacency, batch.segments), batch.y)

    def their_loss(ids: Tensor) -> Tensor:
        data = form([items[graph] for graph in ids.tolist()])
        data.x = data.x.to(dtype)
        return F.cross_entropy(theirs(data), data.y)

    return Side(ours, our_loss), Side(theirs, their_loss)


def minibatches(graphs: GraphSet, steps: int) -> Iterator[Tensor]:
    """Yield the graphs of so many steps, epoch by epoch in another order."""
    generator = torch.Generator().manual_seed(0)
    left = steps
    while left > 0:
        for ids in torch.randperm(len(graphs), generator=generator).split(BATCH)[:left]:
            yield ids
            left -= 1


def train(side: Side, batches: list[Tensor]) -> list[float]:
    """Train on minibatches and return the loss of each step."""
    trained = [each for each in side.model.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=RATE)
    losses = []
    for step, ids in enumerate(batches):
        torch.manual_seed(step)  # of the dropout
        optimizer.zero_grad()
        loss = side.loss(ids)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def deviation(
    norm: str, graphs: GraphSet, steps: int = STEPS, *, biases: bool = False
) -> tuple[float, list[float]]:
    """Return the largest difference of the losses of all steps, and our losses.

    Args:
        norm: One of `NORMS`.
        graphs: What to train on.
        steps: How many.
        biases: Whether the biases in front of norms are trained.
    """
    batches = list(minibatches(graphs, steps))
    ours, theirs = sides(norm, graphs, torch.float64)
    if norm != "none" and not biases:
        (_, *in_front) = theirs.model.linear_pairs(ours.model)  # the head comes first
        for pair in in_front:
            for linear in pair:
                linear.bias.requires_grad_(False)
    found, exact = train(theirs, batches), train(ours, batches)
    return max(abs(one - other) for one, other in zip(found, exact, strict=True)), exact


def seconds(norm: str, graphs: GraphSet, rounds: int) -> tuple[float, float]:
    """Return the median seconds of an epoch of each side, in turn, in float32 on one thread."""
    torch.set_num_threads(1)
    pair = sides(norm, graphs, torch.float32)
    batches = list(minibatches(graphs, -(-len(graphs) // BATCH)))
    times: tuple[list[float], list[float]] = ([], [])
    for round_ in range(-1, rounds):  # the first warms up
        for side, taken in zip(pair, times, strict=True):
            begin = time.perf_counter()
            train(side, batches)
            if round_ >= 0:
                taken.append(time.perf_counter() - begin)
    first, second = map(statistics.median, times)
    return first, second


def main() -> int:
    """Print how far the losses differ, and the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="MUTAG", help="the graphs, see graphnorms compare")
    parser.add_argument("--biases", action="store_true", help="train all biases; see the head")
    parser.add_argument("--time", type=int, default=0, metavar="ROUNDS", help="time epochs as well")
    arguments = parser.parse_args()
    graphs = load_dataset(arguments.data)
    failed = False
    for norm in NORMS:
        error, losses = deviation(norm, graphs, biases=arguments.biases)
        failed |= not arguments.biases and not error <= AGREES
        print(
            f"{norm}: losses of {STEPS} steps, {losses[0]:.4f} to {losses[-1]:.4f}, differ by at "
            f"most {error:.1e}",
            flush=True,
        )
        if arguments.time:
            ours, theirs = seconds(norm, graphs, arguments.time)
            print(f"{norm}: an epoch takes {ours:.4f} s here, {theirs:.4f} s with PyG", flush=True)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
