"""A torch without the private names that we read: right, if slow."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import graphnorms as gn

# `graphnorms.tracing` as it is where no private name is found.
CODE = """
import sys, types
from importlib.util import find_spec
from pathlib import Path
import torch

folder = Path(find_spec("graphnorms").origin).parent
source = (folder / "tracing.py").read_text()
head, _, tail = source.partition("    found: Any = torch\\n")
assert tail, "_private is written otherwise"
module = types.ModuleType("graphnorms.tracing")
sys.modules["graphnorms.tracing"] = module
exec(compile(head + "    return otherwise\\n" + tail, "tracing.py", "exec"), vars(module))

import graphnorms as gn
from graphnorms import tracing
assert tracing is module
assert tracing.dispatch_modes() == 1

x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
batch = torch.arange(20) % 3
expected = gn.GraphNorm(6, backend="reference").double()(x, batch)
norm = gn.GraphNorm(6).double()
torch.testing.assert_close(norm(x, batch), expected)
torch.testing.assert_close(norm(x, batch, 3), expected)
batch[:3] = batch[:3].roll(1)  # nothing is remembered
torch.testing.assert_close(
    norm(x, batch), gn.GraphNorm(6, backend="reference").double()(x, batch)
)
assert torch.autograd.gradcheck(lambda x: norm(x, batch, 3), x.clone().requires_grad_())
compiled = torch.compile(norm, backend="aot_eager")
torch.testing.assert_close(compiled(x, batch, 3), norm(x, batch, 3))
edges = gn.Adjacency.from_edge_index(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3)
y = gn.aggregate(x[:3], edges)
torch.testing.assert_close(y, x[[2, 0, 1]])
"""


def test_without_private_names_of_torch_results_are_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit.trace.*is deprecated:DeprecationWarning",
    "ignore::torch.jit.TracerWarning",
)
def test_torch_jit_trace_is_refused() -> None:
    """It would keep what happens to be in the memory of a result that a kernel has written."""
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"use torch\.export or torch\.compile"):
        torch.jit.trace(gn.GraphNorm(3), (torch.randn(4, 3),), check_trace=False)
