"""Dropout as a function of a seed, row and channel.

No mask is stored: the backward recomputes it. All backends use the same function, so the result
does not depend on the backend.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_LOW: Final = 0xFFFFFFFF
_SEEDS: Final = 2**62


def draw_seed(device: torch.device) -> Tensor:
    """Draw a seed from torch's generator of the device: an int64 scalar, not read back."""
    return torch.randint(_SEEDS, (), dtype=torch.int64, device=device)


def drop(x: Tensor, share: float, seed: Tensor) -> Tensor:
    """Set entries to 0 with probability `share` and divide the others by `1 - share`.

    A 32-bit number per entry is compared with the share. SplitMix64 (Steele, Lea & Flood 2014)
    computes a 64-bit key from seed and row; a finalizer like that of MurmurHash3 (constants:
    https://github.com/skeeto/hash-prospector, "lowbias32") computes the number from channel and
    key.

    Shapes: `x` and the result `(rows, channels)`; `seed` `()`.
    """
    rows, channels = x.shape
    bits = _bits(seed, rows, channels)
    return torch.where(bits >= int(share * 2**32), x / (1 - share), 0)


def _bits(seed: Tensor, rows: int, channels: int) -> Tensor:
    """Compute 32 random bits per entry, as int64, `(rows, channels)`."""
    row = torch.arange(1, rows + 1, device=seed.device).unsqueeze(1)  # (rows, 1)
    key = seed + row * _signed(0x9E3779B97F4A7C15)
    key = (key ^ _shift(key, 30)) * _signed(0xBF58476D1CE4E5B9)
    key = (key ^ _shift(key, 27)) * _signed(0x94D049BB133111EB)
    key = key ^ _shift(key, 31)
    channel = torch.arange(channels, device=seed.device)
    bits = (channel * 0x9E3779B9 + (key & _LOW)) & _LOW  # (rows, channels)
    bits = ((bits ^ (bits >> 16)) * 0x7FEB352D) & _LOW
    bits = bits ^ _shift(key, 32)
    bits = ((bits ^ (bits >> 15)) * 0x846CA68B) & _LOW
    return bits ^ (bits >> 16)


def _shift(bits: Tensor, by: int) -> Tensor:
    """Shift 64 bits to the right, filling with zeros, unlike torch's signed shift."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >> 63 else constant
