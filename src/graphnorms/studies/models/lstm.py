"""LSTM with LayerNorm, with BatchNorm per time step or shared, and without, on packed sequences."""

from __future__ import annotations

from typing import overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from graphnorms.layers import BatchNorm, Identity
from graphnorms.layers.factory import lookup
from graphnorms.models.initialize import initialize
from graphnorms.models.norm_slot import check_sizes, plain_norm

State = tuple[Tensor, Tensor]
"""The output h and the cell c of every layer and sequence, each `(layers, sequences, hidden)`."""


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
                norm, channels, eps=eps, rows_only="a sequence at one time step is one row",
                **arguments,
            )
            for _ in range(steps or 1)
        )  # fmt: skip
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
        norm: The normalization as text.
        norm_eps: Its ε.
        statistics_steps: See `LSTM`.

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

    def forward(
        self, x: Tensor, batch_sizes: list[int], h: Tensor, c: Tensor, first_step: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run through the time steps.

        Args:
            x: The rows of all steps, one step after the other, `(rows, in_channels)`.
            batch_sizes: How many sequences each step has; the longest come first.
            h, c: The state at the start, `(sequences, hidden)`.
            first_step: The number of the first step.

        Returns:
            h of every row, and the states in which the sequences ended.
        """
        inputs = F.linear(x, self.weight_ih)
        if self.norm_ih.any_step:
            inputs = self.norm_ih(inputs, 0)
        outputs, ended = [], []
        for step, gates in enumerate(inputs.split(batch_sizes), first_step):
            left = gates.shape[0]
            if left < h.shape[0]:
                ended.append((h[left:], c[left:]))
                h, c = h[:left], c[:left]
            if not self.norm_ih.any_step:
                gates = self.norm_ih(gates, step)
            gates = gates + self.norm_hh(F.linear(h, self.weight_hh), step)
            i, f, g, o = (gates + (self.bias_ih + self.bias_hh)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * self.norm_cell(c, step).tanh()
            outputs.append(h)
        ended.append((h, c))
        # Short sequences end first and stand last.
        last_h, last_c = (torch.cat(parts[::-1]) for parts in zip(*ended, strict=True))
        return torch.cat(outputs), last_h, last_c


class LSTM(nn.Module):
    """An LSTM with a normalization, on sequences of different lengths.

    `norm="layer"` is the LSTM of Ba et al.; `norm="batch"` with `statistics_steps` the one of
    Cooijmans et al., without it the one whose running averages are shared by all time steps;
    `norm="none"` is `torch.nn.LSTM`. `LSTMCell` has the equations, `StepNorm` what the statistics
    of a step are.

    Sequences are packed: a step computes the sequences that have not ended, and nothing else
    enters a statistic. Time steps are a loop in Python, for all norms alike.

    Args:
        in_channels: Width of the input.
        hidden: Width of the state.
        layers: How many layers stand on each other.
        norm: The normalization as text: its catalogue name, arguments behind a colon.
        statistics_steps: BatchNorm only: how many time steps have running averages of their own,
            the length of the longest training sequence; later steps take those of the last.
        norm_eps: ε of every normalization.

    Raises:
        ValueError: A number is not positive, the norm is unknown or one of graphs,
            `statistics_steps` is given for a norm that keeps none, or a training sequence is
            longer than that.

    Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450; Cooijmans et al. 2017,
    https://arxiv.org/abs/1603.09025. Parameters of layer `k` are those of `torch.nn.LSTM` with
    `_lk` behind their names, in `cells[k]`.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        *,
        layers: int = 1,
        norm: str = "none",
        statistics_steps: int | None = None,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, hidden=hidden, layers=layers)
        self.hidden = hidden
        self.cells = nn.ModuleList(
            LSTMCell(hidden if layer else in_channels, hidden, norm, norm_eps, statistics_steps)
            for layer in range(layers)
        )

    @overload
    def forward(
        self,
        x: PackedSequence,
        lengths: None = None,
        state: State | None = None,
        first_step: int = 0,
    ) -> tuple[PackedSequence, State]: ...

    @overload
    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        state: State | None = None,
        first_step: int = 0,
    ) -> tuple[Tensor, State]: ...

    def forward(
        self,
        x: PackedSequence | Tensor,
        lengths: Tensor | None = None,
        state: State | None = None,
        first_step: int = 0,
    ) -> tuple[PackedSequence | Tensor, State]:
        """Run over the sequences.

        Args:
            x: The sequences, packed, or `(sequences, steps, in_channels)`.
            lengths: How many steps of each row of an `x` that is not packed count,
                `(sequences,)`; `None` for all.
            state: h and c at the start; `None` for 0.
            first_step: How many steps came before, where `state` is that of earlier parts of the
                same sequences: it says whose statistics are those of a step.

        Returns:
            h at every step, packed or `(sequences, steps, hidden)` (0 behind the end) as `x` is,
            and h and c where each sequence ends.

        Raises:
            ValueError: `first_step` is negative, or a training sequence has more steps, those
                before included, than `statistics_steps`.
        """
        if first_step < 0:
            raise ValueError(f"first_step is {first_step}, expected no negative number of steps")
        if isinstance(x, PackedSequence):
            return self._run(x, state, first_step)
        sequences, steps = x.shape[:2]
        if lengths is None:
            lengths = torch.full((sequences,), steps)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed, state = self._run(packed, state, first_step)
        padded, _ = pad_packed_sequence(packed, batch_first=True, total_length=steps)
        return padded, state

    def _run(
        self, x: PackedSequence, state: State | None, first_step: int
    ) -> tuple[PackedSequence, State]:
        rows, batch_sizes = x.data, x.batch_sizes.tolist()
        if state is None:
            zeros = rows.new_zeros((len(self.cells), batch_sizes[0], self.hidden))
            state = (zeros, zeros)
        elif x.sorted_indices is not None:
            state = (state[0][:, x.sorted_indices], state[1][:, x.sorted_indices])
        ended = []
        for cell, h, c in zip(self.cells, *state, strict=True):
            rows, last_h, last_c = cell(rows, batch_sizes, h, c, first_step)
            ended.append((last_h, last_c))
        last_h, last_c = (torch.stack(parts) for parts in zip(*ended, strict=True))
        if x.unsorted_indices is not None:
            last_h, last_c = last_h[:, x.unsorted_indices], last_c[:, x.unsorted_indices]
        return x._replace(data=rows), (last_h, last_c)


