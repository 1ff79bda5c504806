"""The kernel of the double backward, against autograd through plain torch in float64."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.bench.contenders import Contender
from graphnorms.bench.memory_use import kept_for_backward
from graphnorms.kernels import backend as backends
from graphnorms.kernels import derivatives
from graphnorms.kernels.point import ACTIVATIONS, Call, Point
from graphnorms.kernels.reference import segment_normalize
from graphnorms.segments import Segments
from graphnorms.testing import awkward_cases, tolerance
from tests.conftest import BACKENDS

NODES, ROW, BOTH = gn.Over.NODES, gn.Over.CHANNELS, gn.Over.BOTH
POINTS: list[dict[str, Any]] = [
    *({"center": over, "scale": over} for over in gn.Over),
    *({"center": over, "scale": None} for over in gn.Over),
    *({"center": None, "scale": over} for over in gn.Over),
    {"center": NODES, "scale": BOTH},
    {"center": None, "scale": None},
    *({"center": None, "scale": None, "function": name} for name in ("tanh", "erf")),
]
ASKED = {"x": (0,), "parameters": (1, 2, 3), "all": (0, 1, 2, 3)}
"""Which of the gradients of x, α, γ and β have a cotangent."""


@dataclasses.dataclass(frozen=True)
class Given:
    """Tensors of a call, and of its first and its second gradient."""

    segments: Segments
    x: Tensor
    grad_y: Tensor
    u: Tensor
    parameters: tuple[Tensor | None, ...]
    cotangents: tuple[Tensor | None, ...]

    def second(
        self, dtype: torch.dtype, asked: str, *, again: bool = False, **call: Any
    ) -> list[Tensor]:
        """The gradients of grad_y, x, α, γ and β, with a graph or without."""
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        rows = [t.detach().to(dtype).requires_grad_() for t in (self.grad_y, self.x)]
        given = [None if p is None else p.to(wide).requires_grad_() for p in self.parameters]
        mean_scale, weight, bias = given
        y = gn.segment_normalize(
            rows[1],
            self.segments,
            mean_scale=mean_scale,
            weight=weight,
            bias=bias,
            **call,
        )
        leaves = [t for t in (*rows, *given) if t is not None]
        present = [i for i, t in enumerate((rows[1], *given)) if t is not None]
        first = torch.autograd.grad(
            y, leaves[1:], rows[0], create_graph=True, materialize_grads=True
        )
        cotangents = [self.u.to(dtype), *self.cotangents]
        pairs = [
            (gradient, cotangents[i].to(gradient.dtype))
            for i, gradient in zip(present, first, strict=True)
            if i in ASKED[asked] and gradient.requires_grad
        ]
        if not pairs:
            return []
        gradients, of = zip(*pairs, strict=True)
        found = torch.autograd.grad(
            gradients, leaves, of, create_graph=again, materialize_grads=True
        )
        return [gradient.detach() for gradient in found]

    def check(
        self, found: list[Tensor], expected: list[Tensor], call: dict[str, Any], dtype: torch.dtype
    ) -> None:
        """Within rounding of the terms that are summed, which may cancel: 1/s stands in the
        gradient of grad_y, its square in the others; with α also the mean, as exact as x is."""
        x = self.x.double()
        of = Call(self.segments, Point(call["center"], call["scale"], groups=call["groups"]))
        with torch.no_grad():
            _, _, moment = segment_normalize(x, of, (self.parameters[0], None, None))
        counted = moment if call["scale"] in (None, ROW) else moment[self.segments.counts > 0]
        steep = float((counted.min() + of.eps).rsqrt().clamp(min=1)) if counted.numel() else 1.0
        sums = steep**2 * max(1, x.shape[0]) ** 0.5
        least = [steep, steep**2, sums, sums]
        if self.parameters[0] is not None:
            size = float(x.abs().max().clamp(min=1)) if x.numel() else 1.0
            least = [size * each for each in (*least[:2], sums * size, *least[2:])]
        for place, (one, other) in enumerate(zip(found, expected, strict=True)):
            inside = other.abs() < torch.finfo(one.dtype).max / 2  # of float16
            one, other = one[inside].double(), other[inside]
            if one.numel():
                scale = max(least[place], float(other.abs().max()))
                off = float((one - other).abs().max()) / scale
                assert off < 2 * tolerance(dtype, max(x.shape)), (call, place, off)


def given_for(
    segments: Segments, x: Tensor, point: dict[str, Any], *, own: bool = False, seed: int = 0
) -> Given:
    generator = torch.Generator().manual_seed(seed)
    channels = x.shape[1]

    def normal(*size: int, mean: float = 0.0) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64) + mean

    affine = (segments.num_segments, channels) if own else (channels,)
    shares: Any = None
    if point.get("function"):
        shares = (2,) if own else (1,)
    elif point["center"] is NODES:
        shares = (channels,)
    shapes = (shares, affine, affine)
    parameters = tuple(None if shape is None else normal(*shape, mean=0.5) for shape in shapes)
    cotangents = tuple(None if shape is None else normal(*shape) for shape in shapes)
    rows = [normal(*x.shape).to(x.dtype) for _ in range(2)]
    return Given(segments, x, *rows, parameters, cotangents)


SETTINGS = [
    dict(zip(("own", "masked", "dropout"), values, strict=True))
    for values in ((False, False, 0.0), (True, False, 0.3), (False, True, 0.0), (True, True, 0.3))
]


@functools.cache
def combinations(place: int) -> list[tuple[Given, dict[str, Any], str, list[Tensor]]]:
    """Every activation and cotangent at a point, by turns with the settings, and what is right."""
    found = []
    batch = torch.tensor([0, 3, 3, 1, 3, 0, 4, 3, 0, 4, 3, 0, 3, 1, 0, 4, 3, 3, 0, 4])
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 1
    turns = itertools.cycle(SETTINGS)
    for activation, asked in itertools.product(ACTIVATIONS, ASKED):
        setting = next(turns)
        segments = Segments.from_batch(batch, 6)  # the last one and another one are empty
        if setting["masked"]:
            segments = segments.with_mask(torch.arange(20) % 4 != 1)
        given = given_for(segments, x, POINTS[place], own=setting["own"])
        call = {
            **POINTS[place],
            "groups": 2,
            "eps": 0.1,
            "activation": activation,
            "dropout": setting["dropout"],
            "seed": torch.tensor(3) if setting["dropout"] else None,
        }
        expected = given.second(torch.float64, asked, backend="reference", **call)
        found.append((given, call, asked, expected))
    return found


def error(found: Tensor, expected: Tensor) -> float:
    scale = expected.abs().max().clamp(min=1e-3) if expected.numel() else torch.ones(())
    return float(((found.double() - expected).abs().max() if found.numel() else scale * 0) / scale)


@pytest.fixture
def kernel_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the closed form the kernel must do it."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError("the closed form was asked")

    monkeypatch.setattr(derivatives, "double_backward", refuse)


ON_CPU = [name for name in BACKENDS if name.startswith("cpu")]


@pytest.mark.parametrize("backend", ON_CPU, indirect=True)
@pytest.mark.parametrize("place", range(len(POINTS)))
def test_against_autograd(place: int, backend: str, kernel_alone: None) -> None:
    for given, call, asked, expected in combinations(place):
        found = given.second(torch.float64, asked, backend=backend, **call)
        errors = [error(*pair) for pair in zip(found, expected, strict=True)]
        assert max(errors, default=0) < 1e-12, (call, asked, errors)


def test_the_closed_form() -> None:
    """What a third derivative, and a device without the kernel, is computed from."""
    for given, call, asked, expected in itertools.chain.from_iterable(
        map(combinations, range(len(POINTS)))
    ):
        found = given.second(torch.float64, asked, again=True, backend="cpu", **call)
        errors = [error(*pair) for pair in zip(found, expected, strict=True)]
        assert max(errors, default=0) < 1e-12, (call, asked, errors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_awkward_inputs(dtype: torch.dtype, kernel_alone: None) -> None:
    for turn, case in enumerate(awkward_cases(dtype)):
        point = POINTS[(turn + 3) % 10]
        rows, channels = case.x.shape
        batch = torch.zeros(rows, dtype=torch.int64) if case.batch is None else case.batch
        segments = Segments.from_batch(batch, case.batch_size)
        given = given_for(segments, case.x, point, own=turn % 2 == 1)
        call = {**point, "groups": 1 + (channels % 2 == 0), "activation": ACTIVATIONS[turn % 5]}
        found = given.second(dtype, "all", backend="cpu", **call)
        expected = given.second(torch.float64, "all", backend="reference", **call)
        given.check(found, expected, call, dtype)


def test_large_segments_the_same_bits_for_every_number_of_threads(threads: None) -> None:
    """Segments of several chunks, and as much work as several threads are worth."""
    segments = Segments.from_counts(torch.tensor([10, 5000, 0, 300, 2, 4000]))
    x = torch.randn(9312, 12, generator=torch.Generator().manual_seed(2)) + 3
    for turn, point in enumerate(POINTS):
        given = given_for(segments, x, point, own=turn % 2 == 0)
        call = {**point, "groups": 2, "activation": ACTIVATIONS[turn % 5]}
        results = []
        for number in (1, 2):
            torch.set_num_threads(number)
            results.append(given.second(torch.float32, "all", backend="cpu", **call))
        assert all(map(torch.equal, *results)), point
        expected = given.second(torch.float64, "all", backend="reference", **call)
        given.check(results[0], expected, call, torch.float32)


def test_squares_beyond_float32() -> None:
    """The kernel says so, and the closed form runs: gradients are in the unit of their entries."""
    segments = Segments.from_counts(torch.tensor([10, 200, 5]))
    for size, point in itertools.product((1e17, 1e25), POINTS[:8]):
        x = torch.randn(215, 6, generator=torch.Generator().manual_seed(5)) * size
        given = given_for(segments, x, point)
        given = dataclasses.replace(given, u=given.u * size)
        call = {**point, "groups": 2, "activation": "silu"}
        if point["scale"] is None:
            continue
        found = given.second(torch.float32, "x", backend="cpu", **call)
        expected = given.second(torch.float64, "x", backend="reference", **call)
        for place, (one, other) in enumerate(zip(found, expected, strict=True)):
            unit = x.abs() if place == 1 else 1
            assert error(one * unit, other * unit) < 1e-4, (point, size, place)


@pytest.mark.parametrize("over", list(gn.Over))
def test_nan_stays_in_its_cell(over: gn.Over) -> None:
    segments = Segments.from_counts(torch.tensor([4, 5, 200]))
    x = torch.randn(209, 6, generator=torch.Generator().manual_seed(3))
    broken = x.clone()
    broken[6, 3] = torch.nan
    inside = torch.zeros(209, 6, dtype=torch.bool)
    inside[{NODES: slice(4, 9), ROW: slice(6, 7), BOTH: slice(4, 9)}[over]] = True
    inside[:, {NODES: [0, 1, 2, 4, 5], ROW: [0, 1, 2], BOTH: [0, 1, 2]}[over]] = False
    for activation in ACTIVATIONS:
        call = {"center": over, "scale": over, "groups": 2, "activation": activation}
        found = []
        for features in (broken, x):
            given = given_for(segments, features, call, own=True)
            found.append(given.second(torch.float32, "x", backend="cpu", **call)[:2])
        for one, other in zip(*found, strict=True):
            assert torch.equal(one[~inside], other[~inside])
        assert found[0][1][inside].isnan().all()


def test_what_is_kept_and_computed_for_a_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two copies of x and the statistics; no gradient that the force does not use."""
    asked: list[list[bool]] = []

    def watched(*arguments: Any) -> Any:
        asked.append(arguments[-1])
        return backends.CPU.backward(*arguments)

    monkeypatch.setitem(
        backends.KERNELS, "cpu", dataclasses.replace(backends.CPU, backward=watched)
    )
    backends.forget_choices()
    batch = torch.arange(1000) // 25
    for layer in (gn.LayerNorm(64, mode="node"), gn.RMSNorm(64), gn.GraphNorm(64)):

        def force(x: Tensor, layer: Any = layer) -> Tensor:
            y = layer(x, batch, 40)
            (found,) = torch.autograd.grad((y * y).sum(), x, create_graph=True)
            return found

        x = torch.randn(1000, 64)
        besides = [batch, *layer.parameters()]
        # Of y * y autograd keeps y.
        kept = kept_for_backward(Contender("", force), x, besides) / x.nbytes
        assert 2 < kept - 1 < 2.1
        asked.clear()
        leaf = x.clone().requires_grad_()
        torch.autograd.grad(force(leaf).square().sum(), [leaf, *layer.parameters()])
        assert asked[0] == [True, False, False, False]
        assert all(asked[1][place] for place in (0, 2))
    backends.forget_choices()


def test_the_operator_is_differentiated_again() -> None:
    """As in a traced graph that is run with gradients; weight and bias depend on x."""
    segments = Segments.from_counts(torch.tensor([4, 0, 3]))
    operators = torch.ops.graphnorms
    for number, needs in ((1, [True] * 5), (4, [True, True, True, True, False])):
        call = (segments.ptr, None, None, None, False, 1, 1, 1, 1, 1, 0.1, number, 0.0, 0)

        def third(grad_y: Tensor, x: Tensor, p: Tensor, call=call, needs=needs) -> Any:
            given = (torch.tanh(x[0]), 1 + x[1] * x[1], x[2])
            statistics = operators.normalize_forward(x, None, *given, *call, False)[1]
            return operators.normalize_double_backward(
                grad_y * x,
                x[3],
                p,
                None,
                grad_y,
                x,
                *given,
                statistics.detach(),
                *call,
                needs,
            )[: sum(needs)]

        generator = torch.Generator().manual_seed(4)
        inputs = [
            torch.randn(*size, generator=generator, dtype=torch.float64, requires_grad=True)
            for size in ((7, 2), (7, 2), (2,))
        ]
        assert torch.autograd.gradcheck(third, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(third, inputs, fast_mode=True)
