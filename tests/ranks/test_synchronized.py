"""Layers over two and three processes, against one process with the rows of all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

import graphnorms as gn
from graphnorms import Over
from graphnorms.layers.base import Norm
from graphnorms.testing import tolerance
from tests.norms import build_norm
from tests.ranks import cases
from tests.ranks.launch import launch

Ranks = list[dict[str, Tensor]]


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.full("three ranks"))])
def launched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every rank has left its results; all cases are run in one launch."""
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    launch("-m", "tests.ranks.worker", str(folder), ranks=request.param)
    return folder


@pytest.fixture(scope="module")
def ranks(launched: Path) -> Ranks:
    number = len(list(launched.glob("*.safetensors")))
    return [load_file(launched / f"rank{rank}.safetensors") for rank in range(number)]


def joined(ranks: Ranks, case: str, name: str, step: cases.Step) -> Tensor:
    """Rows of all ranks, in the order in which one process has them."""
    parts = [found[f"{case}: {name}"] for found in ranks]
    whole = torch.empty_like(step.x)
    for rank, part in enumerate(parts):
        whole[step.rank == rank] = part
    return whole


def off(got: Tensor, exact: Tensor) -> float:
    """The largest difference, relative to the largest entry where that is above 1."""
    assert got.shape == exact.shape
    if not got.numel():
        return 0.0
    return float((got.double() - exact).abs().max() / exact.abs().max().clamp(min=1))


@pytest.mark.parametrize("case", cases.CASES, ids=[case.name for case in cases.CASES])
def test_ranks_give_what_one_process_gives(case: cases.Case, ranks: Ranks) -> None:
    alone = cases.run(case, len(ranks), None)
    all_steps = list(cases.steps(case, len(ranks)))
    for name, value in alone.items():
        if name[0] in "xy" and name[1:].isdigit():
            step = all_steps[min(int(name[1:]), len(all_steps) - 1)]
            got = joined(ranks, case.name, name, step)
        elif name.startswith("grad"):
            # Local sums, which DistributedDataParallel then averages.
            got = torch.stack([found[f"{case.name}: {name}"] for found in ranks]).sum(0)
        else:
            first, *others = (found[f"{case.name}: {name}"] for found in ranks)
            assert all(torch.equal(first, other) for other in others), f"{name} differs"
            got = first
        assert off(got, value.double()) < 1e-9, name


@pytest.mark.parametrize("case", cases.PRECISION, ids=[case.name for case in cases.PRECISION])
def test_precision_does_not_suffer_from_a_mean(case: cases.Case, ranks: Ranks) -> None:
    (step,) = cases.steps(case, len(ranks))
    exact = cases.exact(case, len(ranks))
    for name, value in exact.items():
        got = joined(ranks, case.name, name, step)
        assert got.dtype == case.dtype
        counted = step.mask if case.masked else slice(None)
        allowed = 3 * tolerance(case.dtype, cases.ROWS * cases.CHANNELS)
        assert off(got[counted], value[counted]) < allowed, name


def test_the_primitive_takes_a_group(ranks: Ranks) -> None:
    (step,) = cases.steps(cases.PLAIN, len(ranks))
    parts = [found["primitive"] for found in ranks]
    alone = cases.primitive(step, None)
    for rank, part in enumerate(parts):
        assert off(part, alone[step.rank == rank]) < 1e-9


def test_nan_stays_in_its_cell(ranks: Ranks) -> None:
    (step,) = cases.steps(cases.PLAIN, len(ranks))
    alone = cases.primitive(cases.poisoned(step), None)
    clean = alone.isfinite()
    assert clean.any()
    assert not clean.all()
    for rank, found in enumerate(ranks):
        here = step.rank == rank
        assert torch.equal(found["poisoned"].isfinite(), clean[here])
        assert off(found["poisoned"][clean[here]], alone[here][clean[here]]) < 1e-9