class RecurrentNet(nn.Module):
    """An LSTM that reads sequences, and one Linear: a result per sequence or per step.

    Shapes: `x` `(sequences, steps, in_channels)`, or with `tokens` `(sequences, steps)` int64; the
    result `(sequences, out_channels)`, from where each sequence ends, or with `every_step`
    `(sequences, steps, out_channels)`.

    Args:
        in_channels: Width of the input; with `tokens` how many different ones there are.
        out_channels: Results per sequence or step.
        hidden: Width of the state, and of the embedding of tokens.
        layers, norm, statistics_steps, norm_eps: As of `LSTM`.
        tokens: Whether the input is numbers of tokens, each of which has a learned vector.
        every_step: Whether there is a result for every step.
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
        layers: int = 1,
        norm: str = "none",
        statistics_steps: int | None = None,
        norm_eps: float = 1e-5,
        tokens: bool = False,
        every_step: bool = False,
        seed: int,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, out_channels=out_channels)
        self.every_step = every_step
        self.embedding = nn.Embedding(in_channels, hidden) if tokens else nn.Identity()
        self.lstm = LSTM(
            hidden if tokens else in_channels, hidden, layers=layers, norm=norm,
            statistics_steps=statistics_steps, norm_eps=norm_eps,
        )  # fmt: skip
        self.head = nn.Linear(hidden, out_channels)
        initialize(self, seed)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Read the sequences; `lengths` says how many steps of each count (`None`: all)."""
        outputs, (last, _) = self.lstm(self.embedding(x), lengths)
        y: Tensor = self.head(outputs if self.every_step else last[-1])
        return y
