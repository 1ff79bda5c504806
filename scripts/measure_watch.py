"""What `graphnorms.Watch` costs a training step: watched and unwatched models in turn.

    python scripts/measure_watch.py MUTAG --blocks 100

A GIN of the lab and its twin, of which one is watched, take the same steps; blocks of eight steps
alternate, and the order within a pair of blocks does, too. Processor time of one thread. A step
that is recorded in full costs more than the others, so a mean says more than a median.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

import graphnorms
from graphnorms.models import GNN, ModelConfig

STEPS = 8


def stepper(
    graphs: graphnorms.GraphSet, norm: str, size: int, *, watched: bool
) -> Callable[[], None]:
    """Return a function that trains a model for one step."""
    batch = graphs.batch(torch.arange(size))
    config = ModelConfig(name="gin", hidden=64, layers=4)
    model = GNN(config, norm, graphs.num_features, graphs.num_outputs, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    watch = graphnorms.Watch(model) if watched else None

    def step() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch.x, batch.adjacency, batch.segments), batch.y)
        loss.backward()
        optimizer.step()
        if watch is not None:
            watch.step(loss)

    return step


def seconds_of(step: Callable[[], None]) -> float:
    """Return the processor time of a step, over a block."""
    begin = time.process_time()
    for _ in range(STEPS):
        step()
    return (time.process_time() - begin) / STEPS


def main() -> None:
    """Measure, and print the times and the share."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", nargs="?", default="MUTAG")
    parser.add_argument("--norm", default="graph")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    graphs = graphnorms.load_dataset(options.dataset)
    plain, watched = (
        stepper(graphs, options.norm, options.batch_size, watched=each) for each in (False, True)
    )
    for step in (plain, watched):
        seconds_of(step)
    times: dict[Callable[[], None], list[float]] = {plain: [], watched: []}
    for block in range(options.blocks):
        for step in (plain, watched) if block % 2 else (watched, plain):
            times[step].append(seconds_of(step))
    ratios = [100 * (b / a - 1) for a, b in zip(times[plain], times[watched], strict=True)]
    error = 1.96 * statistics.stdev(ratios) / len(ratios) ** 0.5
    for name, step in (("plain", plain), ("watched", watched)):
        print(f"{name}: {1e3 * statistics.fmean(times[step]):.3f} ms a step")
    print(
        f"a watched step takes {statistics.fmean(ratios):.2f} ± {error:.2f}% longer "
        f"(mean over {len(ratios)} pairs of blocks and its 95% interval; "
        f"median {statistics.median(ratios):.2f}%)"
    )


if __name__ == "__main__":
    main()
