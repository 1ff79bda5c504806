"""The base of norms of irreps: one call of the equation for each block."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final, Unpack

import torch
from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.kernels.point import Over, Point, accumulation_dtype
from graphnorms.layers.base import Given, Norm
from graphnorms.layers.equivariant.irreps import ORDERS, Block, Irreps
from graphnorms.layers.norm_options import IrrepsOptions, place
from graphnorms.segments import Segments, as_segments

NORMALIZATIONS: Final = ("component", "norm")


class IrrepsNorm(Norm):
    r"""A norm of features that rotate.

    A row consists of blocks of copies of irreducible representations, as in e3nn. Only scalars
    (`0e`) are centred and have a $\beta$, and the components of a copy share their scale: so the
    norm of rotated or reflected features is the rotated or reflected norm. An activation or a
    dropout of single entries would break that and is not an argument.

    Args:
        irreps: The blocks, as text (`"64x0e + 32x1o"`) or as an object of e3nn.
        eps: $\varepsilon$, in the squared unit of `x`.
        normalization: Whether the squares of the components of a copy are averaged (`"component"`)
            or summed (`"norm"`).
        layout: `"mul_ir"`: the components of a copy lie together, as in e3nn; or `"ir_mul"`.
        device, dtype, backend, process_group: See `Norm`.
    """

    _by_copy: Tensor

    def __init__(self, irreps: object, eps: float, **options: Unpack[IrrepsOptions]) -> None:
        rest: dict[str, Any] = dict(options)
        self.irreps = Irreps.of(irreps, rest.pop("layout", ORDERS[0]))
        normalization = rest.pop("normalization", NORMALIZATIONS[0])
        check_normalization(normalization)
        super().__init__(self.irreps.columns, eps=eps, **rest)
        self.normalization = normalization
        self._add_index("_by_copy", self.irreps.columns_by_copy(), options)

    def _add_index(self, name: str, index: Tensor, options: IrrepsOptions) -> None:
        """Keep an index beside the parameters, but not in checkpoints."""
        self.register_buffer(name, index.to(options.get("device")), persistent=False)

    def _add_affine(
        self, options: IrrepsOptions, names: tuple[str, str], *, affine: bool, bias: bool = True
    ) -> None:
        """Register a weight for each copy and a bias for each scalar."""
        sizes = self.irreps.copies, self.irreps.scalars
        for name, size, value, wanted in zip(
            names, sizes, (1.0, 0.0), (affine, affine and bias), strict=True
        ):
            made = nn.Parameter(torch.full((size,), value, **place(options))) if wanted else None
            self.register_parameter(name, made)

    @abstractmethod
    def point_of(self, block: Block) -> Point:
        """Return the point of the equation for a block."""

    @abstractmethod
    def parameters_of(self, block: Block) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return α and γ by copy, and β by scalar, of a block; None for 1, 1 and 0."""

    def _compute(self, x: Tensor, given: Given, residual: Tensor | None, channels: int) -> Tensor:
        if self.per_graph:
            segments = self._graphs(x, given)
        else:
            segments = as_segments(None, rows_of=x, mask=given[2])
        y = self._blocks(self._ordered(x), segments)
        y = self._ordered(y, back=True)
        return y if residual is None else y + residual

    def _blocks(self, x: Tensor, segments: Segments) -> Tensor:
        """Normalize every block of rows in the order `"mul_ir"`."""
        parts = []
        for block in self.irreps:
            width, eps = block.components, self.eps
            alpha, weight, bias = self.parameters_of(block)
            if self.normalization == "norm" and width > 1:
                # The root of a sum of d squares is √d times that of their mean.
                eps = eps / width
                if weight is None:
                    weight = x.new_ones(block.copies, dtype=accumulation_dtype(x.dtype))
                weight = weight * width**-0.5
            alpha, weight = (
                None if each is None else each.repeat_interleave(width) for each in (alpha, weight)
            )
            equation = self.point_of(block), alpha, weight, bias, eps
            parts.append(self._normalize(x[:, block.columns], segments, equation)[0])
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _ordered(self, x: Tensor, *, back: bool = False) -> Tensor:
        """Bring the components of a copy together, or `back` to where they lay."""
        if self.irreps.order == ORDERS[0]:
            return x
        return x.index_select(1, self._by_copy.argsort() if back else self._by_copy)

    def _own_repr(self) -> str:
        return f"{self.irreps}, eps={self.eps}"


def check_normalization(normalization: str) -> None:
    """Refuse a normalization that is not among the two."""
    if normalization not in NORMALIZATIONS:
        raise unknown_name("normalization", normalization, NORMALIZATIONS)


def over_rows(block: Block, *, centred: bool) -> tuple[Over | None, Over, int]:
    """Return centre, scale and groups of a statistic over rows: one cell for each copy."""
    scale = Over.NODES if block.degree == 0 else Over.BOTH
    return Over.NODES if centred else None, scale, 1 if block.degree == 0 else block.copies
