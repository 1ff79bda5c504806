"""Models with exchanged norms under `torch.compile` and `torch.export`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

import graphnorms as gn
from graphnorms.bench.pyg_layers import load
from graphnorms.dropin.batch_of import current
from tests.unit.dropin.models import Given, Minibatch, OfData, Plain, by_graph, minibatch

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning"),
]

BATCHES = [minibatch(rows, graphs) for rows, graphs in ((30, 3), (40, 4), (33, 7), (50, 5))]
Call = Callable[[Any, Minibatch], Tensor]


@pytest.fixture(autouse=True)
def fresh() -> Any:
    torch._dynamo.reset()
    yield
    assert current() is None


def by_hand(model: Any, given: Minibatch) -> Tensor:
    with gn.batch(given.batch, given.graphs):
        y: Tensor = model(given.x)
        return y


def segments_by_hand(model: Any, given: Minibatch) -> Tensor:
    with gn.batch(gn.Segments.from_batch(given.batch, given.graphs)):
        y: Tensor = model(given.x)
        return y


CALLS: dict[str, Call] = {
    "arguments": lambda model, given: model(given.x, given.batch, given.graphs),
    "batch and ptr": lambda model, given: model(given.x, given.batch, ptr=given.ptr),
    "by hand": by_hand,
    "Segments by hand": segments_by_hand,
}


@pytest.mark.parametrize("in_place", [False, True], ids=["torch.compile", "Module.compile"])
@pytest.mark.parametrize("name", CALLS)
def test_one_graph_that_serves_all_sizes(name: str, in_place: bool) -> None:
    call = CALLS[name]
    counter = CompileCounter()
    model: Any = gn.replace_norms(Given(), "instance").model
    if in_place:
        model.compile(fullgraph=True, backend=counter)
    else:
        model = torch.compile(model, fullgraph=True, backend=counter)
    compiled = []
    for given in BATCHES:
        expected = by_graph(given.x, given.batch)
        assert torch.allclose(call(model, given), expected, atol=1e-5)
        compiled.append(counter.frame_count)
    assert compiled[-1] == compiled[1]


def test_exchanged_after_it_was_compiled() -> None:
    model: Any = torch.compile(Given(), fullgraph=True, backend="eager")
    given = BATCHES[0]
    model(given.x)
    result = gn.replace_norms(model, "instance")
    assert result.model is model
    y = model(given.x, given.batch, given.graphs)
    assert torch.allclose(y, by_graph(given.x, given.batch), atol=1e-5)
    result.undo()
    assert torch.allclose(model(given.x), nn.BatchNorm1d(6)(given.x), atol=1e-5)


def test_a_block_within_what_is_compiled() -> None:
    model = gn.replace_norms(Plain(), "instance").model
    compiled = torch.compile(by_hand, fullgraph=True, backend="eager")
    for given in BATCHES[:2]:
        expected = by_graph(given.x, given.batch)
        assert torch.allclose(compiled(model, given), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of what goes over it
def test_with_a_break_inside() -> None:
    class Broken(Given):
        def forward(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:  # type: ignore[override]
            x = self.norm(x)
            torch._dynamo.graph_break()
            y: Tensor = self.norm(x)
            return y

    model = torch.compile(gn.replace_norms(Broken(), "instance").model, backend="eager")
    for given in BATCHES[:2]:
        expected = by_graph(by_graph(given.x, given.batch), given.batch)
        assert torch.allclose(CALLS["arguments"](model, given), expected, atol=1e-5)


def test_a_data_object() -> None:
    class Data:
        def __init__(self, given: Minibatch) -> None:
            self.x, self.batch, self.ptr = given.x, given.batch, given.ptr

    model = torch.compile(
        gn.replace_norms(OfData(), "instance").model, fullgraph=True, backend="eager"
    )
    for given in BATCHES[:2]:
        expected = by_graph(given.x, given.batch)
        assert torch.allclose(model(Data(given)), expected, atol=1e-5)


def test_pygs_own_objects() -> None:
    of_pyg = load("data")
    model = torch.compile(
        gn.replace_norms(OfData(), "instance").model, fullgraph=True, backend="eager"
    )
    for given in BATCHES[:2]:
        graphs = [of_pyg.Data(x=given.x[given.batch == i]) for i in range(given.graphs)]
        data = of_pyg.Batch.from_data_list(graphs, follow_batch=["x"])
        assert torch.allclose(model(data), by_graph(data.x, data.batch), atol=1e-5)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_two_batches_that_differ_are_noticed_when_the_graph_runs(backend: str) -> None:
    class Two(Given):
        def forward(  # type: ignore[override]
            self, x: Tensor, batch: Tensor, batch_size: int, batch2: Tensor
        ) -> Tensor:
            y: Tensor = self.norm(x)
            return y

    model = torch.compile(gn.replace_norms(Two(), "instance").model, backend=backend)
    x, batch, graphs = BATCHES[0]
    y = model(x, batch, graphs, batch.clone())
    assert torch.allclose(y, by_graph(x, batch), atol=1e-5)
    with pytest.raises(RuntimeError, match="batch and batch2 describe"):
        model(x, batch, graphs, batch.flip(0))


def test_nothing_said_is_an_error_here_too() -> None:
    model = torch.compile(gn.replace_norms(Given(), "instance").model, backend="eager")
    with pytest.raises(ValueError, match="Given was called without batch"):
        model(BATCHES[0].x)


def test_exported() -> None:
    model = gn.replace_norms(Given(), "instance").model
    given = BATCHES[0]
    program = torch.export.export(model, (given.x, given.batch, given.graphs))
    y = program.module()(given.x, given.batch, given.graphs)
    assert torch.allclose(y, by_graph(given.x, given.batch), atol=1e-5)


def test_the_first_compiled_model_is_compiled_once() -> None:
    """In a thread of its own, in which no batch has ever been given."""

    def run() -> None:
        torch._dynamo.reset()
        model = load("nn").GCN(6, 8, 2, norm="BatchNorm")
        gn.replace_norms(model, "graph")
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        x, edges = torch.randn(20, 6), torch.randint(0, 20, (2, 40))
        for stance in ("default", "fail_on_recompile"):
            with torch.compiler.set_stance(stance):
                compiled(x, edges, batch=torch.arange(20) // 5, batch_size=4)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result(300)
