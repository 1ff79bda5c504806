"""What can stand in a model's arguments: its norms are given the right graphs, or refuse.

The table in `docs/dropin.md` has a row for each of these.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import graphnorms as gn
from graphnorms.bench.pyg_layers import load
from graphnorms.dropin.batch_of import current
from tests.unit.dropin.models import WIDTH, OfData, by_graph, minibatch, standardized

NODES = minibatch(ascending=True)
X, BATCH = NODES.x, NODES.batch
OTHER = (torch.arange(12) >= 5).long()  # as many rows, other graphs
NO_EDGES = torch.zeros(2, 0, dtype=torch.long)


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Any:
    yield
    assert current() is None


def exchanged(model: nn.Module, **arguments: Any) -> Any:
    return gn.replace_norms(model, "instance", **arguments).model


def close(y: Tensor, expected: Tensor) -> bool:
    return torch.allclose(y, expected, atol=1e-5)


def refused(call: Callable[[], Any], *words: str) -> str:
    """The one line in which a call is refused, which has all of the words in it."""
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as caught:
        call()
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    return message


# Objects of PyG.


def pair(of_s: Tensor, of_t: Tensor) -> Any:
    data = load("data")

    class PairData(data.Data):  # type: ignore[name-defined,misc]
        pass

    return PairData(x_s=of_s, x_t=of_t)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).unsqueeze(1)


class Pairs(nn.Module):
    """One encoder for both sides."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.how = how

    def forward(self, data: Any) -> Tensor:
        if self.how == "by hand":
            with gn.batch(data.x_s_batch):
                return self.norm(data.x_s)  # type: ignore[no-any-return]
        given = (data.x_s_batch,) if self.how == "given" else ()
        return self.norm(data.x_s, *given)  # type: ignore[no-any-return]


@pytest.mark.parametrize("follow", [True, False])
def test_pairs_are_not_one_graph(follow: bool) -> None:
    graphs = [pair(column(0, 1), column(5, 6)), pair(column(10, 11), column(7, 8))]
    loader = load("loader").DataLoader
    keys = ["x_s", "x_t"] if follow else []
    (data,) = loader(graphs, batch_size=2, follow_batch=keys)
    assert data.batch is None
    said = refused(lambda: exchanged(Pairs("left"))(data), "data, a PairDataBatch of 2 graphs")
    assert ("data.x_s_batch and data.x_t_batch" in said) == follow
    if follow:
        expected = column(-1, 1, -1, 1)
        for how in ("by hand", "given"):
            assert torch.allclose(exchanged(Pairs(how))(data), expected, atol=1e-4)


def graphs_of(x: Tensor, batch: Tensor, **more: Any) -> list[Any]:
    of_pyg = load("data")
    return [
        of_pyg.Data(x=x[batch == i], edge_index=NO_EDGES, **more)
        for i in range(int(batch.max()) + 1)
    ]


def test_followed_batches_beside_the_batch() -> None:
    more = {"x_t": torch.zeros(4, 2)}
    graphs = graphs_of(X, BATCH, **more)
    (data,) = load("loader").DataLoader(graphs, batch_size=3, follow_batch=["x", "x_t"])
    # All three say the same.
    assert close(exchanged(OfData())(data), by_graph(X, BATCH))
    # One that has as many rows and says something else.
    data.x_t_batch = OTHER
    refused(lambda: exchanged(OfData())(data), "12 rows", "data.batch and data.x_t_batch")
    # One that is of other rows.
    data.x_t_batch = OTHER[:7]
    assert close(exchanged(OfData())(data), by_graph(X, BATCH))


def single(**more: Any) -> Any:
    return load("data").Data(x=X, edge_index=NO_EDGES, **more)


SINGLE: dict[str, Callable[[], Any]] = {
    "Data": single,
    "labels in order": lambda: single(y=BATCH),
    "types of nodes in order": lambda: single(node_type=BATCH),
    "k splits": lambda: single(train_mask=torch.zeros(12, 3, dtype=torch.bool)),
    "a sample of neighbours": lambda: single(
        n_id=torch.arange(12), e_id=torch.arange(0), input_id=torch.arange(2), batch_size=2
    ),
    "numbers of nodes": lambda: single(names=torch.arange(12)),
    "random nodes": lambda: next(iter(load("loader").RandomNodeLoader(single(), num_parts=1))),
    "temporal": lambda: load("data").TemporalData(
        src=torch.arange(12) % 5, dst=torch.arange(12) % 7, t=torch.arange(12), msg=X, x=X
    ),
}


