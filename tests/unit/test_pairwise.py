"""Which combinations `make test` runs."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import graphnorms as gn
from graphnorms.testing import awkward_cases
from tests.conformance.agreement import EPILOGUES, combinations
from tests.conformance.modes import KINDS, LAYERS, MODES
from tests.conformance.rows import ROWS
from tests.conftest import BACKENDS
from tests.norms import DTYPES
from tests.pairwise import cover, pairs_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("sizes", [(3, 3, 3), (5, 7, 22, 4, 8), (2, 1, 4), (1, 1, 1)])
def test_every_pair_of_values_is_there(sizes: tuple[int, ...]) -> None:
    names = [f"p{place}" for place in range(len(sizes))]
    rows = [
        dict(zip(names, values, strict=True))
        for values in itertools.product(*map(range, sizes))
        if sum(values) % 3  # not every combination need exist
    ]
    chosen = [rows[place] for place in cover(rows)]
    every = set().union(*map(pairs_of, rows)) if rows else set()
    assert set().union(*map(pairs_of, chosen)) == every if rows else not chosen
    largest = sorted(sizes)[-2:]
    assert len(chosen) <= 2.2 * largest[0] * largest[1]


Params = dict[str, str]


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Params]]:
    """The parameters of the items that `make test` collects, test by test."""
    folder = tmp_path_factory.mktemp("collected")
    (folder / "told.py").write_text(
        "import json\n"
        "def pytest_collection_finish(session):\n"
        "    for item in session.items:\n"
        "        if hasattr(item, 'callspec'):\n"
        "            params = {k: str(v) for k, v in item.callspec.params.items()}\n"
        "            print('told', json.dumps([item.originalname, params]))\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "told",
        "-s",
        "-p",
        "no:xdist",
        "tests/conformance/test_layers.py",
        "tests/conformance/test_modes.py",
    ]
    told = subprocess.run(
        command,
        cwd=ROOT,
        check=True,
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
    ).stdout
    found: dict[str, list[Params]] = {}
    for line in told.splitlines():
        if line.startswith("told "):
            test, params = json.loads(line.removeprefix("told "))
            found.setdefault(test, []).append(params)
    return found


def pairs(rows: list[Params], first: str, second: str) -> set[tuple[str, str]]:
    return {(row[first], row[second]) for row in rows}


def test_every_layer_and_backend_meets_every_input(collected: dict[str, list[Params]]) -> None:
    rows = collected["test_agrees_with_the_papers"]
    inputs = [case.name for case in awkward_cases(torch.float32)]
    beyond = {(name, given) for name, row in ROWS.items() for given in row.beyond}
    assert pairs(rows, "name", "given") == set(itertools.product(ROWS, inputs)) - beyond
    assert {row.norm for row in ROWS.values()} == set(gn.CATALOG)
    rows += collected.get("test_agrees_in_the_interpreter", [])
    assert pairs(rows, "backend", "given") >= set(itertools.product(BACKENDS, inputs))
    assert len(rows) < 2 * len(ROWS) * len(inputs)


def test_every_layer_meets_every_dtype_with_every_epilogue(
    collected: dict[str, list[Params]],
) -> None:
    rows = collected["test_agrees_with_the_papers"]
    met: dict[str, set[tuple[torch.dtype, str]]] = {name: set() for name in (*ROWS, *BACKENDS)}
    met.pop("triton", None)  # interpreted, and asked less
    for row in rows:
        of_item = combinations(row["name"], row["given"])
        met[row["name"]].update(of_item)
        if row["backend"] in met:
            met[row["backend"]].update(of_item)
    everything = set(itertools.product(DTYPES, EPILOGUES))
    assert {name for name in ROWS if met[name] != everything} == set()
    # An older instruction set may be asked once for each input and layer.
    for backend in met.keys() - ROWS.keys():
        assert [set(values) for values in zip(*met[backend], strict=True)] == [
            set(DTYPES),
            set(EPILOGUES),
        ]


def test_every_layer_meets_every_mode(collected: dict[str, list[Params]]) -> None:
    plain = [name for name, row in gn.CATALOG.items() if not row.needs]
    met = pairs(collected["test_mode"], "name", "mode")
    assert met >= set(itertools.product(plain, MODES))
    quick = [mode for mode in MODES if not mode.startswith("compile")]
    assert met >= set(itertools.product(LAYERS, quick))
    compiled = pairs(collected["test_compile"], "name", "kind")
    assert {name for name, _ in compiled} >= set(plain)
    assert compiled >= {("graph", kind) for kind in KINDS}
    assert {row["name"] for row in collected["test_export"]} >= set(plain)
    for test in ("test_mode", "test_compile", "test_export"):
        assert {row["training"] for row in collected[test]} == {"True", "False"}
