"""Attention within each graph on packed rows: torch's at equal parameters, and its QK-norms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.models import Attention, Blocks, attention
from graphnorms.segments import Segments

COUNTS = {
    "equal": [4, 4, 4],
    "unequal": [3, 5, 1, 0, 4],
    "giant": [1, 40, 1, 2, 20, 17, 1],
    "none": [0, 0],
    "no segments": [],
}
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def rows(number: int, channels: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, channels, generator=generator, dtype=torch.float64)


def segments_of(counts: str, *, unsorted: bool = False) -> tuple[Tensor, Segments]:
    sizes = COUNTS[counts]
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes, dtype=torch.long))
    if unsorted:
        batch = batch[torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))]
    return batch, Segments.from_batch(batch, len(sizes))


def shifted(layer: nn.Module) -> Any:
    """Move all parameters away from their defaults."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return layer.double()


@pytest.mark.parametrize("unsorted", [False, True])
@pytest.mark.parametrize("counts", COUNTS)
def test_blocks(counts: str, unsorted: bool) -> None:
    """Rows come back as they were, and stand with those of their segment and no other."""
    batch, segments = segments_of(counts, unsorted=unsorted)
    blocks = Blocks.of(segments)
    names = torch.arange(1.0, len(batch) + 1).unsqueeze(1)  # 0 is padding
    together = set()

    def look(padded: Tensor, block: attention.Block) -> Tensor:
        assert padded.shape == (block.number, block.length, 1)
        real = padded[:, :, 0] > 0
        assert bool(real.all()) == (block.seen is None)
        if block.seen is not None:
            assert torch.equal(block.seen[:, 0, 0], real)
        for line in padded[:, :, 0].long().tolist():
            kept = [each - 1 for each in line if each]
            assert line[: len(kept)] == [each + 1 for each in kept], "padding is behind the rows"
            together.update((a, b) for a in kept for b in kept)
        return padded

    if len(batch):
        assert torch.equal(blocks.apply(look, names), names)
    number = range(len(batch))
    assert together == {(a, b) for a in number for b in number if batch[a] == batch[b]}
    pairs = sum(block.number * block.length**2 for block in blocks.parts)
    assert pairs <= sum(max(2 * n, 16) ** 2 for n in COUNTS[counts] if n)
    assert len(blocks.parts) == {"giant": 3, "none": 0, "no segments": 0}.get(counts, 1)


def test_one_block_of_all_segments() -> None:
    """As on a GPU, where lengths are not read: with a segment without rows."""
    batch, segments = segments_of("unequal", unsorted=True)
    layer, x = shifted(Attention(8, 2)), rows(len(batch)).requires_grad_()
    blocks = Blocks.of(segments)
    whole, _ = attention._block(segments, None, 5, len(batch))
    assert (whole.number, whole.length) == (5, 5)
    assert (blocks.parts[0].number, blocks.parts[0].length) == (4, 5)
    other = Blocks((whole,), blocks.order, blocks.back)
    got, want = layer(x, other), layer(x, blocks)
    torch.testing.assert_close(got, want, **CLOSE)
    grads = [torch.autograd.grad(y.square().sum(), [x, *layer.parameters()]) for y in (got, want)]
    torch.testing.assert_close(*grads, **CLOSE)


def test_masked_rows_have_no_blocks() -> None:
    with pytest.raises(ValueError, match="segments has masked rows"):
        Blocks.of(Segments.single(3).with_mask(torch.tensor([True, False, True])))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unsorted", [False, True])