@pytest.mark.parametrize("name", SINGLE)
def test_objects_that_are_one_graph(name: str) -> None:
    data = SINGLE[name]()
    assert close(exchanged(OfData())(data), standardized(data.x))


def test_a_disjoint_sample_has_a_graph_for_every_seed() -> None:
    data = single(batch=BATCH, batch_size=3, n_id=torch.arange(12))
    assert close(exchanged(OfData())(data), by_graph(X, BATCH))


DOUBTFUL: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "a vector that groups": (lambda: single(members=BATCH), ("data.members",)),
    "a vector called so": (lambda: single(my_batch=OTHER), ("data.my_batch",)),
    "features of 3 dimensions": (
        lambda: SimpleNamespace(x=torch.zeros(2, 6, WIDTH), edge_index=NO_EDGES),
        ("data.x of (2, 6, 6)",),
    ),
    "a dense batch": (
        lambda: next(
            iter(
                load("loader").DenseDataLoader(
                    [load("data").Data(x=X[:4], adj=torch.zeros(4, 4), mask=torch.ones(4).bool())]
                    * 2,
                    batch_size=2,
                )
            )
        ),
        ("data.x of (2, 4, 6)", "data.adj of (2, 4, 4)", "data.mask of (2, 4)"),
    ),
    "a list": (lambda: graphs_of(X, BATCH), ("data, a list of 3 graphs",)),
    "a mapping": (lambda: {"x": X, "members": BATCH}, ("data['members']",)),
    "a mapping with one called so": (lambda: {"x": X, "x_batch": OTHER}, ("data['x_batch']",)),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_objects_that_may_hold_several_graphs(name: str) -> None:
    make, words = DOUBTFUL[name]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(WIDTH)

        def forward(self, data: Any) -> Tensor:
            y: Tensor = self.norm(X)
            return y

    refused(lambda: exchanged(Model())(make()), "Model was called without batch", *words)
    assert close(exchanged(Model(), single_graph=True)(make()), standardized(X))
    with gn.batch(BATCH):
        assert close(exchanged(Model())(make()), by_graph(X, BATCH))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: {"graph": data},
        lambda data: (data, torch.zeros(3)),
        lambda data: [data],
    ],
)
def test_objects_within_others(wrap: Any) -> None:
    class Model(OfData):
        def forward(self, features: Any) -> Tensor:  # type: ignore[override]
            y: Tensor = self.norm(X)
            return y

    data = single(batch=BATCH)
    assert close(exchanged(Model())(wrap(data)), by_graph(X, BATCH))


# Two batches in one call.


class Two(nn.Module):
    """One norm for both of two graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def both(self, x: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(x), self.norm(x2)


class Numbered(Two):
    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor,
        x2: Tensor,
        edge_index2: Tensor,
        batch2: Tensor,
    ) -> Any:
        return self.both(x, x2)


class Suffixed(Two):
    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor,
        x_t: Tensor,
        edge_index_t: Tensor,
        batch_t: Tensor,
    ) -> Any:
        return self.both(x, x_t)


class Named(Two):
    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor,
        other: Tensor,
        adj_other: Tensor,
        members: Tensor,
    ) -> Any:
        return self.both(x, other)


class ByName(Two):
    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, **others: Tensor) -> Any:
        return self.both(x, others["x2"])


@pytest.mark.parametrize("model", [Numbered, Suffixed, Named, ByName])
def test_two_batches_in_one_call(model: type[Two]) -> None:
    made = exchanged(model())
    names = ("x2", "edge_index2", "batch2")

    def call(batch: Tensor | gn.Segments, batch2: Tensor, rows: int) -> Any:
        first, second = (X, NO_EDGES, batch), (X[:rows] * 2, NO_EDGES, batch2)
        if model is ByName:
            return made(*first, **dict(zip(names, second, strict=True)))
        return made(*first, *second)

    # As many rows, each in its own way.
    refused(lambda: call(BATCH, OTHER, 12), "norm (InstanceNorm)", "12 rows", "graphnorms.batch")
    # Other rows: the first norm is right, the second call is refused.
    for batch in (BATCH, gn.Segments.from_batch(BATCH)):
        refused(lambda batch=batch: call(batch, OTHER[:8], 8), "given 8 rows and batch 12")
    # The same graphs on both sides, also as another tensor.
    for batch2 in (BATCH, BATCH.clone(), BATCH.int()):
        y, y2 = call(BATCH, batch2, 12)
        assert close(y, by_graph(X, BATCH))
        assert close(y2, by_graph(X * 2, BATCH))


def test_two_batches_without_one_that_is_called_batch() -> None:
    class Model(Two):
        def forward(self, x_s: Tensor, x_t: Tensor, batch_s: Tensor, batch_t: Tensor) -> Any:
            return self.both(x_s, x_t)

    refused(
        lambda: exchanged(Model())(X, X, BATCH, OTHER), "batch_s, a vector", "batch_t, a vector"
    )


def test_two_objects_in_one_call() -> None:
    class Model(Two):
        def forward(self, one: Any, two: Any) -> Any:
            return self.both(one.x, two.x)

    model = exchanged(Model())
    both = single(batch=BATCH), single(batch=OTHER)
    refused(lambda: model(*both), "12 rows", "one.batch and two.batch")
    refused(lambda: model(single(batch=BATCH), single()), "12 rows", "one.batch and two,")
    y, y2 = model(single(), single())
    assert close(y, standardized(X))
    assert close(y2, standardized(X))

    class AsTuple(Two):
        def forward(self, pair: Any) -> Any:
            return self.both(pair[0].x, pair[1].x)

    model = exchanged(AsTuple())
    words = "pair[0].batch and pair[1].batch"
    refused(lambda: model(both), "12 rows", words)
    refused(lambda: model(list(both)), "12 rows", words)  # as loaders of tuples give it


def test_the_part_that_is_given_its_own_batch() -> None:
    """The way out that the message names."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(WIDTH)

        def forward(self, x: Tensor, batch: Any = None) -> Tensor:
            y: Tensor = self.norm(x)
            return y

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Encoder()

        def forward(self, x: Tensor, batch: Tensor, x2: Tensor, batch2: Tensor) -> Any:
            with gn.batch(batch2):
                y2 = self.encoder(x2)
            return self.encoder(x, batch), y2

    y, y2 = exchanged(Model())(X, BATCH, X * 2, OTHER)
    assert close(y, by_graph(X, BATCH))
    assert close(y2, by_graph(X * 2, OTHER))


