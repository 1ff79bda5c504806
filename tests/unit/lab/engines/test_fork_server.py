"""Worker processes as forks of one that has imported torch, and tensors that they map."""

from __future__ import annotations

import os
import signal
import sys

import cloudpickle
import pytest
import torch
from tests.faults import make_config

from graphnorms.data import load_dataset
from graphnorms.lab.engines import WorkerProcesses, packing
from graphnorms.lab.engines.process import Process, fork_server
from graphnorms.training.record import Record

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a fork server")

# Packages of others may hold a `tests`, too, which a worker would import in place of this one.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def told(config, **found):
    return Record(key=config.key, config=config.to_dict(), status="done", environment=found)


@pytest.fixture(scope="module")
def two():
    """What two trials, each in a process of its own, saw of their process before and after."""
    told_by = told

    def trial(config, dataset, on_epoch):
        import os
        import sys
        from pathlib import Path

        before = set(sys.modules)
        from graphnorms.data import SplitConfig, split_items
        from graphnorms.models import derive_seed  # noqa: F401

        split_items(dataset, SplitConfig(kind="fold", folds=10, fold=0, seed=0, holdout=0.1))
        model = torch.nn.Linear(2, 2)
        model(torch.ones(1, 2)).sum().backward()
        torch.optim.Adam(model.parameters()).step()
        dataset.x[0] = 7.0  # of this process alone
        maps = Path("/proc/self/maps").read_text()
        return told_by(
            config,
            parent=os.getppid(),
            id=os.getpid(),
            new=sorted({name.partition(".")[0] for name in set(sys.modules) - before}),
            threads=torch.get_num_threads(),
            first=dataset.kept_x[0, 0].item(),
            mapped=sum("graphnorms-" in line for line in maps.splitlines()),
        )

    graphs = load_dataset("MUTAG")
    graphs = graphs.with_features(torch.arange(3371 * 7.0).view(3371, 7), "numbers")
    with WorkerProcesses(trial, graphs, workers=1, fresh=True) as engine:
        return [r.environment for r in engine.run([make_config(run) for run in range(2)])]


@pytest.mark.full("a process that imports torch")
def test_workers_have_imported_what_they_need(two):
    assert two[0]["id"] != two[1]["id"]
    assert two[0]["parent"] == two[1]["parent"] != os.getpid()
    # Of what a trial imports nothing is left to the workers but parts of what is there already.
    assert {*two[0]["new"]} <= {"graphnorms", "torch"}
    assert two[0]["threads"] == 1


@pytest.mark.full("a process that imports torch")
def test_workers_map_large_tensors_and_do_not_share_what_they_write(two):
    assert two[0]["mapped"] >= 1
    assert [each["first"] for each in two] == [7.0, 7.0]


@pytest.mark.full("a process that imports torch")
def test_another_fork_server_takes_the_place_of_one_that_was_killed():
    def trial(config, dataset, on_epoch):
        import os

        return told_by(config, parent=os.getppid())

    told_by, found = told, fork_server()
    process = Process(packing.pack(trial, None), fresh=True, fork_server=found)
    parents = []
    for run in range(2):
        parents.append(process.run_trial(make_config(run), lambda epochs: None))
        parents[run] = parents[run].environment["parent"]
        os.kill(found._process.pid, signal.SIGKILL)
        found._process.wait()
    assert parents[0] != parents[1]
    assert os.getpid() not in parents
    found.close()


def test_tensors_in_a_file_are_what_they_were(tmp_path):
    import pickle

    large, small = torch.arange(20_000).view(100, 200), torch.ones(3)
    columns = {"a": large, "b": small, "same": large, "turned": large.t(), "double": large.double()}
    packed = packing.pack(max, columns, tmp_path / "tensors")
    assert len(packed) < large.nbytes * 1.2  # only `turned` is in it
    trial, found = pickle.loads(packed)
    assert trial is max
    assert found["same"] is found["a"]
    for name, tensor in columns.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    found["a"][0, 0] = -1
    assert pickle.loads(packed)[1]["a"][0, 0] == -1, "of this process"
    assert (tmp_path / "tensors").read_bytes()[:8] == bytes(8), "and not in the file"


def test_a_fork_server_that_cannot_start_is_asked_once():
    import subprocess

    from graphnorms.lab.engines.fork_server import ForkServer

    starts = []

    def start(descriptor):
        starts.append(descriptor)
        return subprocess.Popen([sys.executable, "-S", "-c", ""], pass_fds=(descriptor,))

    broken = ForkServer(start)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="cannot start"):
            broken.fork()
    assert len(starts) == 1
    broken.close()
