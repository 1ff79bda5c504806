from __future__ import annotations

import itertools
import multiprocessing
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.kernels import backend as kernels_backend
from graphnorms.kernels.cpu import extension
from graphnorms.kernels.cpu import normalize as cpu
from graphnorms.kernels.domain_cells import Cells
from graphnorms.kernels.point import Call, Point
from graphnorms.segments import Segments
from tests.operands import run_backward, run_forward

DOMAINS = [None, gn.Over.NODES, gn.Over.CHANNELS, gn.Over.BOTH]


def kernels_have(center: gn.Over | None, scale: gn.Over | None, shared: bool) -> bool:
    """Whether kernels, C++ or Triton, have this point of the equation: all that layers use."""
    if gn.Over.CHANNELS in (center, scale):
        return {center, scale} <= {None, gn.Over.CHANNELS} and not shared
    if center is gn.Over.BOTH:
        return scale is not gn.Over.NODES and not shared
    return True


@pytest.mark.parametrize("shared", [False, True], ids=["plain", "mean_scale"])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("center", "scale"), list(itertools.product(DOMAINS, DOMAINS)))
def test_every_point_of_the_equation(
    center: gn.Over | None, scale: gn.Over | None, groups: int, shared: bool, backend: str
) -> None:
    """A backend agrees with the equation written with explicit cells, or refuses in words."""
    generator = torch.Generator().manual_seed(0)
    batch = torch.tensor([0, 0, 0, 2, 2, 1, 2, 2, 2])
    x = torch.randn(9, 6, generator=generator, dtype=torch.float64).requires_grad_()
    weight, bias, alpha = torch.rand(3, 6, generator=generator, dtype=torch.float64) + 0.5
    arguments = {
        "center": center,
        "scale": scale,
        "groups": groups,
        "weight": weight,
        "bias": bias,
        "mean_scale": alpha if shared else None,
        "backend": backend,
    }
    segments = Segments.from_batch(batch, 4)
    if shared and center is None:
        with pytest.raises(ValueError, match="choose a center"):
            gn.segment_normalize(x, segments, **arguments)
        return
    if backend != "reference" and not kernels_have(center, scale, shared):
        with pytest.raises(gn.BackendRefusedError, match=f"backend '{backend}' cannot run this: "):
            gn.segment_normalize(x, segments, **arguments)
        return
    y = gn.segment_normalize(x, segments, **arguments)

    def cell_mean(values: Tensor, over: gn.Over) -> Tensor:
        node = torch.arange(9) if over is gn.Over.CHANNELS else batch
        group = torch.arange(6) if over is gn.Over.NODES else torch.arange(6) // (6 // groups)
        cell = node.unsqueeze(1) * 6 + group  # (rows, channels)
        means = [values[cell == c].mean() for c in range(60) if (cell == c).any()]
        number = torch.unique(cell, return_inverse=True)[1]
        return torch.stack(means)[number]

    o = x
    if center is not None:
        o = x - (alpha if shared else 1.0) * cell_mean(x, center)
    if scale is not None:
        o = o / (cell_mean(o * o, scale) + 1e-5).sqrt()
    expected = weight * o + bias
    assert torch.allclose(y, expected, rtol=1e-12, atol=1e-12)
    grad_y = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    (mine,) = torch.autograd.grad(y, x, grad_y)
    (other,) = torch.autograd.grad(expected, x, grad_y)
    assert torch.allclose(mine, other, rtol=1e-11, atol=1e-11)


def test_auto_takes_the_first_backend_without_a_refusal() -> None:
    def pick(dtype: torch.dtype, wanted: str = "auto") -> kernels_backend.Backend | None:
        return kernels_backend.pick("cpu", dtype, gn.Over.NODES, None, False, False, wanted)

    assert pick(torch.float32) is kernels_backend.CPU
    assert pick(torch.float8_e5m2) is None  # the reference
    assert pick(torch.float32, "reference") is None
    with pytest.raises(gn.BackendRefusedError, match=r"x is torch\.float8_e5m2, the kernels have"):
        pick(torch.float8_e5m2, "cpu")
    with pytest.raises(ValueError, match="unknown backend 'cpi'; did you mean cpu"):
        pick(torch.float32, "cpi")


def test_without_the_extension_the_reference_runs_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reason = "the C++ kernels are not installed"
    monkeypatch.setattr(extension, "unavailable", lambda: reason)
    kernels_backend.forget_choices()
    try:
        status = gn.backends()[0]
        assert not status.available
        assert status.detail == reason
        assert torch.isfinite(gn.GraphNorm(3)(torch.randn(5, 3))).all()
        with pytest.raises(gn.BackendRefusedError, match=re.escape(reason)):
            gn.GraphNorm(3, backend="cpu")(torch.randn(5, 3))
    finally:
        kernels_backend.forget_choices()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.ones(3)}, r"weight is \(3,\), expected one number per channel of x"),
        ({"groups": 4}, "groups is 4, which does not divide the 6 channels"),
        ({"activation": "rely"}, "unknown activation 'rely'; did you mean relu"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, object], message: str) -> None:
    x = torch.zeros(5, 6)
    arguments = {"center": gn.Over.BOTH, "scale": gn.Over.BOTH} | change
    with pytest.raises(ValueError, match=message):
        gn.segment_normalize(x, Segments.single(5), **arguments)  # type: ignore[arg-type]


