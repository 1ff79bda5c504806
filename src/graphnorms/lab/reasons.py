"""Why norms differ: causes whose signs a run shows, and interventions that test them.

Every difference that the verdict tells apart is held against the table of causes
(`graphnorms.lab.causes`). A cause whose number lies beyond its threshold is *consistent* with the
difference. With `reasons="tested"` some of them are tested: the same trials run once more with one
thing changed (`graphnorms.training.interventions`), on the same split, with the same seed and
learning rate. The reason is *supported* if the lead is then shorter, by the paired test of the
verdict, adjusted over all causes tested in the run; it is dropped if the lead stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from graphnorms.lab.causes import CAUSES, Cause, Evidence, Signs, rate_factor
from graphnorms.lab.leads import (
    Lead,
    change_of,
    differences,
    lead_with,
    leads_of,
    leads_still,
    outcomes,
    scores_of,
)
from graphnorms.lab.statistics import SIGNIFICANCE, Estimate
from graphnorms.layers.traits import Traits, traits_of

if TYPE_CHECKING:
    from graphnorms.lab.design import Pair
    from graphnorms.lab.paired_tests import PairedTest
    from graphnorms.lab.trials import NormTrials, Trials
    from graphnorms.lab.verdict import Verdict
    from graphnorms.training.interventions import Intervention
    from graphnorms.training.record import Record
    from graphnorms.training.trial_config import TrialConfig

MOST_TESTED: Final = 3
"""Causes that a run tests, of its largest difference that has any to test."""

MOST_PASSES: Final = 8
"""Largest cost of an epoch with `whole-set-statistics`, in epochs."""

SUPPORTED: Final = "supported"
CONSISTENT: Final = "consistent"


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a norm leads another, as far as this run shows it.

    Args:
        cause: Its name in `graphnorms.lab.causes.CAUSES`.
        norm, other: The norm that leads and the one that trails.
        value: The number that speaks for the cause, over folds or seeds.
        threshold: Where it begins to count.
        status: `"supported"` by an intervention, or `"consistent"`: only the number fits.
        lead: How much better `norm` scores, above 0, in the unit of the score.
        source: Who described the cause.
        said: The number in words, with `{leader}`, `{trailer}`.
        because: The cause in words.
        intervention: What tests it, or could; None where nothing does.
        lead_under_intervention: The lead in those trials; None where they were not run.
        change: By how much it is shorter than in the comparison, on the same folds or seeds.
        p: Of the change, adjusted over the causes tested in the run; None where it was not tested.
        failed: Intervention trials that failed.
        failing: Trials of `other` that failed in the comparison, if it is not ranked for that.
    """

    cause: str
    norm: str
    other: str
    value: Estimate
    threshold: float
    status: str
    lead: Estimate
    source: str
    said: str
    because: str
    intervention: str | None = None
    lead_under_intervention: Estimate | None = None
    change: Estimate | None = None
    p: float | None = None
    failed: int = 0
    failing: int = 0

    @property
    def explained(self) -> float:
        """The share of the lead that the intervention takes away; 0 where it was not tested."""
        return 0.0 if self.change is None else self.change.mean / self.lead.mean

    @property
    def excess(self) -> float:
        """How far the number lies beyond its threshold, as a ratio."""
        return self.value.mean / self.threshold


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A cause whose number fits a lead."""

    lead: Lead
    cause: Cause
    evidence: Evidence
    value: Estimate
    intervention: Intervention | None

    def reason(self, **found: Any) -> Reason:
        lead, written = self.lead, self.evidence.written(self.value.mean)
        return Reason(
            cause=self.cause.name,
            norm=lead.leader,
            other=lead.trailer,
            value=self.value,
            threshold=self.evidence.threshold,
            lead=lead.estimate,
            source=self.cause.source,
            said=self.evidence.said.replace("{value}", written),
            because=self.cause.because,
            intervention=None if self.intervention is None else self.intervention.name,
            failing=lead.failing,
            **found,
        )


@dataclass(frozen=True, kw_only=True)
class _Tested:
    """A candidate and the trials that test it."""

    candidate: _Candidate
    change: PairedTest
    after: PairedTest
    changes: dict[Pair, float] = field(repr=False)
    failed: int

    def reason(self, p: float | None) -> Reason | None:
        """Return the reason, given the adjusted p-value; None where the trials contradict it."""
        change, after = self.change.estimate, self.after.estimate
        decided = p is not None and p <= SIGNIFICANCE
        shorter = abs(after.mean) < change.mean + after.mean
        if decided and change.mean > 0 and shorter:
            status = SUPPORTED
        elif (decided and change.mean < 0) or (leads_still(self.after) and not decided):
            return None
        else:
            status = CONSISTENT
        return self.candidate.reason(
            status=status,
            lead_under_intervention=after,
            change=change,
            p=p,
            failed=self.failed,
        )


class Why:
    """The reasons for the differences of a comparison.

    Args:
        trials: The trials of the comparison.
        verdict: What was found.
        tests: Intervention trials that have an outcome, by key.
        facts: Facts of the data, by name.
    """

    def __init__(
        self,
        trials: Trials,
        verdict: Verdict,
        tests: Mapping[str, Record] | None = None,
        facts: Mapping[str, float] | None = None,
    ) -> None:
        self.trials, self.verdict = trials, verdict
        self.leads = leads_of(trials, verdict)
        self._tests, self._facts = tests or {}, facts or {}
        self._candidates = [each for lead in self.leads for each in self._fitting(lead)]

    @cached_property
    def tested(self) -> int:
        """How many causes were tested."""
        return len(self._outcomes)

    @property
    def measured(self) -> bool:
        """Whether anything was measured in these trials."""
        return any(record.measures for record in self.trials.records)

    @cached_property
    def _outcomes(self) -> list[_Tested]:
        return [found for each in self._to_test() if (found := self._tested(each)) is not None]

    @cached_property
    def reasons(self) -> tuple[Reason, ...]:
        """The reasons, supported ones first.

        Those by the share of the lead that they explain; the others by how far their numbers lie
        beyond their thresholds.
        """
        tested = self._outcomes
        known = [each for each in tested if each.change.p_value is not None]
        adjusted = self.verdict.design.adjusted(
            [each.change.p_value or 0.0 for each in known], [each.changes for each in known]
        )
        p_values = {id(each): p for each, p in zip(known, adjusted, strict=True)}
        over = {id(each.candidate) for each in tested}
        found = [
            *(each.reason(p_values.get(id(each))) for each in tested),
            *(each.reason(status=CONSISTENT) for each in self._candidates if id(each) not in over),
        ]
        reasons = [reason for reason in found if reason is not None]
        return tuple(
            sorted(
                reasons,
                key=lambda one: (
                    one.status != SUPPORTED,
                    -(one.explained if one.status == SUPPORTED else one.excess),
                ),
            )
        )

    def to_run(self) -> list[TrialConfig]:
        """List the intervention trials that test what is to be tested, pair by pair."""
        found = {
            config.key: config
            for candidate in self._to_test()
            for norm in (candidate.lead.leader, candidate.lead.trailer)
            for config in self._changed(candidate, norm).values()
        }
        return list(found.values())

    def _fitting(self, lead: Lead) -> Iterator[_Candidate]:
        """Yield the causes whose numbers fit a lead, those further beyond their threshold first."""
        leads, trails = self._traits(lead)
        found = []
        for cause in CAUSES:
            if not cause.concerns(leads, trails):
                continue
            numbers = [
                (evidence, value)
                for evidence in cause.evidence
                if (value := self._value(lead, evidence)) is not None
                and value.mean >= evidence.threshold
            ]
            if numbers:
                evidence, value = max(numbers, key=lambda one: one[1].mean / one[0].threshold)
                found.append(
                    _Candidate(
                        lead=lead,
                        cause=cause,
                        evidence=evidence,
                        value=value,
                        intervention=self._intervention(cause, lead),
                    )
                )
        yield from sorted(found, key=lambda each: -each.value.mean / each.evidence.threshold)

    def _traits(self, lead: Lead) -> tuple[Traits, Traits]:
        """Return what the norms of a lead do."""
        leader, trailer = (_text_of(self.trials[norm]) for norm in (lead.leader, lead.trailer))
        return traits_of(leader), traits_of(trailer)

    def _value(self, lead: Lead, evidence: Evidence) -> Estimate | None:
        """Return the number of some evidence over the folds or seeds where it is known."""
        own, other = self.trials[lead.leader], self.trials[lead.trailer]
        leader, trailer = outcomes(own), outcomes(other)
        leads, trails = self._traits(lead)
        known = {}
        for pair in leader.keys() & trailer.keys():
            signs = Signs(
                leader=leader[pair].measures,
                trailer=trailer[pair].measures,
                leads=leads,
                trails=trails,
                facts=self._facts,
            )
            if signs.leader and signs.trailer:
                number = evidence.number(signs)
                if number is not None:
                    known[pair] = number
        design = self.verdict.design
        return design.estimate(design.values(known)) if known else None

    def _intervention(self, cause: Cause, lead: Lead) -> Intervention | None:
        """Return what tests a cause in trials such as these, if anything does."""
        from graphnorms.training.interventions import INTERVENTIONS

        records = outcomes(self.trials[lead.trailer]).values()
        for name in cause.interventions:
            row = INTERVENTIONS[name]
            if all(_affords(row, record) and _applied(row, record) for record in records):
                return row
        return None

    def _to_test(self) -> list[_Candidate]:
        """Return what is tested: of the largest lead with something to test, a few causes."""
        for lead in self.leads:
            of_lead = [each for each in self._candidates if each.lead is lead]
            testable = [each for each in of_lead if each.intervention is not None]
            if testable:
                return testable[:MOST_TESTED]
        return []

    def _changed(self, candidate: _Candidate, norm: str) -> dict[Pair, TrialConfig]:
        """Return the trials of a norm with the intervention; none where it changes nothing."""
        lead, row = candidate.lead, candidate.intervention
        assert row is not None
        records = outcomes(self.trials[norm])
        if not _acts(row, lead, norm, self.trials[norm]):
            return {}
        leader = outcomes(self.trials[lead.leader])
        found = {}
        for pair, record in records.items():
            factor: float | None = 1.0
            if row.of_trailer:
                other = leader.get(pair)
                factor = rate_factor(other.measures, record.measures) if other else None
            if factor is not None and (config := _applied(row, record, factor)) is not None:
                found[pair] = config
        return found

    def _under(self, candidate: _Candidate, norm: str) -> tuple[NormTrials, bool]:
        """Return the trials of a norm under an intervention, and whether all have an outcome."""
        plain = self.trials[norm]
        changed = self._changed(candidate, norm)
        if not changed:
            return plain, True
        known = {
            pair: self._tests[config.key]
            for pair, config in changed.items()
            if config.key in self._tests
        }
        done = {pair: record for pair, record in known.items() if record.status == "done"}
        failed = {pair: record for pair, record in known.items() if record.status != "done"}
        return replace(plain, done=done, failed=failed), len(known) == len(changed)

    def _tested(self, candidate: _Candidate) -> _Tested | None:
        """Compare the lead in the comparison with that under the intervention; None if not run."""
        lead, verdict = candidate.lead, self.verdict
        (leader, complete), (trailer, also) = (
            self._under(candidate, norm) for norm in (lead.leader, lead.trailer)
        )
        if not (complete and also):
            return None
        after = lead_with(lead, leader, trailer, verdict)
        plain = differences(
            *scores_of(lead, self.trials[lead.leader], self.trials[lead.trailer], verdict)
        )
        changed = differences(*scores_of(lead, leader, trailer, verdict))
        change = change_of(plain, changed, verdict.design, leader.metric)
        if after is None or change is None:
            return None
        own = [each for each in (leader, trailer) if each not in self.trials.values()]
        return _Tested(
            candidate=candidate,
            change=change,
            after=after,
            changes=differences(plain, changed),
            failed=sum(len(each.failed) for each in own),
        )


def _text_of(of_norm: NormTrials) -> str:
    """Return the norm of some trials, which a treatment has besides the values that vary."""
    return next((record.config["norm"] for record in of_norm.records()), of_norm.norm)


def _acts(row: Intervention, lead: Lead, norm: str, of_norm: NormTrials) -> bool:
    """Whether an intervention changes the trials of one norm of a lead."""
    if row.of_trailer:
        return norm == lead.trailer
    return row.acts_on(_text_of(of_norm))


def _affords(row: Intervention, record: Record) -> bool:
    """Whether a trial with an intervention is possible in a reasonable time."""
    if record.config.get("num_neighbors") is not None:
        return False  # its minibatches are no whole graphs
    if not row.whole_set:
        return True
    items, size = record.counts.get("train_items", 0), record.config.get("batch_size", 1)
    return bool(items <= MOST_PASSES * size)


def _applied(row: Intervention, record: Record, factor: float = 1.0) -> TrialConfig | None:
    """Return a trial with an intervention; None where it cannot be, or is of another version."""
    from graphnorms.training.trial_config import TrialConfig

    try:
        return row.applied(TrialConfig(**record.config), factor)
    except TypeError:
        return None
