"""Images: the library's normalizations on them, and a small convolutional network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphnorms.models.initialize import initialize
from graphnorms.models.norm_slot import PlacedNorm, check_sizes, plain_norm
from graphnorms.segments import Segments


class ImageNorm(nn.Module):
    r"""A normalization of rows, on images: each pixel is a row, each image a segment.

    What the catalogue's names mean on images `(images, channels, height, width)`:

    | name | statistics over | torch |
    |---|---|---|
    | `"batch"` | all pixels of all images, per channel | `BatchNorm2d` |
    | `"instance"` | the pixels of an image, per channel | `InstanceNorm2d(affine=True)` |
    | `"layer-graph"` | the pixels and channels of an image | `GroupNorm(1, channels)` |
    | `"group-graph:num_groups=k"` | pixels and channels of a group | `GroupNorm(k, channels)` |
    | `"layer"` | the channels of one pixel | `LayerNorm(channels)` on channels last |
    | `"graph"` | as `"instance"`, with a learned share of the mean | |

    Shapes: `x` and the result `(images, channels, height, width)`; the result lies in memory with
    the channels last. Precision: that of the normalization.

    Args:
        norm: The normalization as text: its catalogue name, arguments behind a colon.
        channels: Number of channels.
        eps: Its ε, where it has one.

    Raises:
        ValueError: The norm is unknown or needs what only a graph neural network has, or `x`
            is not `(images, channels, height, width)`.
    """

    def __init__(self, norm: str, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = plain_norm(norm, channels, eps=eps)
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the images."""
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, expected (images, {self.channels}, height, width)"
            )
        images, channels, height, width = x.shape
        pixels = height * width
        ptr = torch.arange(images + 1, device=x.device) * pixels
        segments = Segments(ptr, None, images * pixels, longest=pixels)
        rows = x.movedim(1, -1).reshape(-1, channels)  # (images * height * width, channels)
        y: Tensor = self.norm(rows, segments)
        return y.view(images, height, width, channels).movedim(-1, 1)


class ConvLayer(nn.Module):
    """One 3 × 3 convolution with a norm and a ReLU; a stride of 2 halves height and width."""

    def __init__(self, in_channels: int, out_channels: int, norm: str, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)
        self.norm = PlacedNorm(ImageNorm(norm, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the images, normalize and activate."""
        y: Tensor = self.norm(self.conv(x))
        return y


class ConvNet(nn.Module):
    r"""3 × 3 convolutions with a normalization in each, the mean over the pixels, and one Linear.

    Every second convolution halves height and width: those of 8 × 8 are 8, 4, 4, 2, … behind the
    first, second, third and fourth. `ImageNorm` says what the norms are on images.

    Shapes: `x` `(images, in_channels, height, width)`, the result `(images, out_channels)`.

    Args:
        in_channels, out_channels: Channels of an image, and results per image.
        width: Channels of every convolution.
        depth: Number of convolutions.
        norm: The normalization as text: its catalogue name, arguments behind a colon.
        seed: Seeds the initial weights; each depends on the seed and its own name only.

    Raises:
        ValueError: The norm is unknown or needs a graph, or a number is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 16,
        depth: int = 4,
        norm: str = "none",
        seed: int,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, out_channels=out_channels, width=width, depth=depth)
        self.layers = nn.Sequential(
            *(
                ConvLayer(width if layer else in_channels, width, norm, stride=1 + layer % 2)
                for layer in range(depth)
            )
        )
        self.head = nn.Linear(width, out_channels)
        initialize(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Return the results, `(images, out_channels)`."""
        y: Tensor = self.head(self.layers(x).mean((2, 3)))
        return y
