"""The base of norms of spherical harmonics: every degree has the same channels."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from graphnorms.kernels.layout import Layout
from graphnorms.kernels.point import check_residual
from graphnorms.layers.argument_checks import check_channels
from graphnorms.layers.equivariant.cells_norm import CellsNorm
from graphnorms.layers.equivariant.irreps_norm import NORMALIZATIONS, check_normalization
from graphnorms.layers.norm_options import DegreesOptions, place
from graphnorms.segments import Segments, as_segments


class DegreesNorm(CellsNorm):
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
        rows = x.flatten(1)  # (nodes, components * channels)
        segments = as_segments(None, rows_of=rows, mask=mask)
        return self._by_cells(rows, segments, residual)[0].view(x.shape)

    def reset_parameters(self) -> None:
        """Set γ to 1 and β to 0."""
        super().reset_parameters()
        for name, parameter in self.named_parameters():
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)

    def _add_weight(self, degrees: int, options: DegreesOptions, *, affine: bool) -> None:
        """Register γ for the highest degrees."""
        made = nn.Parameter(torch.ones(degrees, self.in_channels, **place(options)))
        self.register_parameter("affine_weight", made if affine else None)

    @property
    def degree_of_components(self) -> Tensor:
        """The degree of each component, on the CPU."""
        degree = torch.arange(self.lmax + 1, device="cpu")
        return torch.repeat_interleave(degree, 2 * degree + 1)

    def _tables(self) -> dict[str, Tensor]:
        return {**super()._tables(), "_degree": self.degree_of_components}

    def cells(self) -> Layout:
        """See `CellsNorm`."""
        scale, divisors = self.scale_of_degrees(torch.arange(self.lmax + 1, device="cpu"))
        degree = self.degree_of_components.repeat_interleave(self.in_channels)
        center = torch.where(degree == 0, 0, -1)
        return Layout.of(scale[degree], center, divisors[degree] * self.in_channels)

    @abstractmethod
    def scale_of_degrees(self, degree: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cell of the scale of each degree, and what squares are divided by.

        Args:
            degree: The degrees, `(lmax + 1,)`.

        Returns:
            The cells, and the divisors of squares before their mean over the channels.
        """

    def _of_scalars(self, bias: Tensor) -> Tensor:
        """Give the columns of degree 0 their β, and 0 to the others."""
        return nn.functional.pad(bias, (0, (self.components - 1) * self.in_channels))

    def _own_repr(self) -> str:
        return f"{self.in_channels}, lmax={self.lmax}, eps={self.eps}"


def _without_tables(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Leave out the tables that EquiformerV2 keeps in its checkpoints."""
    for name in ("expand_index", "balance_degree_weight"):
        state_dict.pop(prefix + name, None)
