"""The trials of a schedule that are known, and the order in which they run.

An agenda is sent records and returns the trials that follow: the next proposal of a search; once a
fold has tried all learning rates, or all proposals, its reported trials.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from graphnorms.lab.halving import survivors
from graphnorms.lab.learning_rate import best_rate, place_of
from graphnorms.lab.search import Values
from graphnorms.lab.search_space import RATE, fixed_of
from graphnorms.training.trial_config import treatment_of

if TYPE_CHECKING:
    from graphnorms.lab.schedule import Schedule
    from graphnorms.training import Record, TrialConfig


class Agenda:
    """The trials of a comparison that are known, given the records so far.

    Args:
        schedule: All trials.
        records: Outcomes, in any order; those of other trials are ignored.
    """

    def __init__(self, schedule: Schedule, records: Iterable[Record] = ()) -> None:
        settings = schedule.settings
        self.schedule = schedule
        self._records: dict[str, Record] = {}
        choices = range(settings.rate_choices)
        first: dict[str, Values] = {} if settings.selects else {n: {} for n in settings.treatments}
        self._chosen: list[dict[str, Values]] = [dict(first) for _ in choices]
        self._places: dict[str, tuple[str, int]] = {}  # by key: treatment and choice
        self._tried: dict[tuple[str, int], list[TrialConfig]] = defaultdict(list)
        # By treatment and hash of what they were proposed after: the values in the records.
        self._proposed: dict[tuple[str, str], list[Values]] = defaultdict(list)
        for choice in choices:
            for config in schedule.selection(choice):
                self._try(config, choice)
        self._asks = False  # what is there is listed without Optuna
        for record in records:
            self._keep(record)
        self._follow_all()

    def send(self, record: Record) -> list[TrialConfig]:
        """Take a record, and return the trials that are to be run because of it.

        A record may be sent twice; of two records of one trial the later counts.
        """
        before = self._records.get(record.key)
        self._keep(record)
        self._asks = True
        if record.key not in self._places:
            return []
        treatment, choice = self._places[record.key]
        if before is not None and before != record:
            self._forget_proposals(treatment, choice)
        return self._follow(treatment, choice)

    def _keep(self, record: Record) -> None:
        self._records[record.key] = record
        if (after := record.config.get("proposed_after")) is not None:
            place = treatment_of(record.config), after
            self._proposed[place].append(record.config["searched"])

    def _follow_all(self) -> None:
        for treatment, choice in list(self._tried):
            self._follow(treatment, choice)

    def _try(self, config: TrialConfig, choice: int) -> None:
        self._places[config.key] = config.treatment, choice
        self._tried[config.treatment, choice].append(config)

    def _forget_proposals(self, treatment: str, choice: int) -> None:
        """Drop the proposals that followed from an outcome which is another one now."""
        tried = self._tried[treatment, choice]
        settings = self.schedule.settings
        if not (settings.search or settings.halving):
            return
        fixed = fixed_of(settings.space, settings.proposals or 0)
        for config in tried[len(settings.learning_rates) if settings.halving else fixed :]:
            del self._places[config.key]
            tried.remove(config)
        self._chosen[choice].pop(treatment, None)

    def _follow(self, treatment: str, choice: int) -> list[TrialConfig]:
        """Return the trials that follow once everything tried so far for a choice has ended."""
        settings, tried = self.schedule.settings, self._tried[treatment, choice]
        while all(config.key in self._records for config in tried):
            ended = [self._records[config.key] for config in tried]
            values = [config.searched or {} for config in tried]
            places = [place_of([record]) for record in ended]
            if len(tried) == settings.tries:
                best = values[places.index(min(places))]
                if settings.halving:
                    best = {RATE: survivors(ended[-settings.rounds[-1][0] :])[0]}
                self._chosen[choice][treatment] = best or {RATE: best_rate(ended)}
                return self._reported(choice)
            if settings.halving:
                self._try_round(treatment, choice, ended)
                continue
            proposed = self._next(treatment, choice, values, places)
            if proposed is None:
                return []
            self._try(proposed, choice)
        if settings.halving:
            later = tried[len(settings.learning_rates) :]
            return [config for config in later if config.key not in self._records]
        return [config for config in tried[-1:] if config.proposed_after is not None]

    def _try_round(self, treatment: str, choice: int, ended: Sequence[Record]) -> None:
        """Add the next round of a halving, given the records of those that have ended."""
        sizes = [size for size, _ in self.schedule.settings.rounds]
        first = len(ended)
        last = next(n for n in range(len(sizes)) if sum(sizes[: n + 1]) == first)
        rates = survivors(ended[-sizes[last] :])
        for number in range(first, first + len(rates)):
            self._try(self.schedule.halved(treatment, choice, number, rates), choice)

    def _next(
        self, treatment: str, choice: int, tried: list[Values], places: Sequence[Any]
    ) -> TrialConfig | None:
        """Return the trial of the next proposal: that in the records, or a new one."""
        search = self.schedule.search(treatment, choice)
        proposal = len(tried), search.after(places)
        for values in self._proposed[treatment, proposal[1]]:
            config = self.schedule.tried(treatment, choice, values, proposal)
            if config.key in self._records:
                return config
        if not self._asks:
            return None
        return self.schedule.tried(treatment, choice, search.next(tried, places), proposal)

    def known(self) -> list[TrialConfig]:
        """List every trial that is known so far, in the order in which they should run."""
        self._asks = True
        self._follow_all()
        return self._listed()

    def _listed(self) -> list[TrialConfig]:
        return [
            config
            for choice in range(len(self._chosen))
            for config in (*self._selection(choice), *self._reported(choice))
        ]

    def records(self) -> list[Record]:
        """List the records in the order of the schedule, not of arrival."""
        keys = (config.key for config in self._listed())
        return [self._records[key] for key in keys if key in self._records]

    def _selection(self, choice: int) -> Iterator[TrialConfig]:
        """Yield the trials tried so far for a choice, norms in step."""
        columns = [self._tried.get((n, choice), []) for n in self.schedule.settings.treatments]
        for row in itertools.zip_longest(*columns):
            yield from filter(None, row)

    def _reported(self, choice: int) -> list[TrialConfig]:
        """List the trials that scores come from.

        Until the choices for all treatments are known, only those with an outcome: one that joins a
        run later must not hide what is done.
        """
        chosen = self._chosen[choice]
        found = self.schedule.reported(choice, chosen)
        if len(chosen) < len(self.schedule.settings.treatments):
            return [config for config in found if config.key in self._records]
        return found
