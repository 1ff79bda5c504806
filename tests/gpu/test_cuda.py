"""On a GPU: the suite of the kernels as it is, and what only a GPU can show. Skips without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.adjacency import Adjacency
from graphnorms.kernels import Over
from graphnorms.layers import CATALOG
from graphnorms.models import GNN, MODELS, ModelConfig
from graphnorms.segments import Segments
from graphnorms.testing import backend_checks, check_backend, tolerance
from tests import waiting
from tests.norms import build_norm
from tests.unit.kernels.test_double_backward import POINTS, Given, combinations, error

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.timeout(3600),  # hundreds of kernels are compiled at their first call
]
CHECKS = tuple(backend_checks._CHECKS)
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
ALONE = [name for name, row in CATALOG.items() if not row.needs]


def large(rows: int, channels: int, segments: int, dtype: torch.dtype) -> tuple[Tensor, Segments]:
    """Features far from 0, and segments of lengths from 0 to much more than a chunk."""
    generator = torch.Generator("cuda").manual_seed(0)
    cuts = torch.randint(0, rows + 1, (segments - 1,), generator=generator, device="cuda")
    ends = torch.tensor([0, rows], device="cuda")
    ptr = torch.cat([cuts, ends]).sort().values
    x = torch.randn(rows, channels, generator=generator, device="cuda") + 30
    return x.to(dtype), Segments.from_ptr(ptr, num_rows=rows)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_battery(dtype: torch.dtype, check: str) -> None:
    others = tuple(name for name in CHECKS if name != check)
    check_backend("triton", dtypes=(dtype,), device="cuda", skip=others)


@pytest.mark.parametrize("name", ALONE)
def test_every_norm_of_the_catalogue_runs_as_on_the_cpu(name: str) -> None:
    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(0)) + 1
    batch = torch.randint(0, 5, (60,), generator=torch.Generator().manual_seed(1))
    grad_y = torch.randn(60, 6, generator=torch.Generator().manual_seed(2))
    results = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        layer = build_norm(name, 6).to(device)
        leaf = x.to(device).requires_grad_()
        y = layer(leaf, batch.to(device), 5)
        grads = torch.autograd.grad(y, [leaf, *layer.parameters()], grad_y.to(device))
        results.append([t.detach().cpu() for t in (y, *grads)])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_auto_takes_triton() -> None:
    x = torch.randn(9, 4, device="cuda")
    auto, by_name = (gn.GraphNorm(4, backend=b).cuda()(x) for b in ("auto", "triton"))
    assert torch.equal(auto, by_name)
    with pytest.raises(gn.BackendRefusedError, match="x is on cuda"):
        gn.GraphNorm(4, backend="cpu").cuda()(x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("center", "scale"),
    [
        (Over.NODES, Over.NODES),
        (Over.NODES, Over.BOTH),
        (Over.BOTH, Over.BOTH),
        (Over.CHANNELS, Over.CHANNELS),
        (None, Over.CHANNELS),
        (Over.NODES, None),
    ],
)
@pytest.mark.parametrize("segments", [1, 300, 200_000])
def test_large_sizes(
    center: Over | None, scale: Over | None, segments: int, dtype: torch.dtype
) -> None:
    x, parts = large(600_000, 96, segments, dtype)
    weight, bias = torch.rand(2, 96, device="cuda", dtype=torch.float32).unbind()
    grad_y = torch.randn_like(x)

    def results(x: Tensor, backend: str) -> list[Tensor]:
        leaves = [t.detach().to(x.dtype if t is x else t.dtype) for t in (x, weight, bias)]
        leaves = [t.requires_grad_() for t in leaves]
        y = gn.segment_normalize(
            leaves[0],
            parts,
            center=center,
            scale=scale,
            weight=leaves[1],
            bias=leaves[2],
            activation="silu",
            backend=backend,
        )
        first = torch.autograd.grad(y, leaves, grad_y.to(y.dtype), create_graph=True)
        return [y.detach(), *(grad.detach() for grad in first), *second(first, leaves)]

    def second(first: tuple[Tensor, ...], leaves: list[Tensor]) -> list[Tensor]:
        """Of the gradient of x, as a force step has it."""
        found = torch.autograd.grad(first[0], leaves, grad_y.flip(0).to(first[0].dtype))
        return [grad.detach() for grad in found]

    exact = results(x.double(), "reference")
    ours = results(x, "triton")
    again = results(x, "triton")
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))
    allowed = 4 * tolerance(dtype, 600_000)
    # 1/s is in the gradient of x, its square in what is differentiated again.
    steep = 316 if segments == 200_000 else 10
    for place, (got, expected) in enumerate(zip(ours, exact, strict=True)):
        magnified = steep**2 if place > 3 else 316 if got.shape == x.shape else 1
        size = expected.abs().max().clamp(min=1) * magnified
        assert (got.double() - expected).abs().max() <= allowed * size


@pytest.mark.parametrize("place", range(len(POINTS)))
def test_second_derivatives(place: int) -> None:
    """Activations, masks, dropout, own parameters and cotangents by turns, in float64."""

    def there(tensors: Any) -> Any:
        return tuple(None if tensor is None else tensor.cuda() for tensor in tensors)

    for given, call, asked, expected in combinations(place)[place % 5 :: 5]:
        x, grad_y, u = there((given.x, given.grad_y, given.u))
        others = (there(given.parameters), there(given.cotangents))
        moved = Given(given.segments.to("cuda"), x, grad_y, u, *others)
        seed = {"seed": None if call["seed"] is None else call["seed"].cuda()}
        found = moved.second(torch.float64, asked, backend="triton", **{**call, **seed})
        errors = [error(one.cpu(), other) for one, other in zip(found, expected, strict=True)]
        assert max(errors, default=0) < 1e-12, (call, asked, errors)


def test_more_entries_than_int32_counts() -> None:
    if torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("needs 24 GiB of memory")
    rows = 2**31 // 64 + 1000
    x = torch.ones(rows, 64, device="cuda", dtype=torch.bfloat16)
    x[-500:] = torch.randn(500, 64, device="cuda").bfloat16()
    ptr = torch.tensor([0, rows - 500, rows], device="cuda")
    y = gn.InstanceNorm(64).cuda()(x, Segments.from_ptr(ptr, num_rows=rows))
    expected = gn.InstanceNorm(64)(x[-500:].cpu())
    torch.testing.assert_close(y[-500:].cpu(), expected, rtol=2e-2, atol=2e-2)
    assert not y[: rows - 500].any()


def test_nothing_waits_for_the_device() -> None:
    x, parts = large(10_000, 32, 50, torch.float32)
    layer = gn.GraphNorm(32, activation="gelu", dropout=0.5).cuda()
    x.requires_grad_()

    def step() -> None:
        (force,) = torch.autograd.grad(layer(x, parts).sum(), x, create_graph=True)
        force.square().sum().backward()

    step()
    with waiting.refused():
        step()


def recorded(step: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """Record a step in a CUDA graph, after it has run."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def test_in_a_cuda_graph() -> None:
    x, parts = large(5_000, 32, 7, torch.float32)
    layer = gn.GraphNorm(32).cuda()
    leaf = x.clone().requires_grad_()
    found: dict[str, Any] = {}

    def step() -> None:
        found["y"] = layer(leaf, parts)
        (found["grad"],) = torch.autograd.grad(found["y"], leaf, x)

    step()
    expected = {name: value.detach().clone() for name, value in found.items()}
    recorded(step).replay()
    for name, value in expected.items():
        assert torch.equal(found[name], value)


