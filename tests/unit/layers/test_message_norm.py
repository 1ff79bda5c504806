"""MessageNorm, node by node."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graphnorms.layers.message_norm import MessageNorm
from graphnorms.testing import tolerance
from tests.norms import DTYPES, close, import_pyg, normal, randomize


def length(v: Tensor, p: float) -> Tensor:
    if p == float("inf"):
        return v.abs().amax(1, keepdim=True)
    return v.abs().pow(p).sum(1, keepdim=True).pow(1 / p)


@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_agrees_with_the_paper(dtype: torch.dtype, p: float, size: float) -> None:
    layer = MessageNorm(True, dtype=torch.promote_types(dtype, torch.float32))
    randomize(layer)
    x, msg = normal(30, 6), normal(30, 9, seed=1) * size
    ratio = float((length(x, p) / length(msg, p)).max())
    x, msg = x.to(dtype).requires_grad_(), msg.to(dtype).requires_grad_()
    grad_y = normal(30, 9, seed=9, dtype=dtype)
    exact_x, exact_msg = (v.detach().double().requires_grad_() for v in (x, msg))
    scale = layer.scale.detach().double().requires_grad_()
    exact = scale * length(exact_x, p) * exact_msg / length(exact_msg, p)
    y = layer(x, msg, p)
    assert y.dtype == dtype
    allowed = tolerance(dtype, 9)
    close(y, exact, allowed, "y")
    found = torch.autograd.grad(y, [x, msg, layer.scale], grad_y)
    wanted = torch.autograd.grad(exact, [exact_x, exact_msg, scale], grad_y.double())
    for name, got, want in zip(("x", "msg", "scale"), found, wanted, strict=True):
        close(got, want, 3 * allowed * 2 * max(ratio, 1.0), f"gradient of {name}")


@pytest.mark.parametrize("learn_scale", [False, True])
@pytest.mark.parametrize("p", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("shape", [(40, 6), (40, 3, 6)])
def test_equals_pyg(shape: tuple[int, ...], p: float, learn_scale: bool) -> None:
    theirs = import_pyg().MessageNorm(learn_scale).double()
    ours = MessageNorm(learn_scale, dtype=torch.float64)
    randomize(theirs)
    ours.load_state_dict(theirs.state_dict())
    assert repr(ours) == repr(theirs) == f"MessageNorm(learn_scale={learn_scale})"
    results = []
    for layer in (ours, theirs):
        x, msg = normal(*shape).requires_grad_(), normal(*shape, seed=1).requires_grad_()
        y = layer(x, msg, p)
        y.backward(normal(*shape, seed=2))
        results.append([y.detach(), x.grad, msg.grad, layer.scale.grad])
    assert (results[0][3] is not None) == learn_scale
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-12)
    theirs.load_state_dict(ours.state_dict())
    ours.reset_parameters()
    assert ours.scale.tolist() == [1]


def test_messages_of_zero() -> None:
    """A message of 0 gets the gradient 1e12 in PyG, and NaN from its second derivative."""
    x = normal(3, 4)
    grads = []
    for layer in (MessageNorm(), import_pyg().MessageNorm()):
        msg = normal(3, 4, seed=1)
        msg[1] = 0
        msg.requires_grad_()
        y = layer(x, msg)
        assert torch.equal(y[1], torch.zeros(4, dtype=torch.float64))
        (grad,) = torch.autograd.grad(y, msg, torch.ones_like(y))
        grads.append(grad)
    assert grads[1][1].abs().max() > 1e11
    assert torch.equal(grads[0][1], torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(grads[0][[0, 2]], grads[1][[0, 2]])

    zeros = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(MessageNorm()(zeros, zeros).sum(), zeros, create_graph=True)
    (again,) = torch.autograd.grad(grad.sum(), zeros)
    assert torch.equal(again, torch.zeros_like(zeros))


def test_parameters_do_not_widen_the_result() -> None:
    """PyG's result of bfloat16 messages is float32."""
    x = torch.ones(3, 4, dtype=torch.bfloat16)
    assert import_pyg().MessageNorm()(x, x).dtype == torch.float32
    assert MessageNorm()(x, x).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert MessageNorm()(x.float(), x.float()).dtype == torch.float32


def test_mask_and_residual() -> None:
    layer = MessageNorm(True, activation="relu", dtype=torch.float64)
    mask = torch.tensor([True, False, True, True])
    x, msg, residual = (normal(4, 2, 3, seed=i) for i in range(3))
    x[1] = msg[1] = float("nan")
    x.requires_grad_()
    msg.requires_grad_()
    y = layer(x, msg, residual=residual, mask=mask)
    assert torch.isnan(y[1]).all()
    torch.testing.assert_close(y[mask], layer(x[mask], msg[mask], residual=residual[mask]))
    y.backward(torch.ones_like(y))
    assert x.grad is not None
    assert msg.grad is not None
    assert torch.equal(x.grad[1], torch.zeros(2, 3, dtype=torch.float64))
    assert torch.equal(msg.grad[1], torch.ones(2, 3, dtype=torch.float64))
    assert torch.isfinite(x.grad).all()
    assert layer.scale.grad is not None
    assert torch.isfinite(layer.scale.grad).all()


def test_length_is_that_of_the_node() -> None:
    """What the message's own size was makes no difference, and no rows make no rows."""
    x, msg = normal(6, 4), normal(6, 4, seed=1)
    layer = MessageNorm(dtype=torch.float64)
    torch.testing.assert_close(layer(x, 1e6 * msg), layer(x, msg))
    torch.testing.assert_close(length(layer(x, msg), 2.0), length(x, 2.0))
    assert layer(x[:0], msg[:0]).shape == (0, 4)


def test_bad_arguments() -> None:
    layer, x = MessageNorm(), torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"x is \(3, 4\) and msg \(2, 4\), expected the same nod"):
        layer(x, x[:2])
    with pytest.raises(ValueError, match=r"p is 0\.0, expected a positive number"):
        layer(x, x, 0.0)
    with pytest.raises(ValueError, match=r"residual is \(3, 3\)"):
        layer(x, x, residual=x[:, :3])
    with pytest.raises(ValueError, match="mask is"):
        layer(x, x, mask=torch.ones(2, dtype=torch.bool))