def test_a_part_that_is_given_one_more() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(WIDTH)

        def forward(self, x: Tensor, x_t_batch: Tensor) -> Tensor:
            y: Tensor = self.norm(x)
            return y

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = Part()

        def forward(self, x: Tensor, batch: Tensor, own: Tensor) -> Any:
            return self.part(x, own)

    model = exchanged(Model())
    refused(lambda: model(X, BATCH, OTHER), "12 rows", "batch and x_t_batch")
    assert close(model(X, BATCH, BATCH.clone()), by_graph(X, BATCH))
    assert close(model(X, BATCH, OTHER[:4]), by_graph(X, BATCH))


# Layouts.


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x: Tensor, adj: Any = None, mask: Any = None) -> Tensor:
        return self.norm(x.reshape(-1, WIDTH)).view(x.shape)  # type: ignore[no-any-return]


DENSE: dict[str, tuple[tuple[Any, ...], str]] = {
    "x": ((X.view(3, 4, WIDTH),), "x of (3, 4, 6)"),
    "x of 4": ((X.view(3, 2, 2, WIDTH),), "x of (3, 2, 2, 6)"),
    "adj": ((X, torch.zeros(3, 4, 4)), "adj of (3, 4, 4)"),
    "mask": ((X, None, torch.ones(3, 4, dtype=torch.bool)), "mask of (3, 4)"),
}


@pytest.mark.parametrize("name", DENSE)
def test_dense_layouts(name: str) -> None:
    given, words = DENSE[name]
    refused(lambda: exchanged(Dense())(*given), "Dense was called without batch", words)
    # By hand, with padding left out.
    mask = torch.ones(12, dtype=torch.bool)
    mask[3] = False
    batch = torch.arange(3).repeat_interleave(4)
    with gn.batch(gn.Segments.from_batch(batch).with_mask(mask)):
        y = exchanged(Dense())(*given).view(12, WIDTH)
    assert close(y[mask], by_graph(X[mask], batch[mask]))


def test_a_dense_layout_of_one_graph() -> None:
    assert close(exchanged(Dense())(X.unsqueeze(0))[0], standardized(X))


def test_a_layout_that_the_model_makes() -> None:
    to_dense = load("utils").to_dense_batch

    class Model(nn.Module):
        def __init__(self, flat: bool) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(WIDTH)
            self.flat = flat

        def forward(self, x: Tensor, batch: Tensor) -> Tensor:
            dense, mask = to_dense(x, batch)
            y: Tensor = self.norm(dense.view(-1, WIDTH) if self.flat else dense[mask])
            return y

    assert close(exchanged(Model(flat=False))(X, OTHER), by_graph(X, OTHER))
    # 2 graphs of up to 7 nodes are 14 rows with the padding.
    refused(lambda: exchanged(Model(flat=True))(X, OTHER), "given 14 rows and batch 12")


