"""Where the parts of long segments lie: in chunks of `size` positions.

A segment longer than a chunk reaches over its end, so that a chunk has a part of two at most:
part 0 of the one that holds its first position, part 1 of the one that holds its last. And one at
most begins in it. So a program per chunk knows what to do from `ptr` alone, however the segments
lie, and nothing has to be read back to find the long ones.
"""

import triton
import triton.language as tl


@triton.jit
def _segment_at(ptr, position, segments, steps):
    """The segment that holds a position: the last one to begin at or before it."""
    low = position * 0
    high = low + segments - 1
    for _ in range(steps):
        middle = (low + high + 1) // 2
        right = tl.load(ptr + middle) <= position
        low = tl.where(right, middle, low)
        high = tl.where(right, high, middle - 1)
    return low


@triton.jit
def part_at(ptr, chunk, size, segments, steps, PART: tl.constexpr):
    """A part of a long segment in a chunk.

    Returns:
        The segment, its first position and number of rows, and the first position and number of
        rows of the part; one-element tensors, the last 0 where there is no such part.
    """
    begin = chunk * size
    end = tl.minimum(begin + size, tl.load(ptr + segments))
    if PART == 0:
        position = begin
    else:
        position = tl.maximum(end - 1, 0)
    segment = _segment_at(ptr, position, segments, steps)
    first = tl.load(ptr + segment)
    last = tl.load(ptr + segment + 1)
    there = (begin < end) & (last - first > size)
    if PART == 1:
        there = there & (first > begin)  # else it is part 0
    low = tl.maximum(begin, first)
    rows = tl.where(there, tl.minimum(end, last) - low, 0)
    one = tl.zeros([1], tl.int64)
    return one + segment, one + first, one + (last - first), one + low, one + rows


@triton.jit
def this_chunk():
    """The number of this program's chunk, int64."""
    return tl.program_id(0).to(tl.int64)


@triton.jit
def long_segment(ptr, size, segments, steps):
    """The long segment that begins in this chunk.

    Returns:
        Its number, first position and rows (0 for none), and the chunk behind its last one, which
        is this one for none.
    """
    # A long segment that begins here holds the last position of the chunk.
    begin = this_chunk() * size
    end = tl.minimum(begin + size, tl.load(ptr + segments))
    segment = _segment_at(ptr, tl.maximum(end - 1, 0), segments, steps)
    first = tl.load(ptr + segment)
    n = tl.load(ptr + segment + 1) - first
    there = (begin < end) & (n > size) & (first >= begin)
    behind = tl.where(there, (first + n - 1) // size + 1, this_chunk())
    return segment, first, tl.where(there, n, 0), behind


@triton.jit
def parts_of(first, n, size, number, J: tl.constexpr):
    """Some parts of a segment: where they stand, `(J,)`, how many rows, and which there are."""
    chunk = number + tl.arange(0, J)
    low = tl.maximum(chunk * size, first)
    rows = tl.minimum((chunk + 1) * size, first + n) - low
    # Where it begins after the first position of a chunk, it is the second part of it.
    return chunk * 2 + (first > chunk * size).to(tl.int64), rows, rows > 0


@triton.jit
def masked_positions(ptr, size, rows, segments):
    """The positions of a chunk that no segment has, masked rows: the first, and how many."""
    low = tl.maximum(this_chunk() * size, tl.load(ptr + segments))
    count = tl.minimum((this_chunk() + 1) * size, rows) - low
    one = tl.zeros([1], tl.int64)
    return one + low, one + tl.maximum(count, 0)
