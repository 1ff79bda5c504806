"""DiffGroupNorm: BatchNorm of soft groups of nodes, added to the features."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from graphnorms.kernels.point import Over, Point, accumulation_dtype, widest_float
from graphnorms.kernels.rank_statistics import merge_moments
from graphnorms.kernels.ranks import Group
from graphnorms.layers.argument_checks import check_eps, check_features, check_momentum
from graphnorms.layers.autocast import product, without_autocast
from graphnorms.layers.base import Norm
from graphnorms.layers.inner_batch_norm import (
    InnerBatchNorm,
    dtype_of,
    is_untouched,
    of_inner,
    reset,
)
from graphnorms.layers.norm_options import PlainOptions, place
from graphnorms.layers.running_statistics import by_running, update_running
from graphnorms.segments import Segments, as_segments

_LARGE = 1e8
"""Features up to this size have squares, and squares to the power -3/2, well within float32."""


class DiffGroupNorm(Norm):
    r"""Assign nodes softly to groups, normalize each group over the minibatch, add to the features.

    $$ s_i = \mathrm{softmax}(x_i W), \quad
       y_i = f\Big(x_i + \lambda \sum_{g = 1}^G \mathrm{BN}_g(s_{ig} \, x_i)\Big) $$

    where $\mathrm{BN}_g$ is BatchNorm with separate parameters and running averages per group: in
    training it uses the mean and the variance of $s_{ig} x_i$ over all nodes, in `eval()` the
    running averages.

    The $G$ products are never stored. With centred factors, $s = \bar s + t$ and $x = \bar x + d$,
    and $K = \langle t d \rangle$, all per group and channel,

    $$ s x - \langle s x \rangle = \bar s d + \bar x t + (t d - K), $$

    so the variances follow from matrix products, $\langle t^a d^b \rangle$ for $a, b \in \{1, 2\}$,
    and with $A = \gamma / \sqrt{\mathrm{var} + \varepsilon}$ the sum of all groups is
    $d \odot \bar s A + x \odot t A - \sum_g A_g K_g + \sum_g \beta_g$. A batch without nodes
    changes nothing; a single node gives $f(x + \lambda \sum_g \beta_g)$ in training and does not
    change the running variance.

    Differs from PyG in memory, $N (G + C)$ instead of $N G C$; in accepting a batch of one node;
    and in `group_distance_ratio`.

    Shapes: `x` and the result `(nodes, channels)`; `lin.weight` $W$ transposed,
    `(groups, channels)`; `norm.weight`, `norm.bias`, `norm.running_mean`, `norm.running_var`
    `(groups * channels,)`, group by group. Precision: everything in float32 or wider, under
    autocast and `.half()` too; the result has the dtype of `x`. On a device without float64
    (`mps`), a large mean that favours no group loses digits.

    With a hook on `lin` or `norm`, or another module in their place, the modules are called on all
    $G$ products, with the memory of PyG.

    Args:
        in_channels: Number of channels.
        groups: $G$.
        lamda: $\lambda$, the weight of the normalized groups.
        eps: $\varepsilon$, in the squared unit of `x`.
        momentum: Weight of the new batch in the running averages; `None` for a cumulative average.
        affine: Whether to learn $\gamma$ and $\beta$.
        track_running_stats: Whether to keep running averages; without them `eval()` uses batch
            statistics as well.
        activation, dropout, device, dtype, process_group: See `Norm`.

    Raises:
        ValueError: `in_channels`, `groups` or `eps` is not positive, `momentum` is outside
            0 … 1, or `x` is not `(nodes, in_channels)`.

    Source: Zhou et al., NeurIPS 2020, https://arxiv.org/abs/2006.06972, as in torch_geometric 2.8
    (726310a), with the same parameter and buffer names: its checkpoints load unchanged. The
    authors' code (Kaixiong-Zhou/DGN at c47cba3) has a bias in the assignment, and momentum 0.3.
    """

    statistics_of = "batch"
    per_graph = False
    eps = of_inner("norm", "eps")
    momentum = of_inner("norm", "momentum")
    track_running_stats = of_inner("norm", "track_running_stats")

    def __init__(
        self,
        in_channels: int,
        groups: int,
        lamda: float = 0.01,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        process_group: Group = None,
        **options: Unpack[PlainOptions],
    ) -> None:
        super().__init__(in_channels, process_group=process_group, **options)
        if groups < 1:
            raise ValueError(f"groups is {groups}, expected a positive number")
        check_eps(eps)
        check_momentum(momentum)
        self.groups = groups
        self.lamda = lamda
        self.lin = nn.Linear(in_channels, groups, bias=False, **place(options))
        # Holds the parameters, because PyG's keys begin with "norm.".
        self.norm = InnerBatchNorm(
            groups * in_channels, eps, momentum, affine, track_running_stats, **place(options)
        )

    def reset_parameters(self) -> None:
        """Draw `lin.weight`, set the others to 1 and 0, and reset the running statistics."""
        for module in (self.lin, self.norm):
            reset(module, "reset_parameters")

    def transform(
        self, x: Tensor, segments: Segments | None, mask: Tensor | None, channels: int
    ) -> Tensor:
        """Add the weighted sum of the normalized groups."""
        x = x.to(accumulation_dtype(x.dtype))
        return x + self.lamda * self._sum_of_groups(x, mask)

    def _sum_of_groups(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Sum the normalized groups, `(nodes, channels)`."""
        if is_untouched(self.lin, nn.Linear) and is_untouched(self.norm, InnerBatchNorm):
            return self._by_batch(x, mask) if self._takes_the_batch() else self._by_running(x)
        # Hooks on the inner modules see the arguments that PyG passes: every product.
        with without_autocast(x):
            share = torch.softmax(self.lin(x.to(dtype_of(self.lin, x))).to(x.dtype), 1)
            products = (share.unsqueeze(2) * x.unsqueeze(1)).flatten(1)
            groups = self._call_inner(
                "norm", products, mask, lambda z: self._normalize_products(z, mask)
            )
        return groups.view(-1, self.groups, self.in_channels).sum(1)

    def _takes_the_batch(self) -> bool:
        return self.norm.training or self.norm.running_mean is None

    def _normalize_products(self, products: Tensor, mask: Tensor | None) -> Tensor:
        """Apply BatchNorm to all products, `(nodes, groups * channels)`."""
        norm = self.norm
        if not self._takes_the_batch():
            assert norm.running_mean is not None
            assert norm.running_var is not None
            return by_running(
                norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps
            )(products)
        y, found = self._normalize(
            products,
            as_segments(None, rows_of=products, mask=mask),
            (Point(Over.NODES, Over.NODES), None, norm.weight, norm.bias, norm.eps),
            statistics=True,
            plain=True,
        )
        if found is not None and self._tracks():
            rows = None if mask is None else mask.sum().to(products.dtype)
            rows = rows if found.counts is None else found.counts[0].to(products.dtype)
            self._track(found.mean()[0], found.moment()[0], rows, products.shape[0])
        return y

    def _tracks(self) -> bool:
        norm = self.norm
        return norm.training and norm.track_running_stats and norm.running_mean is not None

    def _assign(self, x: Tensor, pivot: Tensor) -> Tensor:
        """Assign nodes to groups, `(nodes, groups)`, given features relative to a pivot."""
        weight = self.lin.weight  # (groups, channels)
        # The contribution of a large mean is the same for all nodes: compute it once, in float64
        # where the device has it.
        wide = widest_float(x.device)
        common = product(pivot.to(wide).unsqueeze(0), weight.to(wide).t())  # (1, groups)
        common = common - common.detach().amax(1, keepdim=True)
        return torch.softmax(product(x, weight.to(x.dtype).t()) + common.to(x.dtype), 1)

    def _affine(self, var: Tensor, eps: Tensor | float) -> tuple[Tensor, Tensor | None]:
        """Return the gain of the centred products, and the sum of the biases of all groups."""
        gain = torch.rsqrt(var + eps)
        weight, bias = self.norm.weight, self.norm.bias
        if weight is not None:
            gain = gain * weight.to(var.dtype).view(var.shape)
        return gain, None if bias is None else bias.to(var.dtype).view(var.shape).sum(0)

    def _by_batch(self, x: Tensor, mask: Tensor | None) -> Tensor:
        rows = None if mask is None else mask.sum().to(x.dtype)
        count = max(x.shape[0], 1) if rows is None else rows.clamp(min=1)

        def mean(values: Tensor) -> Tensor:
            average: Tensor = values.sum(0) / count
            return average

        def of_counted(values: Tensor) -> Tensor:
            return values if mask is None else torch.where(mask.unsqueeze(1), values, 0)

        # Any constant near the mean will do: sums relative to it lose no digits.
        pivot = mean(x.detach())
        d = of_counted(x - pivot)
        share = of_counted(self._assign(d, pivot))  # (nodes, groups)
        shift, s_mean = mean(d), mean(share)
        x_mean = pivot + shift  # (channels,)
        d = of_counted(d - shift)  # (nodes, channels)
        # Squares overflow float32 from 1e19 on, and gradients earlier: rescale large channels by
        # their size from here on.
        size = x_mean.detach().abs() + mean(d.detach().abs())
        unit = torch.where(size > _LARGE, size, 1)  # (channels,)
        d, x_mean = d / unit, x_mean / unit
        eps = (self.norm.eps / unit / unit).clamp(min=torch.finfo(x.dtype).tiny)
        t = of_counted(share - s_mean)
        moments = product(torch.cat((t, t * t), 1).t(), torch.cat((d, d * d), 1)) / count
        upper, lower = moments.split(self.groups)
        td, tdd = upper.split(self.in_channels, 1)  # (groups, channels)
        ttd, ttdd = lower.split(self.in_channels, 1)
        s_mean = s_mean.unsqueeze(1)  # (groups, 1)
        var = (
            s_mean.square() * mean(d * d)
            + x_mean.square() * mean(t * t).unsqueeze(1)
            + (ttdd - td.square())
            + 2 * (s_mean * x_mean * td + s_mean * tdd + x_mean * ttd)
        ).clamp(min=0)  # the terms may cancel, and rounding make the sum negative
        of_products = s_mean * x_mean + td
        if self._ranks is not None and self._ranks.size() > 1:
            own = of_products  # in the unit of this rank
            rows, of_products, var = merge_moments(
                self._ranks, x.shape[0] if rows is None else rows, own * unit, var * unit * unit
            )
            of_products, var = of_products / unit, var / unit / unit
            td = td + (of_products - own)
        gain, bias = self._affine(var, eps)
        shares = product(t, gain / unit)
        groups: Tensor = d * (s_mean * gain).sum(0) + x * shares - (gain * td).sum(0)
        if self._tracks():
            self._track(of_products * unit, var * unit * unit, rows, x.shape[0])
        return groups if bias is None else groups + bias

    def _track(self, mean: Tensor, var: Tensor, rows: Tensor | None, nodes: int) -> None:
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        if rows is None and not nodes:
            return
        if rows is not None:
            unbiased = var.flatten() * (rows / (rows - 1).clamp(min=1))
            unbiased = torch.where(rows > 1, unbiased, norm.running_var)
        elif nodes > 1:
            unbiased = var.flatten() * (nodes / (nodes - 1))
        else:
            unbiased = norm.running_var
        # Clamped: an infinite average would stay infinite, and soon be NaN.
        update_running(
            norm.running_mean,
            norm.running_var,
            norm.num_batches_tracked,
            mean.flatten(),
            unbiased.clamp(max=torch.finfo(var.dtype).max),
            norm.momentum,
            rows,
        )

    def _by_running(self, x: Tensor) -> Tensor:
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        shape = (self.groups, self.in_channels)
        mean = norm.running_mean.to(x.dtype).view(shape)
        # The shares sum to 1, so the means of the groups sum to that of the features.
        pivot = mean.sum(0)
        share = self._assign(x - pivot, pivot)
        gain, bias = self._affine(norm.running_var.to(x.dtype).view(shape), norm.eps)
        groups: Tensor = x * product(share, gain) - (mean * gain).sum(0)
        return groups if bias is None else groups + bias

    @staticmethod
    def group_distance_ratio(x: Tensor, y: Tensor, eps: float = 1e-5) -> float:
        r"""Compute the distance between classes relative to the distance within them.

        $$ R = \frac{\tfrac{1}{(C - 1)^2} \sum_{i \ne j} D_{ij}}
           {\varepsilon + \tfrac{1}{C} \sum_i D_{ii}}, \qquad
           D_{ij} = \frac{1}{|X_i| |X_j|} \sum_{u \in X_i} \sum_{v \in X_j}
           \lVert u - v \rVert $$

        over the $C$ classes that have nodes. With two classes PyG returns the same; with more, PyG
        averages over the nodes of all other classes at once, contrary to the formula it states, and
        fails if a class has no node.

        Args:
            x: Features, `(nodes, channels)`.
            y: The class of every node, integers, `(nodes,)`.
            eps: $\varepsilon$, in the unit of `x`.

        Raises:
            ValueError: `y` is not one class per node, or there are fewer than two classes.
        """
        check_features(x, None)
        if y.shape != (x.shape[0],):
            raise ValueError(f"y is {tuple(y.shape)}, expected one class per row, ({x.shape[0]},)")
        classes = [x[y == label].detach() for label in y.unique().tolist()]
        if len(classes) < 2:
            raise ValueError(f"y has {len(classes)} classes, expected at least two")

        def distance(a: Tensor, b: Tensor) -> float:
            dtype = accumulation_dtype(x.dtype)
            exact = "donot_use_mm_for_euclid_dist"
            return float(torch.cdist(a.to(dtype), b.to(dtype), compute_mode=exact).mean())

        between = sum(distance(a, b) for a in classes for b in classes if a is not b)
        within = sum(distance(a, a) for a in classes)
        number = len(classes)
        return (between / (number - 1) ** 2) / (within / number + eps)

    def _own_repr(self) -> str:
        return f"{self.in_channels}, groups={self.groups}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
