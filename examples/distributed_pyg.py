"""Exchange the norms of a PyG model as it is, and train it over several processes.

    torchrun --nproc-per-node 2 examples/distributed_pyg.py
    python examples/distributed_pyg.py

Model and data are plain PyG. `replace_norms` puts GraphNorm in place of its BatchNorm; left as it
is, `convert_sync` has BatchNorm measure the joint minibatch. Either way any number of processes
gives the same losses.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.nn  # before the group is there, or it is never let go: see below
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import graphnorms as gn

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric.data import Batch, Data
    from torch_geometric.nn import GIN, global_add_pool


class Classifier(nn.Module):
    """A model of somebody who has never heard of this package."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.gnn = GIN(in_channels, 32, num_layers=3, norm="batch_norm")
        self.head = nn.Linear(32, classes)

    def forward(self, data: Data) -> Tensor:
        """Return the logits, `(graphs, classes)`."""
        x = self.gnn(data.x, data.edge_index)
        return self.head(global_add_pool(x, data.batch, data.num_graphs))


def main() -> None:
    """Train with both norms, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32, help="graphs of a joint minibatch")
    parser.add_argument("--float64", action="store_true", help="compute in double precision")
    parser.add_argument("--save", type=Path, help="where to write the losses, as JSON")
    options = parser.parse_args()

    rank, ranks = 0, 1
    if "RANK" in os.environ:  # torchrun has started this process
        dist.init_process_group("gloo")
        rank, ranks = dist.get_rank(), dist.get_world_size()
    dtype = torch.float64 if options.float64 else torch.float32
    graphs = data_list(dtype)

    losses = {}
    for norm in ("batch", "graph"):
        losses[norm] = train(norm, graphs, rank, ranks, options)
        if rank == 0:
            print(f"{norm:6} loss " + " ".join(f"{loss:.4f}" for loss in losses[norm]))
    if options.save and rank == 0:
        options.save.write_text(json.dumps(losses))
    if ranks > 1:
        # Here the group has to end with its threads: at the exit of Python they abort the process
        # or wait forever. So nothing else may hold it: the models are gone by now, and
        # torch.distributed.nn, whose defaults keep the group that they find, has found none.
        dist.destroy_process_group()


def train(
    norm: str, graphs: list[Data], rank: int, ranks: int, options: argparse.Namespace
) -> list[float]:
    """Train with one norm, and return the loss of every epoch."""
    torch.manual_seed(0)
    model: nn.Module = Classifier(graphs[0].num_features, 2).to(graphs[0].x.dtype)
    if norm != "batch":
        model = gn.replace_norms(model, to=norm).model
    if ranks > 1:
        gn.convert_sync(model)
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    losses = []
    for epoch in range(options.epochs):
        total = torch.zeros((), dtype=torch.float64)
        generator = torch.Generator().manual_seed(epoch)
        order = torch.randperm(len(graphs), generator=generator).tolist()
        for start in range(0, len(graphs), options.batch_size):
            joint = order[start : start + options.batch_size]
            data = Batch.from_data_list([graphs[i] for i in joint if i % ranks == rank])
            loss = F.cross_entropy(model(data), data.y, reduction="sum")
            optimizer.zero_grad()
            # Averaged over the ranks, the mean over the joint minibatch.
            (loss * ranks / len(joint)).backward()
            optimizer.step()
            total += loss.detach()
        if ranks > 1:
            dist.all_reduce(total)
        losses.append(total.item() / len(graphs))
    return losses


def data_list(dtype: torch.dtype) -> list[Data]:
    """MUTAG as PyG users have their graphs: a list of `Data`."""
    graphs = gn.load_dataset("MUTAG")
    found = []
    for i in range(len(graphs)):
        graph = graphs.batch(torch.tensor([i]))
        edges = graph.adjacency
        targets = torch.repeat_interleave(torch.arange(edges.num_nodes), edges.ptr.diff())
        edge_index = torch.stack([edges.index, targets])
        found.append(Data(x=graph.x.to(dtype), edge_index=edge_index, y=graph.y))
    return found


if __name__ == "__main__":
    main()
