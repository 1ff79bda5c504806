"""The gradients of parameters that all segments share, from partial sums of the programs."""

from __future__ import annotations

from torch import Tensor

from graphnorms.kernels.triton import tiles
from graphnorms.kernels.triton.call import Launch
from graphnorms.kernels.triton.loading import device_code, launch


def partial_sums(call: Launch, number: int, grads: list[Tensor | None]) -> Tensor | None:
    """Allocate the partial sums of the gradients of shared parameters, one per program."""
    if all(grad is None for grad in grads):
        return None
    return call.x.new_empty((number, 3, call.channels), dtype=call.accumulation)


def add_up(call: Launch, shares: Tensor | None, grads: list[Tensor | None]) -> None:
    """Add up partial sums into those of the gradients that there are."""
    if shares is None:
        return
    tile = tiles.tile_of_parts(min(call.channels, tiles.SUMMED_CHANNELS))
    grid = (-(-call.channels // tile.channels), 3)
    arguments = (shares, *grads, shares.shape[0], call.channels)
    launch(device_code("shares").sum_shares, grid, call.x.device, *arguments, **tile.named("J"))
