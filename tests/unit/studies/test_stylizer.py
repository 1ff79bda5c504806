"""The stylizer and what contrast does to it; the loss network of random filters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graphnorms.studies.stylizer import RandomFilters, Stylizer, gram_matrices


def pictures(seed: int = 0, number: int = 2, side: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, 3, side, side + 4, generator=generator, dtype=torch.float64)


GAIN = torch.tensor([0.4, 1.7], dtype=torch.float64).view(2, 1, 1, 1)
OFFSET = torch.tensor([[0.3, -0.1, 0.2], [-0.2, 0.0, 0.5]], dtype=torch.float64).view(2, 3, 1, 1)


def changes(
    norm: str, padding: str = "reflect", eps: float = 1e-12, bias: bool = True
) -> tuple[float, float]:
    """How much of the result a gain changes, and an offset, as shares of its spread."""
    model = Stylizer(
        width=4, halvings=1, blocks=1, norm=norm, padding=padding, norm_eps=eps, seed=0
    ).double()
    if not bias:
        nn.init.zeros_(model.layers[0].bias)
    x = pictures()
    y = model(x)
    spread = float(y.detach().std())
    shares = [float((model(z) - y).detach().abs().max()) / spread for z in (GAIN * x, x + OFFSET)]
    return shares[0], shares[1]


def test_instance_norm_takes_gain_and_offset_away() -> None:
    """Exactly, for each image its own; the statement and every condition of the docstring."""
    assert max(changes("instance")) < 1e-8
    gain, offset = changes("instance", padding="zeros")
    assert gain < 1e-8
    assert offset > 0.1
    for norm in ("batch", "layer-graph", "none"):
        assert min(changes(norm)) > 0.05
    gain, offset = changes("layer-graph", bias=False)
    assert gain < 1e-8
    assert offset > 0.01
    gain, offset = changes("instance", eps=1e-3)
    assert 1e-4 < gain < 0.2
    assert offset < 1e-8


def test_batch_norm_in_eval_is_not_invariant_either() -> None:
    model = Stylizer(width=4, halvings=1, blocks=1, norm="batch", seed=0).double()
    x = pictures()
    model(x)
    model.eval()
    y = model(x).detach()
    for other in (GAIN * x, x + OFFSET):
        assert (model(other) - y).abs().max() > 0.05 * y.std()


def test_a_negative_gain_is_another_image() -> None:
    model = Stylizer(width=4, halvings=1, blocks=1, norm_eps=1e-12, seed=0).double()
    x = pictures()
    assert (model(-x) - model(x)).abs().max() > 0.05


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_stylizer_is_its_formula(norm: str) -> None:
    """With torch's own layers, in the order of the docstring."""
    model = Stylizer(width=4, halvings=1, blocks=1, norm=norm, seed=0).double()
    x = pictures()
    enter, norm1, down, norm2, block, up, up_conv, norm3, leave = model.layers
    assert isinstance(up, nn.Upsample)

    def conv(module: nn.Conv2d, x: Tensor, size: int, stride: int = 1) -> Tensor:
        edge = size // 2
        x = nn.functional.pad(x, (edge, edge, edge, edge), mode="reflect")
        return nn.functional.conv2d(x, module.weight, module.bias, stride)

    def own(x: Tensor) -> Tensor:
        if norm == "none":
            return x
        return (
            nn.functional.instance_norm(x)
            if norm == "instance"
            else nn.functional.batch_norm(x, None, None, training=True)
        )

    h = own(conv(enter, x, 9)).relu()
    h = own(conv(down, h, 3, 2)).relu()
    h = h + own(conv(block.conv2, own(conv(block.conv1, h, 3)).relu(), 3))
    h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
    h = own(conv(up_conv, h, 3)).relu()
    torch.testing.assert_close(model(x), conv(leave, h, 9), rtol=1e-9, atol=1e-9)
    assert [n.norm.channels for n in (norm1, norm2, norm3)] == [4, 8, 4]


def test_initial_weights_do_not_depend_on_the_norm() -> None:
    models = [Stylizer(norm=norm, seed=7) for norm in ("none", "instance", "batch")]
    for other in models[1:]:
        for name, value in models[0].named_parameters():
            assert torch.equal(other.get_parameter(name), value)


