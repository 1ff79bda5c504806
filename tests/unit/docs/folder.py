"""The folder in which the pages' commands run: the data that they name, as small as can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from graphnorms.data import GraphSet, Task, load_dataset, random_graphs, save_npz
from graphnorms.lab.engines import ThisProcess, make_engine
from graphnorms.lab.options import Options

SMALL = {
    "protocol": {"nested": {"folds": 2}, "split": {"runs": 2}},
    "all": {"epochs": 1, "learning_rate": [0.01], "batch_size": 512},
}
GRAPHS = 40
FILES = {
    "my_data.py": """
from graphnorms.data import load_dataset
from graphnorms.data.pyg_list import to_pyg


def make():
    return load_dataset("data/my_data")


def loader():
    from torch_geometric.loader import DataLoader

    return DataLoader(to_pyg(make()), 20)
""",
}


def write_data(folder: Path) -> None:
    """Write the data that the pages name: MUTAG under other names, one graph, and frames."""
    for name in ("PROTEINS", "DATA", "OTHERS", "molecules", "my_data"):
        _write_tu(folder / "data" / name)
    save_npz(load_dataset(str(folder / "data" / "molecules")), folder / "molecules.npz")
    for name in ("citations", "my_nodes"):
        save_npz(_one_graph(), folder / f"{name}.npz")
    _write_frames(folder / "frames.xyz")
    for name, text in FILES.items():
        (folder / name).write_text(text)


def few(read: Callable[..., GraphSet]) -> Callable[..., GraphSet]:
    """A reader of embedded sets that leaves thirty items of each part of a large one."""

    def read_few(*arguments: Any, **options: Any) -> GraphSet:
        graphs = read(*arguments, **options)
        if len(graphs) < 500:
            return graphs
        part = torch.arange(len(graphs)) % 3 if graphs.split is None else graphs.split
        return graphs.subset(torch.cat([(part == at).nonzero().flatten()[:30] for at in range(3)]))

    return read_few


def small(dataset: object, options: Options) -> Options:
    """The options with the smallest budget that they leave."""
    if options.resume or options.config is not None:  # they have these already
        return options
    of_data = "split" if dataset == "nci5k" or options.split else "nested"
    tiny = SMALL["all"] | SMALL["protocol"].get(options.protocol or of_data, {})
    if options.warmup:
        tiny["epochs"] = options.warmup + 1
    if options.searched:
        tiny["proposals"] = 2
    if not options.vary:
        tiny["norms"] = ("none", "graph")
    if options.halving:
        tiny["learning_rate"] = (0.001, 0.01)
    wanted = {name: value for name, value in tiny.items() if getattr(options, name) is None}
    return Options(**vars(options) | wanted)


def here(name: str, trial: object, dataset: object, **options: object) -> object:
    """The engine that is named, but in place of worker processes this process."""
    if name == "local":
        return ThisProcess(trial, dataset)
    return make_engine(name, trial, dataset, **options)


def on_this_machine(words: list[str], scheduler: str) -> list[str]:
    """Replace the addresses of clusters in a command."""
    words = [scheduler if word.startswith("tcp://") else word for word in words]
    return [
        "cluster=local" if word.startswith("partition=") else "1" if word == "32" else word
        for word in words
    ]


def jobqueue(scheduler: str) -> ModuleType:
    """In place of dask-jobqueue, whose cluster is one that there is."""

    class SLURMCluster:
        scheduler_address = scheduler

        def __init__(self, *, queue, cores, processes, memory, walltime):
            assert (cores, processes) == (1, 1), "a worker runs one trial at a time"

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def scale(self, jobs):
            assert jobs > 0

    module = ModuleType("dask_jobqueue")
    module.SLURMCluster = SLURMCluster
    return module


def _write_tu(folder: Path) -> None:
    """Write the first graphs of MUTAG as a TU folder."""
    graphs = load_dataset("MUTAG")
    raw = folder / "raw"
    raw.mkdir(parents=True)
    ends, edge_ptr, sources = graphs.ptr.tolist(), graphs.edge_ptr.tolist(), graphs.edge_index
    edges, indicator = [], []
    for graph in range(GRAPHS):
        first = ends[graph] + 1  # nodes are counted from 1
        for node in range(ends[graph], ends[graph + 1]):
            indicator.append(str(graph + 1))
            near = sources[edge_ptr[node] : edge_ptr[node + 1]].tolist()
            edges += [f"{source + first}, {node + 1}" for source in near]
    lines = {
        "A": edges,
        "graph_indicator": indicator,
        "graph_labels": [str(label) for label in graphs.y[:GRAPHS].tolist()],
        "node_labels": [str(int(row.argmax())) for row in graphs.x[: ends[GRAPHS]]],
    }
    for name, text in lines.items():
        (raw / f"{folder.name}_{name}.txt").write_text("\n".join(text) + "\n")


def _one_graph() -> GraphSet:
    graphs = random_graphs(1, 60, 5)
    task = Task(kind="classification", targets=("a", "b"), level="node")
    nodes = torch.arange(graphs.num_nodes)
    y, part = nodes % 2, nodes % 3
    return graphs.with_targets(y, task)._with(split=part.to(torch.int8), split_name="given")


def _write_frames(path: Path) -> None:
    """Write pairs of hydrogen atoms on springs as extended XYZ."""
    head = 'Properties=species:S:1:pos:R:3:forces:R:3 energy={} pbc="F F F"'
    frames = []
    for number in range(24):
        stretch = (number - 12) / 50
        atoms = f"H 0 0 0 0 0 {stretch}\nH 0 0 {1 + stretch} 0 0 {-stretch}"
        frames.append(f"2\n{head.format(stretch**2 / 2 - 27)}\n{atoms}\n")
    path.write_text("".join(frames))
