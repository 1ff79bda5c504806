"""The facts about a data set in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from graphnorms.data.task_kinds import FORCES
from graphnorms.data.text_format import count, some
from graphnorms.lab.number_format import Scale
from graphnorms.lab.phrases import be, listing, percent
from graphnorms.lab.trivial import trivial_answer
from graphnorms.training.metrics import metric_named

if TYPE_CHECKING:
    from graphnorms.data.quality import Likeness
    from graphnorms.data.tasks import Task
    from graphnorms.lab.data_facts import Facts

_SIMPLE: Final = {
    "size": "size (nodes and edges) alone",
    "degree": "degrees alone",
    "features": "node features without edges",
}


def data_sentences(facts: Facts, task: Task, unit: str = "") -> list[str]:
    """Say all that is known of the data, a line for each subject."""
    lines = [_structure(facts), _missing(facts, task), *_twins(facts, task, unit)]
    if facts.problem:
        lines.append(f"folds: not as planned, for {facts.problem}")
    else:
        lines += [_folds(facts), _simple(facts, task, unit)]
    return [line for line in lines if line]


def key_facts(facts: Facts, task: Task, unit: str = "") -> list[str]:
    """Say what a comparison should be seen beside: ceilings and leaks, if any; simple scores."""
    twins = [line for line in _twins(facts, task, unit) if "can score" in line]
    return [line for line in (*twins[:1], _folds(facts), _simple(facts, task, unit)) if line]


def _structure(facts: Facts) -> str:
    it = facts.quality
    parts = [
        "each edge in both directions" if it.symmetric else "edges in one direction",
        *(
            count(number, *nouns)
            for number, *nouns in (
                (it.loops, "self loop"),
                (it.repeats, "repeated edge"),
                (it.empty, "empty graph"),
                (it.one_node, "graph of one node", "graphs of one node"),
                (it.edgeless, "graph without edges", "graphs without edges"),
            )
            if number
        ),
    ]
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
    if task.kind == FORCES:
        return []
    it = facts.quality
    items, noun = (it.nodes if it.twins is None else it.graphs), task.level
    kinds: list[tuple[str, Likeness | None, str, str]] = [
        ("twins", it.twins, "isomorphic to another, features included", "no model"),
        (
            "structure",
            it.structure,
            "isomorphic to another, features ignored",
            "no model without them",
        ),
        ("alike", it.alike, "like another to message passing of any depth", "no GIN or GCN"),
    ]
    if it.structure == it.twins:
        kinds[:2] = [("twins", it.twins, "isomorphic to another", "no model")]
    if it.twins == it.alike:
        del kinds[-1]
    lines = [
        f"twins: {_alike(likeness, count(items, noun), noun, how)}"
        f"{_limit(facts, likeness, name, who, unit)}"
        for name, likeness, how, who in kinds
        if likeness is not None
    ]
    if any(it.undecided):
        lines.append(
            f"twins: not decided for {it.undecided[0]} {noun}s with features and "
            f"{it.undecided[1]} without, which is too much work; there may be more"
        )
    return lines


def _alike(likeness: Likeness, items: str, noun: str, how: str) -> str:
    if not likeness.items:
        return f"no {noun} is {how}"
    others = f"{likeness.contradicting or 'none'} of them with different targets"
    return f"{likeness.items} of {items} are {how}, {others}"


def _limit(facts: Facts, likeness: Likeness, name: str, who: str, unit: str) -> str:
    """The ceiling that contradictions set."""
    if not likeness.contradicting:
        return ""
    metric = metric_named(facts.metric)
    value = Scale.fitting(metric, facts.ceilings[name], unit).score(facts.ceilings[name])
    if value == "100.0%":  # by rounding
        return ""
    side = "above" if metric.higher_is_better else "below"
    return f": {who} can score {side} {value} {metric.title} on all of them"


def _folds(facts: Facts) -> str:
    if facts.grouped:
        return (
            f"folds: twins are kept in one fold; {facts.leaked or 'none'} of {facts.tested} tested "
            f"graphs {be(facts.leaked or 1)} isomorphic to a training graph"
        )
    if not facts.leaked:
        return ""
    share = percent(facts.leaked / facts.tested)
    return (
        f"folds: {facts.leaked} of {facts.tested} tested graphs ({share}) {be(facts.leaked)} "
        "isomorphic to a training graph of the same fold"
    )


def _simple(facts: Facts, task: Task, unit: str) -> str:
    if not facts.baselines:
        return ""
    metric = metric_named(facts.metric)
    first = facts.baselines[0].score
    scale = Scale.fitting(metric, first, unit)
    constant = {
        "classification": "most frequent class",
        "binary": "one answer for all",
        FORCES: trivial_answer(metric),
    }.get(task.kind, f"{'median' if facts.metric.endswith('mae') else 'mean'} target")
    scores = listing(
        f"{_SIMPLE.get(each.name, constant)} {scale.score(each.score)}" for each in facts.baselines
    )
    sampled = f" (from {listing(facts.sampled)})" if facts.sampled else ""
    return f"simple models: {metric.title} by the planned split: {scores}{sampled}"
