"""What is known of the data, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from graphnorms.data.text import count, some
from graphnorms.lab.phrases import be, listing, percent
from graphnorms.lab.scale import Scale
from graphnorms.training.metrics import metric_named

if TYPE_CHECKING:
    from graphnorms.data.quality import Likeness
    from graphnorms.data.task import Task
    from graphnorms.lab.facts import Facts

_SIMPLE: Final = {
    "size": "number of nodes and edges alone",
    "degree": "degrees alone",
    "features": "node features without edges",
}


def sentences(facts: Facts, task: Task, unit: str = "") -> list[str]:
    """Say all that is known of the data, a line for each subject."""
    lines = [_structure(facts), _missing(facts, task), *_twins(facts, task, unit)]
    if facts.problem:
        lines.append(f"It cannot be divided as planned: {facts.problem}")
    else:
        lines += [_folds(facts), _simple(facts, task, unit)]
    return [line for line in lines if line]


def key_facts(facts: Facts, task: Task, unit: str = "") -> list[str]:
    """Say what a comparison should begin with: simple scores, and twins if there are any."""
    found = [facts.quality.twins or facts.quality.alike]
    twins = _twins(facts, task, unit)[:1] if any(each.contradicting for each in found) else []
    return [line for line in (*twins, _folds(facts), _simple(facts, task, unit)) if line]


def _structure(facts: Facts) -> str:
    it = facts.quality
    parts = [
        "each edge in both directions" if it.symmetric else "edges in one direction",
        *(count(number, noun) for number, noun in (
            (it.loops, "self loop"), (it.repeats, "repeated edge"), (it.empty, "empty graph"),
            (it.one_node, "graph of one node"), (it.edgeless, "graph without edges"),
        ) if number),
    ]  # fmt: skip
    parts = [part.replace("graph of one nodes", "graphs of one node") for part in parts]
    if it.isolated:
        parts.append(f"{count(it.isolated, 'isolated node')} in {count(it.isolated_in, 'graph')}")
    parts.append(f"{it.constant} of {count(it.columns, 'column')} of node features constant")
    return f"structure: {', '.join(parts)}"


def _missing(facts: Facts, task: Task) -> str:
    missing = facts.quality.missing
    if not missing or task.kind == "classification":
        return ""  # the task's description says it
    return f"answers missing: {some(f'{name} {number}' for name, number in missing.items())}"


def _twins(facts: Facts, task: Task, unit: str) -> list[str]:
    it = facts.quality
    lines = []
    if it.twins is not None and it.structure is not None:
        seen = _alike(it.twins, it.graphs, "isomorphic to another, features included")
        bare = _alike(it.structure, it.graphs, "isomorphic by structure alone")
        lines = [
            f"twins: {seen}{_limit(facts, it.twins, 'twins', 'no model', unit)}",
            f"twins: {bare}"
            f"{_limit(facts, it.structure, 'structure', 'no model of the structure', unit)}",
        ]
        if any(it.undecided):
            lines.append(
                f"twins: not decided for {it.undecided[0]} graphs with features and "
                f"{it.undecided[1]} without: too much work, so that there may be more"
            )
    if it.twins is None or it.alike != it.twins:
        items = len_of(facts)
        seen = _alike(it.alike, items, "not told from another by any depth of message passing",
                      noun=task.level)  # fmt: skip
        lines.append(f"twins: {seen}{_limit(facts, it.alike, 'alike', 'no GIN or GCN', unit)}")
    return lines


def len_of(facts: Facts) -> int:
    """Number of items, which are the nodes where there are no twins among the graphs."""
    return facts.quality.nodes if facts.quality.twins is None else facts.quality.graphs


def _alike(likeness: Likeness, items: int, how: str, *, noun: str = "graph") -> str:
    if not likeness.items:
        return f"no {noun} is {how}"
    text = f"{likeness.items} of {count(items, noun)} are {how}"
    if likeness.contradicting:
        return f"{text}, {likeness.contradicting} of them to one with another target"
    return f"{text}, none of them to one with another target"


def _limit(facts: Facts, likeness: Likeness, name: str, who: str, unit: str) -> str:
    """The ceiling that contradictions set."""
    if not likeness.contradicting:
        return ""
    metric = metric_named(facts.metric)
    value = Scale.fitting(metric, facts.ceilings[name], unit).score(facts.ceilings[name])
    side = "above" if metric.higher_is_better else "below"
    return f": {who} gets {side} {value} {metric.title} on all of them"


def _folds(facts: Facts) -> str:
    if not facts.leaked:
        return ""
    share = percent(facts.leaked / facts.tested)
    return (
        f"folds: {facts.leaked} of {facts.tested} tested graphs ({share}) {be(facts.leaked)} "
        "isomorphic to one that is trained on in the same fold"
    )


def _simple(facts: Facts, task: Task, unit: str) -> str:
    if not facts.baselines:
        return ""
    metric = metric_named(facts.metric)
    first = facts.baselines[0].score
    scale = Scale.fitting(metric, first, unit)
    constant = {"classification": "most frequent class", "binary": "one answer for all"}.get(
        task.kind, f"{'median' if facts.metric == 'mae' else 'mean'} target"
    )
    scores = listing(
        f"{_SIMPLE.get(each.name, constant)} {scale.score(each.score)}" for each in facts.baselines
    )
    sampled = f" (from {listing(facts.sampled)})" if facts.sampled else ""
    return f"simple models, {metric.title} by the planned split: {scores}{sampled}"
