"""Which norms are worth a comparison on some data: the rules, one table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from graphnorms.kernels.point import Over, Point
from graphnorms.lab.option_kinds import DEFAULT_NORMS
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.normalization import Normalization
from graphnorms.layers.traits import Traits, traits_of

Effect = Literal["drop", "add", "note"]
Limit = tuple[str, float, float]
"""A fact, and the least and the largest value for which a rule holds."""

VERDICTS: Final = {
    "alpha": "inconclusive",
    "batch-noise": "confirmed",
    "batch-size": "confirmed",
    "depth": "confirmed",
    "mean-information": "confirmed",
    "preconditioning": "confirmed",
}
"""What the studies that rules rely on found, at the default size."""

ELSEWHERE: Final = {
    "depth": "not on Cora",
    "preconditioning": "not on PROTEINS and IMDB-BINARY",
}
"""Where a larger run of the study found otherwise."""

_PER_CHANNEL_AND_GRAPH: Final = Point(Over.NODES, Over.NODES, "graph")
_INF: Final = math.inf


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What facts say about the norms with a property.

    Args:
        name: Its name.
        effect: `"drop"`: not worth a comparison; `"add"`: worth one though not among the norms
            that a comparison has by default; `"note"`: to know when reading the outcome.
        concerns: Whether it is about a norm.
        when: What must hold of facts, all of it; an unknown fact is no reason.
        says: The sentence, with the facts in braces.
        source: A study, a probe (`"probe: …"`), or `"by construction"`.
    """

    name: str
    effect: Effect
    concerns: Callable[[Normalization, Traits], bool]
    when: tuple[Limit, ...]
    says: str
    source: str

    def holds(self, facts: Mapping[str, float]) -> bool:
        """Whether the facts call for it."""
        return all(low <= facts.get(name, math.nan) <= high for name, low, high in self.when)

    @property
    def cited(self) -> str:
        """The source, with the verdict of a study."""
        verdict, other = VERDICTS.get(self.source), ELSEWHERE.get(self.source)
        if verdict is None:
            return self.source
        return f"study {self.source}: {verdict}" + (f", {other}" if other else "")


def _centers(row: Normalization, traits: Traits) -> bool:
    return traits.removes_mean


def _learns_shift(row: Normalization, traits: Traits) -> bool:
    return traits.learned_shift


def _centers_at_first(row: Normalization, traits: Traits) -> bool:
    return traits.removes_mean or traits.learned_shift


def _of_batches(row: Normalization, traits: Traits) -> bool:
    return traits.batch_statistics


def _of_rows(row: Normalization, traits: Traits) -> bool:
    return traits.per_row and traits.rescales


def _any(row: Normalization, traits: Traits) -> bool:
    return True


