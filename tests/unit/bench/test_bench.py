"""The benchmark suite on tiny sizes: its checks, its counters, its files and its tables."""

from __future__ import annotations

import json
import math
import sys

import pytest
import torch
from torch import nn

import graphnorms as gn
from graphnorms import cli
from graphnorms.bench import (
    BENCHMARKS,
    Case,
    Result,
    Settings,
    Shape,
    benchmarks_page,
    equivariant_times,
    plots,
    pyg_layers,
    run,
)
from graphnorms.bench import number_checks as bench_checks
from graphnorms.bench.bench_settings import SHAPES
from graphnorms.bench.contenders import Contender, Problem, accepts
from graphnorms.bench.machine import slug
from graphnorms.bench.memory_use import kept_for_backward, peak
from graphnorms.bench.number_checks import Exact, WrongNumbersError, check_layer
from graphnorms.bench.results import ResultExistsError, read, save
from graphnorms.bench.session import Session
from graphnorms.bench.size_times import _with_growth
from graphnorms.bench.tables import summary, tables_of
from graphnorms.bench.timing import in_turn
from graphnorms.errors import GraphnormsError
from graphnorms.layers.catalog import CATALOG

SHAPE = Shape("tiny", 40, 16, 5)


@pytest.fixture(autouse=True)
def needs_pyg():
    pytest.importorskip("vl_convert")
    if not pyg_layers.is_installed():
        pytest.skip("PyG is not installed")


@pytest.fixture
def run_cli(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["graphnorms", "bench", *arguments])
        code = cli.main()
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def result_of(case: Case, version: str = "1.2", taken: str = "2026-01-01") -> Result:
    machine = {
        "device": "Intel(R) Xeon(R)",
        "cores": 2,
        "platform": "here",
        "kernels": {"cpu": "avx2"},
        "torch_instruction_set": "AVX2",
        "load": 0.1,
        "load_after": 0.2,
        "versions": {"graphnorms": version, "torch": "2", "torch_geometric": None},
    }
    return Result(
        "layers", "graphnorms bench layers", taken, machine, {"rounds": 3}, (case,), (), ("a note",)
    )


def handmade() -> Case:
    values = {
        "copy": {"minimum": 1e-3, "median": 2e-3},
        "nn.LayerNorm": {"minimum": 4e-3, "median": 5e-3},
        "GraphNorm": {"minimum": 2e-3, "median": 6e-3},
    }
    return Case("by hand", {}, "seconds", values, ("copy", "nn.LayerNorm"), 1000)


def test_equivariant_norms_beside_their_peers():
    pytest.importorskip("e3nn")
    session = Session(Settings(rounds=1))
    cases = [
        case
        for case in equivariant_times.measure(session, (SHAPE,))
        if case.labels["peer"] == "e3nn BatchNorm"
    ]
    assert [case.labels["pass"] for case in cases] == [
        "forward",
        "forward + backward",
        "force step",
    ]
    for case in cases:
        assert set(case.values) == {"e3nn BatchNorm", "IrrepsBatchNorm", "IrrepsGraphNorm"}
        assert case.elements == 40 * 9 * 16
    assert session.checks[0].error < 1e-12


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_from_end_to_end(name, run_cli, tmp_path):
    out = tmp_path / "there" / "result.json"
    options = ["--quick", "--rounds", "1", "--out", str(out)]
    if name != "size":
        options += ["--no-compile", "--norms", "graph"]
    code, text, err = run_cli(name, *options)
    assert code == 0, err
    result = read(out)
    assert result.benchmark == name
    assert f"bench {name} --quick" in result.command
    assert result.checks
    assert all(check["error"] <= check["allowed"] for check in result.checks)
    for table in tables_of(result):
        assert table.title in text
        assert all(len(row) == len(table.header) for row in table.rows)
    assert out.with_suffix(".svg").read_text().startswith("<svg")
    for case in result.cases:
        assert all(v > 0 for values in case.values.values() for v in values.values())


