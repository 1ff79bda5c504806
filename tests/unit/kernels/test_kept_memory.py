"""Memory of tensors is used again when they are gone, and never before."""

from __future__ import annotations

import gc
import threading

import pytest
import torch

import graphnorms.kernels.chain
from graphnorms.data import load_dataset
from graphnorms.kernels.kept_memory import KeptMemory
from graphnorms.models import GNN, preset

X = torch.zeros(0)


def test_memory_of_a_tensor_that_is_gone_is_used_again() -> None:
    memory = KeptMemory(fewest=64, most=1 << 20)
    first = memory.empty(1000, X)
    at = first.data_ptr()
    assert (first.shape, first.dtype, at % 64) == ((1000,), torch.float32, 0)
    view = first[10:]
    del first
    other = memory.empty(1000, X)
    assert other.data_ptr() != at, "a view still has it"
    del view
    assert memory.empty(1100, X).data_ptr() == at, "an eighth more fits"


def test_a_tensor_that_autograd_has_saved_is_in_use() -> None:
    memory = KeptMemory(fewest=64, most=1 << 20)
    leaf = torch.ones(1000, requires_grad=True)
    kept = memory.empty(1000, X).fill_(3)
    at, y = kept.data_ptr(), (leaf * kept).sum()
    del kept
    gc.collect()
    memory.empty(1000, X).fill_(5)
    y.backward()
    assert leaf.grad is not None
    assert leaf.grad.unique().tolist() == [3]
    del y
    assert memory.empty(1000, X).data_ptr() == at


def test_no_more_than_asked_for_is_kept() -> None:
    memory = KeptMemory(fewest=64, most=10_000)
    lent = [memory.empty(1000, X) for _ in range(4)]  # 4500 bytes each
    assert sum(map(len, memory._pieces)) <= 10_000
    assert len({each.data_ptr() for each in lent}) == 4
    del lent
    assert memory.empty(2000, X).shape == (2000,)
    assert [len(each) for each in memory._pieces] == [9000], "free ones that are too small go"
    memory.empty(10, X)
    assert len(memory._pieces) == 1, "a small one is no piece"


def test_threads_get_memory_of_their_own() -> None:
    memory = KeptMemory(fewest=64, most=1 << 20)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(200):
            mine = memory.empty(1000, X).fill_(number)
            wrong.extend(mine[mine != number].tolist())

    threads = [threading.Thread(target=work, args=(each,)) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_training_does_not_depend_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches forward, then both backward: what the first has kept is not lent to another."""
    graphs = load_dataset("MUTAG")
    found = []
    for fewest in (64, 1 << 40):
        memory = KeptMemory(fewest=fewest)
        monkeypatch.setattr(graphnorms.kernels.chain, "MEMORY", memory)
        model = GNN(preset("gin", "graphnorm-paper"), "graph", graphs.num_features, 2, seed=0)
        model.eval()  # without dropout
        for _ in range(2):
            losses = []
            for ids in torch.arange(len(graphs)).split(100):
                batch = graphs.batch(ids)
                losses.append(model(batch.x, batch.adjacency, batch.segments).square().mean())
            sum(losses).backward()
        found.append([parameter.grad for parameter in model.parameters()])
        assert bool(memory._pieces) == (fewest == 64)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
