"""Which rows belong to which graph: validated and built once per batch."""

from graphnorms.segments.checks import check_mask
from graphnorms.segments.given import as_segments
from graphnorms.segments.segments import Segments

__all__ = ["Segments", "as_segments", "check_mask"]
