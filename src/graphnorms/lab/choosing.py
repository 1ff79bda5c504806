"""What is measured before a norm is chosen, and the comparison that follows."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from graphnorms.errors import one_line
from graphnorms.lab.agenda import Agenda
from graphnorms.lab.choice_rules import Choice, choices, chosen, considered
from graphnorms.lab.duration import Expectation, estimate
from graphnorms.lab.options import Options
from graphnorms.lab.phrases import duration, listing
from graphnorms.lab.prepare import prepare
from graphnorms.lab.repeat import command_with
from graphnorms.lab.sources import Dataset
from graphnorms.layers.catalog import CATALOG
from graphnorms.user_code import no_exit

if TYPE_CHECKING:
    from graphnorms.lab.plan import Plan
    from graphnorms.training import TrialConfig

STEPS: Final = 16
"""Training steps of a probe."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Which norms are worth a comparison on some data.

    Args:
        facts: Numbers of the data and the plan, by name.
        of_norms: Numbers of the probes, by norm.
        choices: What follows for each norm.
        plan: The comparison that follows.
        expected: What that would take; None if nothing is left to compare.
        failing: Why norms could not be probed, by name.
    """

    facts: Mapping[str, float]
    of_norms: Mapping[str, Mapping[str, float]]
    choices: tuple[Choice, ...]
    plan: Plan
    expected: Expectation
    failing: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "dataset": self.plan.settings.dataset,
            "facts": _finite(self.facts),
            "probes": {norm: _finite(found) for norm, found in self.of_norms.items()},
            "failing": dict(self.failing),
            "norms": [
                {
                    "norm": each.norm,
                    "compare": each.compared,
                    "because": [
                        {
                            "rule": ground.rule,
                            "effect": ground.effect,
                            "text": ground.text,
                            "source": ground.source,
                        }
                        for ground in each.grounds
                    ],
                }
                for each in self.choices
            ],
            "command": command_with(self.plan.settings.dataset, self.plan.options.said()),
            "seconds": self.expected.seconds,
        }


def advise(dataset: Dataset, options: Options) -> Advice:
    """Find out which norms are worth a comparison, by facts of the data and a few probes.

    Untrained models are measured on a few batches, and trained for at most `STEPS` steps; nothing
    is scored.

    Args:
        dataset: See `compare`.
        options: Options of the data, the model and the training; `norms` is what is asked.

    Raises:
        ValueError: The graphs cannot be read, a choice is not possible, or a model cannot be built.
    """
    plan, _ = prepare(dataset, replace(options, norms=",".join(considered())))
    if plan.dataset.atoms is not None:
        raise ValueError(
            f"{plan.dataset.name} has {plan.dataset.task}, and the rules of choose are about "
            "graphs without atoms; compare norms instead"
        )
    of_norms, failing = _probed(plan)
    facts = _facts(plan)
    found = choices(facts, of_norms)
    follows, _ = prepare(dataset, replace(options, norms=",".join(chosen(found))))
    expected = estimate(follows)
    plain = expected.paces.get("none")
    if plain is not None:
        for norm, pace in expected.paces.items():
            of_norms.setdefault(norm, {})["times_plain"] = pace.step / plain.step
    return Advice(
        facts=facts,
        of_norms=of_norms,
        choices=tuple(choices(facts, of_norms)),
        plan=follows,
        expected=expected,
        failing=failing,
    )


FACTS: Final = {
    "regular": "regular",
    "complete": "complete",
    "one_node": "of one node",
    "constant_features": "with the same features at every node",
    "label_by_size": "of the target explained linearly by size",
    "label_by_degree": "by mean degree",
}
"""The facts that are shown, in words."""


def lines(advice: Advice, width: int = 80) -> list[str]:
    """Say what is worth a comparison, what not and why, and what is not known.

    Args:
        advice: What was found.
        width: Columns.
    """

    def wrapped(text: str, first: str = "", rest: str = "") -> str:
        return textwrap.fill(text, width, initial_indent=first, subsequent_indent=rest)

    known = [f"{advice.facts['graphs']:.0f} graphs"]
    known += [
        f"{advice.facts[name]:.0%} {words}" for name, words in FACTS.items() if name in advice.facts
    ]
    found = [wrapped(f"{advice.plan.dataset.name}: {'; '.join(known)}")]
    for each in advice.choices:
        word = "compare" if each.compared else "leave out"
        title = CATALOG[each.norm].title
        found += ["", f"{word} {each.norm}" + (f" ({title})" if title != each.norm else "")]
        if each.norm == "none":
            found.append("  the baseline of every comparison")
        elif not each.grounds:
            found.append("  nothing found here speaks for or against it")
        for ground in each.grounds:
            found.append(wrapped(f"{ground.text} [{ground.source}]", "  - ", "    "))
    for norm, reason in advice.failing.items():
        found += ["", wrapped(f"not probed: {norm}: {reason}")]
    seen = {each.norm for each in advice.choices}
    found += [
        "",
        wrapped(
            "not known: which of these scores best. No number above is a score, and a study holds "
            f"for its own data and models. The other {len(CATALOG) - len(seen)} norms of the "
            "catalogue (graphnorms norms) were not looked at: no fact here speaks for them."
        ),
    ]
    return found


def command_lines(advice: Advice) -> list[str]:
    """Say which comparison follows, and how long it takes; not to be broken into lines."""
    settings = advice.plan.settings
    failing = advice.expected.failing
    return [
        command_with(settings.dataset, advice.plan.options.said()),
        f"about {duration(advice.expected.seconds)}: {settings.planned} trials, "
        f"{advice.plan.workers} at a time"
        + (f"; the model does not run with {listing(failing)}" if failing else ""),
    ]


def _facts(plan: Plan) -> dict[str, float]:
    """Numbers of the data and of the plan."""
    from graphnorms.lab.graph_facts import graph_facts

    settings, graphs = plan.settings, plan.dataset
    config = next(iter(Agenda(plan.schedule).known()))
    gcn = config.model.get("name") == "gcn"
    facts = graph_facts(graphs, "gcn" if gcn else "gin")
    facts["graphs"] = len(graphs)
    facts["steps"] = STEPS
    facts["batch_size"] = settings.batch_size
    layers = config.model.get("layers")
    if isinstance(layers, int):
        facts["layers"] = layers
    # At least so many graphs are both, whichever they are.
    both = facts.get("regular", 0.0) + facts.get("constant_features", 0.0) - 1
    facts["regular_and_constant"] = max(0.0, both)
    if {"condition_q", "condition_qn"} <= facts.keys():
        facts["condition_ratio"] = facts["condition_qn"] / facts["condition_q"]
    return facts


def _probed(plan: Plan) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Measure the model with each norm, untrained and after a few steps."""
    from graphnorms.training import threads

    found: dict[str, dict[str, float]] = {}
    failing: dict[str, str] = {}
    configs = {config.treatment: config for config in Agenda(plan.schedule).known()}
    with threads(1):
        for norm, config in configs.items():
            try:
                with no_exit(str(config.model.get("name"))):
                    found[norm] = _probe(plan, config)
            except Exception as error:  # the model of a user may not run with every norm
                failing[norm] = one_line(error)
    if len(failing) == len(configs):
        raise ValueError(f"the model runs with no norm; with none: {next(iter(failing.values()))}")
    return found, failing


def _probe(plan: Plan, config: TrialConfig) -> dict[str, float]:
    from graphnorms.process_state import known_state
    from graphnorms.training.trial import Training

    with known_state(config.seed):
        training = Training(config, plan.dataset, plan.function, plan.norm_functions)
        measures = training.measuring()()
        loss, _ = training.train_epoch(0, at_most=STEPS)
    found = {
        name: values[0]
        for name in ("batch_noise", "design_effect", "mean_label", "mean_label_after")
        if (values := [v for v in measures.get(name, []) if v is not None])
    }
    if {"mean_label", "mean_label_after"} <= found.keys():
        found["label_lost"] = found["mean_label"] - found["mean_label_after"]
    found["failed"] = float(not math.isfinite(loss))
    return found


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if math.isfinite(value)}
