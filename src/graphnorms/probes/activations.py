"""Quantiles of activations: how the distribution of what a unit sees moves over training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.probes.capture import Side, captured_rows
from graphnorms.probes.state import Snapshot

QUANTILES: Final = (0.15, 0.5, 0.85)
"""Those of Ioffe & Szegedy 2015."""


def quantiles(x: Tensor, probabilities: Sequence[float] = QUANTILES) -> Tensor:
    r"""Compute the quantiles of each channel over all rows.

    With the $n$ values in ascending order $x_{(0)} \dots x_{(n-1)}$ the quantile of $p$ is the
    value at the place $p\,(n - 1)$, between two values by linear interpolation (torch's and
    NumPy's default, type 7 of Hyndman & Fan). There is no limit on the number of rows, as
    `torch.quantile` has.

    Shapes: `x` `(…, channels)`, all dimensions but the last being rows; the result
    `(probabilities, channels)` in the dtype of `x`.

    Args:
        x: The values.
        probabilities: Each from 0 to 1.

    Raises:
        ValueError: There is no row, or a probability lies outside 0 … 1.

    Source: Hyndman & Fan 1996, https://doi.org/10.2307/2684934.
    """
    for p in probabilities:
        if not 0 <= p <= 1:
            raise ValueError(f"a probability is {p}, expected a number from 0 to 1")
    rows = x.detach().reshape(-1, x.shape[-1])
    if not rows.shape[0]:
        raise ValueError(f"x has shape {tuple(x.shape)}: there are no rows to take quantiles of")
    ordered = rows.sort(0)[0]  # (rows, channels)
    at = torch.tensor(probabilities, dtype=torch.float64) * (rows.shape[0] - 1)
    below = at.floor().long().to(x.device)
    above = at.ceil().long().to(x.device)
    share = (at - at.floor()).to(x).unsqueeze(1)
    return torch.lerp(ordered[below], ordered[above], share)


def activation_quantiles(
    model: nn.Module,
    run: Callable[[], object],
    layers: Iterable[str],
    *,
    side: Side = "output",
    probabilities: Sequence[float] = QUANTILES,
    pooled: bool = False,
) -> dict[str, Tensor]:
    """Compute the quantiles of what enters or leaves some layers, unit by unit.

    Call it at intervals during training, always on the same data, and stack the results: the
    curves of a unit over training show how its distribution moves; `quantile_drift` says how far.

    Runs without gradients, in the mode the model is in. Running averages and random numbers are
    afterwards what they were.

    Shapes: each result `(probabilities, channels)`, or `(probabilities,)` if pooled.

    Args:
        model: The model.
        run: Runs it on a batch.
        layers: Names of modules, as in `model.named_modules()`.
        side: `"input"` or `"output"` of the layers.
        probabilities: Each from 0 to 1.
        pooled: Put all channels of a layer together, in place of each alone.

    Raises:
        ValueError: A layer is unknown or was not called, or a probability lies outside 0 … 1.

    Source: Ioffe & Szegedy 2015, fig. 1, https://arxiv.org/abs/1502.03167.
    """
    start = Snapshot.take(model)
    try:
        rows = captured_rows(model, run, layers, side)
    finally:
        start.restore()
    if not pooled:
        return {name: quantiles(x, probabilities) for name, x in rows.items()}
    return {name: quantiles(x.view(-1, 1), probabilities)[:, 0] for name, x in rows.items()}


def quantile_drift(trajectory: Tensor) -> Tensor:
    r"""Say how far quantiles move over training, in units of the distribution's width.

    With $q_p(t)$ the quantile of $p$ at the moment $t$, $\langle\cdot\rangle$ the mean over
    moments and $p_{lo}$, $p_{hi}$ the first and the last probability,

    $$ \mathrm{drift} = \frac{\sqrt{\frac1P \sum_p \big\langle (q_p(t) -
       \langle q_p \rangle)^2 \big\rangle}}{\langle q_{p_{hi}} - q_{p_{lo}} \rangle}. $$

    0 for a distribution that stands still, whatever it is; the same for all units of
    measurement and offsets. Both a shift and a change of width count. NaN for a constant unit.

    Shapes: `trajectory` `(moments, probabilities, …)`, the result `(…)`.

    Args:
        trajectory: The quantiles over training, in ascending order of probability.

    Raises:
        ValueError: There are fewer than two moments or probabilities.

    Source: our own summary of the curves of Ioffe & Szegedy 2015, fig. 1, who show them only.
    """
    if trajectory.dim() < 2 or min(trajectory.shape[:2]) < 2:
        raise ValueError(
            f"trajectory has shape {tuple(trajectory.shape)}, expected (moments, probabilities, "
            "…) with two or more of each"
        )
    moved = (trajectory - trajectory.mean(0)).square().mean((0, 1)).sqrt()
    return moved / (trajectory[:, -1] - trajectory[:, 0]).mean(0)