@pytest.mark.skipif(extension.unavailable() is not None, reason="no kernels to protect")
@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [
        ("ptr", torch.tensor([0, 5]).int(), "ptr is"),
        ("ptr", torch.tensor([0.0, 5.0]), "ptr is"),
        ("ptr", torch.tensor([[0, 5], [0, 5]]), "ptr is"),
        ("ptr", torch.arange(4)[::2], "ptr is"),
        ("ptr", torch.arange(0), "ptr is empty"),
        ("ptr", torch.tensor([1, 5]), "ptr does not begin with 0"),
        ("ptr", torch.tensor([0, 4, 2, 5]), "ptr does not ascend"),
        ("ptr", torch.tensor([0, 6]), "ptr ends behind what it divides"),
        ("order", torch.arange(4), "order is"),
        ("order", torch.arange(5) + 1, "order has an id outside"),
        ("order", torch.arange(5) - 1, "order has an id outside"),
        ("seed", torch.tensor(1.0), "seed is"),
        ("seed", torch.tensor([1, 2]), "seed is"),
        ("mean_scale", torch.ones(1, 6), "mean_scale is"),
        ("weight", torch.ones(5), "weight is"),
        ("weight", torch.ones(2, 6), "weight is"),
        ("bias", torch.ones(6, device="meta"), "bias is"),
        ("residual", torch.ones(5, 5), "residual is"),
        ("residual", torch.ones(5, 6).double(), "residual is"),
        ("x", torch.ones(5, 6).to(torch.float8_e5m2), "float8"),
        ("statistics", torch.ones(11), "statistics is"),
        ("statistics", torch.ones(24)[::2], "statistics is"),
        ("statistics", torch.ones(12).double(), "statistics is"),
        ("grad_y", torch.ones(4, 6), "grad_y is"),
        ("grad_y", torch.ones(5, 6).half(), "grad_y is"),
    ],
)
def test_wrong_tensors_never_reach_the_kernels(name: str, bad: Tensor, words: str) -> None:
    right: dict[str, Any] = {
        "x": torch.zeros(5, 6),
        "ptr": torch.tensor([0, 5]),
        "order": None,
        "seed": None,
        "mean_scale": None,
        "weight": None,
        "bias": None,
        "center": 1,
        "scale": 1,
        "groups": 1,
        "eps": 1e-5,
        "activation": 0,
        "dropout": 0.5,
        "masked": False,
    }
    forward = right | {"residual": None, "moment": False}
    backward = right | {
        "grad_y": torch.zeros(5, 6),
        "statistics": torch.zeros(36),
        "needs": [True] * 4,
    }
    run_forward(cpu, **forward)
    run_backward(cpu, **backward)
    for run, arguments in ((run_forward, forward), (run_backward, backward)):
        if name in arguments:
            with pytest.raises(ValueError, match=words):
                run(cpu, **arguments | {name: bad})


def test_strange_features_are_refused() -> None:
    for x in (torch.zeros(5), torch.zeros(5, 0), torch.zeros(5, 6).long()):
        with pytest.raises(ValueError, match=r"expected \(rows, channels\) of a floating dtype"):
            gn.segment_normalize(x, Segments.single(5), center=gn.Over.NODES, scale=None)


def _normalize_in_child(results: Any, x: Tensor) -> None:
    # torch's own parallel operations hang here: the features come from the parent, and memory
    # is not filled with NaN.
    torch.use_deterministic_algorithms(False)
    with torch.no_grad():
        results.put(gn.GraphNorm(8)(x)[-1].tolist())


def test_works_after_fork(threads: None) -> None:
    """GNU's OpenMP hangs in a forked child that asks for threads; the kernels do not."""
    torch.set_num_threads(2)
    x = torch.arange(400_000.0).view(-1, 8)
    expected = gn.GraphNorm(8)(x).detach()  # starts the threads of the parent
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        child = context.Process(target=_normalize_in_child, args=(results, x))
        child.start()
    try:
        assert results.get(timeout=60) == expected[-1].tolist()
    finally:
        child.join(10)
        child.kill()


def test_first_of_cells_is_zero_for_empty_segments() -> None:
    segments = Segments.from_counts(torch.tensor([0, 2, 0]))
    first = Cells(segments, gn.Over.NODES).first(torch.ones(2, 3))
    assert first.tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 0]]


@pytest.mark.skipif(extension.unavailable() is not None, reason="no kernels to refuse")
def test_an_older_torch_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.Tensor, "__dlpack_c_exchange_api__")
    extension.unavailable.cache_clear()
    try:
        reason = extension.unavailable()
    finally:
        monkeypatch.undo()
        extension.unavailable.cache_clear()
    assert reason is not None
    assert reason.startswith(f"torch is {torch.__version__}, expected 2.11")


