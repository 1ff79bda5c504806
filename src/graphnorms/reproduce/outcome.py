"""What was trained of a paper: its comparisons, beside what was published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphnorms.errors import GraphnormsError
from graphnorms.lab.phrases import several
from graphnorms.reproduce.against_published import (
    Gap,
    Row,
    conclusion,
    gaps_of,
    leads,
    rows_of,
)
from graphnorms.reproduce.paper_runs import Part, cut_down, trained
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
            raise _nothing(paper, out)
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
            short = several(self.epochs, "epoch")
            return f"Cut down to {short}, so that no published value is reproduced."
        protocols = SCRIPT, self.paper.protocols[0]
        said = [conclusion(self.rows, protocols), leads(self.gaps, protocols)]
        return " ".join(filter(None, said))

    @property
    def suffix(self) -> str:
        """What the names of its files end in: a paper that was cut down has its own."""
        return "" if self.epochs is None else f"-{self.epochs}-epochs"


def _nothing(paper: Paper, out: Path) -> GraphnormsError:
    """Say that a folder has nothing of what was asked for, and what it has or how to train it."""
    call = f"graphnorms reproduce {paper.name} --out {out}"
    cut = [part.epochs for part in cut_down(paper, out)]
    if cut:
        return GraphnormsError(
            f"{out} has trials of {paper.name} for {' and '.join(map(str, cut))} epochs, and no "
            f"others; see them with: {call} --show --epochs {cut[0]}"
        )
    return GraphnormsError(f"{out} has no trials of {paper.name}; train them with: {call}")
