"""The LSTM without a norm is torch's; with one it is the papers' equations, step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import graphnorms as gn
from graphnorms.models import initialize
from graphnorms.studies.lstm import LSTM, RecurrentNet, StepNorm
from tests.norms import OF_ROWS

LENGTHS = torch.tensor([3, 7, 1, 5, 7])


def sequences(steps: int = 7, channels: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, steps, channels, generator=generator, dtype=torch.float64)


def made(seed: int = 1, **arguments: object) -> LSTM:
    """An LSTM with parameters away from their defaults."""
    model = LSTM(4, 6, **arguments).double()
    initialize(model, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("lengths", [LENGTHS, None])
def test_without_a_norm_it_is_the_lstm_of_torch(lengths: Tensor | None) -> None:
    """Unequal lengths in any order: results, last states and every gradient to 1e-12."""
    model = made()
    theirs = nn.LSTM(4, 6, batch_first=True).double()
    theirs.load_state_dict(
        {f"{name}_l0": value for name, value in model.cells[0].named_parameters()}
    )
    x = sequences().requires_grad_()
    all_steps = torch.full((5,), 7) if lengths is None else lengths
    packed = pack_padded_sequence(x, all_steps, batch_first=True, enforce_sorted=False)
    want, (their_h, _) = theirs(packed)
    padded, _ = pad_packed_sequence(want, batch_first=True, total_length=7)
    got, h = model(x, lengths)
    assert torch.equal(h, got[torch.arange(5), all_steps - 1])
    generator = torch.Generator().manual_seed(3)
    cotangents = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in (got, h)]
    ours = torch.autograd.grad((got, h), [x, *model.parameters()], cotangents)
    other = torch.autograd.grad((padded, their_h[0]), [x, *theirs.parameters()], cotangents)
    pairs = zip((got, h, *ours), (padded, their_h[0], *other), strict=True)
    for mine, wanted in pairs:
        torch.testing.assert_close(mine, wanted, rtol=1e-12, atol=1e-12)


def gates_of(cell: nn.Module, hidden: Tensor, inputs: Tensor) -> tuple[Tensor, ...]:
    return (hidden + inputs + cell.bias_ih + cell.bias_hh).chunk(4, -1)


def test_layer_norm_is_equations_20_to_22() -> None:
    """Each sequence alone, with torch's LayerNorm: Ba et al. 2016."""
    model = made(norm="layer", norm_eps=1e-4)
    cell = model.cells[0]
    x = sequences()
    got, _ = model(x, LENGTHS)

    def norm(values: Tensor, step_norm: StepNorm) -> Tensor:
        (layer,) = step_norm.norms
        return nn.functional.layer_norm(
            values, values.shape[-1:], layer.weight, layer.bias, eps=1e-4
        )

    for sequence, length in enumerate(LENGTHS):
        h = c = torch.zeros(6, dtype=torch.float64)
        for step in range(int(length)):
            i, f, g, o = gates_of(
                cell,
                norm(cell.weight_hh @ h, cell.norm_hh),
                norm(cell.weight_ih @ x[sequence, step], cell.norm_ih),
            )
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * norm(c, cell.norm_cell).tanh()
            torch.testing.assert_close(got[sequence, step], h, rtol=1e-11, atol=1e-11)


def by_hand(
    model: LSTM,
    x: Tensor,
    lengths: Tensor,
    averages: dict[object, tuple[Tensor, Tensor]],
    per_step: bool,
) -> Tensor:
    """BatchNorm's LSTM from the definition, moving the averages in training."""
    cell = model.cells[0]
    h = torch.zeros(len(x), 6, dtype=torch.float64)
    c = h.clone()
    outputs = torch.zeros(len(x), x.shape[1], 6, dtype=torch.float64)

    def norm(values: Tensor, name: str, step: int) -> Tensor:
        own = getattr(cell, name)
        key = (name, min(step, 6) if per_step else 0)
        zeros = values.new_zeros(values.shape[1])
        mean, var = averages.setdefault(key, (zeros, zeros + 1))
        if model.training and len(values) > 1:
            averages[key] = (
                mean + 0.1 * (values.mean(0) - mean),
                var + 0.1 * (values.var(0) - var),
            )
            mean, var = values.mean(0), values.var(0, unbiased=False)
        y = own.weight * (values - mean) / (var + 1e-5).sqrt()
        return y if own.bias is None else y + own.bias

    for step in range(int(lengths.max())):
        alive = (lengths > step).nonzero()[:, 0]
        i, f, g, o = gates_of(
            cell,
            norm(h[alive] @ cell.weight_hh.T, "norm_hh", step),
            norm(x[alive, step] @ cell.weight_ih.T, "norm_ih", step),
        )
        c = c.index_copy(0, alive, f.sigmoid() * c[alive] + i.sigmoid() * g.tanh())
        h = h.index_copy(0, alive, o.sigmoid() * norm(c[alive], "norm_cell", step).tanh())
        outputs[alive, step] = h[alive]
    return outputs


