"""By how much a norm enlarges what it is given, and how near its variance is to ε."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from graphnorms.dropin.known_norms import recognize
from graphnorms.errors import GraphnormsError
from graphnorms.kernels import reference
from graphnorms.kernels.point import Call, Over, Point
from graphnorms.kernels.primitive import normalize
from graphnorms.layers.base import Norm
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.equivariant.cells_norm import CellsNorm
from graphnorms.segments import Segments, as_segments

NEAR: Final = 10.0
"""A second moment up to so many times ε is near it."""


class Scaling(NamedTuple):
    """The point and the ε of a norm that divides by a deviation."""

    point: Point
    eps: float

    @classmethod
    def of(cls, module: nn.Module) -> Scaling | None:
        """Return those of a norm of torch, PyG or graphnorms; None for any other module."""
        known = recognize(module)
        if known is None:
            return None
        point = module.point if isinstance(module, Norm) else CATALOG[known.kind].point
        eps = known.settings.get("eps")
        if point is None or point.scale is None or point.segment == "type" or eps is None:
            return None
        return cls(point, float(eps))

    def gain(self, module: nn.Module, x: Tensor, given: Any = None) -> tuple[Tensor, Tensor] | None:
        r"""Measure the gain $1 / \sqrt{s^2 + \varepsilon}$ of a norm on its input.

        It is what the norm multiplies its centred input by, and the gradient that it hands back.
        A cell of one row has none: a norm over rows passes no gradient through it.

        Args:
            module: The norm; its learned shift counts, its weights do not.
            x: What it was given, `(rows, channels)`.
            given: Its second argument, the graph of each row.

        Returns:
            The root mean square of the gain over the cells, and the share of cells with
            $s^2 \le 10\,\varepsilon$, one number each on the device of `x`; None where a call
            cannot be repeated (padding, images, rows on other ranks).
        """
        if x.dim() != 2 or not x.shape[0]:
            return None
        per_graph = self.point.segment == "graph"
        batch = given if isinstance(given, Tensor | Segments) else None
        try:
            segments = as_segments(batch if per_graph else None, rows_of=x)
            shift = getattr(module, "mean_scale", None) if self.point.center is not None else None
            # Of half precision the moments may lie beyond its range.
            layout = module.column_layout if isinstance(module, CellsNorm) else None
            call = Call(segments, self.point, self.eps, layout=layout)
            with torch.no_grad():
                moment = _moments(x.detach().float(), call, shift)
        except (ValueError, GraphnormsError):
            return None
        if self.point.scale is not Over.CHANNELS:
            several = (segments.counts > 1).to(moment.dtype)
            weight = several.unsqueeze(1).expand(len(several), moment.numel() // len(several))
            weight = weight.reshape(moment.shape)
        else:
            weight = torch.ones_like(moment)
        cells = weight.sum().clamp(min=1)
        squared = (weight / (moment + self.eps)).sum() / cells
        near = (weight * (moment <= NEAR * self.eps)).sum() / cells
        return squared.sqrt(), near


def _moments(x: Tensor, call: Call, shift: Tensor | None) -> Tensor:
    """The second moment of every cell."""
    parameters = (shift, None, None)
    if call.point.scale is Over.NODES:
        found = normalize(x, call, parameters, statistics=True)[1]
        assert found is not None
        return found.moment()
    # The kernels return statistics over nodes only.
    return reference.segment_normalize(x, call, parameters)[2]
