"""PowerNorm: divides each channel by a running quadratic mean."""

from __future__ import annotations

from typing import Any, Final, Unpack

import torch
from torch import Tensor, nn

from graphnorms.kernels.point import Over, Point, accumulation_dtype
from graphnorms.kernels.ranks import Ranks
from graphnorms.layers.argument_checks import check_groups
from graphnorms.layers.base import Norm
from graphnorms.layers.norm_options import NormOptions
from graphnorms.layers.running_statistics import running_dtype
from graphnorms.segments import Segments
from graphnorms.tracing import is_forward_mode, is_transformed, traces_autograd


class PowerNorm(Norm):
    r"""Divide each channel by a running quadratic mean over the nodes of all minibatches.

    With $N$ nodes in the minibatch and independently in every channel,

    $$ m = \tfrac{1}{N} \sum_i x_i^2, \qquad
       y_i = f\Big(\gamma \, \frac{x_i}{\sqrt{\psi^2 + \varepsilon}} + \beta\Big), \qquad
       \psi^2 \leftarrow a \psi^2 + (1 - a) m. $$

    No mean is subtracted. In training, the first `warmup` batches are normalized by $m$ itself, and
    $\psi^2$ also follows their cumulative average; later batches are normalized by the running
    moment before its update. `eval()` uses the running moment.

    The backward is not the derivative of this: it replaces the batch means in the backward of
    BatchNorm by a running one. With $\hat x_i$ the normalized features and $g_i$ their gradient,

    $$ d_i = g_i - \nu \hat x_i, \qquad
       \frac{\partial L}{\partial x_i} := \frac{d_i}{\sqrt{m + \varepsilon}}, \qquad
       \nu \leftarrow \nu + (1 - b) \, \tfrac{1}{N} \sum_i d_i \hat x_i. $$

    So every backward in training updates $\nu$, and gradients depend on earlier ones. `torch.func`
    and forward-mode differentiation cannot transform such a function: they work in `eval()` only. A
    batch without nodes changes nothing.

    Shapes: `x` and the result `(nodes, channels)`; `weight` $\gamma$, `bias` $\beta$,
    `running_moment` $\psi^2$ and `running_gradient` $\nu$ `(channels,)`. Precision: moments in
    float32 or wider, the running ones under `.half()` too; the result has the dtype of `x`. Without
    a centre, a mean that is large relative to the spread remains.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$, in the squared unit of `x`.
        forward_decay: $a$.
        backward_decay: $b$.
        warmup: Number of batches that are normalized by their own moment. A shorter training never
            uses the running one; the lab sets a tenth of the training steps.
        scale_groups: First divide each node by the root mean square of this many groups of its
            channels; 1 in the authors' code, `None` to skip this.
        activation, dropout, device, dtype, backend: See `Norm`.
        process_group: Ranks whose nodes count as one minibatch: `"world"`, a `ProcessGroup`, or
            `None` for those of this rank alone.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, a decay is outside 0 … 1, `warmup` is
            negative, `scale_groups` does not divide the channels, `x` is not
            `(nodes, in_channels)`, or a call in training is under a transform.

    Source: Shen et al., ICML 2020, https://arxiv.org/abs/2003.07845. Warm-up and backward follow
    `fairseq/modules/norms/mask_powernorm.py` in sIncerass/powernorm at 9ea6226, where `ema_gz` is
    $\nu / (1 - b)$. Its warm-up is 10000 batches by default, and 8000 in training, like that of the
    learning rate.
    """

    statistics_of = "batch"
    per_graph = False
    running_moment: Tensor
    running_gradient: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        forward_decay: float = 0.9,
        backward_decay: float = 0.9,
        warmup: int = 10_000,
        scale_groups: int | None = None,
        **options: Unpack[NormOptions],
    ) -> None:
        super().__init__(in_channels, eps=eps, **options)
        for name, decay in (("forward_decay", forward_decay), ("backward_decay", backward_decay)):
            if not 0 <= decay <= 1:
                raise ValueError(f"{name} is {decay}, expected a number from 0 to 1")
        if warmup < 0:
            raise ValueError(f"warmup is {warmup}, expected no negative number of batches")
        if scale_groups is not None:
            check_groups("scale_groups", scale_groups, in_channels)
        self.forward_decay = forward_decay
        self.backward_decay = backward_decay
        self.warmup = warmup
        self.scale_groups = scale_groups
        self._add_parameters(in_channels, options, weight=True, bias=True)
        device, dtype = options.get("device"), options.get("dtype")
        zeros = torch.zeros(in_channels, device=device, dtype=running_dtype(dtype))
        self.register_buffer("running_moment", torch.ones_like(zeros))
        self.register_buffer("running_gradient", zeros)
        counter = torch.zeros((), device=device, dtype=torch.int64)
        self.register_buffer("num_batches_tracked", counter)

    def reset_running_stats(self) -> None:
        """Set the running moment to 1, the running gradient and the counter to 0."""
        nn.init.ones_(self.running_moment)
        nn.init.zeros_(self.running_gradient)
        self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Set `weight` to 1 and `bias` to 0, and reset the running statistics."""
        self.reset_running_stats()
        super().reset_parameters()

    def transform(
        self, x: Tensor, segments: Segments | None, mask: Tensor | None, channels: int
    ) -> Tensor:
        """Divide by the quadratic mean of the batch or by the running one."""
        dtype = accumulation_dtype(x.dtype)
        x = x.to(dtype)
        if self.scale_groups is not None:
            x = self._standardize(x, Point(None, Over.CHANNELS, groups=self.scale_groups))
        if self.training:
            x = self._by_batch(x, mask)
        else:
            x = x * torch.rsqrt(self.running_moment.to(dtype) + self.eps)
        y: Tensor = x * self.weight.to(dtype) + self.bias.to(dtype)
        return y

    def _by_batch(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if traces_autograd():
            # Dynamo would drop the second derivative of the Function.
            raise RuntimeError(_NO_DERIVATIVE)
        if is_transformed() or is_forward_mode():
            raise ValueError(
                "PowerNorm is in training under a torch.func transform or forward-mode "
                "differentiation, which its backward cannot go through; call eval() first"
            )
        if mask is None:
            rows = torch.full((), x.shape[0], dtype=x.dtype, device=x.device)
        else:
            rows = mask.sum().to(x.dtype)
        squares = x.detach().square().sum(0)
        if self._ranks is not None:
            rows, squares = self._ranks.total(torch.cat((rows.view(1), squares))).split(
                (1, self.in_channels)
            )
            rows = rows.squeeze(0)
        moment = squares / rows.clamp(min=1)  # (channels,)
        running = self.running_moment.to(x.dtype)
        number = self.num_batches_tracked + 1
        by_own = number <= self.warmup
        # index_select, because a compiled backward would recompute `where` from the running moment
        # after its update.
        both = torch.stack((running, moment))
        used = both.index_select(0, by_own.to(torch.int64).reshape(1))[0]

        share = torch.where(number < self.warmup, 1 / number.to(x.dtype), 0)
        moved = running + share * (moment - running)
        moved = self.forward_decay * moved + (1 - self.forward_decay) * moment
        self.running_moment.copy_(torch.where(rows > 0, moved, running))
        self.num_batches_tracked.add_((rows > 0).to(torch.int64))
        y: Tensor = _Scale.apply(  # type: ignore[no-untyped-call]
            x,
            torch.rsqrt(used + self.eps),
            torch.rsqrt(moment + self.eps),
            self.running_gradient,
            rows,
            1 - self.backward_decay,
            self._ranks,
        )
        return y

    def _own_repr(self) -> str:
        return (
            f"{self.in_channels}, eps={self.eps}, forward_decay={self.forward_decay}, "
            f"backward_decay={self.backward_decay}, warmup={self.warmup}"
        )


_NO_DERIVATIVE: Final = (
    "PowerNorm's backward in training cannot be differentiated inside a compiled region "
    "(torch._dynamo.config.trace_autograd_ops); compile less, or call eval() first"
)


class _Scale(torch.autograd.Function):
    """The division by the quadratic mean, with the backward of the paper."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        factor: Tensor,
        own: Tensor,
        running: Tensor,
        rows: Tensor,
        share: float,
        ranks: Ranks | None,
    ) -> Tensor:
        """Multiply by `factor`; `own` is the factor of the batch's own moment."""
        ctx.save_for_backward(x, factor, own, rows)
        ctx.running = running
        ctx.share = share
        ctx.ranks = ranks
        return x * factor

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Correct the gradient by the running mean, and update it."""
        x, factor, own, rows = ctx.saved_tensors
        running = ctx.running
        standard = x * factor
        corrected = grads[0] - running.to(x.dtype, copy=True) * standard
        step = (corrected * standard).detach().sum(0)  # (channels,)
        if ctx.ranks is not None:
            step = ctx.ranks.total(step)
        step = step / rows.clamp(min=1)
        running.add_((ctx.share * step).to(running.dtype))
        return corrected * own, None, None, None, None, None, None
