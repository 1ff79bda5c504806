"""The recommendation of a verdict in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphnorms.lab.phrases import MOST_NAMED, Name, listing, percent, several
from graphnorms.lab.recommendation import MOST_FAILED
from graphnorms.lab.trivial import trivial_name
from graphnorms.lab.verdict_phrases import best_of, near, rates_noun

if TYPE_CHECKING:
    from graphnorms.lab.recommendation import Recommendation
    from graphnorms.lab.verdict import Verdict


def advice(verdict: Verdict, name: Name) -> str:
    """Say which norm to use, and by which numbers."""
    found = verdict.recommendation
    if found is None:
        return _nothing(verdict, name)
    others = len(found.among) - 1
    rivals = [name(norm) for norm in found.soonest if norm != found.norm]
    reasons = []
    if not others:
        reasons.append(_standing(verdict, found, name))
    elif found.steps_to_target is not None:
        when = f"reaches the target in {several(found.steps_to_target, 'step')}"
        if rivals and len(rivals) <= MOST_NAMED:
            reasons.append(f"{when}, and no other is shown to need fewer")
        elif rivals:
            reasons.append(when)
        else:
            reasons.append(f"{when}, sooner than the others")
    if found.failed:
        reasons.append(f"{found.failed} of its {found.trials} trials failed")
    if found.rates > 1:
        verb = "comes" if found.near == 1 else "come"
        best = "its best" if found.norm == verdict.best else best_of(verdict, name)
        reasons.append(
            f"{found.near} of {found.rates} {rates_noun(verdict)} {verb} within {near(verdict)} of "
            f"{best}"
        )
    extra = found.extra_parameters
    if extra or (extra == 0 and verdict.noun == "norm"):
        reasons.append(_parameters(verdict, extra, name))
    if found.needs:
        reasons.append(f"it needs {listing(found.needs)} besides")
    among = f"of the {len(found.among)} shown to be practically equal in score, " if others else ""
    caveat = ", as far as optimistic scores allow" if verdict.optimistic else ""
    head = f"Recommended{caveat}: {name(found.norm)}"
    if others and found.steps_to_target is not None:
        reasons[0] = f"it {reasons[0]}"
    body = f"{among}{'; '.join(reasons)}".removesuffix(", ")  # a table gives no reasons
    limits = ""
    if others and found.unproven:
        limits = f" {name(found.among[0])} has {_standing(verdict, found, name)}."
    return f"{head}; {body}{_decided(found.decided_by)}.{limits}{_against_chance(verdict, found)}"


def _parameters(verdict: Verdict, extra: int, name: Name) -> str:
    """Say how many parameters more, or fewer, there are than with the baseline."""
    if not extra:
        return "it adds no parameters"
    if extra > 0 and verdict.noun == "norm":
        return f"it adds {extra} parameters"
    way = "more" if extra > 0 else "fewer"
    return f"it has {abs(extra)} parameters {way} than {name(verdict.baseline)}"


def _standing(verdict: Verdict, found: Recommendation, name: Name) -> str:
    """Say which norms the leader is shown to beat."""
    if not found.unproven:
        return f"shown to be better than every other {verdict.noun} that was ranked"
    best, *others = (verdict.row(norm).score for norm in (found.among[0], *found.unproven))
    shared = any(best and other and best.mean == other.mean for other in others)
    mean = "a mean that no other exceeds" if shared else "the best mean"
    many = len(found.unproven) > MOST_NAMED
    named = f"{len(others)} others" if many else listing(map(name, found.unproven))
    return f"{mean}, not shown to be better than {named}"


def _against_chance(verdict: Verdict, found: Recommendation) -> str:
    """Say how the recommended norm stands to the trivial predictor, unless it clearly wins."""
    trivial = trivial_name(verdict.scale.metric)
    if verdict.trivial is None:
        if not verdict.trained:
            return ""
        return f" Not compared with {trivial}: the run does not say how good that is."
    score = verdict.scale.score(verdict.trivial)
    if found.above_trivial:
        return ""
    return f" It is not shown to be better than {trivial} ({score})."


def _nothing(verdict: Verdict, name: Name) -> str:
    """Say why no norm is recommended, where norms were judged."""
    if verdict.best is None or not verdict.tied:
        return ""
    best = verdict.row(verdict.best)
    if best.unreliable:
        why = f"more than {percent(MOST_FAILED, 0)} of the trials of every {verdict.noun} failed"
    else:
        score = "" if verdict.trivial is None else f" ({verdict.scale.score(verdict.trivial)})"
        trivial = trivial_name(verdict.scale.metric)
        why = f"{name(best.norm)}, the best, is no better than {trivial}{score}"
    return f"No {verdict.noun} is recommended: {why}."


def _decided(by: str) -> str:
    return {
        "robustness": " (failures and learning rates decided)",
        "simplicity": " (its simplicity decided)",
        "mean": " (nothing else told these apart: the better mean decided)",
        "name": " (nothing told these apart, not even the mean: the alphabet decided)",
    }.get(by, "")
