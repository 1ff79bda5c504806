"""A network that stylizes images in one pass, and the network of random filters that judges it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from graphnorms.models.initialize import initialize
from graphnorms.models.norm_slot import PlacedNorm, check_sizes
from graphnorms.studies.image_models import ImageNorm

COLOURS = 3

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
"""What lies around an image, by torch's names."""


class _Conv(nn.Conv2d):
    """A convolution that keeps height and width, or halves them with a stride of 2."""

    def __init__(
        self, in_channels: int, out_channels: int, size: int, mode: PaddingMode, stride: int = 1
    ) -> None:
        super().__init__(
            in_channels, out_channels, size, stride, padding=size // 2, padding_mode=mode
        )


class ResidualBlock(nn.Module):
    r"""$y = x + \mathrm{Norm}(W_2 * \mathrm{ReLU}(\mathrm{Norm}(W_1 * x)))$, of one shape.

    Args:
        channels: Width of the features.
        norm: The normalization as text.
        padding: See `Stylizer`.
        eps: ε of the norms.
    """

    def __init__(self, channels: int, norm: str, padding: PaddingMode, eps: float) -> None:
        super().__init__()
        self.conv1 = _Conv(channels, channels, 3, padding)
        self.norm1 = PlacedNorm(ImageNorm(norm, channels, eps=eps))
        self.conv2 = _Conv(channels, channels, 3, padding)
        self.norm2 = ImageNorm(norm, channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Transform the features of the images."""
        y: Tensor = x + self.norm2(self.conv2(self.norm1(self.conv1(x))))
        return y


class Stylizer(nn.Module):
    r"""Convolutions down to fewer pixels, residual blocks, and up again to an image.

    A norm and a ReLU follow every convolution but the last. `width` channels double with every
    halving of the image.

    **Contrast and brightness.** With `norm="instance"` and the padding `"reflect"` the result is
    the same for an image $x$ and for $a x + b$ with any gain $a > 0$ of the whole image and any
    offset $b$ of each colour, exactly in the limit $\varepsilon \to 0$. For the first convolution
    gives $a (W * x) + (W * b + \text{bias})$, the second term is one number per channel, and
    InstanceNorm takes it and $a$ away. With zeros as padding the second term is another number at
    the border, and only the gain goes. With $\varepsilon > 0$ a share of about
    $\varepsilon / (2 s^2)$ of the features stays, $s^2$ being the least of the variances of
    $W * x$ and $a W * x$ over the image. The other norms take neither away: BatchNorm has the
    statistics of all images, and LayerNorm over the whole image (`"layer-graph"`) keeps what sets
    channels apart, as the bias does, without which it would take the gain.

    Shapes: `x` and the result `(images, colours, height, width)`.

    Args:
        width: Channels of the first convolution.
        halvings: How often height and width are halved, and doubled again.
        blocks: Number of residual blocks at the fewest pixels.
        norm: The normalization as text; `ImageNorm` says what each is on images.
        padding: What lies around an image: `"reflect"`, or another `padding_mode` of
            `torch.nn.Conv2d`.
        norm_eps: ε of every normalization.
        seed: Seeds the initial weights; each depends on the seed and its own name only.

    Raises:
        ValueError: A number is not positive, the norm or padding is unknown, or a side of the
            images cannot be halved so often.

    Source: Ulyanov et al. 2016, https://arxiv.org/abs/1607.08022, and 2017,
    https://arxiv.org/abs/1701.02096; the architecture is that of Johnson et al. 2016,
    https://arxiv.org/abs/1603.08155, with nearest-neighbour upsampling, at a smaller scale.
    """

    def __init__(
        self,
        *,
        width: int = 16,
        halvings: int = 2,
        blocks: int = 3,
        norm: str = "instance",
        padding: PaddingMode = "reflect",
        norm_eps: float = 1e-5,
        seed: int,
    ) -> None:
        super().__init__()
        check_sizes(width=width)
        if halvings < 0 or blocks < 0:
            raise ValueError(
                f"halvings is {halvings} and blocks {blocks}, expected no negative number"
            )
        self.halvings = halvings

        def normed(channels: int) -> PlacedNorm:
            return PlacedNorm(ImageNorm(norm, channels, eps=norm_eps))

        parts: list[nn.Module] = [_Conv(COLOURS, width, 9, padding), normed(width)]
        for _ in range(halvings):
            parts += [_Conv(width, 2 * width, 3, padding, stride=2), normed(2 * width)]
            width *= 2
        parts += [ResidualBlock(width, norm, padding, norm_eps) for _ in range(blocks)]
        for _ in range(halvings):
            parts += [nn.Upsample(scale_factor=2), _Conv(width, width // 2, 3, padding)]
            width //= 2
            parts.append(normed(width))
        parts.append(_Conv(width, COLOURS, 9, padding))
        self.layers = nn.Sequential(*parts)
        initialize(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Stylize the images."""
        height, width = x.shape[-2:]
        if height % 2**self.halvings or width % 2**self.halvings:
            raise ValueError(
                f"x is {height} × {width}, expected sides divisible by {2**self.halvings}, as they "
                f"are halved {self.halvings} times"
            )
        y: Tensor = self.layers(x)
        return y


def gram_matrices(features: Tensor) -> Tensor:
    r"""Compute $G_{cd} = \frac{1}{HW} \sum_p F_{cp} F_{dp}$ over the pixels $p$ of each image.

    Shapes: `features` `(images, channels, height, width)`, the result
    `(images, channels, channels)`.

    Source: Gatys et al. 2015, https://arxiv.org/abs/1505.07376.
    """
    flat = features.flatten(2)  # (images, channels, pixels)
    return flat @ flat.mT / flat.shape[2]


class RandomFilters(nn.Module):
    r"""One convolution with fixed random filters per size, each with a ReLU.

    The filters are uniform with variance 1 / (colours · size²), so that every size gives
    features of about one magnitude. They depend on the seed and their size only, and take no
    gradient; images do. Nothing is padded.

    **Style** is what the Gram matrices of all sizes tell of an image,
    $L_s = \sum_k \lVert G_k(x) - G_k(s) \rVert^2 / C_k^2$. **Content** is the features of the
    smallest filters themselves, $L_c = \lVert F_1(x) - F_1(c) \rVert^2 / (C_1 H W)$. Both are
    means over the images.

    Shapes: images `(images, colours, height, width)`; features
    `(images, filters, height - size + 1, width - size + 1)`.

    Args:
        sizes: Sides of the filters, ascending.
        filters: Number of filters of each size, $C_k$.
        colours: Channels of an image.
        seed: Seeds the filters.

    Raises:
        ValueError: A number is not positive, the sizes do not ascend, or an image is smaller than
            the largest filters.

    Source: Ustyuzhaninov et al. 2016, https://arxiv.org/abs/1606.00021, whose model has more and
    larger filters. It is one of texture; the content loss is that of Gatys et al. 2016 on its
    features.
    """

    def __init__(
        self,
        sizes: Sequence[int] = (3, 5, 7, 11, 15),
        filters: int = 32,
        colours: int = 3,
        *,
        seed: int,
    ) -> None:
        super().__init__()
        check_sizes(filters=filters, colours=colours)
        if not sizes or sizes[0] < 1 or any(b <= a for a, b in pairwise(sizes)):
            raise ValueError(f"sizes is {tuple(sizes)}, expected ascending positive numbers")
        self.sizes = tuple(sizes)
        self.layers = nn.ModuleDict(
            {f"size{size}": _Filters(colours, filters, size, bias=False) for size in sizes}
        )
        initialize(self, seed)
        self.requires_grad_(False)

    def forward(self, images: Tensor, sizes: Sequence[int] | None = None) -> list[Tensor]:
        """Return the features of each size, or of some sizes.

        Args:
            images: The images.
            sizes: Which of the sizes; `None` for all.
        """
        smallest, largest = min(images.shape[-2:]), self.sizes[-1]
        if smallest < largest:
            raise ValueError(
                f"images have a side of {smallest} pixels, but there are filters of {largest}; "
                "take larger images or smaller filters"
            )
        return [self.layers[f"size{size}"](images).relu() for size in sizes or self.sizes]

    def style(self, images: Tensor) -> list[Tensor]:
        """Compute the Gram matrices of every size, each `(images, filters, filters)`."""
        return [gram_matrices(features) for features in self(images)]

    def style_loss(self, images: Tensor, style: Sequence[Tensor]) -> Tensor:
        """Compare the Gram matrices of images with those of `style`, of one image or as many."""
        parts = [
            (gram - target).square().mean()
            for gram, target in zip(self.style(images), style, strict=True)
        ]
        return torch.stack(parts).sum()

    def content_loss(self, images: Tensor, content: Tensor) -> Tensor:
        """Compare the features of images with those of the images `content`, one by one."""
        if images.shape != content.shape:
            raise ValueError(
                f"images are {tuple(images.shape)}, but content is {tuple(content.shape)}"
            )
        smallest = self.sizes[:1]
        difference: Tensor = self(images, smallest)[0] - self(content, smallest)[0]
        return difference.square().mean()


class _Filters(nn.Conv2d):
    """A convolution whose filters begin uniform, with a response of variance 1 to white noise."""

    def reset_parameters(self) -> None:
        bound = (3 / self.weight[0].numel()) ** 0.5
        nn.init.uniform_(self.weight, -bound, bound)
