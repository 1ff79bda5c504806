"""Collects the violations of all checks, so that one run reports all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from graphnorms.errors import unknown_name


class ConformanceError(AssertionError):
    """A normalization or a backend fails checks; the message has a line for each violation."""


class Violations:
    """The violations found so far.

    Args:
        subject: The name of the layer or backend.
        checks: The names of all checks.
        skip: The names of checks to leave out.

    Raises:
        ValueError: `skip` contains an unknown name.
    """

    def __init__(self, subject: str, checks: Iterable[str], skip: tuple[str, ...]) -> None:
        for name in skip:
            if name not in checks:
                raise unknown_name("check", name, checks)
        self.subject = subject
        self.skip = skip
        self.lines: list[str] = []

    def run(self, name: str, check: Callable[..., Iterator[str]], *arguments: Any) -> None:
        """Run one check; an exception is a violation, too."""
        if name in self.skip:
            return
        try:
            for violation in check(*arguments):
                self.lines.append(f"{name}: {violation}")
        except Exception as error:
            first_line = (str(error).splitlines() or [""])[0]
            self.lines.append(f"{name}: raises {type(error).__name__}: {first_line}")

    def raise_if_any(self) -> None:
        """Raise an error with all violations, if there are any."""
        if self.lines:
            found = "\n  ".join(self.lines)
            raise ConformanceError(f"{self.subject} violates {len(self.lines)}:\n  {found}")
