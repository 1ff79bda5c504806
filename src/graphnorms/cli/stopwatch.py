"""Times as on a stopwatch."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Write a time as on a stopwatch: `1:05`, `2:00:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
