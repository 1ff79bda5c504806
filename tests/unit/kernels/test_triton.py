"""The Triton kernels in the interpreter: a selection of what `-m slow` asks them in full."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func

import graphnorms as gn
from graphnorms.kernels import Over, operators, segment_normalize
from graphnorms.kernels import backend as kernels_backend
from graphnorms.kernels.aggregation.operands import Edges, Weights
from graphnorms.kernels.cpu import aggregate as cpu_aggregate
from graphnorms.kernels.cpu import extension
from graphnorms.kernels.cpu import normalize as cpu
from graphnorms.kernels.triton import aggregate as triton_aggregate
from graphnorms.kernels.triton import loading, tiles
from graphnorms.kernels.triton import normalize as triton
from graphnorms.segments import Segments
from graphnorms.testing import awkward_cases, backend_checks, check_backend
from tests.conftest import BACKENDS
from tests.operands import (
    call_of,
    kept,
    run_aggregate,
    run_aggregate_backward,
    run_backward,
    run_forward,
)
from tests.unit.kernels import edges

needs_interpreter = pytest.mark.skipif(
    "triton" not in BACKENDS, reason="no triton here, or a GPU, which has tests of its own"
)
pytestmark = [
    needs_interpreter,
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, of NaN
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# The long segment of "mean 1e4" is done in chunks.
SOME = [
    "one row",
    "no rows",
    "one-row graphs",
    "empty graphs",
    "unsorted",
    "odd channels",
    "transposed",
    "one row expanded",
    "mean 1e4",
    "std 1e-3",
    "constant channels",
]
EVERY_DTYPE = ["unsorted", "empty graphs"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_equation(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    names = SOME if dtype is torch.float32 else EVERY_DTYPE
    cases = [case for case in awkward_cases(dtype) if case.name in names]
    assert len(cases) == len(names)
    monkeypatch.setattr(backend_checks, "awkward_cases", lambda dtype: cases)
    violations = list(
        backend_checks._equation(partial(segment_normalize, backend="triton"), dtype, "cpu")
    )
    assert not violations, "\n".join(violations)


def test_epilogues_parameters_masks_and_bits() -> None:
    check_backend("triton", dtypes=(torch.float32,), skip=("equation",))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_whole_battery(dtype: torch.dtype) -> None:
    check_backend("triton", dtypes=(dtype,))


@pytest.mark.parametrize("kind", edges.KINDS)
def test_aggregation(kind: str) -> None:
    for graph, channels, dtype, self_weight in (
        ("directed", 70, torch.float32, 2.5),
        ("symmetric", 7, torch.bfloat16, 0.0),
        ("directed", 1, torch.float64, 1.0),
    ):
        edges.check_sum(graph, channels, kind, self_weight, dtype, "triton")
    if kind not in ("plain", "scaled"):
        edges.check_one_gradient_alone(kind, (True, False), "triton")
        edges.check_one_gradient_alone(kind, (False, True), "triton")


def test_the_dropped_entries_are_those_of_the_reference() -> None:
    for channels, share in ((1, 0.3), (70, 0.75)):  # numbers below and above 2³¹
        ours, theirs = (
            kept(50, channels, share, 2**61 + 12345, backend) for backend in ("triton", "reference")
        )
        assert torch.equal(ours, theirs)


def domains() -> Iterator[tuple[int, int, int]]:
    """Every centre, scale and number of groups that kernels have."""
    for center, scale, groups in itertools.product((0, 1, 2, 3), (0, 1, 2, 3), (1, 3)):
        over, of_scale = (Over(number) if number else None for number in (center, scale))
        if not kernels_backend.refusals(
            "triton", "cpu", torch.float32, over, of_scale, False, False
        ):
            yield center, scale, groups


def call(center: int, scale: int, groups: int, kind: str, device: str = "cpu") -> dict[str, Any]:
    """The arguments that forward and backward share, rows and channels odd."""
    generator = torch.Generator().manual_seed(0)
    rows, channels = 301, 9
    ptr = torch.tensor([0, 3, 3, 280, 290 if kind == "masked" else 301])
    own = (ptr.shape[0] - 1, channels) if kind == "own" else (channels,)
    tensors = {
        "x": torch.randn(rows, channels, generator=generator) + 100,
        "ptr": ptr,
        "order": torch.randperm(rows, generator=generator) if kind == "masked" else None,
        "seed": torch.tensor(5),
        "mean_scale": torch.rand(channels, generator=generator) if center == 1 else None,
        "weight": torch.rand(own, generator=generator),
        "bias": torch.rand(own, generator=generator),
    }
    return {
        **{name: None if t is None else t.to(device) for name, t in tensors.items()},
        "center": center,
        "scale": scale,
        "groups": groups,
        "eps": 1e-5,
        "activation": 3,
        "dropout": 0.25,
        "masked": kind == "masked",
        "function": 0,
    }


@pytest.mark.skipif(extension.unavailable() is not None, reason="nothing to compare with")
@pytest.mark.parametrize("kind", ["shared", "own", "masked"])
def test_results_and_statistics_are_those_of_the_cpu(kind: str) -> None:
    for center, scale, groups in domains():
        if groups == 3 and kind != "shared":
            continue
        given = call(center, scale, groups, kind)
        residual = torch.randn(given["x"].shape, generator=torch.Generator().manual_seed(1))
        grad_y = residual.flip(0)
        ours, theirs = (
            run_forward(each, residual=residual, moment=True, **given) for each in (triton, cpu)
        )
        for got, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(got, expected, rtol=2e-5, atol=2e-5)
        grads, expected_grads = (
            run_backward(each, grad_y=grad_y, statistics=theirs[1], needs=[True] * 4, **given)
            for each in (triton, cpu)
        )
        for got, expected in zip(grads, expected_grads, strict=True):
            torch.testing.assert_close(got, expected, rtol=2e-4, atol=2e-4)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, int]]]:
    """Kernels are not run but noted, with their grid."""
    found: list[tuple[str, tuple[int, int]]] = []

    def note(kernel: Any, grid: tuple[int, int], *arguments: Any, **more: Any) -> None:
        if all(grid):
            found.append((kernel.__name__, grid))

    for module in (triton, triton_aggregate):
        monkeypatch.setattr(module, "launch", note)
    return found


def like(results: Any) -> list[tuple[Any, ...]]:
    return [(r.shape, r.dtype, r.stride(), r.device) for r in results]


def test_nothing_is_read_and_the_fakes_tell_the_truth(launches: list[Any]) -> None:
    """On meta tensors a read raises; and what would be returned is what torch.compile was told."""
    ops = torch.ops.graphnorms
    for (center, scale, groups), kind, moment in itertools.product(
        domains(), ("shared", "own", "masked"), (False, True)
    ):
        given = call(center, scale, groups, kind, "meta")
        x = given["x"]
        forward = {**given, "residual": torch.empty_like(x), "moment": moment}
        results = run_forward(triton, **forward)
        assert like(results) == like(ops.normalize_forward(**forward))
        for needs in ([True] * 4, [False, True, False, True], [True, False, False, False]):
            backward = {**given, "grad_y": x, "statistics": results[1], "needs": needs}
            mine = [x.new_empty(0) if g is None else g for g in run_backward(triton, **backward)]
            assert like(mine) == like(ops.normalize_backward(**backward))
    x, ptr, index = (torch.empty(*shape, device="meta") for shape in ((50, 7), (51,), (130,)))
    for weight, features in (
        (None, None),
        (torch.empty(130, device="meta"), None),
        (None, torch.empty(130, 7, device="meta")),
    ):
        edges = Edges(ptr.long(), index.long(), index.long())
        weights = Weights(None, weight, features, 1.0)
        both = (*edges, *edges, *weights)
        mine = [triton_aggregate.aggregate(x, edges, weights)]
        assert like(mine) == like([ops.aggregate(x, *both)])
        if weight is not None or features is not None:
            for needs in ([True, True], [False, True], [True, False]):
                mine = triton_aggregate.aggregate_backward(x, x, edges, weights, needs)
                assert like(mine) == like(ops.aggregate_backward(x, x, *both, needs))


@pytest.mark.parametrize(
    ("rows", "segments", "order", "longest", "forward", "backward"),
    [
        (200, 10, "sorted", -1, ["segment_forward"], ["segment_backward", "sum_shares"]),
        (200, 10, "unsorted", -1, ["segment_forward"], ["segment_backward", "sum_shares"]),
        (
            200,
            10,
            "masked",
            -1,
            ["segment_forward", "chunk_forward"],
            ["segment_backward", "chunk_backward", "sum_shares"],
        ),
        (10**6, 20_000, "sorted", 99, ["segment_forward"], ["segment_backward", "sum_shares"]),
        (
            10**6,
            20_000,
            "masked",
            99,
            ["segment_forward", "chunk_forward"],
            ["segment_backward", "chunk_backward", "sum_shares"],
        ),
        (
            10**6,
            1,
            "unsorted",
            -1,
            ["chunk_statistics", "merge_statistics", "chunk_forward"],
            ["chunk_gradients", "merge_gradients", "chunk_backward", "sum_shares"],
        ),
        (
            10**6,
            9,
            "sorted",
            -1,
            ["segment_forward", "chunk_statistics", "merge_statistics", "chunk_forward"],
            [
                "segment_backward",
                "chunk_gradients",
                "merge_gradients",
                "chunk_backward",
                "sum_shares",
            ],
        ),
    ],
)
def test_what_is_launched_follows_from_sizes_alone(
    rows: int,
    segments: int,
    order: str,
    longest: int,
    forward: list[str],
    backward: list[str],
    launches: list[tuple[str, tuple[int, int]]],
) -> None:
    x = torch.empty(rows, 128, device="meta")
    ptr = torch.empty(segments + 1, dtype=torch.int64, device="meta")
    ids = None if order == "sorted" else torch.empty(rows, dtype=torch.int64, device="meta")
    weight = torch.empty(128, device="meta")
    given = (weight, weight, weight)
    rest = call_of(
        x, ptr=ptr, order=ids, center=1, scale=1, longest=longest, masked=order == "masked"
    )
    _, statistics = triton.normalize_forward(x, None, given, rest, False)
    assert [name for name, _ in launches] == forward
    launches.clear()
    triton.normalize_backward(x, x, given, statistics, rest, [True] * 4)
    assert [name for name, _ in launches] == backward
    assert all(blocks == 2 for name, (_, blocks) in launches if name != "sum_shares")


@pytest.mark.parametrize("longest", [-1, 300, 7])
def test_how_long_segments_are_said_to_be_changes_launches_alone(longest: int) -> None:
    """Also if it is not true."""
    ptr = torch.tensor([0, 300, 300, 540, 700])
    x = torch.randn(700, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    order = torch.randperm(700, generator=torch.Generator().manual_seed(1))
    known = None if longest < 0 else longest
    results = []
    for backend, segments in (
        ("triton", Segments(ptr, order, 700, longest=known)),
        ("reference", Segments(ptr, order, 700)),
    ):
        y = segment_normalize(
            x, segments, center=Over.NODES, scale=Over.NODES, activation="silu", backend=backend
        )
        results.append([y, *torch.autograd.grad(y, x, x.detach())])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("span", [1, 3, 64, 333, tiles.MOST_CHANNELS])
def test_tiles_hold_what_a_program_can(span: int) -> None:
    for rows, segments in ((0, 1), (1, 1), (7, 7), (600, 200), (35110, 1024), (10**6, 1)):
        tile = tiles.tile_of_segments(rows, segments, span)
        entries = tile.segments * tile.rows * tile.channels
        assert span <= tile.channels < 2 * span + 1
        assert entries <= max(tiles.ENTRIES, tile.channels)
        assert 1 <= tile.warps <= 16
    merge = tiles.tile_of_parts(span)
    assert merge.rows * merge.channels <= max(tiles.MERGED, merge.channels)
    with pytest.raises(ValueError, match=r"32769 channels share a statistic.*reference"):
        tiles.block_of_channels(tiles.MOST_CHANNELS + 1, 1, grouped=True)


@pytest.mark.filterwarnings("ignore:Warning only once for all operators")  # which is meant
@pytest.mark.parametrize("batch", ["one graph", "no batch", "three graphs"])
def test_compiled_it_is_one_node_with_the_right_numbers(batch: str) -> None:
    """As on a GPU the operator leads to Triton's kernels; pytorch#191571 is of one graph."""
    vector = {
        "one graph": torch.zeros(20, dtype=torch.int64),
        "no batch": None,
        "three graphs": torch.arange(20) // 7,
    }[batch]
    size = 3 if batch == "three graphs" else 1
    layer = gn.GraphNorm(6, activation="silu")
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    grad_y = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    nodes: list[str] = []

    def keep(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        targets = [str(node.target) for node in graph.graph.nodes]
        nodes.extend(target for target in targets if target.startswith("graphnorms."))
        return make_boxed_func(graph.forward)

    calls: list[str] = []

    def watched(name: str) -> Any:
        def run(*arguments: Any) -> Any:
            calls.append(name)
            return operators.as_operators(kernels_backend.TRITON)[name](*arguments)

        return run

    torch._dynamo.reset()
    with torch.library._scoped_library("graphnorms", "IMPL") as library:
        for name in ("normalize_forward", "normalize_backward"):
            library.impl(name, watched(name), "CPU", allow_override=True)
        compiled = torch.compile(
            layer, fullgraph=True, backend=aot_autograd(fw_compiler=keep, bw_compiler=keep)
        )
        y = compiled(x, vector, size)
        grads = torch.autograd.grad(y, [x, *layer.parameters()], grad_y)
    assert calls == ["normalize_forward", "normalize_backward"]
    assert nodes == [f"graphnorms.{name}.default" for name in calls]
    layer.backend = "reference"
    expected = layer(x, vector, size)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    for got, wanted in zip(
        grads, torch.autograd.grad(expected, [x, *layer.parameters()], grad_y), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_refusals_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    norm = gn.GraphNorm(3, backend="triton")
    x = torch.randn(5, 3)
    with pytest.raises(gn.BackendRefusedError, match=r"x is torch\.float8_e5m2, the triton"):
        norm(x.to(torch.float8_e5m2))
    with pytest.raises(gn.BackendRefusedError, match="one statistic within rows and one over"):
        segment_normalize(
            x, Segments.single(5), center=Over.CHANNELS, scale=Over.NODES, backend="triton"
        )
    with pytest.raises(gn.BackendRefusedError, match="which needs plain torch"):
        torch.func.vmap(norm)(x.unsqueeze(0))
    with pytest.raises(Exception, match="interpreter does not support"):
        torch.compile(norm, fullgraph=True, backend="eager")(x)
    try:
        for name, answer, words in (
            ("interpreted", lambda: False, "x is on cpu, the triton kernels run on cuda"),
            ("unavailable", lambda: "triton is not installed", "triton is not installed"),
        ):
            monkeypatch.setattr(loading, "unavailable", lambda: None)
            monkeypatch.setattr(loading, name, answer)
            kernels_backend.forget_choices()
            with pytest.raises(gn.BackendRefusedError, match=re.escape(words)):
                norm(x)
            assert torch.isfinite(gn.GraphNorm(3)(x)).all()
        status = next(status for status in gn.backends() if status.name == "triton")
        assert (status.available, status.detail) == (False, "triton is not installed")
    finally:
        kernels_backend.forget_choices()


def test_the_status_says_that_it_is_interpreted() -> None:
    status = next(status for status in gn.backends() if status.name == "triton")
    assert status.available
    assert "interpreted on the CPU, for tests only" in status.detail


def test_wrong_tensors_never_reach_the_kernels(launches: list[Any]) -> None:
    right = call(1, 1, 1, "shared")
    forward = {**right, "residual": None, "moment": False}
    statistics = torch.empty(2 * 4 * 9)
    backward = {**right, "grad_y": right["x"], "statistics": statistics, "needs": [True] * 4}
    for name, bad in (
        ("ptr", right["ptr"].int()),
        ("ptr", torch.arange(0)),
        ("ptr", torch.arange(9)[::2]),
        ("order", torch.arange(5)),
        ("seed", torch.tensor(1.0)),
        ("seed", torch.tensor([1, 2])),
        ("weight", torch.ones(8)),
        ("weight", torch.ones(2, 9)),
        ("mean_scale", torch.ones(1, 9)),
        ("bias", torch.ones(9, device="meta")),
        ("groups", 2),
        ("x", right["x"].long()),
        ("residual", torch.ones(5, 9)),
        ("residual", right["x"].double()),
        ("grad_y", right["x"].half()),
        ("statistics", statistics[1:]),
        ("statistics", statistics.double()),
    ):
        for run, arguments in ((run_forward, forward), (run_backward, backward)):
            if name in arguments:
                with pytest.raises(ValueError, match=f"^{name} is"):
                    run(triton, **{**arguments, name: bad})
    nodes, sources = torch.zeros(6, dtype=torch.int64), torch.zeros(9, dtype=torch.int64)
    edge: dict[str, Any] = {
        "x": torch.zeros(5, 2),
        "ptr": nodes,
        "index": sources,
        "order": None,
        "node_scale": None,
        "edge_weight": torch.ones(9),
        "edge_features": None,
    }
    for name, wrong in (
        ("ptr", sources),
        ("index", sources.int()),
        ("order", nodes),
        ("node_scale", torch.ones(6)),
        ("edge_weight", torch.ones(8)),
        ("x", torch.zeros(5, 2, 1)),
        ("edge_features", torch.ones(9, 2)),
    ):
        with pytest.raises(ValueError, match=f"^{name} "):
            run_aggregate(triton_aggregate, **{**edge, name: wrong})
        with pytest.raises(ValueError, match=f"^({name} |expected either edge_weight|grad_y )"):
            run_aggregate_backward(
                triton_aggregate,
                grad_y=torch.zeros(5, 2),
                needs=[True, True],
                **{**edge, name: wrong},
            )
    assert not launches
    assert like([run_aggregate(cpu_aggregate, **edge)])


def test_importing_graphnorms_does_not_import_triton() -> None:
    code = "import graphnorms, sys; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
