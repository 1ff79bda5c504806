"""Whether a layer agrees with its formula: result and all gradients, in a dtype, on a backend."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.testing import AwkwardCase, awkward_cases, tolerance
from tests.conformance.oracle import kept_by_dropout, rows_of
from tests.conformance.rows import ON_BACKENDS, ROWS, arguments
from tests.conftest import BACKENDS
from tests.norms import DTYPES, randomize

APPLY: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda y: y,
    "relu": torch.relu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "gelu": lambda y: y * torch.erfc(-y * 0.5**0.5) / 2,
    "silu": lambda y: y * torch.sigmoid(y),
}
# Activation, share that is dropped, and whether there is a residual.
EPILOGUES: dict[str, tuple[str | None, float, bool]] = {
    **{str(activation): (activation, 0.0, False) for activation in APPLY},
    "residual": (None, 0.0, True),
    "relu+dropout": ("relu", 0.25, False),
    "silu+dropout+residual": ("silu", 0.4, True),
}
INPUTS = [case.name for case in awkward_cases(torch.float32)]
Combination = tuple[torch.dtype, str]
OLDER = [backend for backend in BACKENDS[1:] if backend.startswith("cpu:")]
"""Instruction sets beside the one of this processor: the same source, compiled anew."""


def meets(name: str, backend: str, given: str) -> bool:
    """Whether a layer meets an input on a backend: on older instruction sets by turns."""
    if given in ROWS[name].beyond or backend == "triton":
        return False
    turn = list(ROWS).index(name) + INPUTS.index(given)
    return backend not in OLDER or (turn + OLDER.index(backend)) % 2 == 0


EVERYWHERE = [
    (name, backend, given)
    for name, backend in ON_BACKENDS
    for given in INPUTS
    if meets(name, backend, given)
]
INTERPRETED = [name for name, backend in ON_BACKENDS if backend == "triton"]
ONE_CALL = ("batch", "layer", "layer-graph", "instance", "graph", "pair", "rms", "dyt")
"""Layers that are one call of a kernel; what is behind it is the same code for all."""


def combinations(name: str, given: str, *, thorough: bool = False) -> list[Combination]:
    """The dtypes and epilogues that one item goes through, one after the other.

    By turns over the inputs of a layer, so that it meets every dtype with every epilogue. Thorough
    is every dtype with one epilogue each.
    """
    names = list(EPILOGUES)
    every = [
        (dtype, names[(turn + i) % len(names)])
        for turn in range(len(names))
        for i, dtype in enumerate(DTYPES)
    ]
    inputs = [case for case in INPUTS if case not in ROWS[name].beyond]
    if not ROWS[name].one_row:
        inputs.remove("one row")
    share = len(DTYPES) if thorough else max(2, math.ceil(len(every) / len(inputs)))
    start = share * (INPUTS.index(given) if given not in inputs else inputs.index(given))
    start += 12 * list(ROWS).index(name)
    return [every[(start + place) % len(every)] for place in range(share)]


@functools.cache
def cases(dtype: torch.dtype) -> dict[str, AwkwardCase]:
    return {case.name: case for case in awkward_cases(dtype)}


class Exact:
    """What a layer gives in float64 before the activation, for one input in one dtype.

    It is the same for every backend and epilogue, so it is worked out once.
    """

    def __init__(self, name: str, given: str, dtype: torch.dtype) -> None:
        row, case = ROWS[name], cases(dtype)[given]
        rows, channels = case.x.shape
        self.wide = torch.promote_types(dtype, torch.float32)
        layer = row.make(channels, case.batch_size, dtype=self.wide)
        if row.randomize:
            randomize(layer)
        self.state = layer.state_dict()
        self.graphs = rows_of(case.batch, case.batch_size, rows)
        self.given = {
            key: value.to(self.wide).double() if value.is_floating_point() else value
            for key, value in row.given(case.batch, case.batch_size, rows).items()
        }
        self.x = case.x.double().detach().clone(memory_format=torch.contiguous_format)
        self.parameters = {
            key: value.detach().double().requires_grad_()
            for key, value in layer.named_parameters()
            if value.requires_grad
        }
        self.floats = {k: v.requires_grad_() for k, v in self.given.items() if floats(v)}
        p = {
            key.removeprefix("module.").removeprefix("layer."): value
            for key, value in self.parameters.items()
        }
        self.by_name = {key: value.detach() for key, value in p.items()}
        self.gain = row.largest_gain(self.x, self.graphs, self.by_name)
        self.spread = row.spread(self.x, self.graphs, self.by_name) if row.spread else 1.0
        self.length = row.length(self.x, self.graphs)
        self.leaves = [self.x.requires_grad_(), *self.parameters.values(), *self.floats.values()]
        self.names = ["x", *self.parameters, *self.floats]
        self.before = row.formula(self.x, self.graphs, p, self.given)

    def gradients(self, arriving: Tensor) -> list[Tensor]:
        """Those of x, the parameters and what else is given, zero where they do not matter."""
        if not self.before.requires_grad:
            return [torch.zeros_like(leaf) for leaf in self.leaves]
        return list(
            torch.autograd.grad(
                self.before,
                self.leaves,
                arriving,
                retain_graph=True,
                materialize_grads=True,
                allow_unused=True,
            )
        )


def floats(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


@functools.lru_cache(maxsize=8)
def exact_of(name: str, given: str, dtype: torch.dtype) -> Exact:
    return Exact(name, given, dtype)


def largest(values: Tensor, least: float = 0.0) -> float:
    return max(float(values.detach().abs().max()), least) if values.numel() else least


def disagreements(
    name: str, given: str, dtype: torch.dtype, epilogue: str, backend: str
) -> Iterator[str]:
    """Say what of a layer is off from its formula, and by how much."""
    row, case, exact = ROWS[name], cases(dtype)[given], exact_of(name, given, dtype)
    activation, dropout, has_residual = EPILOGUES[epilogue]
    more = {"backend": backend} if backend != "auto" else {}
    layer = row.make(
        case.x.shape[1],
        case.batch_size,
        activation=activation,
        dropout=dropout,
        dtype=exact.wide,
        **more,
    )
    layer.load_state_dict(exact.state)

    # Off the diagonal: random cotangents, parameters away from their defaults.
    before = exact.before.detach().requires_grad_()
    kept = torch.ones(before.shape, dtype=torch.bool)
    if dropout:
        torch.default_generator.manual_seed(7)
        kept = kept_by_dropout(int(torch.randint(2**62, ())), *before.shape, dropout)
    finished = torch.where(kept, APPLY[activation](before) / (1 - dropout), 0.0)
    generator = torch.Generator().manual_seed(1)
    residual = torch.randn(before.shape, generator=generator).to(dtype) if has_residual else None
    grad_y = torch.randn(before.shape, generator=generator, dtype=torch.float64)
    # At the kink of ReLU rounding decides which side it is: leave those entries out.
    if activation in ("relu", "leaky_relu"):
        grad_y = torch.where(before.detach().abs() < 1e-3, 0.0, grad_y)
    grad_y = grad_y.to(dtype)
    (arriving,) = torch.autograd.grad(finished, before, grad_y.double())
    wanted_y = finished.detach() if residual is None else finished.detach() + residual.double()

    x = case.x.detach().requires_grad_()
    taken = {
        key: value.detach().requires_grad_() if floats(value) else value
        for key, value in arguments(exact.given, case.x.shape[0], exact.wide).items()
    }
    own = {"residual": residual.requires_grad_()} if residual is not None else {}
    # `torch.manual_seed` writes the stack down for each kind of device: milliseconds under pytest.
    torch.default_generator.manual_seed(7)
    size = None if case.batch is None else case.batch_size
    y = layer(x, case.batch, size, **taken, **own)
    leaves = [
        x,
        *(p for p in layer.parameters() if p.requires_grad),
        *filter(floats, taken.values()),
    ]
    found = torch.autograd.grad(
        y, [*leaves, *own.values()], grad_y, materialize_grads=True, allow_unused=True
    )

    if y.dtype != dtype:
        yield f"the result is {y.dtype}"
    if own and not torch.equal(found[-1], grad_y):
        yield "the gradient of the residual is not that of the result"
    # In float64 the formula is rounded as much as the layer.
    operations = row.operations * (2 if dtype == torch.float64 else 1)
    allowed = operations * tolerance(dtype, exact.length)
    if own and gn.CATALOG[row.norm].segment == "":
        allowed += torch.finfo(dtype).eps / 2  # rounded before the residual is added, too
    yield from off("y", y, wanted_y, allowed * max(largest(wanted_y, 1.0), exact.spread))
    if not row.exact:
        return
    # Gradients scale with weight / s, and so does what rounding leaves of a gradient that is 0.
    # Behind a curved activation rounding moves the slope, too: by the entry's own size.
    bend = largest(before, 1.0) if activation in ("gelu", "silu") else 1.0
    size_x = exact.gain * largest(grad_y) / (1 - dropout)
    allowed_sum = 4 * operations * tolerance(exact.wide, exact.length)
    terms = largest(arriving.abs().sum(0), 1e-6) * largest(before, 1.0) * bend
    for key, got, want in zip(exact.names, found, exact.gradients(arriving), strict=False):
        if key == "x":
            limit = allowed * max(largest(want), size_x, 1e-6) * bend
        else:
            limit = allowed_sum * max(largest(want), terms)
            if key == "mean_scale" and row.shift_scale is not None:
                scale = row.shift_scale(exact.x.detach(), arriving, exact.graphs, exact.by_name)
                limit = allowed_sum * largest(scale, 1e-6)
        yield from off(f"the gradient of {key}", got, want, limit)


def off(what: str, got: Tensor, want: Tensor, allowed: float) -> Iterator[str]:
    if largest(want) > torch.finfo(got.dtype).max:
        return  # the right result is beyond what the dtype has
    error = largest(got.double() - want)
    if got.shape != want.shape or not error <= allowed:
        yield f"{what} of {tuple(got.shape)} is off by {error:.2e}, allowed {allowed:.2e}"
