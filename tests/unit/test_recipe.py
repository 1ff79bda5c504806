"""CONTRIBUTING's recipe for a norm, followed step by step in a copy of the sources."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = re.search(
    r"## How to add a norm\n(.*?)\n## ", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL
)

LAYER = '''"""A norm that nobody has published."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from graphnorms.kernels.point import accumulation_dtype
from graphnorms.layers.base import Norm
from graphnorms.layers.norm_options import PlainOptions
from graphnorms.segments import Segments


class LengthNorm(Norm):
    r"""Divide each node by its mean absolute channel, $y = x / (m + e)$.

    Args:
        in_channels: Number of channels.
        eps: $e$.
        activation, dropout, device, dtype: See `Norm`.

    Source: none, https://arxiv.org/abs/0000.00000; there is no code of the authors.
    """

    def __init__(self, in_channels: int, eps: float = 1e-5, **options: Unpack[PlainOptions]):
        super().__init__(in_channels, eps=eps, **options)

    def transform(
        self, x: Tensor, segments: Segments | None, mask: Tensor | None, channels: int
    ) -> Tensor:
        """Divide."""
        x = x.to(accumulation_dtype(x.dtype))
        return x / (x.abs().mean(1, keepdim=True) + self.eps)
'''
ROW = """    Normalization(
        name="length",
        title="LengthNorm",
        class_name="LengthNorm",
        summary="the mean absolute channel of a node",
        formula="y = x / (mean |x| + ε)",
        invariant="scale of all channels of a node together",
        loses="how large the features of a node are",
        use="To see that a norm can be added.",
        source="none",
    ),
"""
FORMULA = """

def length_norm(x: Tensor, graphs: Graphs, p: Parameters, given: dict[str, Any]) -> Tensor:
    return x / (x.abs().mean(1, keepdim=True) + EPS)
"""
OF_TABLE = """    "length": Row(
        norm="length", make=lambda c, size, **k: gn.make_norm("length", c, **k),
        formula=oracle.length_norm,
        gain=lambda x, graphs, p: 3 / (float(x.abs().mean(1).min()) + EPS) if len(x) else 1.0,
    ),
"""
# What an editable install puts before every path would find the checkout's modules.
SITE = """import sys
sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "ScikitBuildRedirectingFinder"]
"""
USE = """
import sys, pathlib, torch
sys.path.insert(0, "docs")
import pages
import graphnorms as gn
from graphnorms.report.style import style_of
from graphnorms.testing import check_norm

layer = gn.make_norm("length:eps=0.5", 4, activation="relu")
assert type(layer) is gn.LengthNorm and layer.eps == 0.5
assert gn.make_norm("length", 4)(torch.full((2, 4), -3.0)).sub(-1).abs().max() < 1e-4
check_norm(gn.LengthNorm, skip=("compile",))
pages.write_pages(pathlib.Path("pages"))
page = pathlib.Path("pages/length.md").read_text()
assert "the mean absolute channel" in page and "PyG has no such layer" in page
assert style_of("length").name == "LengthNorm"
"""


def insert(file: Path, before: str, text: str) -> None:
    """Put text in front of a line that is there once at least."""
    old = file.read_text("utf-8")
    assert before in old
    file.write_text(old.replace(before, text + before, 1), "utf-8")


@pytest.fixture(scope="module")
def contributed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The steps of the recipe, in a copy."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("src", "tests", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "sitecustomize.py").write_text(SITE, "utf-8")
    layers, conformance = copy / "src/graphnorms/layers", copy / "tests/conformance"
    (layers / "length_norm.py").write_text(LAYER, "utf-8")
    own = "    from graphnorms.layers.length_norm import LengthNorm\n"
    insert(layers / "catalog.py", ")\n\nCATALOG: Final", ROW)
    insert(layers / "__init__.py", "    from graphnorms.layers.mean_subtraction_norm", own)
    insert(layers / "__init__.py", '    "mean_subtraction_norm",\n', '    "length_norm",\n')
    insert(layers / "__init__.py", '    "MeanSubtractionNorm",\n', '    "LengthNorm",\n')
    insert(copy / "src/graphnorms/__init__.py", "    MeanSubtractionNorm,\n", "    LengthNorm,\n")
    insert(
        copy / "src/graphnorms/__init__.py", '    "MeanSubtractionNorm",\n', '    "LengthNorm",\n'
    )
    with (conformance / "oracle.py").open("a", encoding="utf-8") as file:
        file.write(FORMULA)
    insert(conformance / "rows.py", '    "rms": Row(', OF_TABLE)
    return copy


def run(copy: Path, *command: str) -> str:
    paths = os.pathsep.join((str(copy), str(copy / "src")))
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": paths},
        text=True,
        capture_output=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_recipe_names_files_that_are_there() -> None:
    assert RECIPE is not None
    named = re.findall(r"`([\w/]+\.(?:py|md))`", RECIPE[1])
    assert {"layers/catalog.py", "tests/conformance/rows.py", "CHANGELOG.md"} <= set(named)
    places = (ROOT, ROOT / "src/graphnorms", ROOT / "src/graphnorms/layers")
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_factory_docs_reports_and_battery_know_a_new_norm(contributed: Path) -> None:
    run(contributed, "-c", USE)


def test_the_command_line_knows_it(contributed: Path) -> None:
    assert "the mean absolute channel of a node" in run(contributed, "-m", "graphnorms", "norms")
    said = run(contributed, "-m", "graphnorms", "norms", "length")
    assert "To see that a norm can be added." in said


def test_the_conformance_tests_run_it(contributed: Path) -> None:
    said = run(
        contributed,
        "-m",
        "pytest",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        "tests/conformance/test_layers.py",
        "tests/conformance/test_catalog.py",
        "-k",
        "[length or length]",
    )
    assert int(re.search(r"(\d+) passed", said)[1]) >= 22 + 4  # type: ignore[index]
