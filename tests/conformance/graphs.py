"""The graphs that torch.compile makes, and what is in them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func


def agree(got: list[Tensor], expected: list[Tensor], tolerance: float = 1e-5) -> None:
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


class Graphs:
    """A backend that keeps the graphs it was given, and how often Dynamo asked for one."""

    def __init__(self) -> None:
        self.forward: list[torch.fx.GraphModule] = []
        self.backward: list[torch.fx.GraphModule] = []
        self.compile = aot_autograd(fw_compiler=self._forward, bw_compiler=self._backward)

    def _forward(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        self.forward.append(graph)
        return make_boxed_func(graph.forward)

    def _backward(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        self.backward.append(graph)
        return make_boxed_func(graph.forward)


def ops(graphs: list[torch.fx.GraphModule]) -> list[str]:
    """The graphnorms operators among the nodes of the graphs."""
    targets = [str(node.target) for graph in graphs for node in graph.graph.nodes]
    return [target for target in targets if target.startswith("graphnorms.")]
