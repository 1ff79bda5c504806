"""The C++ gather of a minibatch: copies graphs of a packed set.

As in `graphnorms.kernels.cpu.normalize`, the extension checks the tensors; tensors that do not fit
are refused here with an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from graphnorms.kernels.cpu.extension import check_index, kernels, unreadable
from graphnorms.kernels.tensor_checks import check_memory


class Gathered(NamedTuple):
    """The gathered graphs as one graph of many components.

    Args:
        x: Dense features, `(nodes, width)` float32.
        ptr: Offsets of the graphs' nodes, `(graphs + 1,)`.
        graph: The graph of each node, `(nodes,)`.
        edges: The CSR pair, with ids over all nodes.
        transpose: The same for the transpose, if there is one.
        longest: Number of nodes of the largest graph.
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
    read: Mapping[str, Tensor] | None = None,
) -> Gathered:
    """Concatenate some graphs of a packed set.

    Args:
        table: For each graph to gather: its first node, its first edge, and its numbers of nodes
            and edges, `(4, graphs)` int64.
        x: Features of all nodes of the set, `(nodes, width)` float32; or one-hot columns,
            `(nodes, blocks)` uint8, int16 or int32, each below `width`.
        width: Number of features.
        edges, transpose: CSR pairs of all nodes, with ids within each graph.
        read: What the graphs have of the rows of `x`, `edge_ptr`, `edge_index`, `transpose_ptr` and
            `transpose_index`, one after another, see `ArrayFolder.read`; it becomes part of the
            result, and of the tensors above only shapes and dtypes count.

    Raises:
        ValueError: A tensor has another shape, dtype or device or is not contiguous, a graph of
            the table lies outside the set, or an edge or a one-hot column outside its graph.
    """
    check_memory("table", table)
    table = table.contiguous()
    sizes = kernels().gather_sizes(table, x.shape[0], edges[1].shape[0])
    if sizes is None:
        _refuse(table, x, width, edges, transpose)
    nodes, size, longest = sizes
    read = read or {}
    rows = read.get("x")

    def pair(name: str) -> tuple[Tensor, Tensor]:
        if rows is not None:
            return read[f"{name}_ptr"], read[f"{name}_index"]
        return table.new_empty(nodes + 1), table.new_empty(size)

    out = Gathered(
        x=rows
        if rows is not None and rows.dtype == torch.float32
        else x.new_empty((nodes, width), dtype=torch.float32),
        ptr=table.new_empty(table.shape[1] + 1),
        graph=table.new_empty(nodes),
        edges=pair("edge"),
        transpose=None if transpose is None else pair("transpose"),
        longest=longest,
    )
    inputs = (table, x, width, *edges, *(transpose or (None, None)), rows)
    outputs = (out.x, out.ptr, out.graph, *out.edges, *(out.transpose or (None, None)))
    if not kernels().gather(*inputs, torch.get_num_threads(), *outputs):
        _refuse(table, x, width, edges, transpose)
    return out


def _refuse(
    table: Tensor,
    x: Tensor,
    width: int,
    edges: tuple[Tensor, Tensor],
    transpose: tuple[Tensor, Tensor] | None,
) -> NoReturn:
    """Raise the error for tensors that do not fit."""
    dense = x.dtype == torch.float32
    if (
        x.dim() != 2
        or not (dense or x.dtype in (torch.uint8, torch.int16, torch.int32))
        or (dense and x.shape[1] != width)
        or not x.is_cpu
        or not x.is_contiguous()
    ):
        raise ValueError(
            f"x is {tuple(x.shape)} of {x.dtype} on {x.device}, expected contiguous (nodes, "
            f"{width}) of float32, or columns of uint8, int16 or int32, on the cpu"
        )
    check_memory("x", x)
    if table.dim() != 2 or table.shape[0] != 4:
        raise ValueError(f"table is {tuple(table.shape)}, expected (4, graphs)")
    check_index("table", table.view(-1), None)
    for name, (ptr, index) in (("edge", edges), ("transpose", transpose or edges)):
        check_index(f"{name}_ptr", ptr, x.shape[0] + 1)
        check_index(f"{name}_index", index, edges[1].shape[0])
    raise unreadable()
