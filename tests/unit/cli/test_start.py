"""The command line loads what a command needs, and torch takes seconds."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from tests.faults import make_config

import graphnorms
from graphnorms.cli.app import COMMANDS, load
from graphnorms.lab.run import Run
from graphnorms.training import Record

HEAVY = {"torch", "numpy", "scipy", "sklearn", "jinja2", "markupsafe", "vl_convert", "pandas"}
HEAVY |= {"asyncio", "distributed", "http", "matplotlib", "multiprocessing", "safetensors", "yaml"}
ROOMS = (
    "kernels",
    "dropin",
    "models",
    "data",
    "probes",
    "report",
    "studies",
    "bench",
    "doctor",
)
"""Parts of the package that no command needs before it does something."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one run of one trial."""
    folder = tmp_path_factory.mktemp("start")
    trial = make_config(0)
    with Run(folder / "runs" / "toy", {"dataset": "toy", "norms": ["none", "graph"]}) as run:
        run.journal.append(Record(key=trial.key, config=trial.to_dict(), status="done"))
    return folder


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("", "graphnorms compare"),
        ("--help", "compare"),
        ("--version", graphnorms.__version__),
        ("norms", "layer-graph"),
        ("runs", "toy"),
        ("show --help", "--parquet"),
        ("compare --help", "--norms"),
        ("inspect --help", "--fail-on"),
    ],
)
def test_nothing_heavy_is_loaded(folder, arguments, shown):
    command = [sys.executable, "-X", "importtime", "-m", "graphnorms", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
    loaded = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert {"graphnorms", "typer"} <= loaded
    assert not HEAVY & loaded
    own = {name for name in loaded if name.partition(".")[0] == "graphnorms"}
    assert not {f"graphnorms.{room}" for room in ROOMS} & own
    if not arguments or arguments in ("--help", "--version", "norms"):
        assert not {name for name in own if name.startswith("graphnorms.lab")}
    assert "graphnorms.lab.engines" not in own
    # Of rich what prints; `rich.live` and its kin are for a comparison that runs.
    assert not {"rich.live", "rich.progress"} & loaded
    for command in COMMANDS:
        module = f"graphnorms.cli.{command}_command"
        assert module not in own or arguments.startswith((command, "show")), module


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_they_say(name):
    assert load(name).help.partition("\n\n")[0].replace("\n", " ") == COMMANDS[name]


@pytest.mark.full("a process that loads torch")
def test_in_the_command_line_the_package_has_all_its_names():
    """As code of the user's expects that the command line runs."""
    script = """if True:
        import sys
        sys.argv[0] = "graphnorms"
        sys.orig_argv[1:] = sys.argv
        import graphnorms
        assert "torch" not in sys.modules
        lab = {"Comparison", "compare", "open_comparison", "GraphSet", "load_dataset"}
        print(*(getattr(graphnorms, name).__class__ for name in set(graphnorms.__all__) - lab))
        assert graphnorms.layers.GraphNorm is graphnorms.GraphNorm
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
