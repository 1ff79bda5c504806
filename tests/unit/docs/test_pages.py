"""Every snippet of every page: Python runs top to bottom, commands exist and take their options.

Each page has a namespace and a folder of its own. What cannot be run is marked on the page, with a
reason (`tests/unit/docs/page_blocks.py`).
"""

from __future__ import annotations

import io
import linecache
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from graphnorms import cli
from graphnorms.cli.app import app
from graphnorms.data import load as load_module
from graphnorms.lab import engines
from graphnorms.lab import prepare as prepare_module
from graphnorms.lab.options import Options
from graphnorms.lab.repeat import with_file
from tests.faults import dask_cluster
from tests.unit.docs import folder as places
from tests.unit.docs.page_blocks import DOCS, Block, blocks, pages

pytestmark = [
    pytest.mark.skipif(not DOCS.exists(), reason="the tests stand without the docs"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch_geometric
]
PAGES = pages()
WITH_RUNS = [
    "clusters",
    "data",
    "lab",
    "lightning",
    "logs",
    "own",
    "report",
    "runs",
    "start",
    "training",
]
"""Pages whose commands are run, each as small as can be; of the others' Python alone is."""
OF_LIGHTNING = pytest.mark.filterwarnings("ignore")  # about its Trainer and loaders
RUNS = {
    "MUTAG-gin": ["compare", "MUTAG"],
    "nci5k-gine-split": ["compare", "nci5k"],
}
"""Runs that pages name, and what makes them."""
NUMBER = re.compile(r"-?\d+\.\d*")
ROUNDING = re.compile(r"[\d.]+e[+-]\d+")  # sizes of errors
TIMED = re.compile(r"\d \(\d|MiB")  # lines with times and memory of a machine
NOT_RUN = [block for path in PAGES.values() for block in blocks(path) if block.mark == "not run"]


@pytest.mark.parametrize("page", PAGES)
def test_python(page: str, place: Path) -> None:
    if page in WITH_RUNS:
        pytest.skip("run with its commands, by `make test-all`")
    run_python(page, {}, place)


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_understood(page: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(PAGES[page]):
        for words in block.commands():
            try:
                understand(words[1:])
            except typer.TyperException as error:
                raise AssertionError(f"{block.place}: {' '.join(words)}: {error}") from None


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=OF_LIGHTNING) if page == "lightning" else page for page in WITH_RUNS],
)
@pytest.mark.full("commands of the pages")
def test_commands_run(page: str, place: Path, stub_page, cluster, monkeypatch, capsys) -> None:
    for needed in ("submitit", "tensorboard", "ase", "optuna", "lightning"):
        pytest.importorskip(needed)
    places.write_data(place)
    names: dict[str, object] = {}
    found = blocks(PAGES[page])
    for name in ("own", page):  # others' code and pages name what stands there
        write_files(blocks(PAGES[name]), place)
    for name, words in RUNS.items():
        if name in PAGES[page].read_text(encoding="utf-8"):
            run(words, monkeypatch, capsys)
    for block in found:
        if block.language == "python":
            execute(block, names)
        elif block.language == "toml":
            (place / "mine.toml").write_text(block.text)
            with_file(None, Options(config=place / "mine.toml"))
        for words in block.commands():
            run(places.on_this_machine(words[1:], cluster), monkeypatch, capsys)


@pytest.mark.parametrize("block", NOT_RUN, ids=[block.place for block in NOT_RUN])
def test_what_is_not_run_has_a_reason(block: Block) -> None:
    assert block.words
    compile(block.text, block.place, "exec")
    assert len(NOT_RUN) < 6
    pytest.skip(block.words)


@pytest.fixture
def place(tmp_path_factory, monkeypatch) -> Iterator[Path]:
    """An empty folder, in which modules are found, none stays known, and budgets are small."""
    folder = tmp_path_factory.mktemp("page")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(prepare_module, "with_file", lambda d, o: with_file(d, places.small(d, o)))
    monkeypatch.setattr(engines, "make_engine", places.here)
    monkeypatch.setattr(load_module, "read_embedded", places.few(load_module.read_embedded))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def cluster(page: str, tmp_path, monkeypatch) -> Iterator[str]:
    """The address of a scheduler of this machine, for the page that needs one."""
    if page != "clusters":
        yield ""
        return
    pytest.importorskip("distributed")
    with dask_cluster(tmp_path / "dask", workers=1) as (scheduler, _):
        monkeypatch.setitem(sys.modules, "dask_jobqueue", places.jobqueue(scheduler))
        yield scheduler


def run_python(page: str, names: dict[str, Any], place: Path) -> None:
    """Run the Python of a page, and compare what is printed with what the page shows."""
    found = blocks(PAGES[page])
    write_files(found, place)
    printed = ""
    for block in found:
        if block.mark == "output":
            assert same(block.text, printed), f"{block.place}: {printed}"
        elif block.language == "python":
            printed = execute(block, names)
        elif block.language == "console":
            ((_, *words),) = block.commands()
            with redirect_stdout(io.StringIO()) as output, pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", ["graphnorms", *words])
                assert cli.main() == 0, block.place
            shown = block.text.partition("\n")[2]
            assert same(shown, output.getvalue()), f"{block.place}: {output.getvalue()}"


def execute(block: Block, names: dict[str, Any]) -> str:
    """Run a block, and return what it prints, or the error that it is said to end with."""
    if block.mark == "not run":
        return ""
    with redirect_stdout(io.StringIO()) as output:
        lines = block.text.splitlines(keepends=True)
        linecache.cache[block.place] = (len(block.text), None, lines, block.place)
        code = compile(block.text, block.place, "exec")
        if block.mark == "raises":
            with pytest.raises(Exception) as caught:  # noqa: PT011, the page shows which
                exec(code, names)
            print(caught.value)
        elif block.file is None:
            exec(code, names)
    return output.getvalue()


def write_files(found: list[Block], place: Path) -> None:
    for block in found:
        if block.file:
            (place / block.file).write_text(block.text)


def same(shown: str, printed: str) -> bool:
    """Whether two texts have the same words; processors differ in digits, and times always."""
    return [*words_of(shown, lambda number: pytest.approx(number, rel=1e-3))] == [
        *words_of(printed, float)
    ]


def words_of(text: str, number: Callable[[float], object]) -> Iterator[list[object]]:
    for line in text.strip().splitlines():
        if not TIMED.search(line):
            words = re.split(r"[\s,\[\]()]+", ROUNDING.sub("", line.strip()))
            yield [number(float(word)) if NUMBER.fullmatch(word) else word for word in words]


def understand(words: list[str]) -> None:
    """Parse a command line without running it."""
    command: Any = get_command(app)
    context = command.make_context("graphnorms", list(words))
    while hasattr(command, "resolve_command") and (
        rest := [*context._protected_args, *context.args]
    ):
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


def run(words: list[str], monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["graphnorms", *words])
    capsys.readouterr()  # what Python said before
    code = cli.main()
    error = capsys.readouterr().err
    assert code == 0, f"graphnorms {' '.join(words)}: {error}"
    assert not error, f"graphnorms {' '.join(words)}: {error}"