def test_every_rank_drops_by_its_own_seed(ranks: Ranks) -> None:
    (step,) = cases.steps(cases.PLAIN, len(ranks))
    kept = torch.empty_like(step.x)
    for rank in range(len(ranks)):
        mine = step.of_rank(rank)
        kept[step.rank == rank] = cases.dropped(rank, mine, 0.4)
    x = step.x.clone().requires_grad_()
    y = gn.GraphNorm(cases.CHANNELS, dtype=torch.float64)(x, step.ids, cases.GRAPHS) * kept
    y.backward(step.grad_y)
    assert x.grad is not None
    assert off(joined(ranks, "dropout", "y0", step), y.detach()) < 1e-9
    assert off(joined(ranks, "dropout", "x0", step), x.grad) < 1e-9


def test_one_collective_each_way(ranks: Ranks) -> None:
    # The first layer that meets a batch asks whether the ranks have as many graphs.
    for found in ranks:
        assert found["collectives"].tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("segments", "segments, expected one number"),
        ("kernel", "backend 'cpu' cannot run this"),
        ("func", "cannot run under torch.func"),
        ("second", "cannot be differentiated again"),
        ("single", "Expected more than 1 value per channel"),
    ],
)
def test_every_rank_raises_in_one_line(name: str, expected: str, launched: Path) -> None:
    for path in launched.glob("rank*.txt"):
        lines = dict(line.split(" ", 1) for line in path.read_text().splitlines())
        assert len(lines) == 5
        assert expected in lines[name]


@pytest.mark.parametrize("layer", [gn.GraphNorm, gn.BatchNorm, gn.PowerNorm])
def test_a_group_that_is_not_initialized(layer: type[torch.nn.Module]) -> None:
    assert not dist.is_initialized()
    with pytest.raises(RuntimeError, match=r"call torch\.distributed\.init_process_group"):
        layer(3, process_group=True)(torch.randn(4, 3))


def test_a_group_of_one_runs_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    x, ids = torch.randn(9, 4), torch.arange(9) % 2
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        for make in (gn.GraphNorm, gn.BatchNorm, gn.InstanceNorm):
            assert torch.equal(make(4, process_group=True)(x, ids, 2), make(4)(x, ids, 2))
        with pytest.raises(ValueError, match="Expected more than 1 value"):
            gn.BatchNorm(4, process_group=True)(x[:1])
    finally:
        dist.destroy_process_group()


def test_running_averages_need_no_group() -> None:
    layer = gn.BatchNorm(3, process_group="world").eval()
    plain = gn.BatchNorm(3).eval()
    x = torch.randn(4, 3)
    assert torch.equal(layer(x), plain(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda: gn.LayerNorm(4, mode="node", process_group=True),
        lambda: gn.GroupNorm(4, 2, process_group=True),
        lambda: gn.CustomNorm(4, "node", "node", process_group=True),
    ],
)
def test_statistics_of_single_rows_are_not_shared(make: object) -> None:
    with pytest.raises(ValueError, match="no statistic over rows that ranks could share"):
        make()  # type: ignore[operator]


def test_every_norm_that_can_be_shared_is_and_is_run_here() -> None:
    built = {type(case.make(None)) for case in cases.CASES}
    for name, row in gn.CATALOG.items():
        layer = build_norm(name, 8)
        over_rows = {row.point.center, row.point.scale} & {Over.NODES, Over.BOTH}
        if over_rows:
            assert layer.statistics_of == ("graph" if row.segment == "graph" else "batch")
        if isinstance(layer, Norm) and layer.statistics_of:
            assert type(layer) in built, name
            layer.process_group = True
        elif isinstance(layer, Norm):
            with pytest.raises(ValueError, match="no statistic over rows"):
                layer.process_group = True


def test_what_is_no_group() -> None:
    with pytest.raises(ValueError, match="process_group is 'all', expected None, True, 'world'"):
        gn.GraphNorm(3, process_group="all")
