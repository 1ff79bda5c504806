"""The sentences on learning rates and on the norm to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphnorms.lab.phrases import MOST_NAMED, Name, listing, several
from graphnorms.lab.rates import NEAR

if TYPE_CHECKING:
    from graphnorms.lab.verdict import Verdict


def rates(verdict: Verdict, name: Name) -> str:
    """Say how much each norm depends on its learning rate, and whose best lies at the edge."""
    found = [row.sensitivity for row in verdict.rows if row.sensitivity is not None]
    grid = found[0].rates if found else ()
    if len(grid) == 1:
        return (
            f"Learning rate: only {grid[0]:g} was tried; how much the norms depend on it is not "
            "known."
        )
    judged = sorted((one for one in found if one.judged), key=lambda one: -one.near)
    if not judged:
        return ""
    if len(judged) > MOST_NAMED:
        counts = (
            f"{judged[-1].near} to {judged[0].near} of {len(grid)}, most for {name(judged[0].norm)}"
        )
    else:
        counts = f"{listing(f'{name(one.norm)} {one.near}' for one in judged)} of {len(grid)}"
    sentence = f"Learning rates within {_near(verdict)} of the norm's best: {counts}."
    edge = [one for one in judged if one.at_edge]
    if edge:
        named = listing(f"{name(one.norm)} ({one.best:g})" for one in edge[:MOST_NAMED])
        more = f" and {len(edge) - MOST_NAMED} others" if len(edge) > MOST_NAMED else ""
        sentence += f" At the edge of the grid, so that a better one may lie beyond: {named}{more}."
    return sentence


def advice(verdict: Verdict, name: Name) -> str:
    """Say which norm to use, and by which numbers."""
    found = verdict.recommendation
    if found is None:
        return ""
    others = len(found.among) - 1
    rivals = [name(norm) for norm in found.soonest if norm != found.norm]
    reasons = []
    if not others:
        reasons.append("no other can be called as good")
    elif found.steps_to_target is not None:
        when = f"reaches the target in {several(found.steps_to_target, 'step')}"
        if rivals and len(rivals) <= MOST_NAMED:
            reasons.append(f"{when}, as soon as any as far as can be told")
        elif rivals:
            reasons.append(when)
        else:
            reasons.append(f"{when}, sooner than the others")
    if found.rates > 1:
        verb = "comes" if found.near == 1 else "come"
        reasons.append(
            f"{found.near} of {found.rates} learning rates {verb} within {_near(verdict)} of its "
            "best"
        )
    if found.extra_parameters is not None:
        reasons.append(
            f"it adds {found.extra_parameters} parameters"
            if found.extra_parameters
            else "it adds no parameters"
        )
    if found.needs:
        reasons.append(f"it needs {listing(found.needs)} besides")
    among = f"of the {len(found.among)} that cannot be told from the best, " if others else ""
    caveat = ", as far as optimistic scores allow" if verdict.optimistic else ""
    head = f"Recommended{caveat}: {name(found.norm)}"
    if not reasons:
        return f"{head}."
    if others and found.steps_to_target is not None:
        reasons[0] = f"it {reasons[0]}"
    return f"{head}; {among}{'; '.join(reasons)}{_decided(found.decided_by)}."


def _decided(by: str) -> str:
    return {
        "robustness": " (the learning rate decided)",
        "simplicity": " (its simplicity decided)",
        "order": " (nothing told these apart: the better mean decided)",
    }.get(by, "")


def _near(verdict: Verdict) -> str:
    tolerance = NEAR * verdict.margin
    if verdict.scale.metric.fraction:
        return verdict.scale.difference(tolerance)
    return f"{tolerance:.2g} {verdict.scale.unit}".rstrip()
