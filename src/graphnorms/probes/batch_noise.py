"""Batch noise: how much the statistics of batches vary around those of the whole set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphnorms.probes.capture import Side, captured
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
    counts: list[int] = []
    means: list[Tensor] = []
    variances: list[Tensor] = []
    for batch in batches:
        x = batch.detach().reshape(-1, batch.shape[-1]).double()  # (rows, channels)
        if not x.shape[0]:
            raise ValueError(f"batch {len(counts)} has no rows; leave it out")
        if means and x.shape[1] != means[0].shape[0]:
            raise ValueError(
                f"batch {len(counts)} has {x.shape[1]} channels, expected {means[0].shape[0]} "
                "like the first"
            )
        counts.append(x.shape[0])
        means.append(x.mean(0))
        variances.append((x - means[-1]).square().mean(0))
    if len(counts) < 2:
        raise ValueError(f"{len(counts)} batches given, expected two or more to compare")
    mean = torch.stack(means)  # (batches, channels)
    variance = torch.stack(variances)
    number = torch.tensor(counts, dtype=mean.dtype, device=mean.device).unsqueeze(1)
    share = number / number.sum()
    whole_mean = (share * mean).sum(0)
    shift = (mean - whole_mean).square()
    whole_variance = (share * (variance + shift)).sum(0)
    spread = (variance.sqrt() - whole_variance.sqrt()).square()

    def ratio(squares: Tensor) -> Tensor:
        return torch.where(whole_variance > 0, squares.mean(0) / whole_variance, torch.nan)

    return BatchNoise(
        mean_ratio=ratio(shift),
        deviation_ratio=ratio(spread),
        design_effect=ratio(number * shift),
        batches=len(counts),
        rows=sum(counts),
    )


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
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    start = Snapshot.take(model)
    try:
        for run in runs:
            with captured(model, names, side) as now, torch.no_grad():
                run()
            for name, calls in now.items():
                if not calls:
                    raise ValueError(f"the layer {name!r} was not called; leave it out, or run it")
                seen[name].append(torch.cat([x.reshape(-1, x.shape[-1]) for x in calls]))
    finally:
        start.restore()
    return {name: batch_noise(batches) for name, batches in seen.items()}
