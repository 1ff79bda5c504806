"""ContraNorm: pushes similar nodes of a graph apart."""

from __future__ import annotations

from typing import Final, NamedTuple, Unpack

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.point import accumulation_dtype, check_residual
from graphnorms.layers.argument_checks import check_features
from graphnorms.layers.autocast import without_autocast
from graphnorms.layers.base import Norm
from graphnorms.layers.neighbourhoods import check_adjacency, targets
from graphnorms.layers.norm_options import PlainOptions
from graphnorms.segments import Segments
from graphnorms.tracing import is_traced, is_transformed

_SMALLEST_SQUARE: Final = 1e-24
"""Lower bound of a row's squared norm: a shorter row has no direction."""


class ContraNorm(Norm):
    r"""Push each node away from a mean of its graph's nodes that is weighted by similarity.

    For a graph with node set $V$, with $\hat x_i = x_i / \lVert x_i \rVert$,

    $$ p_{ij} = \frac{\exp(\hat x_i \cdot \hat x_j / \tau)}
                     {\sum_{k \in V} \exp(\hat x_i \cdot \hat x_k / \tau)}, \qquad
       y_i = f\Big((1 + s) \, x_i - s \sum_{j \in V} p_{ij} x_j\Big). $$

    This is a gradient step on the uniformity loss of contrastive learning: nodes spread over more
    directions than oversmoothing leaves them. It does not standardize: the common part of the nodes
    is kept, their differences grow by a factor of up to $1 + s$, and $s = 0$ is the identity. A
    graph of one node is unchanged. There are no parameters, and `train()` and `eval()` agree.

    That is the form for transformers. With an `adjacency` it is the form for graphs: neither the
    node itself nor its neighbours push it, so both sums leave out $i$ and the sources of the edges
    that end in $i$. If no node is left, the second sum is 0 (the authors' code gives NaN). The
    authors use $s$ from 0.2 to 1 on graphs, larger in deeper models, and 0.0001 to 0.2 in
    transformers. They apply a LayerNorm after it; this layer does not.

    Time and memory grow with the sum of the squared graph sizes, padded to the largest; in compiled
    code with the squared number of nodes.

    Shapes: `x` and the result `(nodes, channels)`. Precision: computed in float32 or wider; the
    result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        scale: $s$.
        temperature: $\tau$.
        mask_neighbours: Whether to use the `adjacency`; with `False` it is ignored, as in
            transformers.
        activation, dropout, device, dtype: See `Norm`.

    Raises:
        ValueError: `in_channels` or `temperature` is not positive, `scale` is negative, `x` is not
            `(nodes, in_channels)`, `batch` does not assign exactly the rows of `x`, or `adjacency`
            has another number of nodes.

    Source: Guo et al., ICLR 2023, https://arxiv.org/abs/2303.06562, as in PKU-ML/ContraNorm at
    c9bed6a: `gnn/layers.py` with an adjacency (including all self loops there), without one
    `ViT_imagenet/models.py` with `identity`.
    """

    per_graph = True

    def __init__(
        self,
        in_channels: int,
        scale: float = 0.1,
        temperature: float = 1.0,
        mask_neighbours: bool = True,
        **options: Unpack[PlainOptions],
    ) -> None:
        super().__init__(in_channels, **options)
        if not scale >= 0:
            raise ValueError(f"scale is {scale}, expected no negative number")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}, expected a positive number")
        self.scale = scale
        self.temperature = temperature
        self.mask_neighbours = mask_neighbours

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
        adjacency: Adjacency | None = None,
    ) -> Tensor:
        """Push the nodes of each graph apart.

        Args:
            x: The features.
            batch, batch_size: The graph of every node and how many there are, or a `Segments`.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
            adjacency: The edges, for the form for graphs; `None` for that for transformers.
        """
        check_features(x, self.in_channels)
        check_residual(residual, x)
        if adjacency is not None:
            check_adjacency(adjacency, x)
        segments = self._graphs(x, (batch, batch_size, mask))
        return self._transformed(x, residual, mask, lambda x: self._push(x, segments, adjacency))

    def _push(self, x: Tensor, segments: Segments, adjacency: Adjacency | None) -> Tensor:
        blocks = _blocks(segments)
        x = x.to(accumulation_dtype(x.dtype))
        length = x.square().sum(1, keepdim=True).clamp(min=_SMALLEST_SQUARE).sqrt()
        ends = None
        if adjacency is not None and self.mask_neighbours:
            itself = torch.arange(x.shape[0], device=x.device)
            ends = torch.cat((targets(adjacency), itself)), torch.cat((adjacency.index, itself))
        # Products in half precision would lose the differences between similar nodes.
        with without_autocast(x):
            padded, direction = blocks.pad(x), blocks.pad(x / length)
            allowed = blocks.allowed(segments, ends)  # (blocks, nodes, nodes)
            alike = direction @ direction.mT / self.temperature
            alike = alike.masked_fill(~allowed, torch.finfo(alike.dtype).min)
            share = torch.softmax(alike, 2) * allowed
            return (1 + self.scale) * x - self.scale * blocks.rows_of(share @ padded)

    def _own_repr(self) -> str:
        everybody = "" if self.mask_neighbours else ", mask_neighbours=False"
        return f"{self.in_channels}, scale={self.scale}, temperature={self.temperature}{everybody}"


