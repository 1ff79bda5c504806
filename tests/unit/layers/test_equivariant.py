"""Norms of features that rotate, against formulas written copy by copy, and under rotations."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from graphnorms.layers.base import Norm
from graphnorms.layers.equivariant import (
    EquivariantLayerNorm,
    EquivariantRMSNorm,
    Irreps,
    IrrepsBatchNorm,
    IrrepsGraphNorm,
    IrrepsLayerNorm,
)
from graphnorms.testing.tolerance import tolerance
from tests.norms import normal, randomize

IRREPS = "3x0e + 2x0o + 2x1o + 1x0e + 2x2e"
BLOCKS = [(3, 1, True), (2, 1, False), (2, 3, False), (1, 1, True), (2, 5, False)]
"""Copies, components, and whether a block is of scalars: `IRREPS` again."""

BATCH = torch.tensor([0, 0, 0, 2, 2, 3])  # no node in graph 1, one in graph 3
EPS = 1e-3

Make = Callable[..., Norm]
DEGREES: dict[str, Make] = {
    "rms": lambda **more: EquivariantRMSNorm(4, 2, EPS, **more),
    "rms, each component alike": lambda **more: EquivariantRMSNorm(
        4, 2, EPS, std_balance_degrees=False, **more
    ),
    "rms, first version": lambda **more: EquivariantRMSNorm(
        4, 2, EPS, centering=False, std_balance_degrees=False, **more
    ),
    "layer": lambda **more: EquivariantLayerNorm(4, 2, EPS, **more),
    "layer, rest": lambda **more: EquivariantLayerNorm(
        4, 2, EPS, degrees="scalars-and-rest", **more
    ),
}
OF_IRREPS: dict[str, Make] = {
    "batch": lambda **more: IrrepsBatchNorm(IRREPS, EPS, **more),
    "instance": lambda **more: IrrepsBatchNorm(IRREPS, EPS, instance=True, **more),
    "graph": lambda **more: IrrepsGraphNorm(IRREPS, EPS, **more),
    "graph, all": lambda **more: IrrepsGraphNorm(IRREPS, EPS, shift="all", **more),
    "graph, fixed": lambda **more: IrrepsGraphNorm(IRREPS, EPS, shift="fixed", **more),
    "layer": lambda **more: IrrepsLayerNorm(IRREPS, EPS, **more),
}
EVERY = {**{f"degrees {name}": make for name, make in DEGREES.items()}, **OF_IRREPS}


def made(name: str, **more: Any) -> Norm:
    """A layer in float64 whose parameters are away from their start."""
    norm = EVERY[name](**more)
    randomize(norm)
    return norm.double()


def features(name: str, rows: int = 6) -> Tensor:
    """Features that it takes, of unequal degrees."""
    if name.startswith("degrees"):
        return normal(rows, 9, 4) * torch.linspace(0.5, 3, 9).unsqueeze(1) + 0.7
    return normal(rows, Irreps.of(IRREPS).columns) * 2 + 0.7


def by_hand_of_degrees(norm: Any, x: Tensor) -> Tensor:
    """The formulas of fairchem, node by node."""
    y = torch.zeros_like(x)
    bounds = [0, 1, 4, 9]
    for node in range(x.shape[0]):
        o = x[node].clone()  # (9, channels)
        rms = isinstance(norm, EquivariantRMSNorm)
        if not rms or norm.centering:
            o[0] -= o[0].mean()
        power = torch.stack([(o[a:b] ** 2).mean() for a, b in pairwise(bounds)])  # by degree
        balanced = norm.std_balance_degrees
        if rms:
            shared = power.mean() if balanced else (o**2).mean()
            squares = shared.expand(3)
        elif norm.degrees == "each":
            squares = power
        else:
            squares = torch.stack((power[0], power[1:].mean(), power[1:].mean()))
        for degree, (a, b) in enumerate(pairwise(bounds)):
            weight, bias = norm.affine_weight, norm.affine_bias if rms else None
            if rms or norm.degrees == "each":
                gain, bias = weight[degree], norm.affine_bias
            else:
                gain = norm.norm_l0.weight if degree == 0 else weight[degree - 1]
                bias = norm.norm_l0.bias
            y[node, a:b] = gain * o[a:b] / (squares[degree] + EPS).sqrt()
            if degree == 0 and bias is not None:
                y[node, 0] += bias
    return y.detach()


def by_hand_of_irreps(norm: Any, x: Tensor) -> Tensor:
    """The formulas of e3nn and Equiformer, copy by copy."""
    y = torch.zeros_like(x)
    parts = [torch.arange(6)]
    if norm.per_graph:
        parts = [torch.nonzero(graph == BATCH).flatten() for graph in (0, 2, 3)]
    weight = (norm.weight if isinstance(norm, IrrepsBatchNorm) else norm.affine_weight).flatten()
    bias = (norm.bias if isinstance(norm, IrrepsBatchNorm) else norm.affine_bias).flatten()
    shift = getattr(norm, "mean_shift", None)
    shift = None if shift is None else shift.flatten().tolist()
    column = copy = scalar = 0
    for copies, width, is_scalar in BLOCKS:
        block = x[:, column : column + copies * width].unflatten(1, (copies, width))
        for rows in parts:
            o = block[rows].clone()  # (rows, copies, width)
            for u in range(copies):
                alpha = float(is_scalar)
                if shift is not None and norm.shift == "all":
                    alpha = shift[copy + u]
                elif shift is not None and is_scalar:
                    alpha = shift[scalar + u]
                if not isinstance(norm, IrrepsLayerNorm):
                    o[:, u] -= alpha * block[rows, u].mean(0)
            if isinstance(norm, IrrepsLayerNorm):
                if is_scalar:
                    o -= o.mean((1, 2), keepdim=True)
                square = (o**2).mean((1, 2), keepdim=True)
            else:
                square = (o**2).mean((0, 2), keepdim=True)
            out = weight[copy : copy + copies, None] * o / (square + EPS).sqrt()
            if is_scalar:
                out = out + bias[scalar : scalar + copies, None]
            y[rows, column : column + copies * width] = out.flatten(1)
        column, copy = column + copies * width, copy + copies
        scalar += copies * is_scalar
    return y.detach()


@pytest.mark.parametrize("name", EVERY)
def test_tables_and_parameters_after_the_meta_device(name: str) -> None:
    fresh, x = EVERY[name](), features(name).float()
    emptied = EVERY[name](device="meta").to_empty(device="cpu")
    emptied.reset_parameters()
    loaded = EVERY[name](device="meta")
    loaded.load_state_dict(fresh.state_dict(), assign=True)
    expected = fresh(x, BATCH, 4)
    for norm in (emptied, loaded):
        assert torch.equal(norm(x, BATCH, 4), expected)


@pytest.mark.parametrize("name", EVERY)
def test_the_formula_and_its_derivatives(name: str) -> None:
    norm, x = made(name), features(name)
    by_hand = by_hand_of_degrees if name.startswith("degrees") else by_hand_of_irreps
    y = norm(x, BATCH, 4)
    torch.testing.assert_close(y, by_hand(norm, x), rtol=0, atol=1e-13)
    parameters = tuple(norm.parameters())

    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in norm.named_parameters()]
        found = torch.func.functional_call(
            norm, dict(zip(names, parameters, strict=True)), (x, BATCH, 4)
        )
        return found.sin()

    few = x[:6].clone().requires_grad_()
    assert torch.autograd.gradcheck(call, (few, *parameters), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (few, *parameters), fast_mode=True)


def rotation(degree: int, parity: str, turn: Tensor) -> Tensor:
    """The matrix by which an irrep of degree 0, 1 or 2 turns under an orthogonal 3 × 3 matrix."""
    sign = torch.linalg.det(turn)
    proper = sign * turn
    if degree == 0:
        found = torch.ones(1, 1, dtype=turn.dtype)
    elif degree == 1:
        found = proper
    else:  # on an orthonormal basis of symmetric matrices without a trace
        full = [[0, 1], [0, 2], [1, 2]]
        basis = torch.zeros(5, 3, 3, dtype=turn.dtype)
        for place, (i, j) in enumerate(full):
            basis[place, i, j] = basis[place, j, i] = 0.5**0.5
        basis[3] = torch.diag(torch.tensor([1.0, -1, 0], dtype=turn.dtype)) / 2**0.5
        basis[4] = torch.diag(torch.tensor([1.0, 1, -2], dtype=turn.dtype)) / 6**0.5
        found = torch.einsum("aij,ik,bkl,jl->ab", basis, proper, basis, proper)
    return found * (sign if parity == "o" else 1)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("reflect", [False, True])
def test_rotated_features_give_rotated_results(name: str, *, reflect: bool) -> None:
    turn = torch.linalg.qr(normal(3, 3))[0]
    turn = turn * torch.linalg.det(turn) * (-1 if reflect else 1)
    norm, x = made(name), features(name)
    if name.startswith("degrees"):
        blocks = [rotation(degree, "eo"[degree % 2], turn) for degree in range(3)]
        whole = torch.block_diag(*blocks)
    else:
        whole = torch.block_diag(
            *(
                rotation(each.degree, each.parity, turn)
                for each in Irreps.of(IRREPS)
                for _ in range(each.copies)
            )
        )

    def apply(x: Tensor) -> Tensor:
        return torch.einsum("ij,nj...->ni...", whole, x)

    rotated = apply(x)
    assert (rotated - x).abs().max() > 0.1
    for training in (True, False):
        norm.train(training)
        torch.testing.assert_close(
            norm(rotated, BATCH, 4), apply(norm(x, BATCH, 4)), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("name", EVERY)
def test_no_nodes_zero_vectors_padding_and_residuals(name: str) -> None:
    norm, x = made(name), features(name)
    empty = x[:0].requires_grad_()
    assert norm(empty, BATCH[:0], 2).shape == empty.shape
    zero = torch.zeros_like(x).requires_grad_()
    y = norm(zero, BATCH, 4)
    (dx,) = torch.autograd.grad(y.square().sum(), zero, create_graph=True)
    (second,) = torch.autograd.grad(dx.sum(), zero)
    assert y.isfinite().all()
    assert dx.isfinite().all()
    assert second.isfinite().all()
    mask = torch.tensor([True, True, False, True, True, True])
    filled = torch.where(mask.view(-1, *[1] * (x.dim() - 1)), x, torch.nan)
    padded = norm(filled, BATCH, 4, mask=mask, residual=torch.ones_like(x))
    alone = norm(x[mask], BATCH[mask], 4)
    torch.testing.assert_close(padded[mask], alone + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", EVERY)
def test_precision(name: str, dtype: torch.dtype) -> None:
    """Large scalars, and squares beyond the range of float16, with parameters in float32."""
    norm = made(name)
    x = features(name).to(dtype) * 300
    if name.startswith("degrees"):
        x[:, 0] += 1e4
    else:
        x[:, :3] += 1e4
    expected = norm(x.double(), BATCH, 4)
    y = norm.float()(x, BATCH, 4)
    assert y.dtype == dtype
    error = (y.double() - expected).abs().max() / expected.abs().max()
    assert error <= 2 * tolerance(dtype, 36)


def test_running_averages_are_those_of_e3nn() -> None:
    """Of the biased variance; padding does not count, and a batch without nodes changes nothing."""
    norm = IrrepsBatchNorm("2x0e + 1x1o", momentum=0.25).double()
    x = normal(6, 5) + 3
    mask = torch.tensor([True] * 5 + [False])
    norm(torch.where(mask.unsqueeze(1), x, torch.nan), mask=mask)
    kept = x[:5]
    torch.testing.assert_close(norm.running_mean, 0.25 * kept[:, :2].mean(0))
    var = torch.cat((kept[:, :2].var(0, correction=0), (kept[:, 2:] ** 2).mean().view(1)))
    torch.testing.assert_close(norm.running_var, 0.75 + 0.25 * var)
    before = norm.running_var.clone()
    norm(x[:0])
    assert torch.equal(norm.running_var, before)
    norm.eval()
    expected = (x[:, :2] - norm.running_mean) / (before[:2] + 1e-5).sqrt()
    torch.testing.assert_close(norm(x)[:, :2], expected)
    torch.testing.assert_close(norm(x)[:, 2:], x[:, 2:] / (before[2] + 1e-5).sqrt())


@pytest.mark.parametrize("name", OF_IRREPS)
def test_the_other_order_of_columns(name: str) -> None:
    """The copies of a component together, as cuEquivariance stores them."""
    norm, other = made(name), made(name, layout="ir_mul")
    other.load_state_dict(norm.state_dict())
    x = features(name)
    blocks = [
        torch.arange(22)[each.columns].view(each.copies, each.components).T.flatten()
        for each in Irreps.of(IRREPS)
    ]
    places = torch.cat(blocks)
    for training in (True, False):
        norm.train(training)
        other.train(training)
        torch.testing.assert_close(other(x[:, places], BATCH, 4), norm(x, BATCH, 4)[:, places])


@pytest.mark.parametrize("name", EVERY)
def test_summed_squares_are_averaged_ones_at_another_scale(name: str) -> None:
    """`normalization="norm"` of one degree: the gain falls by √(2l + 1), and ε by 2l + 1."""
    if name.startswith("degrees"):
        if "rms" in name and "each" not in name and "first" not in name:
            with pytest.raises(ValueError, match="std_balance_degrees"):
                EVERY[name](normalization="norm")
        return
    norm = made(name)
    summed = made(name, normalization="norm")
    summed.load_state_dict(norm.state_dict())
    x = features(name)
    y, z = norm(x, BATCH, 4), summed(x, BATCH, 4)
    for each in Irreps.of(IRREPS):
        if each.degree == 0:
            torch.testing.assert_close(z[:, each.columns], y[:, each.columns])
        else:
            ratio = z[:, each.columns] / y[:, each.columns]
            torch.testing.assert_close(
                ratio, torch.full_like(ratio, each.components**-0.5), rtol=0.01, atol=0
            )


def test_checkpoints_of_equiformer_v2_hold_tables() -> None:
    norm = EquivariantRMSNorm(4, 2)
    saved = norm.state_dict() | {"expand_index": torch.zeros(9), "balance_degree_weight": None}
    norm.load_state_dict(saved)
    assert set(norm.state_dict()) == {"affine_weight", "affine_bias"}


def test_irreps_are_read() -> None:
    assert str(Irreps.of(" 2e+ 4x0e ")) == "1x2e+4x0e"
    assert Irreps.of("3x0e+0x1o+2x0e").scalars == 5
    assert IrrepsLayerNorm("64x0e+32x1o").in_channels == 160
    for wrong, words in (("64x0", "'64x0'"), ("", "''"), ("0x1o", "no columns"), ("1p", "'1p'")):
        with pytest.raises(ValueError, match=words):
            Irreps.of(wrong)
    with pytest.raises(ValueError, match="unknown layout 'rows'"):
        Irreps.of("1o", "rows")
    with pytest.raises(ValueError, match="unknown shift 'none'"):
        IrrepsGraphNorm("1o", shift="none")
    with pytest.raises(ValueError, match=r"expected \(nodes, 9, 4\)"):
        EquivariantRMSNorm(4, 2)(torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match="lmax is -1"):
        EquivariantLayerNorm(4, -1)


@pytest.mark.full("compiled and exported layers")
@pytest.mark.parametrize("name", EVERY)
def test_compiled_and_exported(name: str) -> None:
    norm, x = made(name), features(name)
    norm(x, BATCH, 4)
    compiled = torch.compile(norm, fullgraph=True, backend="aot_eager")
    norm.eval()
    expected = norm(x, BATCH, 4)
    torch.testing.assert_close(compiled(x, BATCH, 4), expected)
    exported = torch.export.export(norm, (x, BATCH, 4), strict=False)
    torch.testing.assert_close(exported.module()(x, BATCH, 4), expected)
