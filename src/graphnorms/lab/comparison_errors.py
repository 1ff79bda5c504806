"""How a comparison ends other than well; what is done is kept, and comes with the error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphnorms.errors import GraphnormsError
from graphnorms.interrupts import INTERRUPTED

if TYPE_CHECKING:
    from graphnorms.lab.comparison import Comparison


class ComparisonInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a comparison: what is done is kept, and the same call continues.

    Args:
        comparison: The finished trials; its `records` may be empty.
        problem: Why the page cannot be written; empty if it is.
        how: A word for the end, and the exit code of a command, see
            `graphnorms.interrupts.how_ended`.
    """

    def __init__(
        self,
        comparison: Comparison,
        problem: str = "",
        how: tuple[str, int] = ("interrupted", INTERRUPTED),
    ) -> None:
        done, planned = len(comparison.records), comparison.planned
        page = f"; the report could not be written ({problem})" if problem else ""
        words, self.code = how
        super().__init__(
            f"{words}: {done} of {planned} trials; run the same command again to continue{page}"
        )
        self.comparison = comparison


class ReportError(GraphnormsError):
    """A comparison is done and kept, but its page could not be written.

    Args:
        comparison: The outcome.
        problem: Why the page cannot be written.
    """

    def __init__(self, comparison: Comparison, problem: str) -> None:
        super().__init__(
            f"the report could not be written ({problem}); all trials are kept, and "
            f"graphnorms report {comparison.folder} makes it again"
        )
        self.comparison = comparison