def test_sizes_grow_by_exponents():
    def case(nodes: int, seconds: float, peak: float) -> Case:
        costs = {"minimum": seconds, "median": seconds, "peak": peak, "resident": peak}
        values = {"graphnorms": {**costs, "processor": seconds}, "PyG": {**costs, "processor": 1}}
        return Case("one graph: GIN", {"value": nodes}, "costs", values, ("PyG",))

    sweep = [case(100, 0.5, 2**20), case(10_000, 50.0, 2**23)]
    grown = _with_growth(sweep[1], sweep)
    assert grown.values["PyG"]["minimum grows"] == pytest.approx(1.0)
    assert grown.values["PyG"]["peak grows"] == pytest.approx(math.log(8) / math.log(100))
    assert _with_growth(sweep[0], sweep) is sweep[0]
    shown = summary(result_of(grown))
    assert shown is not None
    assert shown.rows[0] == ("one graph", "graphnorms", "50 s", "1.00", "8", "1.00", "1.00 / 0.45")


def test_json_is_all_there_is_on_standard_output(run_cli):
    code, out, err = run_cli("memory", "--quick", "--norms", "graph", "--json")
    assert code == 0
    assert json.loads(out)["benchmark"] == "memory"
    assert "not kept" in err


def test_bad_options_are_one_line(run_cli):
    for options in (
        ["--dtype", "float31"],
        ["--norms", "grahp"],
        ["--rows", "0"],
        ["--threads", "0"],
        ["--activations", "tanh"],
    ):
        code, _, err = run_cli("layers", *options)
        assert code == 2
        assert err.count("\n") == 1


def test_pyg_missing(monkeypatch):
    monkeypatch.setattr(pyg_layers, "is_installed", lambda: False)
    pyg_layers.load.cache_clear()
    with pytest.raises(GraphnormsError, match="pip install torch_geometric"):
        run("epoch", Settings(quick=True))
    result = run("layers", Settings(quick=True, rounds=1, norms=("graph",)))
    assert result.notes == ("PyG is not installed and left out: pip install torch_geometric",)
    assert not any("PyG" in name for case in result.cases for name in case.values)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize(
    "name", [row.name for row in Settings().rows_of_catalog() if accepts(row, "eps")]
)
def test_right_layers_pass_the_check_and_wrong_ones_do_not(name, activation, monkeypatch):
    problem = Problem.make(SHAPE, torch.float32, "cpu")
    row = CATALOG[name]
    exact = Exact.of(row, activation, problem)
    assert all(check.passed for check in check_layer(row, activation, problem, exact))
    build = bench_checks.build

    def wrong_eps(*args, **kwargs):
        return build(*args, **{**kwargs, "eps": 1.1e-5})

    monkeypatch.setattr(bench_checks, "build", wrong_eps)
    with pytest.raises(WrongNumbersError, match="wrong numbers, not timed"):
        check_layer(row, activation, problem, exact)


@pytest.mark.parametrize("spoil", ["value", "gradient", "nan"])
def test_the_check_sees_one_wrong_entry(spoil):
    problem = Problem.make(SHAPE, torch.float32, "cpu")
    exact = Exact.of(CATALOG["layer"], None, problem)
    layer = nn.LayerNorm(SHAPE.channels, dtype=torch.float64)
    layer.load_state_dict(exact.parameters)

    def call(x):
        change = torch.zeros_like(x)
        change[3, 1] = float("nan") if spoil == "nan" else 1e-6
        return layer(x) + (change * (x - x.detach()) if spoil == "gradient" else change)

    assert exact.compare("LayerNorm", layer, layer, torch.float64).passed
    assert not exact.compare("spoiled", call, layer, torch.float64).passed


