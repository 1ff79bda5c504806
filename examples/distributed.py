"""Train a GIN on MUTAG over several processes, to the losses of one process.

    torchrun --nproc-per-node 2 examples/distributed.py
    python examples/distributed.py

Every rank keeps the graphs whose number leaves its own when divided by the ranks, and of every
joint minibatch takes those that it has: more or fewer than the others, or none. BatchNorm
measures the joint minibatch all the same, and so one process without `torchrun` prints the same
losses.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.nn  # before the group is there, or it is never let go: see below
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import graphnorms as gn
from graphnorms.models import GNN, ModelConfig


def main() -> None:
    """Train, and print the loss of every epoch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--norm", default="batch", help="a normalization of the catalogue")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32, help="graphs of a joint minibatch")
    parser.add_argument("--float64", action="store_true", help="compute in double precision")
    parser.add_argument("--save", type=Path, help="where to write the losses, as JSON")
    options = parser.parse_args()

    rank, ranks, device = join()
    losses = train(rank, ranks, device, options)
    if options.save and rank == 0:
        options.save.write_text(json.dumps(losses))
    if ranks > 1:
        # Here the group has to end with its threads: at the exit of Python they abort the process
        # or wait forever. So nothing else may hold it: the model is gone by now, and
        # torch.distributed.nn, whose defaults keep the group that they find, has found none.
        dist.destroy_process_group()


def train(rank: int, ranks: int, device: torch.device, options: argparse.Namespace) -> list[float]:
    """Train on the shard of this rank, and return the loss of every epoch over all of them."""
    graphs = gn.load_dataset("MUTAG")
    mine = graphs.subset(torch.arange(rank, len(graphs), ranks)).to(device)

    # The same weights on every rank: they depend on the seed alone. Dropout would draw for other
    # rows than one process does.
    config = ModelConfig(name="gin", layers=3, hidden=32, dropout=0.0)
    model: nn.Module = GNN(config, options.norm, graphs.num_features, graphs.num_classes, seed=0)
    model.to(device, torch.float64 if options.float64 else torch.float32)
    if ranks > 1:
        print_once(gn.convert_sync(model))
        model = DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    losses = []
    for epoch in range(options.epochs):
        # All ranks draw the same order, and so mean the same joint minibatches.
        order = torch.randperm(len(graphs), generator=torch.Generator().manual_seed(epoch))
        total = torch.zeros((), device=device, dtype=torch.float64)
        for joint in order.split(options.batch_size):
            local = joint[joint % ranks == rank] // ranks
            batch = mine.batch(local)
            x = batch.x.double() if options.float64 else batch.x
            logits = model(x, batch.adjacency, batch.segments)
            loss = F.cross_entropy(logits, batch.y, reduction="sum")
            optimizer.zero_grad()
            # DistributedDataParallel averages over the ranks: times their number, it is the mean
            # over the joint minibatch, however unequal the ranks.
            (loss * ranks / len(joint)).backward()
            optimizer.step()
            total += loss.detach()
        if ranks > 1:
            dist.all_reduce(total)
        losses.append(total.item() / len(graphs))
        print_once(f"epoch {epoch + 1}: loss {losses[-1]:.6f}")
    return losses


def join() -> tuple[int, int, torch.device]:
    """Join the ranks of `torchrun`, if it has started this process."""
    if "RANK" not in os.environ:
        return 0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return dist.get_rank(), dist.get_world_size(), device


def print_once(text: object) -> None:
    """Print on the first rank."""
    if not dist.is_initialized() or dist.get_rank() == 0:
        print(text, flush=True)


if __name__ == "__main__":
    main()
