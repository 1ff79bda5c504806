"""The transformer is torch's at equal parameters; graphs and sequences do not see each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.data import random_graphs
from graphnorms.models import initialize
from graphnorms.models.attention import Blocks
from graphnorms.segments import Segments
from graphnorms.studies.transformer import GraphTransformer, Transformer, TransformerLayer
from tests.norms import OF_ROWS

COUNTS = {
    "equal": [4, 4, 4],
    "unequal": [3, 5, 1, 0, 4],
    "giant": [1, 40, 1, 2, 1, 1, 1],
    "none": [0, 0],
    "no segments": [],
}


def rows(number: int, channels: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, channels, generator=generator, dtype=torch.float64)


def shifted(model: nn.Module, seed: int = 1) -> nn.Module:
    """Move all parameters away from their defaults."""
    initialize(model, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def torch_layer(
    layer: TransformerLayer, activation: str, dropout: float = 0.0
) -> nn.TransformerEncoderLayer:
    theirs = nn.TransformerEncoderLayer(
        8,
        2,
        12,
        dropout,
        activation,
        layer_norm_eps=1e-4,
        batch_first=True,
        norm_first=layer.norm_first,
    ).double()
    names = {
        "attention.qkv.weight": "self_attn.in_proj_weight",
        "attention.qkv.bias": "self_attn.in_proj_bias",
    }
    theirs.load_state_dict(
        {
            names.get(name, name.replace("attention.out", "self_attn.out_proj")): value
            for name, value in layer.state_dict().items()
        }
    )
    return theirs


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("counts", ["equal", "unequal", "giant"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_layer_is_that_of_torch(
    norm_first: bool, causal: bool, counts: str, activation: str
) -> None:
    """With padding mask and causal mask: results and all gradients to 1e-10."""
    lengths = torch.tensor([count for count in COUNTS[counts] if count])
    segments = Segments.from_counts(lengths)
    layer = shifted(
        TransformerLayer(
            8,
            2,
            feedforward=12,
            norm_first=norm_first,
            causal=causal,
            activation=activation,
            norm_eps=1e-4,
        )
    ).double()
    theirs = torch_layer(layer, activation)
    longest = int(lengths.max())
    real = torch.arange(longest) < lengths.unsqueeze(1)
    x = rows(segments.num_rows).requires_grad_()
    padded = x.new_full((len(lengths), longest, 8), 7.0)  # what stands there must not matter
    padded = padded.masked_scatter(real.unsqueeze(2), x)
    later = torch.ones(longest, longest).triu(1).bool() if causal else None
    want = theirs(padded, src_mask=later, src_key_padding_mask=~real)[real]

    got = layer(x, segments, Blocks.of(segments))
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(got, want, **close)
    cotangent = rows(segments.num_rows, seed=5)
    theirs_by_name = dict(theirs.named_parameters())
    ours_by_name = dict(layer.named_parameters())
    order = [
        name.replace("self_attn.in_proj_", "attention.qkv.").replace(
            "self_attn.out_proj", "attention.out"
        )
        for name in theirs_by_name
    ]
    got_grads = torch.autograd.grad(got, [x, *(ours_by_name[name] for name in order)], cotangent)
    want_grads = torch.autograd.grad(want, [x, *theirs_by_name.values()], cotangent)
    for ours, other in zip(got_grads, want_grads, strict=True):
        torch.testing.assert_close(ours, other, **close)


def test_stack_is_that_of_torch() -> None:
    """Pre-LN has one more norm behind the last layer, post-LN has none."""
    for norm_first in (False, True):
        stack = shifted(
            Transformer(8, 2, layers=3, feedforward=12, norm_first=norm_first, norm_eps=1e-4)
        ).double()
        last = nn.LayerNorm(8, eps=1e-4).double() if norm_first else None
        if last is not None:
            last.load_state_dict(stack.norm.state_dict())
        else:
            assert stack.norm is None
        want = rows(12).view(3, 4, 8)
        for layer in stack.layers:
            want = torch_layer(layer, "relu")(want)
        want = want if last is None else last(want)
        got = stack(rows(12), Segments.from_counts(torch.tensor([4, 4, 4])))
        torch.testing.assert_close(got, want.flatten(0, 1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", ["layer", "rms", "graph", "instance", "none"])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("counts", ["unequal", "giant"])
def test_a_graph_alone_gives_what_it_gives_in_the_batch(
    norm_first: bool, norm: str, counts: str
) -> None:
    sizes = torch.tensor(COUNTS[counts])
    batch = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    generator = torch.Generator().manual_seed(0)
    batch = batch[torch.randperm(len(batch), generator=generator)]
    stack = shifted(Transformer(8, 2, layers=2, norm=norm, norm_first=norm_first)).double()
    x = rows(len(batch)).requires_grad_()
    cotangent = rows(len(batch), seed=5)
    together = stack(x, Segments.from_batch(batch, len(sizes)))
    alone = torch.zeros_like(together)
    for graph in range(len(sizes)):
        own = (batch == graph).nonzero()[:, 0]
        if len(own):
            alone = alone.index_copy(0, own, stack(x[own], Segments.single(len(own))))
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(together, alone, **close)
    for ours, other in zip(
        torch.autograd.grad(together, [x, *stack.parameters()], cotangent),
        torch.autograd.grad(alone, [x, *stack.parameters()], cotangent),
        strict=True,
    ):
        torch.testing.assert_close(ours, other, **close)


def test_batch_norm_counts_every_row_once() -> None:
    """Its running mean is that of the rows, whatever blocks they were padded to."""
    stack = Transformer(8, 2, layers=1, norm="batch", norm_first=True).double()
    x = rows(13) + 3
    stack(x, Segments.from_counts(torch.tensor(COUNTS["unequal"])))
    torch.testing.assert_close(stack.layers[0].norm1.module.running_mean, 0.1 * x.mean(0))


def test_graph_transformer() -> None:
    """The model's parts around the stack, on graphs with degrees beyond the largest vector."""
    batch = random_graphs(12, mean_nodes=9.0, num_features=5, seed=3).batch(torch.arange(12))
    model = GraphTransformer(5, 3, channels=8, heads=2, layers=2, max_degree=3, seed=0).double()
    x = batch.x.double()
    assert int(batch.adjacency.in_degree.max()) > 3
    got = model(x, batch.adjacency, batch.segments)
    degree = torch.stack([model.degree.weight[min(int(d), 3)] for d in batch.adjacency.in_degree])
    h = x @ model.linear.weight.T + model.linear.bias + degree
    h = model.transformer(h, batch.segments)
    means = torch.stack([h[batch.segments.index == g].mean(0) for g in range(12)])
    torch.testing.assert_close(got, means @ model.head.weight.T + model.head.bias)
    nodes = GraphTransformer(
        5, 3, channels=8, heads=2, layers=2, max_degree=3, head="node", seed=0
    ).double()
    got = nodes(x, batch.adjacency, batch.segments)
    torch.testing.assert_close(got, h @ model.head.weight.T + model.head.bias)