class _Blocks(NamedTuple):
    """The position of each row in a padded tensor `(blocks, nodes, channels)`."""

    number: int
    longest: int
    place: Tensor
    """Position of each row in the flattened blocks, `(rows,)`; one past the end for masked rows."""

    def pad(self, x: Tensor) -> Tensor:
        """Lay out rows in blocks, padded with 0."""
        room = x.new_zeros((self.number * self.longest + 1, x.shape[1]))
        room = room.index_copy(0, self.place, x)[:-1]
        return room.view(self.number, self.longest, x.shape[1])

    def rows_of(self, padded: Tensor) -> Tensor:
        """Read the rows back; masked rows are 0."""
        flat = torch.nn.functional.pad(padded.flatten(0, 1), (0, 0, 0, 1))
        return flat.index_select(0, self.place)

    def allowed(self, segments: Segments, ends: tuple[Tensor, Tensor] | None) -> Tensor:
        """Return which nodes of a block push which, `(blocks, nodes, nodes)`."""
        size = self.number * self.longest
        index = segments.index
        graph = index.new_full((size + 1,), segments.num_segments)
        graph = graph.index_copy(0, self.place, index)[:size].view(self.number, self.longest)
        real = graph < segments.num_segments
        allowed = (graph.unsqueeze(2) == graph.unsqueeze(1)) & real.unsqueeze(2)
        if ends is None:
            return allowed
        i, j = ends
        together = (index[i] == index[j]) & (index[i] < segments.num_segments)
        column = self.place[j] % max(self.longest, 1)
        cell = torch.where(together, self.place[i] * self.longest + column, 0)
        edges = cell.new_zeros(max(size * self.longest, 1)).index_add(0, cell, together.long())
        return allowed & (edges[: size * self.longest].view_as(allowed) == 0)


def _blocks(segments: Segments) -> _Blocks:
    """Give each graph a block, or put all into one if sizes are unknown or too different."""
    rows = segments.num_rows
    index = segments.index
    here = torch.arange(rows, device=index.device)
    unreadable = is_traced() or index.is_meta
    if not (unreadable or is_transformed()):
        number = segments.num_segments
        longest = int(segments.counts.max()) if number else 0
        if number * longest**2 <= rows**2:
            position = here if segments.order is None else torch.argsort(segments.order)
            begin = torch.nn.functional.pad(segments.ptr[:-1], (0, 1))
            place = index * longest + position - begin[index]
            return _Blocks(number, longest, torch.where(index < number, place, number * longest))
    return _Blocks(1, rows, torch.where(index < segments.num_segments, here, rows))
