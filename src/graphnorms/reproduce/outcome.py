"""What was trained of a paper: its comparisons, beside what was published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphnorms.errors import GraphnormsError
from graphnorms.reproduce.against_published import Gap, Row, conclusion, gaps_of, rows_of
from graphnorms.reproduce.paper_runs import Part, trained
from graphnorms.reproduce.published_values import SCRIPT, Paper
from graphnorms.reproduce.reproduction_tables import gap_table, score_tables

if TYPE_CHECKING:
    from graphnorms.lab.comparison import Comparison
    from graphnorms.report.text_table import TextTable
    from graphnorms.reproduce.paper_runs import Cell


@dataclass(frozen=True)
class Outcome:
    """What was trained of a paper.

    Args:
        paper: The paper.
        found: Its comparisons.
        rows: Trained beside published.
        gaps: How far `Paper.ahead` is ahead of the other norms.
        epochs: Those of a run that was cut down; None for the paper's.
    """

    paper: Paper
    found: Sequence[tuple[Cell, Comparison]]
    rows: Sequence[Row]
    gaps: Sequence[Gap]
    epochs: int | None = None

    @classmethod
    def of(cls, paper: Paper, out: Path, part: Part | None = None) -> Outcome:
        """Read it from the folder of its comparisons.

        Raises:
            GraphnormsError: There is nothing, or a file is damaged.
        """
        part = part or Part()
        found = list(trained(paper, part, out))
        if not found:
            raise GraphnormsError(
                f"{out} has no trials of {paper.name}; train them with: graphnorms reproduce "
                f"{paper.name} --out {out}"
            )
        return cls(paper, found, rows_of(found), gaps_of(found, paper.ahead), part.epochs)

    @property
    def by_the_paper(self) -> list[tuple[Cell, Comparison]]:
        """The comparisons by the paper's own protocol."""
        return [each for each in self.found if each[0].protocol == self.paper.protocols[0]]

    def tables(self) -> list[TextTable]:
        """Return all tables."""
        of_gaps = [gap_table(self.paper, self.gaps)] if self.gaps else []
        return [*score_tables(self.paper, self.rows), *of_gaps]

    @property
    def conclusion(self) -> str:
        """What is reproduced, and what is not, by how much."""
        if self.epochs is not None:
            return f"Cut down to {self.epochs} epochs, so that no published value is reproduced."
        return conclusion(self.rows, (SCRIPT, self.paper.protocols[0]))
