"""The layers against PyG's (eager and compiled), torch's own, and a plain copy.

Every layer is first checked against its PyG twin in float64; then all contenders are timed in
turn, forward and backward, in one process. What counts are ratios of minima within one run.

    python benchmarks/layers.py                        # 35110 x 128, 1024 graphs, one thread
    python benchmarks/layers.py --rows 3000 --channels 64 --graphs 128 --threads 2
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.training.trial import processor_name

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import torch_geometric
    import torch_geometric.nn as pyg

PAIRS: dict[str, tuple[Callable[..., nn.Module], Callable[[int], nn.Module]]] = {
    "GraphNorm": (gn.GraphNorm, pyg.GraphNorm),
    "InstanceNorm": (gn.InstanceNorm, pyg.InstanceNorm),
    "LayerNorm graph": (gn.LayerNorm, pyg.LayerNorm),
    "LayerNorm node": (
        lambda c, **k: gn.LayerNorm(c, mode="node", **k),
        lambda c: pyg.LayerNorm(c, mode="node"),
    ),
    "BatchNorm": (gn.BatchNorm, pyg.BatchNorm),
}


def make_batch(rows: int, graphs: int) -> Tensor:
    """Graphs of uneven sizes, sorted."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(graphs, generator=generator) + 0.3
    counts = (weight / weight.sum() * (rows - graphs)).long() + 1
    counts[-1] += rows - int(counts.sum())
    return torch.repeat_interleave(torch.arange(graphs), counts)


def check(channels: int, batch: Tensor) -> None:
    """Refuse to time a layer whose values or gradients are not those of its PyG twin."""
    x = torch.randn(batch.shape[0], channels, dtype=torch.float64)
    grad_y = torch.randn_like(x)
    for name, (ours, theirs) in PAIRS.items():
        mine, other = ours(channels, dtype=torch.float64), theirs(channels).double()
        results = []
        for layer in (mine, other):
            leaf = x.clone().requires_grad_()
            y = layer(leaf) if layer is other and name == "BatchNorm" else layer(leaf, batch)
            y.backward(grad_y)
            results.append((y.detach(), leaf.grad))
        for a, b in zip(*results, strict=True):
            if not torch.allclose(a, b, rtol=1e-9, atol=1e-9):
                raise SystemExit(f"{name}: wrong numbers, not timed")


def contenders(
    channels: int, batch: Tensor, compiled: bool
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Name to a function of the features."""
    size = int(batch.max()) + 1
    calls: dict[str, Callable[[Tensor], Tensor]] = {
        "copy": torch.clone,
        "nn.LayerNorm": nn.LayerNorm(channels),
        "nn.BatchNorm1d": nn.BatchNorm1d(channels),
    }

    def bound(layer: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda x: layer(x, batch, size)

    for name, (ours, theirs) in PAIRS.items():
        calls[name] = bound(ours(channels))
        calls[f"{name} + ReLU"] = bound(ours(channels, activation="relu"))
        if name != "BatchNorm":
            calls[f"PyG {name}"] = bound(theirs(channels))
            if compiled and name != "LayerNorm node":
                calls[f"PyG {name} compiled"] = bound(torch.compile(theirs(channels)))
    return calls


def time_in_turn(
    calls: dict[str, Callable[[Tensor], Tensor]], x: Tensor, rounds: int
) -> dict[str, list[float]]:
    """Seconds of forward + backward per contender and round; a copy has no backward."""
    grad_y = torch.randn_like(x)
    leaf = x.clone().requires_grad_()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 2):
        for name, call in calls.items():
            leaf.grad = None
            begin = time.perf_counter()
            if name == "copy":
                call(x)
            else:
                call(leaf).backward(grad_y)
            if turn >= 2:  # the first rounds compile and touch memory for the first time
                times[name].append(time.perf_counter() - begin)
    return times


def main() -> None:
    """Check, time, print, and write one result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=35110)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--graphs", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--no-compile", action="store_true", help="leave out PyG compiled")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    batch = make_batch(arguments.rows, arguments.graphs)
    check(arguments.channels, batch)
    calls = contenders(arguments.channels, batch, not arguments.no_compile)
    x = torch.randn(arguments.rows, arguments.channels)
    times = time_in_turn(calls, x, arguments.rounds)

    least = {name: min(values) for name, values in times.items()}
    print(
        f"{arguments.rows} x {arguments.channels}, {arguments.graphs} graphs, float32, "
        f"{arguments.threads} thread(s), forward + backward, minimum of {arguments.rounds}; "
        f"{gn.backends()[0].detail}"
    )
    print(f"{'':32}{'ms':>8}{'copies':>8}{'x LayerNorm':>13}")
    for name, seconds in least.items():
        print(
            f"{name:32}{seconds * 1e3:8.2f}{seconds / least['copy']:8.1f}"
            f"{seconds / least['nn.LayerNorm']:13.2f}"
        )
    if arguments.out:
        result: dict[str, Any] = {
            "command": "python benchmarks/layers.py "
            + " ".join(f"--{key} {getattr(arguments, key)}" for key in
                       ("rows", "channels", "graphs", "threads", "rounds")),
            "device": processor_name(), "platform": platform.platform(),
            "backend": gn.backends()[0].detail, "load": os.getloadavg()[0],
            "versions": {
                "graphnorms": gn.__version__, "torch": torch.__version__,
                "torch_geometric": torch_geometric.__version__,
                "python": platform.python_version(),
            },
            "milliseconds": {
                name: {"minimum": min(v) * 1e3, "median": statistics.median(v) * 1e3}
                for name, v in times.items()
            },
        }  # fmt: skip
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        temporary = arguments.out.with_suffix(".tmp")
        temporary.write_text(json.dumps(result, indent=1) + "\n")
        temporary.replace(arguments.out)


if __name__ == "__main__":
    main()
