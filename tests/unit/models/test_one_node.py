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
from graphnorms.models import GNN, GCNConv, GINConv, GraphContext, ModelConfig, NormSlot
from graphnorms.segments import Segments

NORMS = ("none", "batch", "layer", "instance", "graph", "pair", "rms")
STEPS = 50
NODES = 10
NODE = "_NodeBackward"

pytestmark = pytest.mark.skipif(
    not gn.backends()[0].available, reason="the nodes run the C++ kernels"
)


def hooked(model: nn.Module) -> nn.Module:
    """Observe every slot, which keeps the parts of a convolution apart."""
    for module in model.modules():
        if isinstance(module, NormSlot):
            module.register_forward_hook(lambda *_: None)
    return model


def nodes_of(y: Tensor) -> set[str]:
    """The names of the nodes that a result depends on."""
    found, left = set(), [y.grad_fn]
    while left:
        node = left.pop()
        if node is not None:
            found.add(node.name())
            left += [each for each, _ in node.next_functions]
    return found


@pytest.mark.parametrize("name", ["gin", "gcn"])
@pytest.mark.parametrize("norm", NORMS)
def test_training_is_that_of_the_parts(norm: str, name: str) -> None:
    """With dropout and residual sums: 50 losses, the weights and the running averages."""
    graphs = random_graphs(24, 6)
    config = ModelConfig(name=name, layers=2, hidden=6, residual=True, dropout=0.2)
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
        assert (NODE in nodes_of(loss)) == (which == "one")
        losses[which] = found
    torch.testing.assert_close(losses["one"], losses["apart"], rtol=0, atol=1e-12)
    torch.testing.assert_close(
        models["one"].state_dict(), models["apart"].state_dict(), rtol=1e-9, atol=1e-9
    )


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
