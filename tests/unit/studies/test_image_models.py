"""The library's norms on images are torch's own; the small convolutional network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.studies.image_models import ConvNet, ImageNorm


class PixelLayerNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def images(size: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 8, size, size + 1, generator=generator, dtype=torch.float64)
    return x * torch.tensor([1.0, 3.0, 0.2]).view(3, 1, 1, 1) + 2


@pytest.mark.parametrize(
    ("norm", "oracle"),
    [
        ("batch", nn.BatchNorm2d(8)),
        ("instance", nn.InstanceNorm2d(8, affine=True)),
        ("layer-graph", nn.GroupNorm(1, 8)),
        ("group-graph:num_groups=4", nn.GroupNorm(4, 8)),
        ("layer", PixelLayerNorm(8)),
        ("none", nn.Identity()),
    ],
)
def test_norms_of_images_are_those_of_torch(norm: str, oracle: nn.Module) -> None:
    """Forward, gradients of the images and parameters, and in eval mode the running averages."""
    own, oracle = ImageNorm(norm, 8).double(), oracle.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for ours, theirs in zip(own.parameters(), oracle.parameters(), strict=True):
            ours.add_(0.3 * torch.randn(8, generator=generator))
            theirs.copy_(ours)
    for training in (True, False):
        own.train(training)
        oracle.train(training)
        x = images().requires_grad_()
        y, expected = own(x), oracle(x)
        torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
        cotangent = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        for got, want in zip(
            torch.autograd.grad(y, [x, *own.parameters()], cotangent),
            torch.autograd.grad(expected, [x, *oracle.parameters()], cotangent),
            strict=True,
        ):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_channels_last_images_are_rows_without_a_copy() -> None:
    norm = ImageNorm("none", 8).double()
    x = images().contiguous(memory_format=torch.channels_last)
    assert norm(x).data_ptr() == x.data_ptr()
    assert norm(images()).is_contiguous(memory_format=torch.channels_last)
    assert norm(x[:0]).shape == (0, 8, 6, 7)


def test_convnet_is_its_formula() -> None:
    model = ConvNet(8, 3, width=8, depth=4, norm="batch", seed=0).double()
    x = h = images(8)
    sides = []
    for number, layer in enumerate(model.layers):
        own = nn.BatchNorm2d(8).double()
        conv = layer.conv
        z = nn.functional.conv2d(h, conv.weight, conv.bias, stride=1 + number % 2, padding=1)
        h = own(z).relu()
        sides.append(h.shape[2])
    assert sides == [8, 4, 4, 2]
    torch.testing.assert_close(model(x), h.mean((2, 3)) @ model.head.weight.T + model.head.bias)


@pytest.mark.parametrize("norm", gn.CATALOG)
def test_every_norm_stands_in_the_convnet_or_is_refused(norm: str) -> None:
    if gn.CATALOG[norm].needs:
        with pytest.raises(ValueError, match="which only a graph neural network has"):
            ConvNet(1, 10, norm=norm, seed=0)
        return
    model = ConvNet(1, 10, norm=norm, seed=0)
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_convnet_learns_digits() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    bunch = datasets.load_digits()
    x = torch.tensor(bunch.images[:600], dtype=torch.float32).unsqueeze(1) / 16
    target = torch.tensor(bunch.target[:600])
    model = ConvNet(1, 10, norm="batch", seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(30):
        rows = torch.arange(step * 100, step * 100 + 100) % 500
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), target[rows]).backward()
        optimizer.step()
    model.eval()
    assert (model(x[500:]).argmax(1) == target[500:]).float().mean() > 0.75


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x has shape \(3, 4, 6, 7\), expected \(images, 8, he"):
        ImageNorm("batch", 8)(images()[:, :4])
