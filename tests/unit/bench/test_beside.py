"""Another installation is timed in a process of its own; here it is this one."""

from __future__ import annotations

import sys

import pytest

from graphnorms.bench.beside import Beside
from graphnorms.bench.timing import in_turn
from graphnorms.errors import GraphnormsError
from graphnorms.version import __version__

LAYER = {"channels": 4, "counts": [3, 5], "dtype": "float32", "backward": True, "arguments": {}}


def test_cases_are_made_and_timed_elsewhere_or_refused():
    with Beside(sys.executable) as beside:
        assert beside.called("GraphNorm") == f"GraphNorm, {__version__} beside"
        action = beside.make("layer", norm="graph", **LAYER)
        found = in_turn({"there": action, "here": lambda: None}, rounds=2)
        assert 1e-6 < found["there"]["minimum"] < 1
        with pytest.raises(GraphnormsError, match="unknown norm"):
            beside.make("layer", norm="garph", **LAYER)
        small = {"graphs": 8, "nodes": 5, "batch": 4, "hidden": 4, "layers": 1, "norm": "graph"}
        assert beside.make("epoch", **small).seconds(2) > 0


def test_a_python_that_is_not_there():
    with pytest.raises(GraphnormsError, match="does not start"):
        Beside("/no/such/python")