@pytest.mark.parametrize("per_step", [True, False])
def test_batch_norm_per_step_and_shared(per_step: bool) -> None:
    """Training, the running averages, `eval()`, and longer sequences than in training."""
    model = made(norm="batch", statistics_steps=7 if per_step else None)
    averages: dict[object, tuple[Tensor, Tensor]] = {}
    lengths = torch.tensor([3, 7, 1, 5, 6])  # one sequence alone at the last step
    with torch.no_grad():
        for seed in range(3):
            x = sequences(seed=seed)
            got, _ = model(x, lengths)
            want = by_hand(model, x, lengths, averages, per_step)
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
        model.eval()
        long = sequences(steps=10, seed=9)
        lengths = torch.tensor([10, 7, 1, 5, 8])
        got, _ = model(long, lengths)
        want = by_hand(model, long, lengths, averages, per_step)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_steps_behind_the_last_take_its_averages() -> None:
    norm = StepNorm("batch", 3, eps=1e-5, steps=2, bias=True)
    for step, offset in ((0, 0.0), (1, 5.0)):
        for _ in range(60):
            norm(torch.tensor([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]) + offset, step)
    norm.eval()
    x = torch.full((1, 3), 6.0)
    assert torch.equal(norm(x, 2), norm(x, 1))
    assert torch.equal(norm(x, 99), norm(x, 1))
    assert not torch.equal(norm(x, 0), norm(x, 1))


def test_longer_training_sequences_are_refused() -> None:
    model = LSTM(4, 6, norm="batch", statistics_steps=6).double()
    with pytest.raises(ValueError, match="more than 6 steps, for which statistics are kept; set"):
        model(sequences())
    model.eval()
    model(sequences())


def test_gamma_begins_with_a_tenth_and_is_shared_by_the_steps() -> None:
    model = RecurrentNet(4, 2, hidden=6, norm="batch", statistics_steps=7, seed=0)
    gains = [m for m in model.modules() if isinstance(m, StepNorm)]
    assert len(gains) == 3
    assert all(torch.equal(m.weight, torch.full_like(m.weight, 0.1)) for m in gains)
    assert [m.bias is None for m in gains] == [True, True, False]
    shared = RecurrentNet(4, 2, hidden=6, norm="batch", seed=0)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in shared.parameters())
    # 2 projections of 24 gates and a cell of 6: mean and variance each, for 7 steps
    floats = sum(b.numel() for b in model.buffers() if b.is_floating_point())
    assert floats == 7 * 2 * (24 + 24 + 6)


@pytest.mark.parametrize("norm", gn.CATALOG)
def test_every_norm_keeps_sequences_apart_or_is_refused(norm: str) -> None:
    if norm not in OF_ROWS:
        with pytest.raises(ValueError, match="try 'batch', 'layer' or 'rms'"):
            RecurrentNet(4, 2, hidden=8, norm=norm, seed=0)
        return
    model = RecurrentNet(4, 2, hidden=8, norm=norm, seed=0)
    x = sequences().float()
    assert model(x, LENGTHS).shape == (5, 2)
    model.eval()
    other = x.clone()
    other[1:] *= -3
    torch.testing.assert_close(model(x, LENGTHS)[0], model(other, LENGTHS)[0])


def test_recurrent_net_reads_tokens_and_every_step() -> None:
    model = RecurrentNet(9, 3, hidden=6, tokens=True, norm="layer", seed=0)
    tokens = torch.randint(9, (5, 7), generator=torch.Generator().manual_seed(0))
    logits = model(tokens, LENGTHS)
    assert logits.shape == (5, 7, 3)
    outputs, _ = model.lstm(model.embedding.weight[tokens], LENGTHS)
    torch.testing.assert_close(logits, model.head(outputs))


def test_initial_weights_do_not_depend_on_the_norm() -> None:
    models = [
        RecurrentNet(4, 2, norm=norm, statistics_steps=steps, seed=7)
        for norm, steps in (("none", None), ("layer", None), ("batch", None), ("batch", 5))
    ]
    for other in models[1:]:
        for name, value in models[0].named_parameters():
            assert torch.equal(other.get_parameter(name), value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "layer", "statistics_steps": 3}, "statistics_steps is 3, but the norm 'layer'"),
        ({"norm": "batch", "statistics_steps": 0}, "statistics_steps is 0, expected a positive"),
        ({"norm": "instance"}, "a sequence at one time step is one row; try 'batch'"),
        ({"hidden": 0}, "hidden is 0"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LSTM(**{"in_channels": 4, "hidden": 6} | arguments)