def test_a_cuda_graph_reads_the_batch_that_is_there() -> None:
    """Segments that were derived before, or while recording, are not those of another batch."""
    generator = torch.Generator("cuda").manual_seed(0)
    first, second = (
        torch.randint(0, 9, (500,), generator=generator, device="cuda") for _ in range(2)
    )
    x = torch.randn(500, 16, generator=generator, device="cuda")
    layer, batch = gn.InstanceNorm(16).cuda(), first.clone()
    found: dict[str, Tensor] = {}

    def step() -> None:
        found["y"] = layer(x, batch, 9)

    graph = recorded(step)
    batch.copy_(second)
    graph.replay()
    assert torch.equal(found["y"], layer(x, second, 9))
    assert torch.equal(layer(x, batch, 9), layer(x, second, 9))


@pytest.mark.parametrize("batch", ["one graph", "no batch", "many graphs"])
def test_compiled(batch: str) -> None:
    """pytorch#191571: a scatter of one segment and its gather, compiled, read zeros."""
    x = torch.randn(50, 16, device="cuda")
    vector = {
        "one graph": torch.zeros(50, dtype=torch.int64, device="cuda"),
        "no batch": None,
        "many graphs": torch.arange(50, device="cuda") // 4,
    }[batch]
    size = 13 if batch == "many graphs" else 1
    layer = gn.GraphNorm(16, activation="relu").cuda()
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True)
    results = []
    for call in (compiled, layer):
        leaf = x.clone().requires_grad_()
        y = call(leaf, vector, size)
        results.append([y, *torch.autograd.grad(y, [leaf, *layer.parameters()], x)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "scaled", "weighted", "features"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_aggregation(kind: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    nodes, number, channels = 20_000, 100_000, 70
    edge_index = torch.randint(0, nodes, (2, number), generator=generator)
    edge_index[1, :3000] = 5  # a hub
    adjacency = Adjacency.from_edge_index(edge_index, nodes).to("cuda")
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = torch.randn(nodes, channels, generator=generator).to("cuda", dtype)
    given: dict[str, Tensor] = {}
    if kind == "scaled":
        given["node_scale"] = torch.rand(nodes, generator=generator).to("cuda", wide)
    if kind == "weighted":
        given["edge_weight"] = torch.randn(number, generator=generator).to("cuda", wide)
    if kind == "features":
        given["edge_features"] = torch.randn(number, channels, generator=generator).to(
            "cuda", dtype
        )
    grad_y = torch.randn_like(x)

    def results(backend: str, exact: bool) -> list[Tensor]:
        to = torch.float64 if exact else None
        leaf = x.to(to or x.dtype).requires_grad_()
        arguments = {name: t.to(to or t.dtype) for name, t in given.items()}
        learned = [t.requires_grad_() for n, t in arguments.items() if n != "node_scale"]
        y = gn.aggregate(leaf, adjacency, self_weight=1.5, backend=backend, **arguments)
        return [y.detach(), *torch.autograd.grad(y, [leaf, *learned], grad_y.to(y.dtype))]

    ours = results("triton", False)
    assert all(torch.equal(a, b) for a, b in zip(ours, results("triton", False), strict=True))
    for got, expected in zip(ours, results("reference", True), strict=True):
        allowed = 4 * tolerance(dtype, 3000) * channels**0.5
        assert (got.double() - expected).abs().max() <= allowed * expected.abs().max()


@pytest.mark.parametrize("place", ["given by ptr", "given by batch"])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_runs_as_on_the_cpu(name: str, place: str) -> None:
    """Graphs of several sizes, one without nodes, and nodes without edges."""
    counts = torch.tensor([9, 1, 0, 30, 6])
    edges = torch.tensor([[0, 1, 1, 2, 10, 11, 40, 41], [1, 0, 2, 1, 11, 10, 41, 42]])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(46, 5, generator=generator, dtype=torch.float64)
    features = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    config = ModelConfig(name=name, layers=2, hidden=8, dropout=0.0)
    results = []
    for device in ("cpu", "cuda"):
        model = GNN(config, "layer", 5, 2, edge_channels=3, seed=0).double().to(device)
        segments = Segments.from_counts(counts)
        if place == "given by batch":
            segments = Segments.from_batch(segments.index.to(device), 5)
        leaf = x.to(device).requires_grad_()
        adjacency = Adjacency.from_edge_index(edges.to(device), 46)
        y = model(leaf, adjacency, segments.to(device), features.to(device))
        grads = torch.autograd.grad(y.square().sum(), [leaf, *model.parameters()])
        results.append([t.detach().cpu() for t in (y, *grads)])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