def test_gram_matrices_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, -1.0], [2.0, 1.0]]]])
    want = torch.tensor([[[30.0, 8.0], [8.0, 6.0]]]) / 4
    assert torch.equal(gram_matrices(features), want)


def test_random_filters_are_those_of_the_seed() -> None:
    """And of the size: neither the other sizes nor the global state make a difference."""
    first = RandomFilters((3, 7), 8, seed=5)
    torch.manual_seed(99)
    again, other = RandomFilters((3, 5, 7), 8, seed=5), RandomFilters((3, 7), 8, seed=6)
    x = pictures().float()
    for size in (3, 7):
        ours = first(x, [size])[0]
        assert torch.equal(ours, again(x, [size])[0])
        assert not torch.equal(ours, other(x, [size])[0])
    weight = first.layers["size7"].weight
    bound = (3 / (3 * 49)) ** 0.5
    assert 0.97 * bound < weight.abs().max() <= bound
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_losses_are_their_formulas() -> None:
    network = RandomFilters((3, 5), 4, seed=0).double()
    x, style = pictures(1).requires_grad_(), pictures(2, number=1, side=24)
    features = [
        nn.functional.conv2d(x, network.layers[f"size{size}"].weight).relu() for size in (3, 5)
    ]
    for got, want in zip(network(x), features, strict=True):
        assert torch.equal(got, want)
        assert got.shape[2:] == want.shape[2:]
    assert [f.shape[3] for f in features] == [18, 16]

    targets = network.style(style)
    want_style = sum(
        sum(((gram_matrices(f)[i] - target[0]) ** 2).sum() for i in range(2)) / (2 * 16)
        for f, target in zip(features, targets, strict=True)
    )
    torch.testing.assert_close(network.style_loss(x, targets), want_style)
    content = pictures(3)
    theirs = nn.functional.conv2d(content, network.layers["size3"].weight).relu()
    want_content = ((features[0] - theirs) ** 2).sum() / features[0].numel()
    torch.testing.assert_close(network.content_loss(x, content), want_content)

    assert network.style_loss(style, targets) == 0
    assert network.content_loss(x, x.detach()) == 0
    (grad,) = torch.autograd.grad(network.style_loss(x, targets), x)
    assert grad.abs().max() > 0


def test_style_does_not_ask_where_and_content_does() -> None:
    """A picture turned by whole pixels on a torus would keep its Gram matrices; here nearly."""
    network = RandomFilters((3,), 8, seed=0).double()
    x = pictures(number=1, side=60)
    moved, other = x.roll((20, 30), (2, 3)), 0.5 * x
    style = network.style(x)
    assert network.style_loss(moved, style) < 0.01 * network.style_loss(other, style)
    assert network.content_loss(moved, x) > 0.1


def test_a_few_steps_lower_the_loss() -> None:
    network = RandomFilters((3, 5), 8, seed=0)
    model = Stylizer(width=4, halvings=1, blocks=1, seed=0)
    content = pictures(1).float()
    style = network.style(pictures(2, number=1).float() ** 3)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        y = model(content)
        loss = network.style_loss(y, style) + network.content_loss(y, content)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomFilters((5, 3), seed=0), r"sizes is \(5, 3\), expected ascending"),
        (lambda: RandomFilters((), seed=0), r"sizes is \(\), expected ascending"),
        (lambda: RandomFilters((3,), 0, seed=0), "filters is 0"),
        (
            lambda: RandomFilters((17,), seed=0).double()(pictures()),
            "a side of 16 pixels, but there are filters of 17; take larger",
        ),
        (
            lambda: RandomFilters((3,), seed=0).content_loss(pictures(), pictures(side=12)),
            "images are .*, but content is",
        ),
        (lambda: Stylizer(halvings=-1, seed=0), "halvings is -1"),
        (lambda: Stylizer(norm="adja", seed=0), "only a graph neural network has"),
        (
            lambda: Stylizer(halvings=3, seed=0).double()(pictures()),
            "x is 16 × 20, expected sides divisible by 8, as they are halved 3 times",
        ),
    ],
)
def test_bad_arguments_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
