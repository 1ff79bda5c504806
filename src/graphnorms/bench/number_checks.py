"""Checks of the numbers: a contender with wrong numbers is not timed.

The exact result is that of PyG's twin in float64, or of the reference backend in float64 where
PyG has none, away from the default parameters and with a random cotangent. A layer must give it
twice: in float64 to almost the last digit, which a wrong formula does not, and in the dtype that
is timed to the tolerance that `graphnorms.testing` computes, which an imprecise kernel does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.bench import pyg_layers
from graphnorms.bench.contenders import Contender, Problem, accepts, build, title
from graphnorms.errors import GraphnormsError
from graphnorms.kernels import Over
from graphnorms.layers.normalization import Normalization
from graphnorms.testing import tolerance

Function = Callable[[Tensor], Tensor]

_EXACT: Final = 1e-9
"""How far two implementations may be apart in float64, relative to the largest entry."""

_EPS: Final = 1e-5  # what the layers have unless told otherwise

_PYG_MAY_ERR: Final = 10.0
"""PyG sums without a pivot: its timed layers may err that many times more than ours."""


class WrongNumbersError(GraphnormsError):
    """A contender computes wrong numbers; it is not timed."""


@dataclass(frozen=True)
class Check:
    """One comparison with the exact result.

    Args:
        contender: What was checked.
        against: Where the exact result comes from.
        dtype: In which the contender computed.
        error: The largest error of value and gradients, relative to the largest exact entry.
        allowed: What it may be.
    """

    contender: str
    against: str
    dtype: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the error is allowed; a NaN is not."""
        return self.error <= self.allowed

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return asdict(self)

    def require(self) -> Check:
        """Return the check if it passed.

        Raises:
            WrongNumbersError: It did not.
        """
        if not self.passed:
            raise WrongNumbersError(
                f"{self.contender}: wrong numbers, not timed: off by {self.error:.1e} of the "
                f"largest entry from {self.against} in {self.dtype}, allowed {self.allowed:.1e}"
            )
        return self


@dataclass(frozen=True)
class Exact:
    """The exact value and gradients of a layer, which contenders are compared with.

    Args:
        source: Where they come from, in words.
        x: The features, in float64.
        grad_y: The cotangent, in float64, 0 where the activation has a kink within rounding.
        results: y, the gradient of x, and those of the parameters.
        parameters: The parameters and buffers, rounded to the dtype that is timed.
        length: Entries that share a statistic.
        steepness: The largest 1 / sqrt(s² + eps): rounding errors of gradients grow with it even
            where the gradients themselves cancel, as in graphs of one row.
    """

    source: str
    x: Tensor
    grad_y: Tensor
    results: list[Tensor]
    parameters: dict[str, Tensor]
    length: int
    steepness: float

    @classmethod
    def of(cls, row: Normalization, activation: str | None, problem: Problem) -> Exact:
        """Compute the exact results of a layer of the catalogue on a problem."""
        source, layer, call = _oracle(row, problem)
        generator = torch.Generator().manual_seed(1)
        for parameter in layer.parameters():
            noise = torch.randn(parameter.shape, generator=generator) / 8
            # The oracle sees the parameters as the timed layer has them: rounded once.
            rounded = (1 + noise).to(problem.x.dtype)
            parameter.data = rounded.to(parameter.device, torch.float64)
        # As they are before a call: running statistics change with every one.
        parameters = {name: value.clone() for name, value in layer.state_dict().items()}
        x = problem.x.double()
        length = _entries_sharing_a_statistic(row, problem)
        y = call(x).detach()
        grad_y = torch.randn(y.shape, generator=generator).to(problem.x).double()
        if activation is not None:
            # At the kink rounding decides which side an entry is on: leave those out.
            near = y.abs() < 8 * tolerance(problem.x.dtype, length)
            grad_y = grad_y.masked_fill(near, 0.0)
        results = value_and_gradients(activated(call, activation), layer, x, grad_y)
        steepness = _steepness(row, problem, x, parameters.get("mean_scale"))
        return cls(source, x, grad_y, results, parameters, length, steepness)

    def compare(
        self,
        name: str,
        call: Function,
        module: nn.Module | None,
        dtype: torch.dtype,
        *,
        slack: float = 1.0,
    ) -> Check:
        """Compare a contender, which has the parameters already, with the exact results.

        Args:
            name: What to call it.
            call: The contender as a function of features of `dtype`.
            module: Whose parameters get gradients.
            dtype: In which it computes.
            slack: By how much to widen the tolerance of a rounded dtype.
        """
        found = value_and_gradients(call, module, self.x.to(dtype), self.grad_y.to(dtype))
        # Of y, of the gradient of x, and of those that are sums over all rows.
        sums = self.steepness * math.sqrt(self.x.shape[0])
        least = (1.0, self.steepness, *(sums for _ in found[2:]))
        error = max(map(relative_error, found, self.results, least))
        # The gradients of parameters are sums over all rows.
        length = max(self.length, self.x.shape[0])
        allowed = _EXACT if dtype == torch.float64 else slack * tolerance(dtype, length)
        return Check(name, self.source, str(dtype).removeprefix("torch."), error, allowed)


