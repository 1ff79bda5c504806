"""The normalizations by name, for lists and completion: read without loading torch."""

from __future__ import annotations

import ast
from pathlib import Path

import graphnorms


def summaries() -> dict[str, str]:
    """Return the summary of every row of the catalogue, by name and in its order.

    The source of the catalogue is read: importing it imports all layers, and so torch.
    """
    source = Path(graphnorms.__file__).parent / "layers" / "catalog.py"
    rows = {}
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Normalization":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            rows[ast.literal_eval(given["name"])] = ast.literal_eval(given["summary"])
    return rows
