"""One rank of the tests: runs every case and saves what came out."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.nn  # its defaults would keep the group
from safetensors.torch import save_file

import graphnorms as gn
from tests.ranks import cases, ended


def words(call: Callable[[], object]) -> str:
    """The error of a call, in one line or more."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def refusals(rank: int) -> dict[str, str]:
    """What the errors say that every rank raises, and none waits for another."""
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    layer = gn.GraphNorm(4, dtype=torch.float64, process_group=True)
    y = layer(x)
    single = gn.BatchNorm(4, dtype=torch.float64, process_group=True)
    here = 1 if rank == 0 else 0
    return {
        "segments": words(lambda: layer(x, torch.zeros(3, dtype=torch.long), 2 + rank)),
        "kernel": words(lambda: gn.GraphNorm(4, process_group=True, backend="cpu")(x.float())),
        "func": words(lambda: torch.func.grad(lambda x: layer(x).sum())(x)),
        "second": words(lambda: torch.autograd.grad(y.sum(), x, create_graph=True)),
        "single": words(lambda: single(x[:here])),
    }


def collectives(rank: int) -> list[int]:
    """How many there are in a forward, in its backward, and in a forward on the same batch."""
    counted = [0]

    def counting(collective: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **choices: object) -> object:
            counted[0] += 1
            return collective(*arguments, **choices)

        return call

    layers = [gn.GraphNorm(4, process_group=True), gn.PairNorm(process_group=True)]
    x, batch = torch.randn(5 + rank, 4, requires_grad=True), torch.arange(5 + rank) % 3
    before = dist.all_gather, dist.all_reduce
    dist.all_gather, dist.all_reduce = map(counting, before)
    found = []
    try:
        for layer in layers:
            y = layer(x, batch, 3)
            found.append(counted[0])
            y.sum().backward()
            found.append(counted[0])
    finally:
        dist.all_gather, dist.all_reduce = before
    return found


def run(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(str(folder / "store"), ranks),
        rank=rank,
        world_size=ranks,
        timeout=datetime.timedelta(seconds=60),
    )
    found = {}
    for case in (*cases.CASES, *cases.PRECISION):
        for name, value in cases.run(case, ranks, rank).items():
            found[f"{case.name}: {name}"] = value
    # The groups of a rank and of all.
    group = dist.new_group(list(range(ranks)))
    (step,) = cases.steps(cases.PLAIN, ranks)
    mine = step.of_rank(rank)
    found["primitive"] = cases.primitive(mine, group)
    found["poisoned"] = cases.primitive(cases.poisoned(step).of_rank(rank), group)
    layer = gn.GraphNorm(cases.CHANNELS, dropout=0.4, dtype=torch.float64, process_group=group)
    torch.manual_seed(rank)
    x = mine.x.clone().requires_grad_()
    y = layer(x, mine.ids, cases.GRAPHS)
    y.backward(mine.grad_y)
    assert x.grad is not None
    found["collectives"] = torch.tensor(collectives(rank))
    found |= {"dropout: y0": y.detach(), "dropout: x0": x.grad}
    save_file(found, folder / f"rank{rank}.safetensors")
    texts = refusals(rank)
    (folder / f"rank{rank}.txt").write_text(
        "\n".join(f"{name} {text}" for name, text in texts.items())
    )
    dist.destroy_process_group()


if __name__ == "__main__":
    run(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), Path(sys.argv[1]))
    ended.check()
