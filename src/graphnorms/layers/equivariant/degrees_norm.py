"""The base of norms of spherical harmonics: every degree has the same channels."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from graphnorms.kernels.point import Over, Point, accumulation_dtype, check_residual
from graphnorms.layers.argument_checks import check_channels
from graphnorms.layers.base import Norm
from graphnorms.layers.equivariant.irreps_norm import NORMALIZATIONS, check_normalization
from graphnorms.layers.norm_options import DegreesOptions, place
from graphnorms.segments import Segments, as_segments


class DegreesNorm(Norm):
    r"""A norm of features `(nodes, (lmax + 1)², channels)`, within each node.

    Row $l^2 + l + m$ is the component $m$ of degree $l$. Only degree 0 is centred and has a
    $\beta$, and the components of a degree share $\gamma$: so the norm commutes with rotations.

    Args:
        in_channels: Number of channels of every component.
        lmax: The highest degree.
        eps: $\varepsilon$, in the squared unit of `x`.
        normalization: Whether the squares of the components of a degree are averaged
            (`"component"`) or summed (`"norm"`).
        device, dtype, backend: See `Norm`.
    """

    affine_weight: Any
    affine_bias: Any
    _degree: Tensor

    def __init__(
        self, in_channels: int, lmax: int, eps: float, **options: Unpack[DegreesOptions]
    ) -> None:
        rest: dict[str, Any] = dict(options)
        check_channels(in_channels)
        if lmax < 0:
            raise ValueError(f"lmax is {lmax}, expected 0 or more")
        normalization = rest.pop("normalization", NORMALIZATIONS[0])
        check_normalization(normalization)
        super().__init__(in_channels, eps=eps, **rest)
        self.lmax = lmax
        self.normalization = normalization
        self.register_load_state_dict_pre_hook(_without_tables)  # type: ignore[no-untyped-call]

    @property
    def components(self) -> int:
        """Components of all degrees."""
        return (self.lmax + 1) ** 2

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Normalize `x`.

        Args:
            x: The features, `(nodes, (lmax + 1)², in_channels)`.
            batch, batch_size: Not used: every node is normalized by itself.
            residual: Added last.
            mask: True for the nodes that count; the result of the others is `x` and the residual.
        """
        shape = (self.components, self.in_channels)
        if x.dim() != 3 or x.shape[1:] != shape or not x.is_floating_point():
            raise ValueError(
                f"x is {tuple(x.shape)} of {x.dtype}, expected (nodes, {shape[0]}, {shape[1]}) of "
                f"a floating dtype for degrees up to {self.lmax}"
            )
        if residual is not None:
            check_residual(residual, x)
            residual = residual.flatten(1)

        def by_degree(rows: Tensor) -> Tensor:
            return self.normalized(rows.unflatten(1, shape)).flatten(1)

        return self._transformed(x.flatten(1), residual, mask, by_degree).view(x.shape)

    @abstractmethod
    def normalized(self, x: Tensor) -> Tensor:
        """Normalize features, `(nodes, (lmax + 1)², in_channels)`; the dtype may be wider."""

    def _add_weight(self, degrees: int, options: DegreesOptions, *, affine: bool) -> None:
        """Register γ for the highest degrees, and the degree of each component."""
        made = nn.Parameter(torch.ones(degrees, self.in_channels, **place(options)))
        self.register_parameter("affine_weight", made if affine else None)
        degree = torch.arange(self.lmax + 1)
        of_components = torch.repeat_interleave(degree, 2 * degree + 1).to(options.get("device"))
        self.register_buffer("_degree", of_components, persistent=False)

    def _by_power(
        self,
        x: Tensor,
        weight: Tensor | None,
        divisors: Tensor | None,
        bias: Tensor | None = None,
        *,
        centred: bool = False,
    ) -> Tensor:
        r"""Divide by $\sqrt{\mathrm{mean}_c \sum_k x_{kc}^2 / d_k + \varepsilon}$.

        Args:
            x: `(nodes, components, channels)`.
            weight: $\gamma$, `(components, channels)`; None for 1.
            divisors: $d$, `(components,)`; None for their number.
            bias: $\beta$ of the first component, `(channels,)`; None for 0.
            centred: Whether the first component loses its mean over the channels.
        """
        _, count, channels = x.shape
        if centred or divisors is not None:
            x = x.to(accumulation_dtype(x.dtype))
        if centred:
            # Relative to one entry, so that a large mean costs no digits.
            first = x[:, :1] - x[:, :1, :1]
            x = torch.cat((first - first.mean(2, keepdim=True), x[:, 1:]), 1)
        if divisors is not None:
            # The kernel takes the mean over all entries: of √(K / d) x it is the sum above.
            roots = (count / divisors.to(x.dtype)).sqrt().unsqueeze(1)  # (components, 1)
            x = x * roots
            weight = roots.new_ones(count, channels) / roots if weight is None else weight / roots
        point = Point(None, Over.CHANNELS)
        flat = x.flatten(1)  # (nodes, components * channels)
        if weight is not None:
            weight = weight.flatten()
        if bias is not None:
            bias = nn.functional.pad(bias, (0, (count - 1) * channels))
        rows = as_segments(None, rows_of=flat)
        y, _ = self._normalize(flat, rows, (point, None, weight, bias, self.eps))
        return y.view(-1, count, channels)

    def _own_repr(self) -> str:
        return f"{self.in_channels}, lmax={self.lmax}, eps={self.eps}"


def _without_tables(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Leave out the tables that EquiformerV2 keeps in its checkpoints."""
    for name in ("expand_index", "balance_degree_weight"):
        state_dict.pop(prefix + name, None)