@pytest.mark.parametrize("pooling", ["TopKPooling", "SAGPooling", "EdgePooling"])
def test_pooling_in_between(pooling: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.BatchNorm1d(WIDTH)
            self.pool = getattr(load(), pooling)(WIDTH)
            self.after = nn.BatchNorm1d(WIDTH)
            self.hand_on = False
            self.seen: Any = None

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            x, edge_index, *rest = self.pool(self.before(x), edge_index, batch=batch)
            batch = rest[0] if pooling == "EdgePooling" else rest[1]
            self.seen = x, batch
            y: Tensor = self.after(x, batch) if self.hand_on else self.after(x)
            return y

    edges = torch.tensor([[0, 1, 4, 5, 8, 9], [1, 0, 5, 4, 9, 8]])
    model = exchanged(Model())
    torch.manual_seed(0)
    message = refused(lambda: model(X, edges, BATCH), "after (InstanceNorm)", "and batch 12")
    assert "the batch of these rows" in message
    model.hand_on = True
    y = model(X, edges, BATCH)
    assert close(y, by_graph(*model.seen))


# Types of nodes.


def of_types(*keys: str, container: Any = None, shared: bool = False) -> nn.Module:
    norm = nn.BatchNorm1d(WIDTH)
    norms = {key: norm if shared else nn.BatchNorm1d(WIDTH) for key in keys}

    class Typed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = (container or nn.ModuleDict)(norms)

        def forward(self, x_dict: Any, batch_dict: Any = None) -> Any:
            return {kind: self.norms[keys[i]](x) for i, (kind, x) in enumerate(x_dict.items())}

    return Typed()


def test_types_whose_names_containers_change() -> None:
    container = load("nn.module_dict").ModuleDict
    kinds = ("b.c", "type", "keys", "au-thor")  # "." is "#" there, reserved words are "<type>"
    x = {kind: X * (i + 1) for i, kind in enumerate(kinds)}
    batch = {kind: (torch.arange(12) >= 3 + i).long() for i, kind in enumerate(kinds)}
    y = exchanged(of_types(*kinds, container=container))(x, batch)
    assert all(close(y[kind], by_graph(x[kind], batch[kind])) for kind in kinds)


def test_types_that_cannot_be_told_apart() -> None:
    x = {"a-b": X, "a_b": X}
    model = exchanged(of_types("a_b", "c"))
    refused(lambda: model(x, {"a-b": BATCH, "a_b": OTHER}), "which of a-b, a_b its rows")


def test_a_part_called_like_a_type() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.norm(x)
            return y

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleDict({"norm": Block(), "a": Block()})

        def forward(self, x_dict: Any, batch_dict: Any) -> Any:
            return {kind: self.blocks[kind](x) for kind, x in x_dict.items()}

    batch = {"norm": BATCH, "a": OTHER}
    y = exchanged(Model())({"norm": X, "a": X}, batch)
    assert all(close(y[kind], by_graph(X, batch[kind])) for kind in batch)


@pytest.mark.parametrize("how", ["norm", "part"])
def test_one_norm_for_several_types(how: str) -> None:
    batch = {"a": BATCH, "b": OTHER}
    x = {"a": X, "b": X}
    if how == "norm":
        model = of_types("a", "b", shared=True)
        y = exchanged(of_types("a", "b", shared=True), unshare=True)(x, batch)
        assert all(close(y[kind], by_graph(X, batch[kind])) for kind in batch)
    else:

        class Part(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.norm = nn.BatchNorm1d(WIDTH)

            def forward(self, x: Tensor) -> Tensor:
                y: Tensor = self.norm(x)
                return y

        model = of_types("a", "b")
        part = Part()
        model.norms = nn.ModuleDict({"a": part, "b": part})
    refused(lambda: exchanged(model)(x, batch), "norms.a", "norms.b", "unshare=True")


def test_a_type_without_batch() -> None:
    model = exchanged(of_types("a", "b"))
    message = refused(lambda: model({"a": X, "b": X}, {"a": BATCH}), "norms.b", "'b'", "batch_dict")
    assert "after to_hetero" not in message


def test_one_norm_for_the_rows_of_all_types() -> None:
    """PyG's other transformation puts the rows of all types into one tensor."""
    types = (["a", "b"], [("a", "to", "b"), ("b", "to", "a")])

    class Homogeneous(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = load().SAGEConv(WIDTH, WIDTH)
            self.norm = nn.BatchNorm1d(WIDTH)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            y: Tensor = self.norm(self.conv(x, edge_index))
            return y

    model = load().to_hetero_with_bases(Homogeneous(), types, num_bases=2, in_channels={"x": WIDTH})
    model = exchanged(model)
    x = {"a": X, "b": X[:8]}
    edges = dict.fromkeys(types[1], NO_EDGES)
    with gn.batch({"a": BATCH, "b": BATCH[:8]}):
        message = refused(lambda: model(x, edges), "a, b", "with the batch of its rows")
    assert "call replace_norms after" not in message
    together = torch.cat((BATCH, BATCH[:8]))
    calls: list[tuple[Tensor, Tensor]] = []
    model.norm.register_forward_hook(lambda norm, args, y: calls.append((args[0], y)))
    with gn.batch(together):
        model(x, edges)
    assert calls
    assert all(close(y, by_graph(x, together)) for x, y in calls)


def test_types_of_which_one_object_is_made() -> None:
    data = load("data")
    graphs = []
    for rows in (4, 5):
        graph = data.HeteroData()
        graph["a"].x, graph["b"].y = X[:rows], torch.zeros(1)
        graphs.append(graph)
    together = data.Batch.from_data_list(graphs)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleDict({"a": nn.BatchNorm1d(WIDTH)})

        def forward(self, data: Any) -> Tensor:
            y: Tensor = self.norms["a"](data["a"].x)
            return y

    assert close(exchanged(Model())(together), by_graph(together["a"].x, together["a"].batch))
    for kind in ("a", "b"):
        together[kind].pop("batch", None)
        together[kind].pop("ptr", None)
    refused(lambda: exchanged(Model())(together), "data, a HeteroDataBatch of 2 graphs")


# Who else calls a model.


def test_an_explainer_calls_the_model_with_what_it_is_given() -> None:
    explain = load("explain")
    torch.manual_seed(0)
    edges = torch.tensor([[0, 1, 4, 5, 8, 9], [1, 0, 5, 4, 9, 8]])
    model = exchanged(load().GCN(WIDTH, WIDTH, 2, WIDTH, norm="BatchNorm"))
    calls: list[tuple[Tensor, Tensor]] = []
    for norm in model.norms:
        norm.register_forward_hook(lambda norm, args, y: calls.append((args[0], y)))
    explainer = explain.Explainer(
        model,
        explain.GNNExplainer(epochs=2),
        explanation_type="model",
        node_mask_type="attributes",
        edge_mask_type="object",
        model_config={"mode": "regression", "task_level": "node", "return_type": "raw"},
    )
    explainer(X, edges, batch=BATCH)
    assert len(calls) > 2
    assert all(close(y, by_graph(x, BATCH)) for x, y in calls)
    refused(lambda: explainer(X, edges), "GCN was called without batch")


class Checkpointed(nn.Module):
    def __init__(self, use_reentrant: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)
        self.use_reentrant = use_reentrant

    def forward(self, x: Tensor, batch: Any = None) -> Tensor:
        y: Any = checkpoint(self.norm, x, use_reentrant=self.use_reentrant)
        return y


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_part_that_is_called_again_is_not_one_graph_then(use_reentrant: bool) -> None:
    """With `single_graph=True` the backward would go through other statistics, in silence."""
    model = exchanged(Checkpointed(use_reentrant), single_graph=True)
    x = X.clone().requires_grad_()
    y = model(x, BATCH)
    refused(y.sum().backward, "norm (InstanceNorm)", "called outside of the model")
    # What was one graph all along may be called again.
    model = exchanged(Checkpointed(use_reentrant), single_graph=True)
    y = model(x)
    y.square().sum().backward()
    twin = X.clone().requires_grad_()
    standardized(twin).square().sum().backward()
    assert x.grad is not None
    assert twin.grad is not None
    assert torch.allclose(x.grad, twin.grad, atol=1e-4)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_part_that_is_called_again_with_its_batch(use_reentrant: bool) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = OfBatch()

        def forward(self, x: Tensor, batch: Tensor) -> Any:
            return checkpoint(self.part, x, batch, use_reentrant=use_reentrant)

    class OfBatch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(WIDTH)

        def forward(self, x: Tensor, batch: Any = None) -> Tensor:
            y: Tensor = self.norm(x)
            return y

    weights = torch.randn(12, WIDTH, generator=torch.Generator().manual_seed(0))
    x, twin = X.clone().requires_grad_(), X.clone().requires_grad_()
    (exchanged(Model())(x, BATCH) * weights).sum().backward()
    (by_graph(twin, BATCH) * weights).sum().backward()
    assert x.grad is not None
    assert twin.grad is not None
    assert torch.allclose(x.grad, twin.grad, atol=1e-4)
