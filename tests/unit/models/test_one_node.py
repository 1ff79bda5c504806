"""Convolutions that are one node of autograd's graph, against those with a hook, which are not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.data.synthetic import random_graphs
from graphnorms.kernels.chain import Chain
from graphnorms.kernels.cpu import extension
from graphnorms.models import GNN, GCNConv, GINConv, GraphContext, ModelConfig, NormSlot
from graphnorms.segments import Segments

NORMS = ("none", "batch", "layer", "instance", "graph", "pair", "rms")
STEPS = 50
NODES = 10
NODE = "_NodeBackward"

needs_one_call = pytest.mark.skipif(
    extension.unavailable() is not None or not extension.multiplies_faster(),
    reason="torch's linear maps run here, between the kernels",
)

pytestmark = pytest.mark.skipif(
    not gn.backends()[0].available, reason="the nodes run the C++ kernels"
)


def hooked(model: nn.Module) -> nn.Module:
    """Observe every slot, which keeps the parts of a convolution apart."""
    for module in model.modules():
        if isinstance(module, NormSlot):
            module.register_forward_hook(lambda *_: None)
    return model


def nodes_of(y: Tensor) -> list[str]:
    """The names of the nodes that a result depends on, one for each."""
    found, left = {}, [y.grad_fn]
    while left:
        node = left.pop()
        if node is not None and id(node) not in found:
            found[id(node)] = node
            left += [each for each, _ in node.next_functions]
    return [node.name() for node in found.values()]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", ["gin", "gcn"])
@pytest.mark.parametrize("norm", NORMS)
def test_training_is_that_of_the_parts(norm: str, name: str, residual: bool) -> None:
    """With dropout: 50 losses, the weights and the running averages.

    Without residual sums all convolutions together are one node.
    """
    graphs = random_graphs(24, 6)
    config = ModelConfig(name=name, layers=2, hidden=6, residual=residual, dropout=0.2)
    made = GNN(config, norm, graphs.num_features, graphs.num_classes, seed=0).double()
    models = {"one": made, "apart": hooked(copy.deepcopy(made))}
    losses: dict[str, list[float]] = {}
    for which, model in models.items():
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        order, found = torch.Generator().manual_seed(0), []
        torch.manual_seed(1)
        for _ in range(STEPS):
            batch = graphs.batch(torch.randperm(len(graphs), generator=order)[:8])
            loss = F.cross_entropy(
                model(batch.x.double(), batch.adjacency, batch.segments), batch.y
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        expected = config.layers if residual else 1
        assert nodes_of(loss).count(NODE) == (expected if which == "one" else 0)
        losses[which] = found
    torch.testing.assert_close(losses["one"], losses["apart"], rtol=0, atol=1e-12)
    torch.testing.assert_close(
        models["one"].state_dict(), models["apart"].state_dict(), rtol=1e-9, atol=1e-9
    )


def runs_in_one_call(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note of each chain whether one call of C++ ran it."""
    seen, run = [], Chain._in_one_call

    def noted(self: Chain, *given: Any) -> Any:
        found = run(self, *given)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(Chain, "_in_one_call", noted)
    return seen


