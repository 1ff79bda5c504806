"""Every snippet of docs/lab.md, run in its order in one folder, with budgets as small as can be.

A `python` block that begins with the comment `# name.py` is that file; the others share one
namespace. Of an `sh` block every `graphnorms` line is run, with `SMALL` as defaults, and must end
well. The data that the page names are MUTAG under other names; a cluster is one of this machine.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch

from graphnorms import cli
from graphnorms.data import GraphSet, Task, load_dataset, random_graphs, save_npz
from graphnorms.errors import one_line
from graphnorms.lab import engines
from graphnorms.lab import prepare as prepare_module
from graphnorms.lab.engines import make_engine
from graphnorms.lab.options import Options
from graphnorms.lab.repeat import with_file
from tests.faults import dask_cluster

PAGE = Path(__file__).parents[2] / "docs" / "lab.md"
SMALL = {
    "protocol": {"nested": {"folds": 2}, "split": {"runs": 2}},
    "all": {"epochs": 1, "learning_rate": [0.01], "batch_size": 512},
}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GRAPHS = 40
FACTORY = """
from graphnorms.data import load_dataset


def make():
    return load_dataset("data/my_data")
"""
TRIAL = """
def train(norm, split, seed, report, epochs, learning_rate, batch_size):
    return len(split.test) / 100 + seed % 7 / 1000
"""


class Snippet(NamedTuple):
    """A block of the page."""

    line: int
    language: str
    text: str


def snippets() -> list[Snippet]:
    page = PAGE.read_text(encoding="utf-8")
    return [
        Snippet(page.count("\n", 0, match.start()) + 2, match[1], match[2])
        for match in FENCE.finditer(page)
    ]


def write_tu(folder: Path) -> None:
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


def write_frames(path: Path) -> None:
    """Write pairs of hydrogen atoms on springs as extended XYZ."""
    head = 'Properties=species:S:1:pos:R:3:forces:R:3 energy={} pbc="F F F"'
    frames = []
    for number in range(24):
        stretch = (number - 12) / 50
        atoms = f"H 0 0 0 0 0 {stretch}\nH 0 0 {1 + stretch} 0 0 {-stretch}"
        frames.append(f"2\n{head.format(stretch**2 / 2 - 27)}\n{atoms}\n")
    path.write_text("".join(frames))


def small(dataset: object, options: Options) -> Options:
    """The options with the smallest budget that they leave."""
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
    if options.resume or options.config is not None:  # they have these already
        return options
    return Options(**vars(options) | wanted)


def one_graph() -> GraphSet:
    graphs = random_graphs(1, 60, 5)
    task = Task(kind="classification", targets=("a", "b"), level="node")
    nodes = torch.arange(graphs.num_nodes)
    y, part = nodes % 2, nodes % 3
    return graphs.with_targets(y, task)._with(split=part.to(torch.int8), split_name="given")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """A folder with the data that the page names, where trials run in this process."""
    folder = tmp_path_factory.mktemp("snippets")
    for name in ("PROTEINS", "DATA", "OTHERS", "molecules", "my_data"):
        write_tu(folder / "data" / name)
    save_npz(load_dataset(str(folder / "data" / "molecules")), folder / "molecules.npz")
    save_npz(one_graph(), folder / "citations.npz")
    write_frames(folder / "frames.xyz")
    (folder / "my_data.py").write_text(FACTORY)
    (folder / "my_module.py").write_text(TRIAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setattr(prepare_module, "with_file", lambda d, o: with_file(d, small(d, o)))
        patch.setattr(engines, "make_engine", here)
        yield folder


def here(name, trial, dataset, **options):
    """The engine that is named, but in place of worker processes this process."""
    if name == "local":
        return engines.ThisProcess(trial, dataset)
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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch_geometric
def test_every_snippet(folder, stub_page, monkeypatch, capsys, tmp_path):
    pytest.importorskip("distributed")
    pytest.importorskip("submitit")
    pytest.importorskip("tensorboard")
    pytest.importorskip("ase")
    found = snippets()
    names: dict[str, object] = {}
    problems = []
    for snippet in found:
        if file := re.match(r"# (\w+\.py)\n", snippet.text):
            (folder / file[1]).write_text(snippet.text)
    with dask_cluster(tmp_path / "dask", workers=1) as (scheduler, _):
        monkeypatch.setitem(sys.modules, "dask_jobqueue", jobqueue(scheduler))
        for snippet in found:
            place = f"{PAGE.name}, line {snippet.line}"
            if snippet.language == "python":
                try:
                    exec(compile(snippet.text, place, "exec"), names)
                except Exception as error:
                    problems.append(f"{place}: {one_line(error)}")
            elif snippet.language == "toml":
                (folder / "mine.toml").write_text(snippet.text)
                with_file(None, Options(config=folder / "mine.toml"))
            else:
                assert snippet.language == "sh", place
                for line in snippet.text.splitlines():
                    words = shlex.split(line, comments=True)
                    if not words or words[:2] == ["pip", "install"]:
                        continue
                    assert words[0] == "graphnorms", f"{place}: {line}"
                    monkeypatch.setattr(sys, "argv", on_this_machine(words, scheduler))
                    code = cli.main()
                    said = capsys.readouterr()
                    if code != 0 or said.err:
                        problems.append(f"{place}: {line}\n{said.err}")
    assert not problems, "\n".join(problems)
    assert len(found) > 15
