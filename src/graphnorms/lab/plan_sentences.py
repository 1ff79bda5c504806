"""A plan in sentences: what the comparison does, and what it can show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnorms.lab.data_facts import CHEAP_EDGES, CHEAP_ITEMS, facts_of
from graphnorms.lab.data_sentences import data_sentences, key_facts
from graphnorms.lab.design import Design
from graphnorms.lab.detectable import expected_of, planned_detectable
from graphnorms.lab.number_format import Scale
from graphnorms.lab.option_kinds import TESTED
from graphnorms.lab.phrases import be, duration, listing, several
from graphnorms.lab.reasons import MOST_TESTED
from graphnorms.lab.search_space import fixed_of
from graphnorms.lab.sentences import least_pairs, protocol_note
from graphnorms.lab.settings_sentences import model_words, protocol_words
from graphnorms.lab.trial_data import has_graphs
from graphnorms.training.metrics import logged_metric, metric_named

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.lab.examine import Examination
    from graphnorms.lab.fit import Fitted
    from graphnorms.lab.plan import Plan
    from graphnorms.lab.settings import Settings


def plan_lines(plan: Plan) -> list[str]:
    """Describe data, model, protocol, trials and folder; each line begins with its subject."""
    settings = plan.settings
    compared = f"{len(settings.treatments)} {settings.noun}s ({', '.join(settings.treatments)})"
    where = (
        f"{plan.workers} at a time"
        if plan.options.engine in (None, "local")
        else f"on {plan.options.engine}"
    )
    return [
        _data(plan.dataset),
        *_described(plan.dataset),
        *_key_facts(plan),
        f"model: {model_words(settings, plan.dataset)}",
        f"protocol: {protocol_words(settings)}{_why_split(plan)}",
        *_search(settings),
        f"trials: {compared} × {_trials(settings)} = "
        f"{settings.planned} trials, {where} on {settings.device}; kept in {plan.folder}",
        *_tests(settings),
        f"power: {_design(settings, plan.dataset)}",
        *_fitted(plan.fitted),
    ]


def _search(settings: Settings) -> list[str]:
    """Say what is searched, among what, and how often."""
    if settings.halving:
        rates = listing([str(size) for size, _ in settings.rounds])
        epochs = listing([str(epochs) for _, epochs in settings.rounds])
        share = settings.tries * settings.selection_epochs
        share /= settings.epochs * len(settings.learning_rates)
        return [
            f"search: successive halving, {rates} learning rates in trials of {epochs} epochs, "
            f"{share:.0%} of the epochs of the whole grid"
        ]
    if not settings.search:
        return []
    ranges = (f"{name.replace('_', ' ')} {one}" for name, one in settings.space.items())
    fixed = fixed_of(settings.space, settings.proposals or 0)
    return [
        f"search: {', '.join(ranges)}; {several(settings.tries, 'proposal')} for each "
        f"{settings.noun} and {'seed' if settings.by_seed else 'fold'}, the first {fixed} the same "
        f"for all {settings.noun}s"
    ]


def _tests(settings: Settings) -> list[str]:
    """Say how many trials may test reasons."""
    if settings.reasons != TESTED or settings.own_training:
        return []
    most = 2 * MOST_TESTED * settings.scored_trials
    return [f"reasons: then at most {most} trials that test why two {settings.noun}s differ"]


def _fitted(fitted: Mapping[str, Any]) -> list[str]:
    """Say how a plan was cut to fit into a time."""
    if not fitted:
        return []
    time = (
        f"planned for {duration(fitted['limit'])}, expected to take {duration(fitted['seconds'])}"
    )
    cuts = "; ".join(fitted["cuts"]) or "nothing"
    return [f"time: {' '.join([f'{time}; cut: {cuts}.', *fitted['caveats']])}"]


def shorter_line(found: Fitted, graphs: GraphSet) -> str:
    """Say what `--time` would plan.

    Args:
        found: That plan.
        graphs: The data.
    """
    settings = found.settings
    detectable = planned_detectable(settings, graphs)
    shown = ""
    if not math.isnan(detectable):
        scale = Scale.fitting(metric_named(settings.metric), detectable, settings.unit)
        shown = f", and shows a difference of about {scale.difference(detectable)} or more"
    hours = f"{found.limit / 3600:g}h"
    return (
        f"--time {hours} would cut {'; '.join(found.cuts)}: {settings.planned} trials in about "
        f"{duration(found.seconds)}{shown}. {' '.join(found.caveats)}"
    ).rstrip()


def kept_lines(folder: Path, changes: Sequence[str], done: int, total: int) -> list[str]:
    """Say which trials the folder has, and what the plan changes in the run that is there."""
    lines = [f"The run in {folder} changes: {'; '.join(changes)}."] if changes else []
    if done:
        count = f"All {total}" if done == total else f"{done} of {total}"
        lines.append(f"{count} trials are there already.")
    return lines


def data_lines(found: Examination) -> list[str]:
    """Describe a data set, and what it allows a comparison to find."""
    settings, graphs = found.settings, found.graphs
    return [
        _data(graphs),
        *graphs.describe().splitlines(),
        *data_sentences(found.facts, graphs.task, settings.unit),
        f"power: {_design(settings, graphs)}",
    ]


def _key_facts(plan: Plan) -> list[str]:
    """Give the facts that qualify any comparison on these data, if they are cheap to find."""
    graphs = plan.dataset
    if logged_metric(plan.settings.metric) is not None or not has_graphs(graphs):
        return []
    if graphs.num_edges > CHEAP_EDGES or graphs.num_items > CHEAP_ITEMS:
        return []
    facts = facts_of(graphs, plan.schedule, ("constant", "size"))
    return key_facts(facts, graphs.task, plan.settings.unit)


def _design(settings: Settings, graphs: GraphSet) -> str:
    """Say which difference the comparison can show."""
    expected = expected_of(settings, graphs)
    detectable = planned_detectable(settings, graphs)
    scale = Scale.fitting(metric_named(settings.metric), detectable, settings.unit)
    number, noun = len(settings.treatments), settings.noun
    return what_it_can_show(expected.design, scale, number, expected.pairs, detectable, noun)


def what_it_can_show(
    plan: Design,
    scale: Scale,
    norms: int,
    pairs: int,
    detectable: float = math.nan,
    noun: str = "norm",
) -> str:
    """Say before a run which differences it can show.

    Args:
        plan: What is paired, and how it is tested.
        scale: How scores are written.
        norms: Norms, or treatments, compared.
        pairs: Folds of all repeats, or seeds.
        detectable: What `expected_detectable` gave, in the unit of the score; NaN if unknown.
        noun: What they are called.
    """
    note = " " + protocol_note(plan) if protocol_note(plan) else ""
    if norms < 2:
        return f"There is one {noun}, so nothing can be compared." + note
    comparisons = math.comb(norms, 2)
    minimum = plan.minimum(comparisons)
    over = f" over {comparisons} pairs of {noun}s" if comparisons > 1 else ""
    count = plan.count(pairs)
    if plan.folds and pairs > plan.folds:
        count += f" ({several(pairs / plan.folds, 'repeat')} of {plan.folds})"
    if pairs < minimum:
        return (
            f"{count} {be(pairs)} too few to judge{over}: it takes "
            f"{least_pairs(plan, comparisons)}. The verdict will be inconclusive.{note}"
        )
    if math.isnan(detectable):
        return (
            f"Which difference in {scale.metric.title} {count} can show is not known before "
            f"something has been trained.{note}"
        )
    limit = ""
    if plan.folds:
        share = plan.reachable(1.0, comparisons) / plan.detectable(1.0, pairs, comparisons)
        limit = f" More repeats show {scale.difference(share * detectable)} at best."
    return (
        f"{count} of this size show a difference in {scale.metric.title} of about "
        f"{scale.difference(detectable)} or more (80% power at 5%{over}); a smaller one can go "
        f"unseen.{limit}{note}"
    )


def _described(graphs: GraphSet) -> list[str]:
    """Describe targets and inputs; of items without graphs there are only targets."""
    lines = graphs.describe().splitlines()
    if has_graphs(graphs):
        return lines
    return lines[:1] if len(graphs.y.unique()) > 1 else []


def _data(graphs: GraphSet) -> str:
    count = len(graphs)
    if not has_graphs(graphs):
        return f"data: {graphs.name}, {count} items"
    if count == 1:
        return (
            f"data: {graphs.name}, {graphs.num_nodes} nodes and {graphs.num_edges} directed edges"
        )
    return (
        f"data: {graphs.name}, {count} graphs of {graphs.num_nodes / count:.1f} nodes and "
        f"{graphs.num_edges / count:.1f} directed edges on average"
    )


def _why_split(plan: Plan) -> str:
    """Say where the protocol comes from if it is not asked for but that of the data."""
    options = plan.options
    if plan.settings.split != "given" or options.protocol is not None or options.split is not None:
        return ""
    return ". The data carry a split, so it is used; --protocol nested cuts folds instead"


def _trials(settings: Settings) -> str:
    reported, selection = settings.reported_trials, settings.selection_trials
    if selection:
        chosen = "values" if settings.search else "rate"
        return f"({selection} to choose the {chosen} + {reported} tested)"
    return several(reported, "trial")
