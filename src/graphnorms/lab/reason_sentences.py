"""Reasons in sentences: which are supported, which only fit, and what would test them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from graphnorms.lab.number_format import Scale
from graphnorms.lab.phrases import Name, be, called_by, several
from graphnorms.lab.reasons import SUPPORTED, Reason

if TYPE_CHECKING:
    from graphnorms.lab.reasons import Why
    from graphnorms.lab.statistics import Estimate


def reason_sentence(reason: Reason, scale: Scale, names: Name = str) -> str:
    """Put a reason into words: the lead, its cause, and how it was tested."""
    name = called_by(names)
    norms = {"leader": name(reason.norm), "trailer": name(reason.other)}
    lead = scale.difference(reason.lead.mean)
    because = reason.because.format(**norms)
    if reason.failing:
        failed = several(reason.failing, "trial")
        head = f"{norms['leader']} trains where {failed} of {norms['trailer']} failed,"
    else:
        head = f"{norms['leader']} leads {norms['trailer']} by {lead}"
    if reason.status == SUPPORTED:
        return f"{head} because {because} (supported: {_outcome(reason, scale, norms)})."
    said = reason.said.format(**norms)
    tested = _untested(reason, scale, norms)
    return f"{head.rstrip(',')}, perhaps because {because} (consistent: {said}; {tested})."


def _outcome(reason: Reason, scale: Scale, norms: dict[str, str]) -> str:
    """Say what was left of the lead under the intervention."""
    after = reason.lead_under_intervention
    assert after is not None
    p = "" if reason.p is None else f", p {'< 0.001' if reason.p < 0.001 else f'= {reason.p:.3f}'}"
    failed = f"; {several(reason.failed, 'such trial')} failed" if reason.failed else ""
    return f"{_given(reason, norms)} the lead is {_written(after, scale)}{p}{failed}"


def _untested(reason: Reason, scale: Scale, norms: dict[str, str]) -> str:
    if reason.lead_under_intervention is not None:
        return f"{_outcome(reason, scale, norms)}, which does not decide"
    return "not tested" if reason.intervention is not None else "nothing tests it in such trials"


def _given(reason: Reason, norms: dict[str, str]) -> str:
    from graphnorms.training.interventions import INTERVENTIONS

    assert reason.intervention is not None
    return INTERVENTIONS[reason.intervention].given.format(**norms)


def _written(estimate: Estimate, scale: Scale) -> str:
    """Write a difference with its interval: `0.4 points [−1.2, 2.0]`."""
    mean = scale.difference(estimate.mean)
    if estimate.low != estimate.low:
        return mean
    return f"{mean} [{scale.number(estimate.low)}, {scale.number(estimate.high)}]"


def reasons_as_data(found: Why) -> list[dict[str, Any]]:
    """Return the reasons as JSON-able data, each with its sentence."""
    from graphnorms.lab.verdict import jsonable

    scale, data = found.verdict.scale, []
    for reason in found.reasons:
        norms = {"leader": reason.norm, "trailer": reason.other}
        words = {name: getattr(reason, name).format(**norms) for name in ("said", "because")}
        text = reason_sentence(reason, scale)
        data.append(jsonable(asdict(reason)) | words | {"text": text})
    return data


def why(found: Why, names: Name = str) -> list[str]:
    """Say why norms differ, a paragraph for each reason; first what is known on the whole.

    Nothing where nothing was measured.

    Args:
        found: The reasons.
        names: What a norm is called, given its catalogue name.
    """
    if not found.measured or not found.verdict.conclusive:
        return []
    reasons = found.reasons
    texts = [reason_sentence(reason, found.verdict.scale, names) for reason in reasons]
    summary = _summary(found, reasons)
    return [f"{summary[:1].upper()}{summary[1:]}", *texts]


def _summary(found: Why, reasons: Sequence[Reason]) -> str:
    noun = found.verdict.noun
    if not found.leads:
        return f"no two {noun}s are told apart, so there is no difference to explain."
    supported = sum(reason.status == SUPPORTED for reason in reasons)
    if supported:
        count = several(supported, "reason")
        return f"{count} {be(supported)} supported by trials with one thing changed."
    text = "no reason is supported"
    if found.tested:
        text += f" by the trials that tested {several(found.tested, 'cause')}"
    elif any(reason.intervention is not None for reason in reasons):
        text += "; --resume --reasons tested runs trials that test them"
    if not reasons and not found.tested:
        text += "; no known cause fits the numbers"
    return f"{text}."
