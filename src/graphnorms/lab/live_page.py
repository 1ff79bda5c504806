"""The page of a run that goes on."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from graphnorms.errors import one_line
from graphnorms.report.chart import start_bundling

if TYPE_CHECKING:
    from graphnorms.lab.comparison import Comparison

_log = logging.getLogger(__name__)

_PAGE_AGE: Final = 30.0
"""Seconds after which the page of a run that goes on is written again, at the earliest."""

_TIMES_ITS_COST: Final = 50.0
"""Seconds from one page to the next, per second that writing it takes."""

_FIRST_COST: Final = 2.0
"""Seconds that the first page is supposed to take."""


class LivePage:
    """The page of a run that goes on: written every `_PAGE_AGE` seconds if there is news.

    What that takes is kept below 2% of the time.

    Args:
        comparison: Returns the outcome so far.
    """

    def __init__(self, comparison: Callable[[], Comparison]) -> None:
        with suppress(OSError):  # of which the page speaks that needs it
            start_bundling()  # ready when the first page needs it, gone before workers are many
        self._comparison = comparison
        self._next = time.monotonic() + max(_PAGE_AGE, _TIMES_ITS_COST * _FIRST_COST)

    def write_if_due(self, ended: int) -> None:
        """Write the page, unless that is too early; called when a trial has ended.

        Args:
            ended: Number of outcomes.
        """
        start = time.monotonic()
        if start < self._next:
            return
        comparison = self._comparison()
        if not comparison.judgeable or ended == comparison.planned:
            return
        if problem := problem_of(lambda: comparison.report(figures=False, live=True)):
            _log.warning("the page is not written while the run goes on: %s", problem)
            self._next = math.inf
            return
        took = time.monotonic() - start
        _log.debug("wrote the page of %d outcomes in %.1f s", ended, took)
        self._next = time.monotonic() + max(_PAGE_AGE, _TIMES_ITS_COST * took)


def problem_of(write_page: Callable[[], object]) -> str:
    """Write the page; return the reason if that fails, else nothing."""
    try:
        write_page()
    except Exception as error:  # a failed page must not hide the outcome
        return one_line(error)
    return ""
