"""The base of norms of spherical harmonics: every degree has the same channels."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from graphnorms.kernels.layout import Layout
from graphnorms.kernels.point import Over, Point, check_residual
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
    _cells: Tensor
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
        equation = (self.point, None, *self.parameters_in_columns(), self.eps)
        layout = Layout(self._cells, *self._numbers_of_cells)
        y, _ = self._normalize(rows, segments, equation, residual, layout=layout)
        return y.view(x.shape)

    @abstractmethod
    def parameters_in_columns(self) -> tuple[Tensor | None, Tensor | None]:
        """Return γ and β of each column, `((lmax + 1)² in_channels,)`; None for 1 and 0."""

    def _add_weight(self, degrees: int, options: DegreesOptions, *, affine: bool) -> None:
        """Register γ for the highest degrees."""
        made = nn.Parameter(torch.ones(degrees, self.in_channels, **place(options)))
        self.register_parameter("affine_weight", made if affine else None)

    def _add_layout(
        self, scale_cells: Tensor, divisors: Tensor, options: DegreesOptions, *, centred: bool
    ) -> None:
        """Keep the cells of the columns beside the parameters.

        Args:
            scale_cells: The cell of the scale of each degree, `(lmax + 1,)`.
            divisors: What the squares of a degree are divided by, before their mean over the
                channels.
            options: For the device.
            centred: Whether degree 0 is centred.
        """
        self.point = Point(Over.CHANNELS if centred else None, Over.CHANNELS)
        degree = torch.arange(self.lmax + 1, device="cpu")
        of_components = torch.repeat_interleave(degree, 2 * degree + 1)
        of_columns = of_components.repeat_interleave(self.in_channels)
        layout = Layout.of(
            scale_cells[of_columns],
            torch.where(of_columns == 0, 0, -1),
            divisors[of_columns] * self.in_channels,
        )
        self._numbers_of_cells = layout[1:]
        for name, index in (("_cells", layout.table), ("_degree", of_components)):
            self.register_buffer(name, index.to(options.get("device")), persistent=False)

    def _of_scalars(self, bias: Tensor) -> Tensor:
        """Give the columns of degree 0 their β, and 0 to the others."""
        return nn.functional.pad(bias, (0, (self.components - 1) * self.in_channels))

    def _own_repr(self) -> str:
        return f"{self.in_channels}, lmax={self.lmax}, eps={self.eps}"


def _without_tables(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Leave out the tables that EquiformerV2 keeps in its checkpoints."""
    for name in ("expand_index", "balance_degree_weight"):
        state_dict.pop(prefix + name, None)
