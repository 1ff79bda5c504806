"""Packages of AOTInductor: which norms run without the library, as docs/deploy.md says."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch
from torch import nn

import graphnorms

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs a compiler"),
    pytest.mark.full("compiles C++"),
    # torch's own code warns of torch's own names.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

SCRIPT = """if True:
    import sys, torch
    {first}
    package = torch._inductor.aoti_load_package(sys.argv[1] + "/model.pt2")
    x, batch, wanted = torch.load(sys.argv[1] + "/call.pt", weights_only=True)
    assert torch.allclose(package(x, batch), wanted, atol=1e-5)
    print("ran", "graphnorms" in sys.modules)
"""


class Net(nn.Module):
    """A linear layer and a norm per graph."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 8), graphnorms.GraphNorm(8)

    def forward(self, x, batch):
        """Normalize three graphs."""
        return self.norm(self.linear(x), batch, 3)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_the_reference_runs_without_the_library_and_the_kernels_with_it(backend, tmp_path):
    torch.use_deterministic_algorithms(False)
    model = Net().eval()
    for module in model.modules():
        if isinstance(module, graphnorms.layers.Norm):
            module.backend = backend
    x, batch = torch.randn(9, 4), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    with torch.no_grad():
        program = torch.export.export(model, (x, batch))
        torch.save((x, batch, model(x, batch)), tmp_path / "call.pt")
    own = {str(node.target) for node in program.graph.nodes if "graphnorms" in str(node.target)}
    assert own == ({"graphnorms.normalize_forward.default"} if backend == "auto" else set())
    torch._inductor.aoti_compile_and_package(
        program,
        package_path=str(tmp_path / "model.pt2"),
        inductor_configs={
            # Headers that are compiled in advance pay off only from the third package on.
            "aot_inductor.precompile_headers": False,
            "aot_inductor.compile_wrapper_opt_level": "O0",
        },
    )

    def run(first: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", SCRIPT.format(first=first), str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True)

    alone = run("")
    if backend == "reference":
        assert alone.stdout == "ran False\n", alone.stderr
        return
    assert "Could not find schema for graphnorms::normalize_forward" in alone.stderr
    assert run("import graphnorms").stdout == "ran True\n"