def check_layer(
    row: Normalization, activation: str | None, problem: Problem, exact: Exact
) -> list[Check]:
    """Check a layer of the catalogue in float64 and in the dtype of the problem.

    Raises:
        WrongNumbersError: It computes something else.
    """
    checks = []
    for dtype in dict.fromkeys((torch.float64, problem.x.dtype)):
        layer = build(row, problem, dtype, activation=activation)
        layer.load_state_dict(exact.parameters)
        call = _bound(layer, problem)
        checks.append(exact.compare(title(row, activation), call, layer, dtype).require())
    return checks


def check_twin(problem: Problem, contender: Contender, exact: Exact) -> Check:
    """Check PyG's layer in the dtype that is timed; whether it passed is for the caller to see."""
    assert contender.module is not None
    contender.module.load_state_dict(exact.parameters)
    return exact.compare(
        contender.name, contender.call, contender.module, problem.x.dtype, slack=_PYG_MAY_ERR
    )


def check_forces(row: Normalization, problem: Problem) -> list[Check]:
    """Check the second derivative of a layer in float64 and in the dtype of the problem.

    Raises:
        WrongNumbersError: It computes something else.
    """
    exact = Exact.of(row, None, problem)
    source, oracle, truth = _oracle(row, problem)
    oracle.load_state_dict(exact.parameters)
    generator = torch.Generator().manual_seed(3)
    others = [exact.grad_y]
    others += [torch.randn(exact.x.shape, generator=generator).to(exact.x) for _ in range(2)]
    results = of_energy_and_force(truth, list(oracle.parameters()), exact.x, others)
    # r² stands in the second derivative; parameters' gradients are sums over all rows.
    least = max(float(result.abs().max()) for result in results) * exact.steepness**2
    checks = []
    for dtype in dict.fromkeys((torch.float64, problem.x.dtype)):
        layer = build(row, problem, dtype)
        layer.load_state_dict(exact.parameters)
        tensors = [tensor.to(dtype) for tensor in (exact.x, *others)]
        found = of_energy_and_force(
            _bound(layer, problem), list(layer.parameters()), tensors[0], tensors[1:]
        )
        pairs = zip(found, results, strict=True)
        error = max(relative_error(mine, right, least) for mine, right in pairs)
        length = max(exact.length, exact.x.shape[0])
        allowed = _EXACT if dtype == torch.float64 else tolerance(dtype, length)
        name = str(dtype).removeprefix("torch.")
        checks.append(Check(f"{title(row)}, force", source, name, error, allowed).require())
    return checks


