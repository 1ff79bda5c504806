"""A process that answers lines of JSON with lines of JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

from graphnorms.errors import GraphnormsError


class AnsweringProcess:
    """A process that is asked by a line on its standard input, and answers on its output.

    It ends with the block; what it says on its error stream is seen.

    Args:
        command: What to run.
        ended: The message where it has ended before it answered.

    Raises:
        GraphnormsError: It cannot be started.
    """

    def __init__(self, command: Sequence[str], ended: str) -> None:
        self._ended = ended
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            raise GraphnormsError(f"{command[0]} does not start: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()  # closes the pipes

    def ask(self, what: Any) -> dict[str, Any]:
        """Send a line and return the answer.

        Raises:
            GraphnormsError: The process has ended, or refuses: the answer is `{"refused": why}`.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # then there is no answer either
            print(json.dumps(what), file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Return the next answer, see `ask`."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise GraphnormsError(self._ended)
        found: dict[str, Any] = json.loads(line)
        if "refused" in found:
            raise GraphnormsError(found["refused"])
        return found
