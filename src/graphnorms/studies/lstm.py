"""LSTM with LayerNorm, with BatchNorm per time step or shared, and without, on packed sequences."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from graphnorms.layers import BatchNorm, Identity
from graphnorms.layers.factory import lookup
from graphnorms.models.initialize import initialize
from graphnorms.models.norm_slot import check_sizes, plain_norm


class StepNorm(nn.Module):
    r"""A normalization of what a recurrent network computes at its time steps.

    At one step a sequence is one row, and the rows are the sequences that have not ended.
    LayerNorm and RMSNorm take each row alone. BatchNorm takes the statistics of the rows of the
    step, and in `eval()` running averages: with `steps` each of the first `steps` time steps has
    its own, and later ones take those of the last; without, all steps share one. $\gamma$ and
    $\beta$ are shared by all steps in both cases, and $\gamma$ begins with 0.1: 1 would drive the
    gates into saturation. Where a single sequence is left, BatchNorm takes the running averages
    in training as well.

    Shapes: `x` and the result `(sequences, channels)`.

    Args:
        norm: The normalization as text: its catalogue name, arguments behind a colon.
        channels: Width of the rows.
        eps: Its ε, where it has one.
        steps: BatchNorm only: how many time steps have running averages of their own.
        bias: BatchNorm only: whether to learn $\beta$.

    Raises:
        ValueError: The norm is unknown or one of graphs, or has no running averages per step to
            keep; or a step in training is not one of `steps`.

    Source: Cooijmans et al. 2017, https://arxiv.org/abs/1603.09025, section 3.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self, norm: str, channels: int, *, eps: float, steps: int | None, bias: bool
    ) -> None:
        super().__init__()
        row = lookup(norm)
        by_batch = row.layer is BatchNorm
        if steps is not None:
            if not by_batch:
                raise ValueError(
                    f"statistics_steps is {steps}, but the norm {norm!r} keeps no averages per "
                    "step; leave it out, or take 'batch'"
                )
            check_sizes(statistics_steps=steps)
        # With γ and β of its own, every step's BatchNorm would learn another scale.
        arguments = {"affine": False, "allow_single_element": True} if by_batch else {}
        self.norms = nn.ModuleList(
            plain_norm(
                norm,
                channels,
                eps=eps,
                rows_only="a sequence at one time step is one row",
                **arguments,
            )
            for _ in range(steps or 1)
        )
        self.steps = steps
        self.any_step = row.segment == "node" or row.layer is Identity
        self.register_parameter("weight", nn.Parameter(torch.ones(channels)) if by_batch else None)
        has_bias = by_batch and bias
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if has_bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Set $\gamma$ to 0.1 and $\beta$ to 0, where BatchNorm has them."""
        if self.weight is not None:
            nn.init.constant_(self.weight, 0.1)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, step: int) -> Tensor:
        """Normalize the rows of one time step, counted from 0."""
        if self.training and self.steps is not None and step >= self.steps:
            raise ValueError(
                f"a training sequence has more than {self.steps} steps, for which statistics are "
                "kept; set statistics_steps to the longest length"
            )
        y: Tensor = self.norms[min(step, len(self.norms) - 1)](x)
        if self.weight is not None:
            y = y * self.weight
        return y if self.bias is None else y + self.bias


class LSTMCell(nn.Module):
    r"""One layer of an LSTM, with a normalization of both projections and of the cell.

    $$ (i, f, g, o) = \mathrm{Norm}(W_{hh} h_{t-1}) + \mathrm{Norm}(W_{ih} x_t)
       + b_{ih} + b_{hh}, $$
    $$ c_t = \sigma(f) \, c_{t-1} + \sigma(i) \tanh(g), \qquad
       h_t = \sigma(o) \tanh(\mathrm{Norm}(c_t)), $$

    each Norm with parameters of its own. With LayerNorm those of the projections are over the
    four gates together; BatchNorm has no $\beta$ there, where the biases are.

    Shapes: `weight_ih` `(4 * hidden, in_channels)`, `weight_hh` `(4 * hidden, hidden)`, `bias_ih`
    and `bias_hh` `(4 * hidden,)`, named and ordered as those of `torch.nn.LSTMCell`.

    Args:
        in_channels, hidden: Width of the input and of the state.
        norm, statistics_steps, norm_eps: See `LSTM`.

    Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450, equations 20 to 22; Cooijmans et al.
    2017, https://arxiv.org/abs/1603.09025, section 3.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        norm: str,
        norm_eps: float,
        statistics_steps: int | None,
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden, in_channels))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden))
        self.bias_hh = nn.Parameter(torch.empty(4 * hidden))
        steps = statistics_steps
        self.norm_ih = StepNorm(norm, 4 * hidden, eps=norm_eps, steps=steps, bias=False)
        self.norm_hh = StepNorm(norm, 4 * hidden, eps=norm_eps, steps=steps, bias=False)
        self.norm_cell = StepNorm(norm, hidden, eps=norm_eps, steps=steps, bias=True)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draw weights and biases from $U(-k, k)$ with $k = 1/\sqrt{\text{hidden}}$, as torch."""
        bound = self.hidden**-0.5
        for parameter in self.parameters(recurse=False):
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor, batch_sizes: list[int]) -> tuple[Tensor, Tensor]:
        """Run through the time steps, from a state of 0.

        Args:
            x: The rows of all steps, one step after the other, `(rows, in_channels)`.
            batch_sizes: Number of sequences of each step; the longest come first.

        Returns:
            h of every row, and h where each sequence ends.
        """
        inputs = F.linear(x, self.weight_ih)
        if self.norm_ih.any_step:
            inputs = self.norm_ih(inputs, 0)
        h = c = x.new_zeros((batch_sizes[0], self.hidden))
        outputs, ended = [], []
        for step, gates in enumerate(inputs.split(batch_sizes)):
            left = gates.shape[0]
            if left < h.shape[0]:
                ended.append(h[left:])
                h, c = h[:left], c[:left]
            if not self.norm_ih.any_step:
                gates = self.norm_ih(gates, step)
            gates = gates + self.norm_hh(F.linear(h, self.weight_hh), step)
            i, f, g, o = (gates + (self.bias_ih + self.bias_hh)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * self.norm_cell(c, step).tanh()
            outputs.append(h)
        ended.append(h)
        # Short sequences end first and stand last.
        return torch.cat(outputs), torch.cat(ended[::-1])


class LSTM(nn.Module):
    """An LSTM with a normalization, on sequences of different lengths.

    `norm="layer"` is the LSTM of Ba et al.; `norm="batch"` with `statistics_steps` the one of
    Cooijmans et al., without it the one whose running averages are shared by all time steps;
    `norm="none"` is `torch.nn.LSTM`. `LSTMCell` has the equations, `StepNorm` what the statistics
    of a step are. Sequences are packed: no padding enters a statistic.

    Args:
        in_channels: Width of the input.
        hidden: Width of the state.
        norm: The normalization as text: its catalogue name, arguments behind a colon.
        statistics_steps: BatchNorm only: how many time steps have running averages of their own,
            the length of the longest training sequence; later steps take those of the last.
        norm_eps: ε of every normalization.

    Raises:
        ValueError: A number is not positive, the norm is unknown or one of graphs,
            `statistics_steps` is given for a norm that keeps none, or a training sequence is
            longer than that.

    Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450; Cooijmans et al. 2017,
    https://arxiv.org/abs/1603.09025. Parameters are those of `torch.nn.LSTMCell`, in `cells[0]`.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        *,
        norm: str = "none",
        statistics_steps: int | None = None,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, hidden=hidden)
        # A list, as the name of a parameter seeds its initial value.
        self.cells = nn.ModuleList(
            [LSTMCell(in_channels, hidden, norm, norm_eps, statistics_steps)]
        )

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run over the sequences.

        Args:
            x: The sequences, `(sequences, steps, in_channels)`.
            lengths: How many steps of each count, `(sequences,)`; `None` for all.

        Returns:
            h at every step, `(sequences, steps, hidden)`, 0 behind the end, and h where each
            sequence ends, `(sequences, hidden)`.
        """
        sequences, steps = x.shape[:2]
        if lengths is None:
            lengths = torch.full((sequences,), steps)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        rows, last = self.cells[0](packed.data, packed.batch_sizes.tolist())
        packed = packed._replace(data=rows)
        padded, _ = pad_packed_sequence(packed, batch_first=True, total_length=steps)
        return padded, last[packed.unsorted_indices]


class RecurrentNet(nn.Module):
    """An LSTM and one Linear: a result per sequence, or of every token.

    Shapes: `x` `(sequences, steps, in_channels)`, the result `(sequences, out_channels)`, from
    where each sequence ends; with `tokens` `x` is `(sequences, steps)` int64, and the result
    `(sequences, steps, out_channels)`.

    Args:
        in_channels: Width of the input; with `tokens` the number of different ones.
        out_channels: Results per sequence or step.
        hidden: Width of the state, and of the embedding of tokens.
        norm, statistics_steps: As of `LSTM`.
        tokens: Whether the input is tokens, each with a learned vector and a result.
        seed: Seeds the initial weights; each depends on the seed and its own name only.

    Raises:
        ValueError: What `LSTM` refuses, or `out_channels` is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden: int = 64,
        norm: str = "none",
        statistics_steps: int | None = None,
        tokens: bool = False,
        seed: int,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, out_channels=out_channels)
        self.tokens = tokens
        self.embedding = nn.Embedding(in_channels, hidden) if tokens else nn.Identity()
        width = hidden if tokens else in_channels
        self.lstm = LSTM(width, hidden, norm=norm, statistics_steps=statistics_steps)
        self.head = nn.Linear(hidden, out_channels)
        initialize(self, seed)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Read the sequences; `lengths` says how many steps of each count (`None`: all)."""
        outputs, last = self.lstm(self.embedding(x), lengths)
        y: Tensor = self.head(outputs if self.tokens else last)
        return y