@pytest.mark.parametrize("norm", gn.CATALOG)
def test_every_norm_stands_in_the_graph_transformer_or_is_refused(norm: str) -> None:
    if gn.CATALOG[norm].needs:
        with pytest.raises(ValueError, match="which only a graph neural network has"):
            GraphTransformer(5, 3, norm=norm, seed=0)
        return
    batch = random_graphs(6, mean_nodes=9.0, num_features=5, seed=3).batch(torch.arange(6))
    for norm_first in (False, True):
        model = GraphTransformer(
            5, 3, channels=16, heads=2, layers=2, norm=norm, norm_first=norm_first, seed=0
        )
        logits = model(batch.x, batch.adjacency, batch.segments)
        logits.square().sum().backward()
        assert logits.shape == (6, 3)
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("norm", gn.CATALOG)
def test_a_causal_model_does_not_see_what_is_behind(norm: str) -> None:
    """Whatever norm it takes, in `eval()`; the others are refused."""
    if norm not in OF_ROWS:
        with pytest.raises(ValueError, match="try 'batch', 'layer' or 'rms'"):
            Transformer(16, 2, layers=2, norm=norm, causal=True)
        return
    torch.manual_seed(0)
    counts = torch.tensor([10, 8, 3])
    segments = Segments.from_counts(counts)
    behind = torch.cat([torch.arange(count) for count in counts.tolist()]) >= 6
    x = torch.randn(21, 16)
    other = x + behind.unsqueeze(1) * torch.randn(21, 16)
    for causal in (True, False):
        model = Transformer(16, 2, layers=2, norm=norm, norm_first=True, causal=causal)
        model(x, segments)
        model.eval()
        changed = (model(x, segments) - model(other, segments)).abs().amax(1)
        assert changed[behind].max() > 1e-3
        assert bool(changed[:6].max() < 1e-5) is causal


def test_initial_weights() -> None:
    """Xavier, biases 0; the same for every norm and place of it."""
    models = [
        GraphTransformer(7, 7, norm=norm, norm_first=first, seed=7)
        for norm in ("none", "layer", "batch")
        for first in (False, True)
    ]
    for other in models[1:]:
        for name, value in models[0].named_parameters():
            assert torch.equal(other.get_parameter(name), value)
    layer = models[0].transformer.layers[1]
    for linear in (layer.attention.qkv, layer.attention.out, layer.linear1, layer.linear2):
        bound = (6 / sum(linear.weight.shape)) ** 0.5
        assert 0.97 * bound < linear.weight.abs().max() <= bound
        assert (linear.bias == 0).all()


@pytest.mark.parametrize("norm_first", [False, True])
def test_dropout_is_where_torch_has_it(norm_first: bool) -> None:
    """From the same random state the same entries are dropped."""
    segments = Segments.single(12)  # of several, torch orders the rows otherwise within
    layer = shifted(
        TransformerLayer(8, 2, feedforward=12, norm_first=norm_first, dropout=0.5, norm_eps=1e-4)
    ).double()
    theirs = torch_layer(layer, "relu", dropout=0.5)
    x = rows(12).requires_grad_()  # without gradients torch takes another path
    torch.manual_seed(0)
    want = theirs(x.unsqueeze(0))
    torch.manual_seed(0)
    got = layer(x, segments, Blocks.of(segments))
    torch.testing.assert_close(got, want.flatten(0, 1), rtol=1e-10, atol=1e-10)
    layer.eval()
    assert torch.equal(
        layer(x, segments, Blocks.of(segments)), layer(x, segments, Blocks.of(segments))
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Transformer(8, 3, layers=1), "heads is 3, expected a divisor of the 8 channels"),
        (lambda: Transformer(8, 2, layers=0), "layers is 0"),
        (
            lambda: Transformer(8, 2, layers=1, norm="graph", causal=True),
            "would leak later rows",
        ),
        (lambda: GraphTransformer(5, 3, readout="avg", seed=0), "unknown readout 'avg'"),
        (lambda: GraphTransformer(5, 3, head="edge", seed=0), "unknown head 'edge'"),
    ],
)
def test_bad_arguments_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
