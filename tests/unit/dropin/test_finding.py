"""The batch reaches norms that are called without it, and only the right one does."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import graphnorms as gn
from graphnorms.bench.pyg_layers import load
from graphnorms.dropin.batch_of import current
from tests.unit.dropin.models import (
    WIDTH,
    Given,
    OfData,
    Plain,
    Pooled,
    by_graph,
    minibatch,
    standardized,
)

NODES = minibatch()
EXPECTED = by_graph(NODES.x, NODES.batch)


def exchanged(model: nn.Module, **arguments: Any) -> Any:
    return gn.replace_norms(model, "instance", **arguments).model


def close(y: Tensor, expected: Tensor = EXPECTED) -> bool:
    return torch.allclose(y, expected, atol=1e-5)


def data(**more: Any) -> SimpleNamespace:
    return SimpleNamespace(x=NODES.x, edge_index=torch.zeros(2, 0, dtype=torch.long), **more)


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Any:
    yield
    assert current() is None


SORTED = minibatch(ascending=True)
CALLS: dict[str, Any] = {
    "by position": lambda m: m(NODES.x, NODES.batch, NODES.graphs),
    "by name": lambda m: m(NODES.x, batch=NODES.batch),
    "int32": lambda m: m(NODES.x, NODES.batch.int()),
    "Segments": lambda m: m(NODES.x, gn.Segments.from_batch(NODES.batch, NODES.graphs)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_in_the_arguments_of_the_model(call: Any) -> None:
    assert close(call(exchanged(Given())))


def test_by_offsets() -> None:
    model = exchanged(Given())
    expected = by_graph(SORTED.x, SORTED.batch)
    assert close(model(SORTED.x, ptr=SORTED.ptr), expected)
    # With both, ptr says how many graphs there are, and batch who belongs where.
    assert close(model(NODES.x, NODES.batch, ptr=NODES.ptr))


OBJECTS: dict[str, Any] = {
    "object": lambda: data(batch=NODES.batch, ptr=NODES.ptr),
    "in a tuple": lambda: (data(batch=NODES.batch), torch.zeros(3)),
    "mapping": lambda: {"x": NODES.x, "batch": NODES.batch, "batch_size": NODES.graphs},
}


@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS)
def test_in_an_object(make: Any) -> None:
    class Model(OfData):
        def forward(self, data: Any) -> Tensor:
            y: Tensor = self.norm(NODES.x)
            return y

    assert close(exchanged(Model())(make()))


def test_in_pygs_own_objects() -> None:
    of_pyg = load("data")
    graphs = [of_pyg.Data(x=NODES.x[NODES.batch == i]) for i in range(3)]
    together = of_pyg.Batch.from_data_list(graphs)
    y = exchanged(OfData())(together)
    assert close(y, by_graph(together.x, together.batch))
    # A Data without batch is a single graph.
    single = of_pyg.Data(x=NODES.x)
    assert close(exchanged(OfData())(single), standardized(NODES.x))


def test_in_pygs_own_objects_with_types() -> None:
    of_pyg = load("data")

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleDict({"a": nn.BatchNorm1d(WIDTH), "b": nn.BatchNorm1d(WIDTH)})

        def forward(self, data: Any) -> dict[str, Tensor]:
            return {kind: self.norms[kind](x) for kind, x in data.x_dict.items()}

    graphs = []
    for rows in (4, 5, 6):
        graph = of_pyg.HeteroData()
        graph["a"].x, graph["b"].x = NODES.x[:rows], NODES.x[rows:]
        graphs.append(graph)
    model = exchanged(Model())
    together = of_pyg.Batch.from_data_list(graphs)
    for kind, y in model(together).items():
        assert close(y, by_graph(together[kind].x, together[kind].batch))
    graphs[0]["a", "to", "b"].edge_index = torch.zeros(2, 0, dtype=torch.long)
    assert close(model(graphs[0])["b"], standardized(graphs[0]["b"].x))


def test_what_the_model_hands_on_comes_first() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Given()
            self.norm = nn.BatchNorm1d(WIDTH)

        def forward(self, x: Tensor, batch: Tensor, own: Tensor | None) -> Tensor:
            y: Tensor = self.norm(self.inner(x, own))
            return y

    model = exchanged(Outer())
    other = (torch.arange(12) >= 5).long()
    assert close(model(NODES.x, NODES.batch, None), by_graph(EXPECTED, NODES.batch))
    expected = by_graph(by_graph(NODES.x, other), NODES.batch)
    assert close(model(NODES.x, NODES.batch, other), expected)


def test_a_model_that_calls_itself() -> None:
    class Twice(Given):
        def forward(self, x: Tensor, batch: Tensor, own: Tensor | None = None) -> Tensor:
            if own is not None:
                x = self(x, own)
            y: Tensor = self.norm(x)
            return y

    other = (torch.arange(12) >= 5).long()
    y = exchanged(Twice())(NODES.x, NODES.batch, other)
    assert close(y, by_graph(by_graph(NODES.x, other), NODES.batch))


def test_a_model_that_calls_itself_and_says_nothing() -> None:
    class Twice(Given):
        def forward(self, x: Tensor, batch: Any = None, again: bool = False) -> Tensor:  # type: ignore[override]
            if again:
                x = self(x)
            y: Tensor = self.norm(x)
            return y

    y = exchanged(Twice())(NODES.x, NODES.batch, again=True)
    assert close(y, by_graph(EXPECTED, NODES.batch))


@pytest.mark.parametrize("give", ["batch", "Segments"])
def test_by_hand(give: str) -> None:
    model = exchanged(Given())
    by_hand = NODES.batch if give == "batch" else gn.Segments.from_batch(NODES.batch)
    with gn.batch(by_hand):
        assert close(model(NODES.x))
        assert close(model.norm(NODES.x))
        with gn.batch(None):
            assert close(model(NODES.x), standardized(NODES.x))
        assert close(model(NODES.x))


def test_blocks_end_whatever_happens() -> None:
    class Failing(Given):
        def forward(self, x: Tensor, batch: Tensor) -> Tensor:  # type: ignore[override]
            raise RuntimeError("as models do")

    model = exchanged(Failing())
    block = gn.batch(NODES.batch)
    with pytest.raises(RuntimeError, match="as models do"), block:
        model(NODES.x, NODES.batch)
    assert current() is None
    with block, block:  # the same block once more, and within itself
        assert close(exchanged(Plain())(NODES.x))
    assert current() is None


def test_hooks_of_others_that_fail_leave_nothing_behind() -> None:
    model = exchanged(Given())

    def fail(*arguments: Any) -> None:
        raise RuntimeError("as hooks do")

    for register in (model.register_forward_pre_hook, model.register_forward_hook):
        handle = register(fail)
        with pytest.raises(RuntimeError, match="as hooks do"):
            model(NODES.x, NODES.batch)
        handle.remove()
        assert current() is None


def test_threads_do_not_see_each_other() -> None:
    model = exchanged(Given())
    inside, done = threading.Event(), threading.Event()
    errors: list[str] = []

    def other() -> None:
        inside.wait(10)
        try:
            model(NODES.x)
        except ValueError as error:
            errors.append(str(error))
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with gn.batch(NODES.batch):
        inside.set()
        done.wait(10)
    thread.join()
    assert len(errors) == 1
    assert "called without batch" in errors[0]


def test_nothing_said_is_an_error() -> None:
    model = exchanged(Given())
    with pytest.raises(
        ValueError,
        match=r"norm \(InstanceNorm\) needs the graph of every row, but "
        r"Given was called without batch; .*graphnorms\.batch",
    ):
        model(NODES.x)
    with pytest.raises(ValueError, match="called outside of the model"):
        model.norm(NODES.x)
    for called in (model, model.norm):
        with pytest.raises(ValueError, match=r"\A[^\n]*\Z"):
            called(NODES.x)


def test_a_model_without_any_place_for_a_batch_is_given_one_graph() -> None:
    result = gn.replace_norms(Plain(), "instance")
    assert close(result.model(NODES.x), standardized(NODES.x))
    assert "Plain takes no batch: a call is one graph" in str(result)
    with gn.batch(NODES.batch):
        assert close(result.model(NODES.x))
    with pytest.raises(ValueError, match="Plain takes no batch"):
        exchanged(Plain(), single_graph=False)(NODES.x)


@pytest.mark.parametrize("value", [NODES.batch, SimpleNamespace(nodes=3)], ids=["ids", "object"])
def test_what_may_be_a_batch_is_not_passed_over(value: Any) -> None:
    class Model(Plain):
        def forward(self, x: Tensor, members: Any) -> Tensor:  # type: ignore[override]
            y: Tensor = self.norm(x)
            return y

    with pytest.raises(ValueError, match="without batch but with members, a "):
        exchanged(Model())(NODES.x, value)
    assert close(exchanged(Model(), single_graph=True)(NODES.x, value), standardized(NODES.x))


def test_vectors_of_something_else_are_no_batch() -> None:
    class Relational(Plain):
        def forward(self, x: Tensor, edge_type: Any, y: Any = None) -> Tensor:  # type: ignore[override]
            z: Tensor = self.norm(x)
            return z

    assert close(
        exchanged(Relational())(NODES.x, NODES.batch, y=NODES.batch), standardized(NODES.x)
    )


def test_single_graph_is_what_is_said_once_for_all() -> None:
    result = gn.replace_norms(Given(), "instance", single_graph=True)
    assert close(result.model(NODES.x), standardized(NODES.x))
    assert close(result.model.norm(NODES.x), standardized(NODES.x))
    assert close(result.model(NODES.x, NODES.batch))
    assert "single_graph=True" in str(result)


def test_norms_that_need_no_batch_ask_for_none() -> None:
    for name in ("batch", "layer", "rms", "none"):
        result = gn.replace_norms(Given(), name)
        result.model(NODES.x)
        assert "forward" not in vars(result.model)  # nothing to find


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("edges", "20 rows and batch 12, so these are not the nodes"),
        ("graphs", "3 rows and batch 12, one per graph: it is applied after the pooling"),
    ],
)
def test_rows_that_are_no_nodes_are_an_error(place: str, words: str) -> None:
    edges = torch.randint(12, (2, 20), generator=torch.Generator().manual_seed(0))
    model = exchanged(Pooled(), where=place)
    with pytest.raises(ValueError, match=words) as caught:
        model(NODES.x, edges, NODES.batch, 3)
    assert f"where=lambda name, norm: name != {place!r}" in str(caught.value)


def test_more_dimensions_are_an_error() -> None:
    for norm in (nn.BatchNorm1d(4), nn.InstanceNorm1d(4), nn.LayerNorm(4)):
        model = gn.replace_norms(Plain(norm), "graph").model
        with pytest.raises(ValueError, match=r"is given \(2, 4, 4\), expected \(nodes, channels\)"):
            model(torch.randn(2, 4, 4))


class Lightning(nn.Module):
    """What Lightning calls is not the module but its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One step."""
        y: Tensor = self.norm(batch.x)
        return y


def test_steps_of_lightning() -> None:
    result = gn.replace_norms(Lightning(), "instance")
    model: Any = result.model
    assert close(model.training_step(data(batch=NODES.batch), 0))
    assert model.training_step.__wrapped__.__func__ is Lightning.training_step
    assert model.training_step.__doc__ == "One step."
    with pytest.raises(ValueError, match="Lightning was called without batch"):
        model.training_step(SimpleNamespace(x=NODES.x), 0)
    twin = copy.deepcopy(model)
    twin.norm.weight.data.zero_()
    assert close(twin.training_step(data(batch=NODES.batch), 0), torch.zeros(()))
    assert close(model.training_step(data(batch=NODES.batch), 0))
    result.undo()
    assert model.training_step.__func__ is Lightning.training_step


def test_a_module_that_holds_the_model() -> None:
    """The usual one: a step takes the batch apart, and calls the model in it."""

    class Trainer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = Given()

        def validation_step(self, batch: Any) -> Tensor:
            y: Tensor = self.model(batch.x, batch=batch.other)
            return y

    model: Any = exchanged(Trainer())
    other = (torch.arange(12) >= 5).long()
    y = model.validation_step(data(batch=NODES.batch, other=other))
    assert close(y, by_graph(NODES.x, other))


def test_models_as_hugging_face_has_them() -> None:
    class Output(dict[str, Tensor]):
        pass

    class Model(Plain):
        def forward(self, *, x: Tensor, labels: Any = None, **inputs: Any) -> Any:  # type: ignore[override]
            return Output(logits=self.norm(x))

    model = exchanged(Model())
    inputs = {"x": NODES.x, "batch": NODES.batch, "labels": torch.arange(12)}
    assert close(model(**inputs)["logits"])
    del inputs["batch"]
    with pytest.raises(ValueError, match="Model was called without batch;"):
        model(**inputs)


def test_by_node_type() -> None:
    class Typed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            kinds = ("paper", "au_thor")
            self.norms = nn.ModuleDict({kind: nn.BatchNorm1d(WIDTH) for kind in kinds})

        def forward(self, x_dict: dict[str, Tensor], batch_dict: Any = None) -> dict[str, Tensor]:
            return {kind: self.norms[kind.replace("-", "_")](x) for kind, x in x_dict.items()}

    model = exchanged(Typed())
    x = {"paper": NODES.x, "au-thor": NODES.x[:8]}
    batch = {"paper": NODES.batch, "au-thor": NODES.batch[:8] // 2}
    expected = {kind: by_graph(x[kind], batch[kind]) for kind in x}
    for y in (model(x, batch), _in_block(model, x, batch)):
        assert all(close(y[kind], expected[kind]) for kind in x)
    with pytest.raises(ValueError, match="none of the node types item in its name"):
        model(x, {"item": NODES.batch})


def _in_block(model: Any, x: Any, batch: Any) -> Any:
    with gn.batch(batch, dict.fromkeys(batch, 3)):
        return model(x)


def test_copies_and_files_of_a_model_find_the_batch() -> None:
    model = exchanged(Given())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert close(twin(NODES.x, NODES.batch))
        with pytest.raises(ValueError, match="called without batch"):
            twin(NODES.x)
    # A shallow copy, as some wrappers make of a module: it has the hooks of the one it is of.
    model.norm = copy.copy(model.norm)
    assert close(model(NODES.x, NODES.batch))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    model.load_state_dict(torch.load(file, weights_only=True))


def test_within_data_parallel(tmp_path: Any) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(exchanged(Given()))
        y = wrapped(NODES.x, NODES.batch)
        assert close(y)
        y.square().sum().backward()
        with pytest.raises(ValueError, match="called without batch"):
            wrapped(NODES.x)
        with pytest.raises(ValueError, match="wrapped in DistributedDataParallel"):
            gn.replace_norms(wrapped, "pair")
    finally:
        wrapped = y = None  # what outlives its group can wait for the group's threads
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_what_is_called_again_in_the_backward(use_reentrant: bool) -> None:
    class Checkpointed(Given):
        def forward(self, x: Tensor, batch: Tensor) -> Tensor:  # type: ignore[override]
            y: Any = checkpoint(self.norm, x, use_reentrant=use_reentrant)
            return y

    model = exchanged(Checkpointed())
    x = NODES.x.clone().requires_grad_()
    with pytest.raises(ValueError, match="called outside of the model"):
        model(x, NODES.batch).sum().backward()
    with gn.batch(NODES.batch):
        model(x, NODES.batch).square().sum().backward()
    other = NODES.x.clone().requires_grad_()
    by_graph(other, NODES.batch).square().sum().backward()
    assert x.grad is not None
    assert other.grad is not None
    assert torch.allclose(x.grad, other.grad, atol=1e-4)


def test_what_is_no_batch_is_refused() -> None:
    wrong: Any = [0, 1]
    with pytest.raises(ValueError, match="batch is a list, expected a vector of integers"):
        gn.batch(wrong)


def test_the_offsets_of_an_adjacency_are_no_batch() -> None:
    class OfEdges(Plain):
        def forward(self, x: Tensor, adjacency: Any) -> Tensor:  # type: ignore[override]
            y: Tensor = self.norm(x)
            return y

    edges = gn.Adjacency.from_edge_index(torch.tensor([[0, 1], [1, 0]]), NODES.x.shape[0])
    with gn.batch(NODES.batch, NODES.graphs):
        assert close(exchanged(OfEdges())(NODES.x, edges))
