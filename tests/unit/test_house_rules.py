"""Rules of the code that no other tool checks."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "graphnorms"
DEVICE = SOURCE / "kernels" / "triton" / "device"
MODULES = sorted(path for path in SOURCE.rglob("*.py") if DEVICE not in path.parents)

MOST_PARAMETERS = 7
SIGNATURES_OF_PEERS = {
    # As PyG and torch have them, or documented name by name, for an editor to show.
    "Norm.__init__",
    "CustomNorm.__init__",
    "DiffGroupNorm.__init__",
    "InnerBatchNorm.__init__",
    "GraphSet.__init__",
    "TransformerLayer.__init__",
    "GraphTransformer.__init__",
    "NormSlot.__init__",
    "build_own",
    "compare",
    "judge",
    "make_engine",
    "replace_norms",
    "segment_normalize",
}
"""Public callables whose many parameters have defaults and are given by name."""

ONE_PER_BACKEND = {"aggregate", "autograd", "normalize", "reference"}
"""Modules of `kernels` that stand for the same thing in several places: one per backend, or one
per primitive."""


def functions(tree: ast.AST, prefix: str = ""):
    for node in ast.iter_child_nodes(tree):
        inner = prefix
        if isinstance(node, ast.ClassDef):
            inner = f"{prefix}{node.name}."
        elif isinstance(node, ast.FunctionDef):
            yield f"{prefix}{node.name}", node
        yield from functions(node, inner)


def test_functions_have_few_parameters():
    many = set()
    for path in MODULES:
        if path.parent.name == "cli":  # an option of a command is a parameter
            continue
        for name, node in functions(ast.parse(path.read_text(encoding="utf-8"))):
            given = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            names = [each.arg for each in given if each.arg not in ("self", "cls", "ctx")]
            if len(names) > MOST_PARAMETERS:
                many.add(name)
    assert many == SIGNATURES_OF_PEERS


def test_modules_have_names_of_their_own():
    names = Counter(path.stem for path in MODULES if path.stem != "__init__")
    assert {name for name, count in names.items() if count > 1} == ONE_PER_BACKEND


def test_the_formatter_formats_everything_but_device_code():
    skipped = [path for path in MODULES if "fmt: skip" in path.read_text(encoding="utf-8")]
    assert not skipped
