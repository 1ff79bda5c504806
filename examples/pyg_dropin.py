"""A model of PyG, as it is, trained with its own norms and with another one put in their place.

    python examples/pyg_dropin.py --norm graph
    python examples/pyg_dropin.py --norm pair:scale=2 --epochs 60

Nothing in the model or in the list of graphs knows of graphnorms. One line exchanges the norms:

    result = graphnorms.replace_norms(model, "graph")
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GIN, MLP, global_add_pool

import graphnorms


class Classifier(nn.Module):
    """GIN with BatchNorm, a sum over the nodes of a graph, and an MLP, as in PyG's examples."""

    def __init__(self, in_channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.gnn = GIN(in_channels, hidden, num_layers=3, norm="batch_norm")
        self.head = MLP([hidden, hidden, classes], norm="batch_norm")

    def forward(self, data: Batch) -> Tensor:
        """Return the logits, `(graphs, classes)`."""
        x = self.gnn(data.x, data.edge_index)  # the norms are not told of graphs
        logits: Tensor = self.head(global_add_pool(x, data.batch, data.num_graphs))
        return logits


class Score(NamedTuple):
    """How a training ended."""

    loss: float
    """The mean over the last epoch."""
    accuracy: float
    """On the graphs that were held out."""


def make_graphs(number: int, seed: int) -> list[Data]:
    """Make rings of 8 to 20 nodes, of which every other one has chords: its class."""
    generator = torch.Generator().manual_seed(seed)
    graphs = []
    for label in torch.arange(number) % 2:
        nodes = int(torch.randint(8, 21, (), generator=generator))
        here = torch.arange(nodes)
        edges = [torch.stack((here, (here + 1) % nodes))]
        if label:
            edges.append(torch.randint(nodes, (2, nodes // 3), generator=generator))
        edge_index = torch.cat(edges, 1)
        edge_index = torch.cat((edge_index, edge_index.flip(0)), 1)
        x = torch.randn(nodes, 4, generator=generator) + torch.randn(4, generator=generator)
        graphs.append(Data(x=x, edge_index=edge_index, y=label))
    return graphs


def train(model: nn.Module, graphs: list[Data], test: list[Data], epochs: int) -> Score:
    """Train a model as usual, whatever its norms are."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)  # after the norms were exchanged
    order = torch.Generator().manual_seed(0)
    losses: list[float] = []
    for _ in range(epochs):
        model.train()
        losses.clear()
        for ids in torch.randperm(len(graphs), generator=order).split(32):
            data = Batch.from_data_list([graphs[i] for i in ids.tolist()])
            loss = F.cross_entropy(model(data), data.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    model.eval()
    data = Batch.from_data_list(test)
    with torch.no_grad():
        right = model(data).argmax(1) == data.y
    return Score(sum(losses) / len(losses), right.float().mean().item())


def compare(norm: str, graphs: int, epochs: int) -> dict[str, Score]:
    """Train with PyG's own norms and with another in their place, from the same weights."""
    train_set, test_set = make_graphs(graphs, seed=0), make_graphs(graphs // 2, seed=1)
    scores = {}
    for name in ("as it is", norm):
        torch.manual_seed(0)
        model = Classifier(4, hidden=32, classes=2)
        if name == norm:
            # An example of what the model is called with shows which norms see nodes: the one in
            # the head sees whole graphs, and stays.
            example = Batch.from_data_list(train_set[:8])
            print(graphnorms.replace_norms(model, norm, example=example), end="\n\n")
        scores[name] = train(model, train_set, test_set, epochs)
    return scores


def main() -> dict[str, Score]:
    """Read the command line, print what came out, and return it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--norm", default="graph", help="what to put in: see `graphnorms norms`")
    parser.add_argument("--graphs", type=int, default=200, help="how many to train on")
    parser.add_argument("--epochs", type=int, default=30)
    given = parser.parse_args()
    scores = compare(given.norm, given.graphs, given.epochs)
    print(f"{'norm':<16}{'loss':>8}{'accuracy':>10}")
    for name, score in scores.items():
        print(f"{name:<16}{score.loss:>8.3f}{score.accuracy:>10.1%}")
    return scores


if __name__ == "__main__":
    scores = main()
