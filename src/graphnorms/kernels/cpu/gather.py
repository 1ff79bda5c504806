"""The C++ gather of a minibatch as a function of tensors: graphs of a packed set, copied.

Addresses are passed on, so everything is checked here, as in `graphnorms.kernels.cpu.normalize`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from graphnorms.kernels.cpu.extension import address, check_index, kernels

_COLUMN_BYTES: Final = {torch.uint8: 1, torch.int16: 2, torch.int32: 4}


class Gathered(NamedTuple):
    """Some graphs as one of many components.

    Args:
        x: Dense features, `(nodes, width)` float32.
        ptr: Where each graph's nodes begin, `(graphs + 1,)`.
        graph: The graph of each node, `(nodes,)`.
        edges: The CSR pair, its ids counted through all nodes.
        transpose: The same for the transpose, if there was one.
        longest: Nodes of the largest graph.
    """

    x: Tensor
    ptr: Tensor
    graph: Tensor
    edges: tuple[Tensor, Tensor]
    transpose: tuple[Tensor, Tensor] | None
    longest: int


def gather(
    table: Tensor,
    x: Tensor,
    width: int,
    edges: tuple[Tensor, Tensor],
    transpose: tuple[Tensor, Tensor] | None,
) -> Gathered:
    """Copy some graphs of a packed set below each other.

    Args:
        table: Of the graphs to gather, in their order: the first node, the first edge, and how
            many nodes and edges each has, `(4, graphs)` int64.
        x: Features of all nodes of the set, `(nodes, width)` float32; or the columns in which
            they are 1, `(nodes, blocks)` uint8, int16 or int32, each below `width`.
        width: Number of features.
        edges, transpose: CSR pairs of all nodes, their ids counted within each graph; right as
            made, like those of an `Adjacency`.

    Raises:
        ValueError: A tensor has another shape, dtype or device, is not contiguous, or a graph of
            the table lies outside the set.
    """
    dense = x.dtype == torch.float32
    if (
        x.dim() != 2
        or not (dense or x.dtype in _COLUMN_BYTES)
        or (dense and x.shape[1] != width)
        or not x.is_cpu
        or not x.is_contiguous()
    ):
        raise ValueError(
            f"x is {tuple(x.shape)} of {x.dtype} on {x.device}, expected contiguous (nodes, "
            f"{width}) of float32, or columns of uint8, int16 or int32, on the cpu"
        )
    if table.dim() != 2 or table.shape[0] != 4:
        raise ValueError(f"table is {tuple(table.shape)}, expected (4, graphs)")
    table = table.contiguous()
    check_index("table", table.view(-1), None)
    num_nodes, num_edges, graphs = x.shape[0], edges[1].shape[0], table.shape[1]
    for name, (ptr, index) in (("edge", edges), ("transpose", transpose or edges)):
        check_index(f"{name}_ptr", ptr, num_nodes + 1)
        check_index(f"{name}_index", index, num_edges)
    nodes, size, longest = kernels().gather_sizes(table.data_ptr(), graphs, num_nodes, num_edges)
    out = Gathered(
        x=x.new_empty((nodes, width), dtype=torch.float32),
        ptr=table.new_empty(graphs + 1),
        graph=table.new_empty(nodes),
        edges=(table.new_empty(nodes + 1), table.new_empty(size)),
        transpose=None
        if transpose is None
        else (table.new_empty(nodes + 1), table.new_empty(size)),
        longest=longest,
    )
    in_transpose, out_transpose = transpose or (None, None), out.transpose or (None, None)
    kernels().gather(
        table.data_ptr(), graphs, torch.get_num_threads(), nodes * (width + 2) + 2 * size,
        edges[0].data_ptr(), edges[1].data_ptr(), *map(address, in_transpose), x.data_ptr(), width,
        0 if dense else x.shape[1], 0 if dense else _COLUMN_BYTES[x.dtype], out.ptr.data_ptr(),
        out.graph.data_ptr(), *map(address, out.edges), *map(address, out_transpose),
        out.x.data_ptr(),
    )  # fmt: skip
    return out
