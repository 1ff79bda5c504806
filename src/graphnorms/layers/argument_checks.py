"""Checks of the arguments of layers."""

from __future__ import annotations

from torch import Tensor

from graphnorms.errors import is_number


def choose_affine(affine: bool, elementwise_affine: bool | None) -> bool:
    """Combine PyG's `affine` with torch's `elementwise_affine`.

    Raises:
        ValueError: They contradict each other.
    """
    if elementwise_affine and not affine:
        raise ValueError("affine is False and elementwise_affine is True; give one of them")
    return affine and elementwise_affine is not False


def check_channels(in_channels: int) -> None:
    """Refuse a number of channels that is not positive."""
    if in_channels < 1:
        raise ValueError(f"in_channels is {in_channels}, expected a positive number")


def check_eps(eps: float) -> None:
    """Refuse an eps that is not positive: a constant channel would divide 0 by 0."""
    if not is_number(eps) or not eps > 0:
        raise ValueError(f"eps is {eps!r}, expected a positive number")


def check_groups(name: str, groups: int, channels: int) -> None:
    """Refuse a number of groups that does not divide the channels."""
    if groups < 1 or channels % groups:
        raise ValueError(f"{name} is {groups}, expected a divisor of the {channels} channels")


def check_momentum(momentum: float | None) -> None:
    """Refuse a momentum outside 0 … 1; `None` means the cumulative average."""
    if momentum is not None and not (is_number(momentum) and 0 <= momentum <= 1):
        raise ValueError(f"momentum is {momentum!r}, expected a number from 0 to 1, or None")


def check_scale(scale: float) -> None:
    """Refuse a scale that is not positive and finite."""
    if not is_number(scale) or not 0 < scale < float("inf"):
        raise ValueError(f"scale is {scale!r}, expected a positive number")


def check_features(
    x: Tensor, channels: int | None, *, positions: bool = False, rows: bool = False
) -> None:
    """Refuse features with a wrong width, number of dimensions or dtype.

    Args:
        x: The features.
        channels: Required size of the last dimension; `None` for any positive size.
        positions: Whether to allow dimensions between nodes and channels.
        rows: Whether to allow any dimensions before the channels.
    """
    dims = x.dim()
    right = dims == 2 or (positions and dims > 2) or (rows and dims > 0)
    if not right or (x.shape[-1] != channels if channels is not None else not x.shape[-1]):
        width = "channels" if channels is None else channels
        expected = f"(nodes, …, {width})" if positions else f"(nodes, {width})"
        expected += f" or (…, {width})" if rows else ""
        raise ValueError(f"x has shape {tuple(x.shape)}, expected {expected}")
    if not x.is_floating_point():
        raise ValueError(f"x is {x.dtype}, expected a floating dtype; convert it with x.float()")
