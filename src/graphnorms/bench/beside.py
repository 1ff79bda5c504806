"""Another installation of graphnorms, timed in the same turns in a process of its own.

Its numbers are not checked: it may be an older version, whose results differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphnorms.bench.answering_process import AnsweringProcess
from graphnorms.errors import GraphnormsError


class Beside(AnsweringProcess):
    """A process of another Python that makes and times cases, see `beside_runner`.

    Args:
        python: The Python in whose environment the other version is installed.
        device: Where cases are timed.

    Raises:
        GraphnormsError: It cannot be started, or has no graphnorms.
    """

    def __init__(self, python: str, device: str = "cpu") -> None:
        self.device = device
        source = (Path(__file__).parent / "beside_runner.py").read_text(encoding="utf-8")
        super().__init__(
            [python, "-P", "-c", source],
            "the process of the version beside has ended; is graphnorms installed for its Python? "
            "Its own message stands above",
        )
        try:
            self.version: str = self.answer()["version"]
        except GraphnormsError:
            self.__exit__()
            raise

    def called(self, name: str) -> str:
        """Return what tables call a contender of the other version."""
        return f"{name}, {self.version} beside"

    def make(self, kind: str, threads: int = 1, **case: Any) -> Elsewhere:
        """Make a case.

        Args:
            kind: `"layer"`, `"epoch"` or `"trials"`.
            threads: Of torch, in the other process.
            case: What its function in `beside_runner` needs.

        Raises:
            GraphnormsError: The other version cannot do it.
        """
        answer = self.ask({"make": kind, "threads": threads, "device": self.device, **case})
        return Elsewhere(self, answer["number"])


@dataclass(frozen=True)
class Elsewhere:
    """A case in the other process; calling it runs it once."""

    beside: Beside
    number: int

    def __call__(self) -> None:
        """Run it."""
        self.seconds(1)

    def seconds(self, repeats: int) -> float:
        """Return the seconds of a call, on the clock of the other process."""
        what = {"number": self.number, "repeats": repeats, "device": self.beside.device}
        seconds: float = self.beside.ask(what)["seconds"]
        return seconds
