"""UnitedNorm: a learned mixture of four normalizations per channel."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.point import accumulation_dtype, check_residual
from graphnorms.layers.adja_norm import AdjaNorm
from graphnorms.layers.argument_checks import check_features
from graphnorms.layers.base import Norm
from graphnorms.layers.batch_norm import BatchNorm
from graphnorms.layers.instance_norm import InstanceNorm
from graphnorms.layers.layer_norm import LayerNorm
from graphnorms.layers.neighbourhoods import check_adjacency
from graphnorms.layers.norm_options import NormOptions, place
from graphnorms.segments import Segments, as_segments


class UnitedNorm(Norm):
    r"""Mix four normalizations in learned proportions per channel.

    $$ y = f\big(\gamma \, (\lambda_b \hat x_b + \lambda_g \hat x_g + \lambda_a \hat x_a
         + \lambda_n \hat x_n) + \beta\big), $$

    where $\hat x_b$ is BatchNorm, $\hat x_g$ InstanceNorm over each graph, $\hat x_a$ AdjaNorm and
    $\hat x_n$ LayerNorm of each node, all without parameters. The $\lambda$ of a channel are the
    softmax of four learned numbers: they are positive, sum to 1 and are initialized to 1/4. After
    training they show which normalization a channel prefers; see `proportions`.

    The authors call the part over a graph GraphNorm; unlike that of Cai et al. it has no learned
    share of the mean. Only BatchNorm has running averages, which it uses in `eval()`. The authors'
    code divides by $\sigma + \varepsilon$ with the unbiased $\sigma$ in $\hat x_g$ and $\hat x_a$;
    here all four use the biased variance and $\varepsilon$ under the root.

    Shapes: `x` and the result `(nodes, channels)`; `weight` $\gamma$, `bias` $\beta$ and the
    four `lambda_…` `(channels,)`. Precision: statistics in float32 or wider, and the sum too;
    the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$ of all four, in the squared unit of `x`.
        momentum: Weight of the new batch in BatchNorm's running averages; `None` for a cumulative
            average.
        activation, dropout, device, dtype, backend: See `Norm`.
        process_group: Ranks whose nodes count as one minibatch in BatchNorm: `"world"`, a
            `ProcessGroup`, or `None` for those of this rank alone. Every rank has whole graphs.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `momentum` is outside 0 … 1, `x` is not
            `(nodes, in_channels)` or has a single row in training, `batch` does not assign exactly
            the rows of `x`, or `adjacency` is missing or has another number of nodes.

    Source: Chen et al. 2020, *Learning graph normalization for graph neural networks*,
    https://arxiv.org/abs/2009.11746; parts, softmax and initialization as in `UnitedNormSoftmax`,
    `norm/united_norm_softmax.py` of cyh1112/GraphNormalization at d6f4231.
    """

    statistics_of = "batch"
    per_graph = True
    lambda_batch: nn.Parameter
    lambda_graph: nn.Parameter
    lambda_adja: nn.Parameter
    lambda_node: nn.Parameter

    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        **options: Unpack[NormOptions],
    ) -> None:
        super().__init__(in_channels, **options)
        made = {**place(options), "backend": self.backend}
        self.batch_norm = BatchNorm(
            in_channels, eps, momentum, affine=False, process_group=self.process_group, **made
        )
        self.batch_norm._takes_single_elements = False
        self.graph_norm = InstanceNorm(in_channels, eps, backend=self.backend)
        self.adja_norm = AdjaNorm(in_channels, eps, affine=False)
        self.node_norm = LayerNorm(
            in_channels, eps, affine=False, mode="node", backend=self.backend
        )
        parts = ("lambda_batch", "lambda_graph", "lambda_adja", "lambda_node")
        self._add_parameters(
            in_channels, options, **dict.fromkeys(("weight", "bias", *parts), True)
        )

    def reset_parameters(self) -> None:
        """Set `weight` and the `lambda_…` to 1 and `bias` to 0, and reset the running averages."""
        self.batch_norm.reset_parameters()
        super().reset_parameters()

    @property
    def proportions(self) -> Tensor:
        """The proportions of batch, graph, neighbourhood and node, `(4, channels)`."""
        logits = torch.stack(
            [self.lambda_batch, self.lambda_graph, self.lambda_adja, self.lambda_node]
        )
        return logits.to(accumulation_dtype(logits.dtype)).softmax(0)

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
        adjacency: Adjacency | None = None,
    ) -> Tensor:
        """Normalize `x` in four ways and mix the results.

        Args:
            x: The features.
            batch, batch_size: The graph of every node and how many there are, or a `Segments`.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
            adjacency: The edges.
        """
        check_features(x, self.in_channels)
        check_residual(residual, x)
        edges = check_adjacency(adjacency, x)
        segments = as_segments(batch, rows_of=x, num_segments=batch_size)

        def mix(x: Tensor) -> Tensor:
            wide = x.to(accumulation_dtype(x.dtype))
            shares = self.proportions.to(wide.dtype)
            y = (
                shares[0] * self.batch_norm(wide, mask=mask)
                + shares[1] * self.graph_norm(wide, segments, mask=mask)
                + shares[2] * self.adja_norm(wide, mask=mask, adjacency=edges)
                + shares[3] * self.node_norm(wide, mask=mask)
            )
            mixed: Tensor = y * self.weight.to(y.dtype) + self.bias.to(y.dtype)
            return mixed

        return self._transformed(x, residual, mask, mix)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
