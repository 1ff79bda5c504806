"""Sizes of tiles and grids of the kernel launches.

They depend only on what the host knows (rows, segments and channels), so nothing is read from the
device and nothing is tuned at the first call. They do not depend on the GPU either: every GPU sums
in the same order. The values follow rules of thumb for the hardware; none was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ENTRIES: Final = 2048
"""Entries of a tile: 8 for each thread of 8 warps. A forward then takes 64 registers per thread and
a backward, which holds features and gradient, 128 (reported by ptxas for sm_90; 16 entries per
thread took 87 and 168, with lower occupancy). A second derivative over nodes takes 194 to 255 and
spills up to 64 bytes in float32, 384 in float64; 4 entries per thread in 16 warps take 128 and
spill up to 120 and 504."""

CHANNELS: Final = 64
"""Channels of a block without shared statistics: 256 bytes of float32, two full memory
transactions, and enough blocks to fill a GPU if there are few segments."""

LONG_ROWS: Final = 32
"""Maximal rows of a tile: 32 × 64 entries. Longer segments continue in the next tile."""

EDGE_ENTRIES: Final = 1024
"""Entries of a tile of the aggregation, half of the others: a tile runs until its row with the most
edges is done, and with fewer rows less time is wasted."""

CHUNK_ROWS: Final = 256
"""Maximal rows (8 tiles) that one program processes before a segment counts as long: such a program
takes about as long as the four launches of the chunks."""

CHUNKS: Final = 4096
"""Maximal number of chunks; beyond it chunks become longer. This fills any GPU, and the sums,
merged by one program per block, stay within some megabytes."""

PROGRAMS: Final = 1024
"""Programs of a backward that sums gradients of parameters: several per multiprocessor, and few
enough for a cheap final sum."""

MERGED: Final = 4096
"""Entries that a merge reads at a time, accumulated in double: 8 for each thread of 16 warps."""

SUMMED_CHANNELS: Final = 16
"""Channels of a block of the final sum of the parameters' gradients, over some thousand rows and
few channels: two memory transactions per row, and more programs."""

MOST_CHANNELS: Final = 1 << 15
"""Maximal channels of a group that shares a statistic: one program of 16 warps holds them."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile of T segments (or none), R rows of each and C channels, and its number of warps."""

    segments: int
    rows: int
    channels: int
    warps: int

    def named(self, rows: str, *, segments: str = "") -> dict[str, int]:
        """Return the keywords of a launch, with the names that the kernel gives its sizes."""
        sizes = {rows: self.rows, "C": self.channels, "warps": self.warps}
        return sizes | ({segments: self.segments} if segments else {})


def power_of_two(number: int) -> int:
    """Return the smallest power of two ≥ a number."""
    return 1 << max(number - 1, 0).bit_length()


def tile_of_segments(rows: int, segments: int, span: int) -> Tile:
    """Choose the tile for segments of about rows / segments rows and blocks of `span` channels.

    Segments shorter than a tile share one. Longer segments are read again from the caches, which
    costs less than idle lanes of short segments.
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
    """Choose the tile of a merge or final sum: parts per step, for one block of channels."""
    channels = power_of_two(span)
    parts = max(MERGED // channels, 1)
    return Tile(1, parts, channels, _warps(parts * channels))


def tile_of_edges(span: int) -> Tile:
    """Choose the tile of an aggregation: rows, with one edge of each at a time."""
    channels = power_of_two(span)
    rows = EDGE_ENTRIES // channels
    return Tile(1, rows, channels, _warps(rows * channels))


def block_of_channels(channels: int, groups: int, *, grouped: bool) -> int:
    """Return the channels of a block; those of a group if they share a statistic.

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
    """Return the number of rows of a chunk of a long segment, given the total number of rows."""
    return max(CHUNK_ROWS, power_of_two(-(-rows // CHUNKS)))


def _warps(entries: int) -> int:
    """Return the number of warps for 8 entries per thread, within the limits of a program."""
    return min(max(power_of_two(entries // 256), 1), 16)
