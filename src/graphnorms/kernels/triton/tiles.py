"""How the kernels are launched: sizes of tiles and grids.

A function of what the host knows, rows, segments and channels, so that nothing is read from the
device and nothing is tuned at a user's first call. Nothing depends on the GPU either: sums are
in the same order on every one. The reasons are those of the hardware's rules of thumb; no entry
was chosen by a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ENTRIES: Final = 2048
"""Of a tile: 8 for each thread of 8 warps. So a forward takes 64 registers a thread and a backward,
which holds features and gradient, 128 (as ptxas reports for sm_90; 16 entries a thread took 87 and
168, and fewer threads would be under way)."""

CHANNELS: Final = 64
"""Of a block where channels stand alone: 256 bytes of float32 in a row of memory, two full
transactions, and enough blocks to fill a GPU where segments are few."""

LONG_ROWS: Final = 32
"""Rows of a tile at most: 32 × 64 entries are a tile. Longer segments go on in the next tile."""

EDGE_ENTRIES: Final = 1024
"""Of a tile of the aggregation, half of the others': its rows go on until the one with the most
edges is done, and fewer rows wait less for each other."""

CHUNK_ROWS: Final = 256
"""Rows that one program does one after another, 8 tiles, at most, before a segment counts as
long: the time of one such program stays about that of the four launches of the chunks."""

CHUNKS: Final = 4096
"""More chunks than this are made longer instead: they fill any GPU, and their sums, merged by
one program for a block, stay some megabytes."""

PROGRAMS: Final = 1024
"""Of a backward that adds up gradients of parameters: several for each multiprocessor, and few
enough that the last sum reads little."""

MERGED: Final = 4096
"""Entries that a merge reads at a time, added up in double where they are until its end: 8 for each
thread of 16 warps."""

SUMMED_CHANNELS: Final = 16
"""Of a block of the last sum of the parameters' gradients, which is over some thousand rows and few
channels: two transactions of a row, and more programs."""

MOST_CHANNELS: Final = 1 << 15
"""Of a group whose channels share a statistic: all are in one program, 16 warps hold so many."""


@dataclass(frozen=True, slots=True)
class Tile:
    """T segments (or none), R rows of each and C channels, by so many warps of 32 threads."""

    segments: int
    rows: int
    channels: int
    warps: int


def power_of_two(number: int) -> int:
    """Return the smallest power of two that is not below a number."""
    return 1 << max(number - 1, 0).bit_length()


def tile_of_segments(rows: int, segments: int, span: int) -> Tile:
    """Choose the tile for segments of about rows / segments rows and blocks of `span` channels.

    Segments shorter than a tile share one. What is longer than the mean and does not fit is read
    again from the caches, which costs less than lanes that short segments leave idle.
    """
    channels = power_of_two(span)
    held = max(ENTRIES // channels, 1)  # rows of all segments of the tile
    typical = power_of_two(-(-rows // max(segments, 1)))
    of_each = min(max(typical, 1), LONG_ROWS, held)
    together = min(held // of_each, power_of_two(segments))
    return Tile(together, of_each, channels, _warps(together * of_each * channels))


def tile_of_rows(span: int) -> Tile:
    """Choose the tile for rows whose groups have `span` channels, or for parts of segments."""
    channels = power_of_two(span)
    rows = min(max(ENTRIES // channels, 1), LONG_ROWS)
    return Tile(1, rows, channels, _warps(rows * channels))


def tile_of_parts(span: int) -> Tile:
    """Choose the tile of a merge or last sum: so many parts at a time, one block of channels."""
    channels = power_of_two(span)
    parts = max(MERGED // channels, 1)
    return Tile(1, parts, channels, _warps(parts * channels))


def tile_of_edges(span: int) -> Tile:
    """Choose the tile of an aggregation: so many rows, one edge of each at a time."""
    channels = power_of_two(span)
    rows = EDGE_ENTRIES // channels
    return Tile(1, rows, channels, _warps(rows * channels))


def block_of_channels(channels: int, groups: int, *, grouped: bool) -> int:
    """Return the channels of a block: those of a group where they share a statistic.

    Raises:
        ValueError: A group does not fit on chip.
    """
    if not grouped:
        return min(power_of_two(channels), CHANNELS)
    width = channels // groups
    if width > MOST_CHANNELS:
        raise ValueError(
            f"{width} channels share a statistic, the triton kernels have at most "
            f"{MOST_CHANNELS}; use backend='reference'"
        )
    return width


def chunk_rows(rows: int) -> int:
    """Return how many rows a chunk of a long segment has, by the rows of all segments."""
    return max(CHUNK_ROWS, power_of_two(-(-rows // CHUNKS)))


def _warps(entries: int) -> int:
    """8 entries for each thread, within what a program may have."""
    return min(max(power_of_two(entries // 256), 1), 16)