class OfOneSet:
    """The extension, compiled for one instruction set alone."""

    openmp = True

    def __init__(self, usable: list[str]) -> None:
        self.usable = usable

    def instruction_sets(self) -> list[str]:
        return self.usable

    def missing_instruction_sets(self) -> list[str]:
        return ["avx2", "baseline"]

    def instruction_set(self) -> str:
        return self.usable[0]

    def use_exchange(self, tensor: type) -> None: ...

    def after_fork_in_child(self) -> None: ...


@pytest.fixture
def compiled_for(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[str]], None]]:
    def install(usable: list[str]) -> None:
        name = "graphnorms.kernels.cpu._kernels"
        monkeypatch.setitem(sys.modules, name, OfOneSet(usable))
        monkeypatch.setattr(os, "register_at_fork", lambda **hooks: None, raising=False)
        extension.kernels.cache_clear()
        extension.unavailable.cache_clear()

    yield install
    monkeypatch.undo()
    extension.kernels.cache_clear()
    extension.unavailable.cache_clear()


def test_sets_that_were_not_compiled_are_named(compiled_for: Callable[[list[str]], None]) -> None:
    compiled_for(["avx512"])
    assert extension.unavailable() is None
    assert extension.description().startswith("avx512 (built without avx2, baseline), ")


def test_kernels_of_another_processor_are_not_used(
    compiled_for: Callable[[list[str]], None],
) -> None:
    compiled_for([])
    reason = extension.unavailable()
    assert reason is not None
    assert reason.startswith("the C++ kernels do not load: install graphnorms here")
    assert "built without avx2, baseline, and this processor has none of the others" in reason


@pytest.mark.skipif(extension.unavailable() is not None, reason="no kernels to choose from")
def test_a_set_that_is_not_there_is_refused_in_words() -> None:
    kernels = extension.kernels()
    with pytest.raises(ValueError, match=kernels.instruction_sets()[-1]):
        kernels.use_instruction_set("sse9")
    assert not set(kernels.instruction_sets()) & set(kernels.missing_instruction_sets())


@pytest.mark.skipif(extension.unavailable() is not None, reason="no kernels to protect")
def test_what_is_no_plain_tensor_is_refused_and_not_read() -> None:
    x, ptr = torch.zeros(5, 6), torch.tensor([0, 5])
    run = extension.kernels().normalize_forward
    whole = Call(Segments(ptr, None, 5), Point(gn.Over.NODES, gn.Over.NODES))
    call = ((None,) * 3, whole, False, 1)
    y, statistics = torch.full((5, 6), torch.nan), torch.zeros(12)
    assert run(x, None, *call, y, statistics)
    assert torch.equal(y, x)
    for strange in (x.to("meta"), x.to_sparse(), x.numpy(), "x", torch.zeros(6, 5).T):
        assert not run(strange, None, *call, y, statistics)
    for strange in (torch.zeros(6, 5).T, torch.zeros(5, 12)[:, ::2], torch.zeros(5, 6).half()):
        assert not run(x, None, *call, strange, statistics)


@pytest.mark.skipif(extension.unavailable() is not None, reason="the reference reads anything")
def test_what_a_transform_left_behind_is_normalized() -> None:
    kept: list[Tensor] = []

    def total(x: Tensor) -> Tensor:
        kept.append(x)
        return x.sum()

    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    torch.func.grad(total)(x)
    assert torch.equal(gn.GraphNorm(3)(kept[0]), gn.GraphNorm(3)(x))


@pytest.mark.skipif(extension.unavailable() is not None, reason="the reference needs no copies")
def test_gradients_of_parameters_with_gaps_and_of_another_dtype() -> None:
    generator = torch.Generator().manual_seed(0)
    segments = Segments.from_counts(torch.tensor([2, 3]))
    x = torch.randn(5, 6, generator=generator)
    grad_y = torch.randn(5, 6, generator=generator)
    weight = torch.rand(2, 12, generator=generator)[:, ::2].requires_grad_()
    bias = torch.rand(6, 2, generator=generator).bfloat16().T.requires_grad_()
    found = {}
    for backend in ("cpu", "reference"):
        y = gn.segment_normalize(
            x,
            segments,
            center=gn.Over.NODES,
            scale=gn.Over.NODES,
            weight=weight,
            bias=bias,
            backend=backend,
        )
        found[backend] = torch.autograd.grad(y, (weight, bias), grad_y)
    for mine, other in zip(*found.values(), strict=True):
        assert mine.dtype == other.dtype
        assert torch.allclose(
            mine.float(), other.float(), rtol=1e-2 if mine.element_size() == 2 else 1e-5
        )


def test_the_mean_of_a_cell_without_entries_is_zero() -> None:
    segments = Segments.from_batch(torch.tensor([0, 0, 2]), 4)
    x = torch.ones(3, 4)
    for over, cells in ((gn.Over.NODES, 4), (gn.Over.BOTH, 2)):
        found = Cells(segments, over, 2).mean(x)
        assert found.tolist() == [[1.0] * cells, [0.0] * cells] * 2
