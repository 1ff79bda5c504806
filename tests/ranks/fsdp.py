"""Training a GIN with each norm: by FSDP2 over the ranks, or in one process without it."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.nn  # its defaults would keep the group
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

import graphnorms as gn
from graphnorms.models import GNN, ModelConfig
from tests.ranks.worker import words

# granola draws noise, of which ranks have their own.
NORMS = (
    "batch",
    "layer",
    "layer-graph",
    "instance",
    "graph",
    "pair",
    "diff-group",
    "rms",
    "group",
    "group-graph",
    "node",
    "ada",
    "power",
    "contra",
    "adja",
    "united",
    "super",
)
UNITS = ("model", "blocks", "norms")
"""What is sharded, and freed and gathered anew, by itself."""
GRAPHS, STEPS = 24, 4
HALF = ("batch", "layer", "graph")
"""What is trained in mixed precision, too."""


def losses(
    norm: str, rank: int = 0, ranks: int = 1, *, unit: str | None = None, half: bool = False
) -> list[float]:
    """The loss of every step: the mean over the graphs of all ranks.

    Args:
        unit: What is sharded; `None` is a process without FSDP.
        half: Whether the parameters of each call are rounded to bfloat16, as are the features.
    """
    config = ModelConfig(name="gin", layers=2, hidden=8, dropout=0.0)
    graphs = gn.load_dataset("MUTAG").subset(torch.arange(rank, GRAPHS, ranks))
    batch = graphs.batch(torch.arange(len(graphs)))
    dtype = torch.float32 if half else torch.float64
    model: nn.Module = GNN(config, norm, graphs.num_features, graphs.num_classes, seed=0).to(dtype)
    call: Callable[..., Tensor] = model
    x = batch.x.to(dtype)
    if unit is not None:
        gn.convert_sync(model)
        chosen = {"model": [], "blocks": list(model.convolutions), "norms": norms_of(model)}[unit]
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if half else None, reduce_dtype=dtype
        )
        for module in (*chosen, model):
            fully_shard(module, reshard_after_forward=True, mp_policy=policy)
    elif half:
        x = x.bfloat16()
        call = functools.partial(in_half, model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002, momentum=0.9)
    found = []
    for _ in range(STEPS):
        logits = call(x, batch.adjacency, batch.segments).double()
        loss = F.cross_entropy(logits, batch.y, reduction="sum") * (ranks / GRAPHS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total = loss.detach() / ranks
        if ranks > 1:
            dist.all_reduce(total)
        found.append(total.item())
    return found


def in_half(model: nn.Module, *arguments: object) -> Tensor:
    rounded = {name: parameter.bfloat16() for name, parameter in model.named_parameters()}
    return torch.func.functional_call(model, rounded, arguments)


def refusals() -> dict[str, str]:
    """What is said of parameters that lie on all ranks, given to a rank's own features."""
    layer, x = gn.GraphNorm(4), torch.randn(5, 4)
    fully_shard(layer)
    call = functools.partial(
        gn.segment_normalize,
        x,
        gn.Segments.single(5),
        center=gn.Over.NODES,
        scale=gn.Over.NODES,
        weight=layer.weight,
        bias=None,
    )
    edges = gn.Adjacency.from_edge_index(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]), 5)
    return {
        "weight": words(call),
        "weight of all ranks": words(functools.partial(call, process_group="world")),
        "edge_weight": words(lambda: gn.aggregate(x, edges, edge_weight=layer.bias)),
    }


def norms_of(model: nn.Module) -> list[nn.Module]:
    """The norms that have parameters, without what is inside them."""
    home = gn.BatchNorm.__module__.rsplit(".", 1)[0]
    norms = [
        module
        for module in model.modules()
        if type(module).__module__.startswith(home) and any(True for _ in module.parameters())
    ]
    inside = {id(part) for norm in norms for part in norm.modules() if part is not norm}
    return [norm for norm in norms if id(norm) not in inside]


def run(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", store=dist.FileStore(str(folder / "store"), ranks), rank=rank, world_size=ranks
    )
    found = {
        f"{norm} {unit}": losses(norm, rank, ranks, unit=unit) for norm in NORMS for unit in UNITS
    }
    for norm in HALF:
        found[f"{norm} half"] = losses(norm, rank, ranks, unit="blocks", half=True)
    if rank == 0:
        (folder / "losses.json").write_text(json.dumps(found))
    (folder / f"refusals{rank}.json").write_text(json.dumps(refusals()))
    dist.destroy_process_group()


if __name__ == "__main__":
    run(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # a cache of DTensor keeps the group: see docs/distributed.md
