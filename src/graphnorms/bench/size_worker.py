"""One side of the size benchmark in a process of its own, which trains a pass whenever it is asked.

The process prints a line of JSON at the start, the loss in float64 of a few graphs, and one for
each line that it reads: the seconds of a pass for `"pass"`, and the peak of its memory for `"end"`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.bench import pyg_layers
from graphnorms.bench.answering_process import AnsweringProcess
from graphnorms.bench.gin import Block, PygGIN, as_pyg_data
from graphnorms.data import GraphSet
from graphnorms.layers.catalog import CATALOG
from graphnorms.models import GNN, ModelConfig

OURS: Final = "graphnorms"
MAPPED: Final = "graphnorms, from mapped files"
PYG: Final = "PyG"

_NORM: Final = "graph"
_CHECKED: Final = 3  # graphs whose loss is compared in float64
_AT_A_TIME: Final = 1000  # graphs that are made objects of PyG


class Worker(AnsweringProcess):
    """The process, as its parent holds it; it answers `"pass"`, and `"end"` with its peak.

    Args:
        side: `OURS`, `MAPPED` or `PYG`.
        folder: The packed set.
        size: `sample`, `batch`, `layers`, `hidden` and `threads`.
    """

    def __init__(self, side: str, folder: Path, size: dict[str, int]) -> None:
        code = f"from {__name__} import main; main()"
        given = json.dumps({"side": side, "folder": str(folder), **size})
        super().__init__(
            [sys.executable, "-W", "ignore", "-c", code, given],
            f"the process of {side} has ended; its own message stands above",
        )


def main() -> None:
    """Run in the process: see the head of the module."""
    given = json.loads(sys.argv[-1])
    torch.set_num_threads(given["threads"])
    side, folder = given["side"], given["folder"]
    few = GraphSet.open(folder)
    few = few.subset(torch.arange(min(_CHECKED, len(few)))) if len(few) > 1 else few
    exact = _exact_loss(side, few, given) if few.num_nodes <= 10_000 else 0.0
    del few
    before = _resident("VmRSS")
    train = (_theirs if side == PYG else _ours)(side, folder, given)
    _say({"loss": exact})
    for line in sys.stdin:
        if json.loads(line) == "end":
            break
        begin = time.perf_counter(), time.process_time()
        loss = train()
        seconds = time.perf_counter() - begin[0]
        _say({"seconds": seconds, "processor": time.process_time() - begin[1], "loss": loss})
    peak = _resident("VmHWM")
    _say({"peak": peak - before, "resident": peak})


def _say(found: dict[str, float]) -> None:
    print(json.dumps(found), flush=True)


def _resident(what: str) -> int:
    """Return the resident bytes of the process, now (`VmRSS`) or at most (`VmHWM`)."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) * 1024
    import resource  # not on Windows

    # Elsewhere the most that it has ever held, in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _model(graphs: GraphSet, given: dict[str, Any]) -> GNN:
    config = ModelConfig(
        name="gin",
        layers=given["layers"],
        hidden=given["hidden"],
        dropout=0.0,
        head=graphs.task.level,
    )
    return GNN(config, _NORM, graphs.num_features, graphs.num_outputs, seed=0)


def _pyg_model(graphs: GraphSet, given: dict[str, Any]) -> PygGIN:
    def block(channels: int) -> Block:
        norm = pyg_layers.twin(CATALOG[_NORM], channels)
        assert norm is not None
        return Block(norm, fused=False)

    widths = [graphs.num_features] + [given["hidden"]] * given["layers"]
    model = PygGIN(widths, graphs.num_outputs, block, pooled=graphs.task.level == "graph")
    model.copy_from(_model(graphs, given))
    return model


def _loss(outputs: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of classes, or the logistic loss of answers, without those that are missing."""
    if not y.is_floating_point():
        return F.cross_entropy(outputs, y.view(-1))
    known = ~y.isnan()
    return F.binary_cross_entropy_with_logits(outputs[known], y[known].to(outputs.dtype))


def _exact_loss(side: str, graphs: GraphSet, given: dict[str, Any]) -> float:
    """Return the loss of a batch in float64, before anything is trained."""
    batch = graphs.batch(torch.arange(len(graphs)))
    with torch.no_grad():
        if side != PYG:
            ours = _model(graphs, given).double()
            outputs = ours(batch.x.double(), batch.adjacency, batch.segments)
        else:
            data = pyg_layers.load("data").Batch.from_data_list(as_pyg_data(graphs))
            data.x = data.x.double()
            outputs = _pyg_model(graphs, given).double()(data)
        return float(_loss(outputs, batch.y))


def _batches(graphs: int, given: dict[str, Any]) -> list[Tensor]:
    """Return the graphs of each minibatch, the same in every pass and on every side."""
    order = torch.randperm(graphs, generator=torch.Generator().manual_seed(0))
    return list(order[: given["sample"]].split(given["batch"]))


def _ours(side: str, folder: str, given: dict[str, Any]) -> Callable[[], float]:
    graphs = GraphSet.open(folder, mapped=side == MAPPED)
    model = _model(graphs, given)
    batches = _batches(len(graphs), given)
    whole = graphs.batch(batches[0]) if len(graphs) == 1 else None

    def losses() -> Iterator[Tensor]:
        for ids in batches:
            batch = graphs.batch(ids) if whole is None else whole
            yield _loss(model(batch.x, batch.adjacency, batch.segments), batch.y)

    return _training(model, losses)


def _theirs(side: str, folder: str, given: dict[str, Any]) -> Callable[[], float]:
    graphs = GraphSet.open(folder)
    model = _pyg_model(graphs, given)
    batches = _batches(len(graphs), given)
    items = [
        item
        for ids in torch.arange(len(graphs)).split(_AT_A_TIME)
        for item in as_pyg_data(graphs.subset(ids))
    ]
    graphs.release()
    sampler = [ids.tolist() for ids in batches]
    loader = pyg_layers.load("loader").DataLoader(items, batch_sampler=sampler)

    def losses() -> Iterator[Tensor]:
        for batch in loader if len(items) > 1 else items:
            yield _loss(model(batch), batch.y)

    return _training(model, losses)


def _training(model: nn.Module, losses: Callable[[], Iterator[Tensor]]) -> Callable[[], float]:
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def run() -> float:
        first = None
        for loss in losses():
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            first = float(loss.detach()) if first is None else first
        assert first is not None
        return first

    return run