RULES: Final = (
    Rule(
        name="alike",
        effect="drop",
        concerns=_centers_at_first,
        when=(("regular_and_constant", 0.5, 1.0),),
        says="at least {regular_and_constant:.0%} of the graphs are regular with the same features "
        "at every node; their nodes stay alike in every layer, and centred per graph they are 0",
        source="mean-information",
    ),
    Rule(
        name="complete",
        effect="drop",
        concerns=_centers,
        when=(("complete", 0.5, 1.0),),
        says="{complete:.0%} of the graphs are complete; a sum over a node and its neighbours "
        "makes their nodes alike, and centred per graph they are 0",
        source="mean-information",
    ),
    Rule(
        name="complete-learned",
        effect="note",
        concerns=_learns_shift,
        when=(("complete", 0.5, 1.0),),
        says="{complete:.0%} of the graphs are complete; it begins with α = 1, where their nodes "
        "are 0, and depends on α moving away",
        source="alpha",
    ),
    Rule(
        name="one-node",
        effect="drop",
        concerns=_centers_at_first,
        when=(("one_node", 0.5, 1.0),),
        says="{one_node:.0%} of the graphs have one node, which is its own mean: centred it is 0",
        source="by construction",
    ),
    Rule(
        name="some-one-node",
        effect="note",
        concerns=_centers_at_first,
        when=(("one_node", 1e-9, 0.4999),),
        says="{one_node:.1%} of the graphs have one node, which centred is 0: such graphs cannot "
        "be told apart",
        source="by construction",
    ),
    Rule(
        name="single-graph",
        effect="drop",
        concerns=lambda row, traits: row.point == _PER_CHANNEL_AND_GRAPH and _centers(row, traits),
        when=(("graphs", 1, 1),),
        says="there is one graph, so that statistics per graph are those of the batch; BatchNorm "
        "does the same in training, and with running averages afterwards",
        source="by construction",
    ),
    Rule(
        name="not-finite",
        effect="drop",
        concerns=_any,
        when=(("failed", 1, 1),),
        says="its loss was not finite within {steps:.0f} training steps",
        source="probe: a few training steps",
    ),
    Rule(
        name="small-batches",
        effect="note",
        concerns=_of_batches,
        when=(("graphs", 2, _INF), ("batch_size", 1, 8)),
        says="batches of {batch_size:.0f} graphs are small for statistics of the batch",
        source="batch-size",
    ),
    Rule(
        name="noisy-batches",
        effect="note",
        concerns=_of_batches,
        when=(("graphs", 2, _INF), ("batch_noise", 0.01, _INF)),
        says="the mean of a batch varies by {batch_noise:.2g} of a channel's variance, "
        "{design_effect:.2g} times as much as of unrelated nodes (nci5k in the study: 0.0031)",
        source="batch-noise",
    ),
    Rule(
        name="removed-mean",
        effect="note",
        concerns=_centers_at_first,
        when=(("label_lost", 0.05, 1.0),),
        says="means per graph explain {mean_label:.0%} of the target in front of it and "
        "{mean_label_after:.0%} behind it, untrained",
        source="mean-information",
    ),
    Rule(
        name="keeps-a-share",
        effect="note",
        concerns=_learns_shift,
        when=(("label_lost", 0.05, 1.0),),
        says="unlike InstanceNorm it can learn to keep a share of the mean",
        source="alpha",
    ),
    Rule(
        name="degrees-only",
        effect="note",
        concerns=_of_rows,
        when=(("constant_features", 0.5, 1.0), ("regular", 0.0, 0.5)),
        says="{constant_features:.0%} of the graphs have the same features at every node; what "
        "the first sum adds is the degree, as the scale of a row, which it removes",
        source="by construction",
    ),
    Rule(
        name="deep",
        effect="add",
        concerns=lambda row, traits: row.name == "pair",
        when=(("layers", 8, _INF), ("regular_and_constant", 0, 0.5), ("complete", 0, 0.5)),
        says="with {layers:.0f} layers features may become alike over depth, which it was made "
        "against (the study: at 32 layers)",
        source="depth",
    ),
    Rule(
        name="preconditions",
        effect="note",
        concerns=_centers_at_first,
        when=(("condition_ratio", 0.0, 0.9),),
        says="subtracting the mean lowers the condition number of the aggregation to "
        "{condition_ratio:.2g} of itself",
        source="preconditioning",
    ),
    Rule(
        name="worse-condition",
        effect="note",
        concerns=_centers_at_first,
        when=(("condition_ratio", 1.1, _INF),),
        says="subtracting the mean raises the condition number of the aggregation to "
        "{condition_ratio:.2g} times itself",
        source="preconditioning",
    ),
    Rule(
        name="slow",
        effect="note",
        concerns=_any,
        when=(("times_plain", 2.0, _INF),),
        says="a step takes {times_plain:.1f} times as long as without a norm",
        source="probe: a few training steps",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A rule that holds for a norm, with its numbers."""

    rule: str
    effect: Effect
    text: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Whether a norm is worth a comparison, and why.

    Args:
        norm: Its name.
        compared: Whether it is.
        grounds: The rules that hold.
    """

    norm: str
    compared: bool
    grounds: tuple[Ground, ...]


def considered() -> tuple[str, ...]:
    """The norms that rules may choose: those of a comparison, and those that a rule adds."""
    added = [
        name
        for name, row in CATALOG.items()
        for rule in RULES
        if rule.effect == "add" and rule.concerns(row, traits_of(name))
    ]
    return tuple(dict.fromkeys((*DEFAULT_NORMS, *added)))


def choices(
    facts: Mapping[str, float], of_norms: Mapping[str, Mapping[str, float]] | None = None
) -> list[Choice]:
    """Apply the rules; the baseline without a norm is always compared.

    Args:
        facts: What is known of the data and the plan.
        of_norms: What probes found of each norm.
    """
    found = []
    for norm in considered():
        row, traits = CATALOG[norm], traits_of(norm)
        known = {**facts, **(of_norms or {}).get(norm, {})}
        held = [rule for rule in RULES if rule.concerns(row, traits) and rule.holds(known)]
        effects = {rule.effect for rule in held}
        wanted = norm in DEFAULT_NORMS or "add" in effects
        grounds = tuple(
            Ground(rule=r.name, effect=r.effect, text=r.says.format(**known), source=r.cited)
            for r in held
            if norm != "none" or r.effect != "drop"
        )
        compared = norm == "none" or (wanted and "drop" not in effects)
        if wanted:
            found.append(Choice(norm=norm, compared=compared, grounds=grounds))
    return found


def chosen(found: Sequence[Choice]) -> list[str]:
    """The norms that are worth a comparison."""
    return [each.norm for each in found if each.compared]
