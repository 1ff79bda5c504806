"""A multilayer perceptron with the normalization as an argument."""

from __future__ import annotations

from torch import Tensor, nn

from graphnorms.models.initialize import initialize
from graphnorms.models.norm_slot import PlacedNorm, check_sizes, plain_norm


class DenseLayer(nn.Module):
    r"""One hidden layer, $h' = f(\mathrm{Norm}(W h + b))$.

    Shapes: `x` `(samples, in_channels)`, the result `(samples, out_channels)`.

    Args:
        in_channels, out_channels: Width before and after.
        norm: The normalization with its activation.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: PlacedNorm) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Transform the samples."""
        y: Tensor = self.norm(self.linear(x))
        return y


class MLP(nn.Module):
    r"""Hidden layers of equal width with a normalization in each, followed by a Linear.

    $$ h_1 = f(\mathrm{Norm}(W_1 x + b_1)), \quad h_l = f(\mathrm{Norm}(W_l h_{l-1} + b_l)), \quad
       y = W h_L + b. $$

    A sample is one row: BatchNorm uses statistics over the samples, LayerNorm and RMSNorm over the
    channels of each sample. Norms over graphs are refused: a graph would be a single row, and
    centring it gives 0.

    The pre-activations of layer `l` are the input of the module `layers[l].norm.activation`.

    Shapes: `x` `(samples, in_channels)`, the result `(samples, out_channels)`.

    Args:
        in_channels, out_channels: Width of a sample and of its output.
        width: Channels of every hidden layer.
        depth: Number of hidden layers, $L$.
        norm: The normalization as text: its catalogue name, optionally with arguments after a
            colon.
        activation: $f$, one of `graphnorms.models.ACTIVATIONS` by name.
        seed: Seed of the initial weights; each depends on the seed and its name only.

    Raises:
        ValueError: A name is unknown, a number is not positive, or the norm is over graphs.

    Source: the network of Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, figure 1, is
    `MLP(784, 10, width=100, depth=3, norm="batch", activation="sigmoid", seed=0)`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 64,
        depth: int = 2,
        norm: str = "none",
        activation: str = "relu",
        seed: int,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, out_channels=out_channels, width=width, depth=depth)
        self.layers = nn.Sequential()
        for layer in range(depth):
            own = plain_norm(norm, width, eps=1e-5, rows_only="a sample of an MLP is one row")
            placed = PlacedNorm(own, activation)
            self.layers.append(DenseLayer(width if layer else in_channels, width, placed))
        self.head = nn.Linear(width, out_channels)
        initialize(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, `(samples, out_channels)`."""
        y: Tensor = self.head(self.layers(x))
        return y
