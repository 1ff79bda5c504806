"""Which combinations `make test` runs."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("file", "test", "share", "pairs"),
    [
        ("tests/conformance/test_layers.py", "test_layer_agrees_with_the_papers", 1 / 3,
         (("layer_name", "name"), ("backend", "name"), ("dtype", "epilogue"))),
        ("tests/conformance/test_modes.py", "test_mode", 2 / 3, (("name", "mode"),)),
    ],
)  # fmt: skip
def test_what_make_test_runs(
    file: str, test: str, share: float, pairs: tuple[tuple[str, str], ...], tmp_path: Path
) -> None:
    """Every layer with every input and mode, every backend with every input, and so on."""
    (tmp_path / "told.py").write_text(
        "def pytest_collection_finish(session):\n"
        "    for item in session.items:\n"
        "        print('told', *(f'{k}={v!r}'.replace(' ', '_')\n"
        "                        for k, v in item.callspec.params.items()))\n"
    )
    found = []
    for option in ((), ("--all-combinations",)):
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "told", *option]
        told = subprocess.run(
            [*command, "-p", "no:xdist", "-s", f"{file}::{test}"], cwd=ROOT, check=True, text=True,
            capture_output=True, env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        ).stdout  # fmt: skip
        rows = [
            dict(part.split("=", 1) for part in line.split()[1:])
            for line in told.splitlines()
            if line.startswith("told ")
        ]
        assert rows
        found.append([{(row[first], row[second]) for row in rows} for first, second in pairs])
        found[-1].append(len(rows))
    fewer, all_of_them = found
    assert fewer[:-1] == all_of_them[:-1]
    assert fewer[-1] < share * all_of_them[-1]
