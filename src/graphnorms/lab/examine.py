"""Examine data before a comparison: what they contain, and what they allow to find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphnorms.lab.options import Options
from graphnorms.lab.resolve import resolve
from graphnorms.lab.schedule import Schedule, code_versions
from graphnorms.lab.settings import Settings
from graphnorms.lab.sources import Dataset, load_source

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.lab.data_facts import Facts


@dataclass(frozen=True, eq=False, kw_only=True)
class Examination:
    """A set of graphs, the planned comparison, and the facts about both."""

    graphs: GraphSet
    settings: Settings
    facts: Facts

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "dataset": self.settings.dataset,
            "task": str(self.graphs.task),
            "features": self.graphs.features,
            "notes": list(self.graphs.notes),
            "protocol": self.settings.protocol,
            **self.facts.to_dict(),
        }


def examine(dataset: Dataset, options: Options) -> Examination:
    """Read a data set, and find what it contains and allows a comparison to find.

    Args:
        dataset: See `compare`.
        options: Options of the data and of the comparison: protocol, split, folds, metric.

    Raises:
        ValueError: The graphs cannot be read, or a choice is not possible.
    """
    from graphnorms.lab.data_facts import facts_of

    options.check()
    source = load_source(dataset, options.reading)
    settings = resolve(options, source.graphs, source.name)
    schedule = Schedule(settings=settings, fingerprint="", versions=code_versions())
    facts = facts_of(source.graphs, schedule)
    return Examination(graphs=source.graphs, settings=settings, facts=facts)
