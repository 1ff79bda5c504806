"""Which entries dropout drops: a function of a seed and of the entry's row and channel.

Nothing is stored: the backward asks again. Every backend has the same function, so that a result
does not depend on which one ran.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_LOW: Final = 0xFFFFFFFF
_SEEDS: Final = 2**62


def draw_seed(device: torch.device) -> Tensor:
    """Draw a seed from torch's generator of the device: int64, no dimension, not read back."""
    return torch.randint(_SEEDS, (), dtype=torch.int64, device=device)


def drop(x: Tensor, share: float, seed: Tensor) -> Tensor:
    """Set a share of the entries to 0 and divide the others by what is left of 1.

    A number of 32 bits per entry is compared with the share: SplitMix64 (Steele, Lea & Flood
    2014) makes a key of 64 bits from seed and row, and a finalizer in the manner of MurmurHash3
    (constants: https://github.com/skeeto/hash-prospector, "lowbias32") the number from channel
    and key.

    Shapes: `x` and the result `(rows, channels)`; `seed` `()`.
    """
    rows, channels = x.shape
    bits = _bits(seed, rows, channels)
    return torch.where(bits >= int(share * 2**32), x / (1 - share), 0)


def _bits(seed: Tensor, rows: int, channels: int) -> Tensor:
    """32 random bits for each entry, as int64, `(rows, channels)`."""
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
    """Shift 64 bits to the right, zeros coming in, which torch's signed shift does not do."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >> 63 else constant