def of_energy_and_force(
    call: Function, parameters: list[nn.Parameter], x: Tensor, others: list[Tensor]
) -> list[Tensor]:
    """Return the force, the gradient of x, and the loss's gradients of grad_y, x and parameters.

    Args:
        call: The layer.
        parameters: What it has.
        x: The features.
        others: grad_y, from which the force is computed, and the loss's gradients of y and force.
    """
    grad_y, of_y, of_force = others
    if not x.requires_grad:
        x, grad_y = (tensor.detach().clone().requires_grad_() for tensor in (x, grad_y))
    y = call(x)
    (force,) = torch.autograd.grad(y, x, grad_y, create_graph=True)
    grads = torch.autograd.grad((y, force), (grad_y, x, *parameters), (of_y, of_force))
    return [force.detach(), *grads]


def value_and_gradients(
    call: Function, module: nn.Module | None, x: Tensor, grad_y: Tensor
) -> list[Tensor]:
    """Return y, the gradient of x, and those of the module's parameters in their order."""
    leaf = x.detach().clone().requires_grad_()
    parameters = [] if module is None else list(module.parameters())
    y = call(leaf)
    gradients = torch.autograd.grad(y, [leaf, *parameters], grad_y)
    return [y.detach(), *gradients]


def relative_error(found: Tensor, exact: Tensor, least: float = 1.0) -> float:
    """Return the largest error relative to the largest exact entry, to `least` at the least.

    Infinite where the shapes differ or an entry is not a number: no comparison lets those pass.
    """
    if found.shape != exact.shape:
        return float("inf")
    if not exact.numel():
        return 0.0
    error = (found.double() - exact).abs().max()
    return float((error / exact.abs().max().clamp(min=least)).nan_to_num(nan=float("inf")))


def activated(call: Function, activation: str | None) -> Function:
    """Put torch's function of that name behind a call."""
    if activation is None:
        return call
    function: Function = getattr(F, activation)
    return lambda x: function(call(x))


def _oracle(row: Normalization, problem: Problem) -> tuple[str, nn.Module, Function]:
    layer = pyg_layers.twin(row, problem.shape.channels) if pyg_layers.is_installed() else None
    if layer is not None:
        layer = layer.to(problem.x.device, torch.float64)
        return "PyG in float64", layer, pyg_layers.bind(layer, problem.batch, problem.shape.graphs)
    backend = "reference" if accepts(row, "backend") else None
    layer = build(row, problem, torch.float64, backend=backend)
    return "the reference in float64", layer, _bound(layer, problem)


def _bound(layer: nn.Module, problem: Problem) -> Function:
    return lambda x: layer(x, problem.batch, problem.shape.graphs)


def _steepness(row: Normalization, problem: Problem, x: Tensor, mean_scale: Tensor | None) -> float:
    """Return the largest 1 / sqrt(s² + eps), by the definition of the one equation."""
    if row.point.scale is None:
        return 1.0
    batch = problem.batch if row.segment == "graph" else torch.zeros_like(problem.batch)
    counts = torch.bincount(batch).clamp(min=1).unsqueeze(1)  # (segments, 1)

    def mean(values: Tensor, over: Over) -> Tensor:
        if over is Over.CHANNELS:
            return values.mean(1, keepdim=True)
        sums = values.new_zeros(counts.shape[0], values.shape[1]).index_add(0, batch, values)
        means = sums / counts  # (segments, channels)
        return (means if over is Over.NODES else means.mean(1, keepdim=True))[batch]

    o = x
    if row.point.center is not None:
        removed = mean(x, row.point.center)
        o = x - (removed if mean_scale is None else mean_scale * removed)
    return max(1.0, float((mean(o * o, row.point.scale).min() + _EPS).rsqrt()))


def _entries_sharing_a_statistic(row: Normalization, problem: Problem) -> int:
    rows = {"batch": problem.shape.rows, "graph": problem.longest}.get(row.segment, 1)
    per_channel = row.point.center in (None, Over.NODES) and row.point.scale in (None, Over.NODES)
    return rows if per_channel else rows * problem.shape.channels
