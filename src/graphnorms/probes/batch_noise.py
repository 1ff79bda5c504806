"""Batch noise: how much batch statistics vary around those of the whole set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from graphnorms.kernels.point import in_float64
from graphnorms.probes.capture import Side, captured_rows
from graphnorms.probes.graph_moments import GraphMoments
from graphnorms.probes.state import Snapshot


@dataclass(frozen=True, slots=True, eq=False)
class BatchNoise:
    r"""How the mean and the deviation of batches scatter around those of the whole set.

    With $\mu_b$, $s_b$ the mean and the standard deviation of one channel over the $n_b$ rows of
    batch $b$, and $\mu$, $\sigma$ those over all rows of all $B$ batches. A channel that is
    constant over the set has NaN everywhere.

    Shapes: all tensors `(channels,)`, float64.

    Args:
        mean_ratio: $\frac1B \sum_b (\mu_b - \mu)^2 / \sigma^2$, the variance of the batch mean
            against that of the set. $1/n$ for batches of $n$ independent rows.
        deviation_ratio: $\frac1B \sum_b (s_b - \sigma)^2 / \sigma^2$. About $1/(2n)$ for batches
            of $n$ independent normal rows.
        design_effect: $\frac1B \sum_b n_b (\mu_b - \mu)^2 / \sigma^2$: by how much the batch mean
            is noisier than that of as many independent rows. 1 for independent rows; $m$ where
            the $m$ nodes of a graph are all alike.
        batches: $B$.
        rows: Rows of all batches together.
    """

    mean_ratio: Tensor
    deviation_ratio: Tensor
    design_effect: Tensor
    batches: int
    rows: int


def batch_noise(batches: Iterable[Tensor]) -> BatchNoise:
    r"""Measure how far batch statistics lie from those of the whole set, as ratios of variances.

    The set is all rows of the batches given; give each row once (an epoch) for the set's own
    statistics. Standard deviations are those of a BatchNorm, with $1/n$. Deviations are taken
    from the statistics of the set, not from the mean of the batches' own.

    Precision: float64; moments are merged without subtracting large squares.

    Args:
        batches: The features of each batch, `(…, channels)`.

    Raises:
        ValueError: There are fewer than two batches, one has no rows, or widths differ.

    Source: Cai et al. 2021, section 3.3 and fig. 3, https://arxiv.org/abs/2009.03294, who plot
    the statistics; the ratio is ours. The design effect: Kish, Survey Sampling, 1965.
    """
    return _noise([_moments(batch) for batch in batches])


def layer_batch_noise(
    model: nn.Module,
    runs: Sequence[Callable[[], object]],
    layers: Iterable[str],
    *,
    side: Side = "input",
) -> dict[str, BatchNoise]:
    """Measure the batch noise of what enters or leaves some layers, e.g. its norms.

    Runs without gradients, in the mode the model is in: in `train()` a layer behind a BatchNorm
    sees what batch statistics have made of its input, as in training. Running averages and random
    numbers are afterwards what they were. Holds the features of one batch at a time for each
    layer, and then only statistics.

    Args:
        model: The model.
        runs: Each runs the model on one batch; together they are the whole set.
        layers: Names of modules, as in `model.named_modules()`.
        side: `"input"` or `"output"` of the layers.

    Raises:
        ValueError: A layer is unknown or was not called, or there are fewer than two batches.

    Source: as for `batch_noise`.
    """
    names = list(layers)
    moments: dict[str, list[_Moments]] = {name: [] for name in names}
    start = Snapshot.take(model)
    try:
        for run in runs:
            for name, x in captured_rows(model, run, names, side).items():
                moments[name].append(_moments(x))
    finally:
        start.restore()
    return {name: _noise(batches) for name, batches in moments.items()}


def expected_batch_noise(
    moments: GraphMoments, batch_size: int, population: int | None = None
) -> BatchNoise:
    r"""Estimate the batch noise of random batches of graphs, from the moments of some graphs.

    A batch is a cluster sample, and its mean a ratio of sums over its $B$ graphs. With $n_g$,
    $\mu_g$ the rows and the mean of graph $g$, $q_g$ its mean of $(x - \mu)^2$, $\bar n$ the mean
    of $n_g$, and $S^2$ the variance over the graphs with $1/(G - 1)$, to first order

    $$ \mathrm{Var}(\mu_b) = \Big(1 - \frac{B}{N}\Big) \frac{S^2[n_g (\mu_g - \mu)]}{B \bar n^2},
       \qquad \mathrm{Var}(s_b) = \Big(1 - \frac{B}{N}\Big)
       \frac{S^2[n_g (q_g - \sigma^2)]}{4 B \bar n^2 \sigma^2}. $$

    All graphs count, and not a few batches: a tenth of the graphs of an epoch gives the noise to
    some percent. The design effect is without the factor $1 - B/N$.

    Args:
        moments: Of graphs drawn at random, two or more.
        batch_size: $B$.
        population: $N$, the graphs of an epoch, drawn without replacement; `None` for many.

    Raises:
        ValueError: There are fewer than two graphs.

    Source: Cochran, Sampling Techniques, 1977, section 6.4 (ratio estimates) and 9A (clusters).
    """
    graphs = moments.rows.shape[0]
    if graphs < 2:
        raise ValueError(f"{graphs} graphs given, expected two or more to compare")
    left = 1.0 if population is None else max(0.0, 1 - batch_size / population)
    rows, whole = moments.rows.unsqueeze(1), moments.whole_variance
    size = moments.rows.mean()

    def variance(of_graphs: Tensor) -> Tensor:
        spread = (rows * of_graphs).square().sum(0) / (graphs - 1) / size**2 / batch_size
        return torch.where(whole > 0, spread / whole, torch.nan)

    of_mean = variance(moments.mean - moments.whole_mean)
    return BatchNoise(
        mean_ratio=left * of_mean,
        deviation_ratio=left * variance(moments.second_moment - whole) / (4 * whole),
        design_effect=of_mean * batch_size * size,
        batches=graphs // batch_size,
        rows=int(moments.rows.sum()),
    )


class _Moments(NamedTuple):
    """Rows, mean and variance of a batch; the tensors `(channels,)` float64."""

    rows: int
    mean: Tensor
    variance: Tensor


def _moments(batch: Tensor) -> _Moments:
    x = in_float64(batch.detach().reshape(-1, batch.shape[-1]))  # (rows, channels)
    if not x.shape[0]:
        raise ValueError(f"a batch has shape {tuple(batch.shape)}: no rows; leave it out")
    mean = x.mean(0)
    return _Moments(x.shape[0], mean, (x - mean).square().mean(0))


def _noise(batches: Sequence[_Moments]) -> BatchNoise:
    if len(batches) < 2:
        raise ValueError(f"{len(batches)} batches given, expected two or more to compare")
    widths = sorted({batch.mean.shape[0] for batch in batches})
    if len(widths) > 1:
        raise ValueError(f"batches have {widths} channels, expected one number of channels")
    mean = torch.stack([batch.mean for batch in batches])  # (batches, channels)
    variance = torch.stack([batch.variance for batch in batches])
    rows = torch.tensor([batch.rows for batch in batches]).to(mean).unsqueeze(1)
    share = rows / rows.sum()
    whole_mean = (share * mean).sum(0)
    shift = (mean - whole_mean).square()
    # That within the batches and that between them: no large squares are subtracted.
    whole_variance = (share * (variance + shift)).sum(0)
    spread = (variance.sqrt() - whole_variance.sqrt()).square()

    def ratio(squares: Tensor) -> Tensor:
        return torch.where(whole_variance > 0, squares.mean(0) / whole_variance, torch.nan)

    return BatchNoise(
        mean_ratio=ratio(shift),
        deviation_ratio=ratio(spread),
        design_effect=ratio(rows * shift),
        batches=len(batches),
        rows=sum(batch.rows for batch in batches),
    )