@needs_one_call
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", ["gin", "gcn"])
@pytest.mark.parametrize("norm", NORMS)
def test_one_call_is_the_parts(
    norm: str, name: str, residual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32: outputs, gradients, running averages, and second derivatives.

    The first bit for bit but for the bias of GCN, whose gradient is summed in another order.
    """
    seen = runs_in_one_call(monkeypatch)
    graphs = random_graphs(24, 30)
    config = ModelConfig(name=name, layers=3, hidden=20, residual=residual, dropout=0.2)
    made = GNN(config, norm, graphs.num_features, graphs.num_classes, seed=0)
    made.convolutions[1].linear.weight.requires_grad_(False)
    batch = graphs.batch(torch.arange(24))
    found = []
    for model in (made, hooked(copy.deepcopy(made))):
        torch.manual_seed(1)
        x = batch.x.clone().requires_grad_()
        logits = model(x, batch.adjacency, batch.segments)
        loss = F.cross_entropy(logits, batch.y)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        loss.backward(retain_graph=True)
        leaves = list(trained.values())
        grads = torch.autograd.grad(loss, [x, *leaves], create_graph=True)
        again = torch.autograd.grad(grads[0].square().sum(), leaves, allow_unused=True)
        assert model.convolutions[1].linear.weight.grad is None
        first = [logits, x.grad, *(each.grad for each in leaves), *model.buffers()]
        found.append((first, grads, [each for each in again if each is not None]))
    assert seen == [True] * (config.layers if residual else 1)
    if name == "gin":
        torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=0)
    for one, apart in zip(*found, strict=True):
        size = max(float(each.detach().abs().max()) for each in apart)
        torch.testing.assert_close(one, apart, rtol=1e-4, atol=1e-4 * size)


@needs_one_call
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_without_gradients_it_is_one_call_as_well(
    norm: str, residual: bool, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit what the parts compute, averages that move among it."""
    seen = runs_in_one_call(monkeypatch)
    graphs = random_graphs(24, 30)
    config = ModelConfig(name="gin", layers=3, hidden=20, residual=residual, dropout=0.0)
    made = GNN(config, norm, graphs.num_features, graphs.num_classes, seed=0)
    batch = graphs.batch(torch.arange(24))
    with torch.no_grad():
        made(batch.x, batch.adjacency, batch.segments)  # moves averages off 0 and 1
        seen.clear()
        found = []
        for model in (made.train(training), hooked(copy.deepcopy(made))):
            logits = model(batch.x, batch.adjacency, batch.segments)
            found.append([logits, *model.buffers()])
    assert seen == [True] * (config.layers if residual else 1)
    torch.testing.assert_close(*found, rtol=0, atol=0)


@needs_one_call
def test_what_no_backward_needs_is_not_kept() -> None:
    """Twelve layers without gradients take the memory of three."""
    peaks = [peak_without_gradients(layers) for layers in (3, 12)]
    assert peaks[1] == peaks[0]


def peak_without_gradients(layers: int) -> int:
    """The bytes that torch allocates in a call without gradients, at most at once."""
    graphs = random_graphs(24, 30)
    config = ModelConfig(name="gin", layers=layers, hidden=64)
    model = GNN(config, "graph", graphs.num_features, graphs.num_classes, seed=0).eval()
    batch = graphs.batch(torch.arange(24))
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
        model(batch.x, batch.adjacency, batch.segments)
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@needs_one_call
def test_a_chain_that_leaves_the_range_is_run_by_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward, after a BatchNorm has run, whose averages move once; and backward."""
    seen = runs_in_one_call(monkeypatch)
    context, moved = batch_of_two(), []
    for apart in (False, True):
        conv = GINConv(3, 4, lambda channels: NormSlot("batch", channels))
        conv.load_state_dict({n: v.abs() for n, v in sorted(gin_weights(conv).items())})
        with torch.no_grad():
            conv.linear2.weight.mul_(1e25)
        y = (hooked(conv) if apart else conv)(draw(NODES, 3).float(), context)
        assert y.isfinite().all()
        moved.append(
            (y, conv.norm.norm.module.running_mean, conv.norm.norm.module.num_batches_tracked)
        )
    assert seen == [False]
    for one, other in zip(*moved, strict=True):
        torch.testing.assert_close(one, other)


def gin_weights(conv: GINConv) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(6)
    return {
        name: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in conv.state_dict().items()
    }


def gin(**given: Any) -> GINConv:
    return GINConv(3, 4, lambda channels: NormSlot("graph", channels, **given))


def gcn(**given: Any) -> GCNConv:
    return GCNConv(3, 4, lambda channels: NormSlot("batch", channels, **given))


def batch_of_two() -> GraphContext:
    edges = torch.randint(0, NODES, (2, 30), generator=torch.Generator().manual_seed(2))
    segments = Segments.from_ptr(torch.tensor([0, 4, NODES]))
    return GraphContext(gn.Adjacency.from_edge_index(edges, NODES), segments)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("make", [gin, gcn])
def test_second_derivatives_are_those_of_differences(make: Callable[..., nn.Module]) -> None:
    conv, context = make(activation="silu").double(), batch_of_two()
    names = dict(conv.named_parameters())

    def run(x: Tensor, residual: Tensor, *values: Tensor) -> Tensor:
        for name, value in zip(names, values, strict=True):
            owner, _, last = name.rpartition(".")
            module = conv.get_submodule(owner)
            if last in module._parameters:  # as they are in a replica of the model
                del module._parameters[last]
            module._parameters[last] = value  # type: ignore[assignment]
        y: Tensor = conv(x, context, residual=residual)
        assert NODE in nodes_of(y)
        return y

    inputs = [draw(NODES, 3), draw(NODES, 4, seed=1)]
    inputs += [draw(*each.shape, seed=3) for each in names.values()]
    inputs = [each.requires_grad_() for each in inputs]
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("learned", [False, True])
def test_edge_weights(learned: bool) -> None:
    """Of weights that are learned GCN needs their gradient, and is not one node."""
    conv, context, x = gcn().double(), batch_of_two(), draw(NODES, 3).requires_grad_()
    apart = hooked(copy.deepcopy(conv))
    weight = draw(30, seed=4).abs().requires_grad_(learned)
    y, expected = (each(x, context, edge_weight=weight) for each in (conv, apart))
    assert (NODE in nodes_of(y)) != learned
    inputs = [x, weight] if learned else [x]
    cotangent = draw(*y.shape, seed=5)
    torch.testing.assert_close(
        torch.autograd.grad(y, [*inputs, *conv.parameters()], cotangent),
        torch.autograd.grad(expected, [*inputs, *apart.parameters()], cotangent),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("part", ["linear", "norm", "norm.norm", "norm2.norm"])
def test_hooks_see_what_passes_with_its_gradient(part: str) -> None:
    conv, seen = gin(), []
    module = conv.get_submodule(part)
    module.register_forward_hook(lambda module, args, y: seen.append(y.requires_grad))
    x = torch.randn(NODES, 3, requires_grad=True)
    conv(x, batch_of_two())
    module.register_full_backward_hook(lambda module, given, made: seen.append(made[0].shape[0]))
    conv(x, batch_of_two()).sum().backward()
    assert seen == [True, True, NODES]


def test_a_replaced_part_is_called() -> None:
    """A norm of the user's, a Linear with parametrized weights, and autocast."""
    conv, x, context = gin(), torch.randn(NODES, 3), batch_of_two()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv.linear(x).dtype == torch.bfloat16
        assert NODE not in nodes_of(conv(x, context))
    torch.nn.utils.parametrizations.weight_norm(conv.linear)
    assert NODE not in nodes_of(conv(x, context))
    conv = gin()
    conv.norm.norm = nn.Identity()
    conv.norm.forward = lambda x, context, **given: x  # type: ignore[method-assign]
    assert NODE not in nodes_of(conv(x, context))
    assert NODE in nodes_of(gin()(x, context))


def test_a_convolution_with_a_hook_is_called() -> None:
    """A hook on one of them keeps all apart, each a node of its own."""
    graphs, seen = random_graphs(4, 6), []
    config = ModelConfig(name="gin", layers=3, hidden=4)
    model = GNN(config, "graph", graphs.num_features, graphs.num_classes, seed=0)
    batch = graphs.batch(torch.arange(4))
    run = lambda: model(batch.x, batch.adjacency, batch.segments)  # noqa: E731
    assert nodes_of(run()).count(NODE) == 1
    model.convolutions[1].register_full_backward_hook(lambda _, grads, __: seen.append(grads))
    y = run()
    assert nodes_of(y).count(NODE) == 3
    y.sum().backward()
    assert seen[0][0].shape == (len(batch.x), 4)


@pytest.mark.parametrize("make", [gin, gcn])
def test_a_wrong_number_of_rows_is_refused(make: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match=f"x has 3 rows, but the adjacency {NODES} nodes"):
        make()(torch.randn(3, 3, requires_grad=True), batch_of_two())


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("rows", [NODES - 1, NODES + 1])
def test_segments_of_other_rows_are_refused(rows: int, learning: bool) -> None:
    """As by the parts; rows of no graph would be what happens to be in memory."""
    context = GraphContext(batch_of_two().adjacency, Segments.single(rows))
    with (
        torch.set_grad_enabled(learning),
        pytest.raises(ValueError, match=f"batch assigns {rows} rows, but x has {NODES}"),
    ):
        gin()(torch.randn(NODES, 3), context)


def test_an_error_leaves_no_chain_open() -> None:
    conv = GCNConv(3, 4, lambda channels: NormSlot("batch", channels))
    alone = GraphContext(
        gn.Adjacency.from_edge_index(torch.zeros(2, 0).long(), 1), Segments.single(1)
    )
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        conv(torch.randn(1, 3), alone)
    norm = gn.GraphNorm(3)
    x = torch.randn(NODES, 3, requires_grad=True)
    assert norm(x).requires_grad


def test_a_slot_that_normalizes_nothing_is_no_step() -> None:
    """Neither norm nor activation; and an x of other rows is refused as by the parts."""
    conv = GCNConv(3, 4, lambda channels: NormSlot("none", channels, activation=None))
    context = batch_of_two()
    x, residual = torch.randn(NODES, 3), torch.randn(NODES, 4)
    torch.testing.assert_close(
        conv(x, context, residual=residual), hooked(conv)(x, context, residual=residual)
    )
    with pytest.raises(ValueError, match="x has 9 rows, but the adjacency 10 nodes"):
        gcn()(x[1:], context)


def test_a_layer_says_itself_whether_it_is_one_call() -> None:
    """A layer derived from another one, which may compute something else, does not inherit it."""

    class Doubled(gn.GraphNorm):
        def _compute(self, x: Tensor, *given: Any) -> Tensor:
            return 2 * super()._compute(x, *given)

    conv, context, x = gin(), batch_of_two(), torch.randn(NODES, 3)
    expected = conv(x, context)
    assert conv.norm2.norm.is_one_call
    conv.norm2.norm = Doubled(4)
    assert NODE not in nodes_of(conv(x, context))
    assert expected.shape == conv(x, context).shape