@pytest.mark.parametrize("counts", ["equal", "unequal", "giant"])
def test_attention_is_that_of_torch_on_every_graph(
    counts: str, unsorted: bool, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results and gradients to 1e-10, by products of matrices and by the fused kernel."""
    monkeypatch.setattr(attention, "_FUSED_FROM", 0 if fused else 1024)
    batch, segments = segments_of(counts, unsorted=unsorted)
    mine = shifted(Attention(8, 2))
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).double()
    theirs.in_proj_weight, theirs.in_proj_bias = mine.qkv.weight, mine.qkv.bias
    theirs.out_proj.weight, theirs.out_proj.bias = mine.out.weight, mine.out.bias
    x = rows(len(batch)).requires_grad_()
    want = torch.zeros_like(x)
    for graph in range(segments.num_segments):
        own = (batch == graph).nonzero()[:, 0]
        if len(own):
            part = x[own].unsqueeze(0)
            y = theirs(part, part, part, need_weights=False)[0][0]
            want = want.index_copy(0, own, y)
    got = mine(x, Blocks.of(segments))
    torch.testing.assert_close(got, want, **CLOSE)
    inputs, cotangent = [x, *mine.parameters()], rows(len(batch), seed=5)
    for ours, other in zip(
        torch.autograd.grad(got, inputs, cotangent),
        torch.autograd.grad(want, inputs, cotangent),
        strict=True,
    ):
        torch.testing.assert_close(ours, other, **CLOSE)
    with torch.no_grad():
        torch.testing.assert_close(mine(x, Blocks.of(segments)), want, **CLOSE)


def test_no_rows() -> None:
    mine = Attention(8, 2)
    assert mine(torch.zeros(0, 8), Blocks.of(Segments.from_counts(torch.tensor([0, 0])))).shape == (
        0,
        8,
    )


@pytest.mark.parametrize("kind", ["layer", "rms", "l2"])
def test_qk_norm_is_the_formula(kind: str) -> None:
    """Head by head and graph by graph, with torch's functions."""
    batch, segments = segments_of("unequal")
    mine = shifted(Attention(12, 3, qk_norm=kind))
    x = rows(len(batch), 12)
    got = mine(x, Blocks.of(segments))
    norm, width = mine.norm_qk, 4

    def normed(z: Tensor, layer: Any, head: int) -> Tensor:
        cut = slice(head * width, (head + 1) * width)
        z = z[:, cut]
        if kind == "layer":
            return F.layer_norm(z, (width,), layer.weight[cut], layer.bias[cut], 1e-5)
        if kind == "rms":
            return F.rms_norm(z, (width,), layer.weight[cut], 1e-5)
        return z / z.norm(dim=1, keepdim=True)

    parts = []
    for graph in range(segments.num_segments):
        q, k, v = mine.qkv(x[batch == graph]).chunk(3, dim=1)
        heads = []
        for head in range(3):
            scale = norm.gain[head] if kind == "l2" else 1 / math.sqrt(width)
            scores = scale * normed(q, norm.query, head) @ normed(k, norm.key, head).T
            heads.append(scores.softmax(1) @ v[:, head * width : (head + 1) * width])
        parts.append(mine.out(torch.cat(heads, dim=1)))
    torch.testing.assert_close(got, torch.cat(parts), **CLOSE)


def test_l2_begins_as_rms() -> None:
    batch, segments = segments_of("unequal")
    one, other = (Attention(8, 2, qk_norm=kind).double() for kind in ("l2", "rms"))
    other.load_state_dict(one.state_dict(), strict=False)
    x = 100 * rows(len(batch))  # so that ε is nothing
    blocks = Blocks.of(segments)
    torch.testing.assert_close(one(x, blocks), other(x, blocks), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["none", "layer", "rms", "l2"])
def test_attention_has_two_derivatives(kind: str) -> None:
    batch, segments = segments_of("unequal")
    layer, blocks = shifted(Attention(4, 2, qk_norm=kind)), Blocks.of(segments)
    x = rows(len(batch), 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x, blocks), x)
    assert torch.autograd.gradgradcheck(lambda x: layer(x, blocks), x)


def test_nan_stays_in_its_graph() -> None:
    batch, segments = segments_of("unequal")
    layer, x = shifted(Attention(8, 2)), rows(len(batch))
    x[3] = torch.nan
    assert torch.equal(layer(x, Blocks.of(segments)).isnan().any(1), batch == batch[3])


def test_dropout_is_drawn_in_training_only() -> None:
    batch, segments = segments_of("unequal")
    layer, x, blocks = shifted(Attention(8, 2, dropout=0.5)), rows(len(batch)), Blocks.of(segments)
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(layer(x, blocks))
    assert torch.equal(results[0], results[1])
    assert not torch.allclose(results[0], results[2])
    assert torch.equal(layer.eval()(x, blocks), layer(x, blocks))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Attention(8, 3), "heads is 3, expected a divisor of the 8 channels"),
        (lambda: Attention(8, 2, qk_norm="batch"), "unknown qk_norm 'batch'; known: none, layer"),
    ],
)
def test_bad_arguments_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
