"""The loss network of stylization: fixed random filters of several sizes, and Gram matrices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from graphnorms.models.initialize import initialize
from graphnorms.models.norm_slot import check_sizes


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
        self.layers = nn.ModuleDict({
            f"size{size}": _Filters(colours, filters, size, bias=False) for size in sizes
        })  # fmt: skip
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
