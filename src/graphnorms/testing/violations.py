"""Collecting what a battery finds violated, so that one run names all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from graphnorms.errors import unknown_name


class ConformanceError(AssertionError):
    """A normalization or a backend violates what the battery checks; a line for each."""


class Violations:
    """What was found so far.

    Args:
        subject: What is checked.
        checks: The names of all checks.
        skip: Those to leave out.

    Raises:
        ValueError: `skip` names no check.
    """

    def __init__(self, subject: str, checks: Iterable[str], skip: tuple[str, ...]) -> None:
        for name in skip:
            if name not in checks:
                raise unknown_name("check", name, checks)
        self.subject = subject
        self.skip = skip
        self.lines: list[str] = []

    def run(self, name: str, check: Callable[..., Iterator[str]], *arguments: Any) -> None:
        """Run one check; an exception of what is checked is a violation as well."""
        if name in self.skip:
            return
        try:
            for violation in check(*arguments):
                self.lines.append(f"{name}: {violation}")
        except Exception as error:
            first_line = (str(error).splitlines() or [""])[0]
            self.lines.append(f"{name}: raises {type(error).__name__}: {first_line}")

    def raise_if_any(self) -> None:
        """Raise the error that names all violations, if there are any."""
        if self.lines:
            found = "\n  ".join(self.lines)
            raise ConformanceError(f"{self.subject} violates {len(self.lines)}:\n  {found}")