def test_what_functions_of_our_own_keep_is_counted():
    """Besides x, γ, β and α: two statistics of each of 5 graphs and 8 channels, and ptr."""
    x, norm = torch.randn(100, 8), gn.GraphNorm(8)
    segments = gn.Segments.from_batch(torch.arange(100) // 20, 5)
    contender = Contender("GraphNorm", lambda x: norm(x, segments), norm)
    kept = kept_for_backward(contender, x, besides=norm.parameters())
    assert kept == x.nbytes + 2 * 5 * 8 * 4 + 6 * 8


def test_bytes_kept_for_the_backward_are_known_ones():
    x = torch.randn(10, 6)
    relu = Contender("relu", nn.ReLU())
    assert kept_for_backward(relu, x) == x.nbytes
    linear = nn.Linear(6, 6)
    kept = kept_for_backward(Contender("l", linear, linear), x, besides=linear.parameters())
    assert kept == x.nbytes
    # Twice the same storage, once through a view, is kept once.
    assert kept_for_backward(Contender("squares", lambda x: x * x + x[:5].repeat(2, 1) * x), x) == (
        2 * x.nbytes
    )


def test_the_peak_is_the_known_one():
    x = torch.randn(1000, 64)
    # The result is held while the gradient is made.
    assert peak(Contender("relu", nn.ReLU()), x) == 2 * x.nbytes


def test_results_are_immutable(tmp_path):
    result = result_of(handmade())
    path = tmp_path / result.path
    assert result.path.as_posix() == "intel-xeon/layers-1.2.json"
    save(result, path)
    assert read(path) == result
    before = path.read_bytes()
    with pytest.raises(ResultExistsError, match="--force"):
        save(result_of(handmade(), taken="2027"), path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    save(result_of(handmade(), taken="2027"), path, force=True)
    assert read(path).taken == "2027"


def test_a_file_that_is_no_result_is_named(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("{}")
    with pytest.raises(GraphnormsError, match=r"x\.json: not a result"):
        read(path)


def test_ratios_of_times_made_by_hand():
    (table,) = tables_of(result_of(handmade()))
    assert table.header == (
        "",
        "ms, minimum",
        "median",
        "÷ copy",
        "medians",
        "÷ nn.LayerNorm",
        "medians",
        "ns per element",
    )
    assert table.rows[2] == ("GraphNorm", "2", "6", "2.00", "3.00", "0.50", "1.20", "2000.000")
    assert table.rows[0] == ("copy", "1", "2", "1.00", "1.00", "0.25", "0.40", "1000.000")


def test_a_summary_compares_layers_with_those_of_the_same_name():
    times = {"nn.LayerNorm": 2.0, "A": 1.0, "A + relu": 9.0, "PyG A": 3.0, "B": 4.0, "PyG B": 2.0}
    times["PyG A compiled"] = 5.0
    values = {name: {"minimum": each, "median": each} for name, each in times.items()}
    case = Case("c; forward + backward", {}, "seconds", values, ("nn.LayerNorm",))
    table = summary(result_of(case))
    assert table.header == ("case", "PyG ÷ ours", "PyG compiled ÷ ours", "ours ÷ nn.LayerNorm")
    assert table.rows == (("c", "1.75 [0.50, 3.00]", "5.00 [5.00, 5.00]", "1.25 [0.50, 2.00]"),)


def test_the_page_is_filled_with_the_newest_result_of_each_device(tmp_path):
    old, new = result_of(handmade(), "1.1", "2025"), result_of(handmade(), "1.2", "2026")
    for result in (old, new):
        save(result, tmp_path / "results" / result.path)
    plots.draw(new, (tmp_path / "results" / new.path).with_suffix(".svg"))
    file = tmp_path / "page.md"
    file.write_text(
        "# Head\n<!-- bench: layers -->\nold\n<!-- end -->\ntail\n"
        "<!-- bench: epoch --><!-- end -->\n"
    )
    file.write_text(file.read_text().replace("epoch --><", "epoch -->\n<"))
    benchmarks_page.fill(file, tmp_path / "results")
    text = file.read_text()
    assert "| GraphNorm | 2 ms | 2.00 / 0.50 |" in text
    assert "rounds on 2026." in text
    assert "rounds on 2025" not in text
    assert "<results/intel-xeon/layers-1.2.json>" in text
    assert "\nold\n" not in text
    assert "Not measured yet." in text
    assert "](results/intel-xeon/layers-1.2.svg)" in text
    benchmarks_page.fill(file, tmp_path / "results")
    assert file.read_text() == text


def test_contenders_are_called_in_turn():
    calls = []
    actions = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    times = in_turn(actions, rounds=3)
    assert set(times) == {"a", "b"}
    assert all(0 < v["minimum"] <= v["median"] for v in times.values())


def test_shapes_have_the_rows_and_graphs_they_say():
    for shape in SHAPES:
        counts = torch.bincount(shape.batch())
        assert (counts.shape[0], int(counts.sum())) == (shape.graphs, shape.rows)
        assert int(counts.min()) >= 1
        assert not shape.even or int(counts.max()) == shape.rows // shape.graphs


def test_names_of_folders():
    assert slug("Intel(R) Xeon(R) Processor @ 2.6GHz") == "intel-xeon-processor-2-6ghz"
