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
from graphnorms.kernels.point import ACTIVATIONS
from graphnorms.segments import Segments
from graphnorms.testing import awkward_cases, tolerance

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

    def second(self, dtype: torch.dtype, asked: str, **call: Any) -> list[Tensor]:
        """The gradients of grad_y, x, α, γ and β; those of parameters in their dtype."""
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
        wanted = [t for t in (rows[1], *given)]
        present = [i for i, t in enumerate(wanted) if t is not None]
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
        found = torch.autograd.grad(gradients, leaves, of, materialize_grads=True)
        return [gradient.detach() for gradient in found]


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


@pytest.mark.parametrize("place", range(len(POINTS)))
def test_against_autograd(place: int, backend: str, kernel_alone: None) -> None:
    if backend != "cpu":
        pytest.skip("the kernel is that of the CPU")
    for given, call, asked, expected in combinations(place):
        found = given.second(torch.float64, asked, backend="cpu", **call)
        errors = [error(*pair) for pair in zip(found, expected, strict=True)]
        assert max(errors, default=0) < 1e-12, (call, asked, errors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_awkward_inputs(dtype: torch.dtype, kernel_alone: None) -> None:
    """Rounding errors grow with 1/s², in which the second derivative is measured."""
    domains = POINTS[:6] + POINTS[9:10]
    for turn, case in enumerate(awkward_cases(dtype)):
        point = domains[turn % len(domains)]
        groups = 2 if case.x.shape[1] % 2 == 0 else 1
        if case.batch is None:
            segments = Segments.single(case.x.shape[0], case.x.device)
        else:
            segments = Segments.from_batch(case.batch, case.size)
        given = given_for(segments, case.x, point)
        call = {**point, "groups": groups}
        found = given.second(dtype, "all", backend="cpu", **call)
        expected = given.second(torch.float64, "all", backend="reference", **call)
        rows = segments.longest or int(segments.counts.max())
        for name, one, other in zip(("grad_y", "x", "p", "q", "r"), found, expected, strict=False):
            assert one.isfinite().all()
            print(case.name, point, name, error(one, other), tolerance(dtype, rows))
