"""A plan in sentences: what the comparison does, and what it can show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphnorms.lab.data_facts import CHEAP_EDGES, CHEAP_ITEMS, facts_of
from graphnorms.lab.data_sentences import data_sentences, key_facts
from graphnorms.lab.design import Design
from graphnorms.lab.detectable import expected_of, planned_detectable
from graphnorms.lab.number_format import Scale
from graphnorms.lab.option_kinds import TESTED
from graphnorms.lab.phrases import be, duration, listing, model_title, several
from graphnorms.lab.reasons import MOST_TESTED
from graphnorms.lab.search_space import RATE, fixed_of
from graphnorms.lab.sentences import least_pairs, protocol_note
from graphnorms.lab.treatments import values_of
from graphnorms.lab.trial_data import has_graphs
from graphnorms.models.model_config import EDGE_MODELS, SAME
from graphnorms.models.norm_slot import NORM_PLACES, RESIDUAL_PLACES
from graphnorms.training.force_objective import FORCE_WEIGHT
from graphnorms.training.metrics import logged_metric, metric_named

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.lab.examine import Examination
    from graphnorms.lab.fit import Fitted
    from graphnorms.lab.plan import Plan
    from graphnorms.lab.settings import Settings


_DECAYS: Final = {"linear": "decays linearly to 0"}
"""What a schedule does, where its name does not say so."""


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
        f"model: {_model(settings, plan.dataset)}",
        f"protocol: {_protocol(settings)}{_why_split(plan)}",
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


def _model(settings: Settings, graphs: GraphSet) -> str:
    if settings.own_training:
        given = [
            _rates(settings) if name == "learning_rate" else f"{name} {_each(settings, name)}"
            for name in settings.takes
        ]
        own = settings.architecture.get("arguments", ())
        given += [f"{name} {_each(settings, name)}" for name in own]
        how = "trained by" + " Lightning," * (settings.architecture["by"] == "lightning")
        return f"{how} {settings.model}{', with ' * bool(given)}{', '.join(given)}"
    training = f"preset {settings.preset}: {_training(settings, graphs)}"
    architecture = settings.architecture
    if settings.vary:
        varied = {name: "/".join(map(_text, values)) for name, values in settings.vary.items()}
        return f"{_varied(settings)}, {training}; varied: {values_of(varied)}"
    if "source" in architecture:
        return f"the model that {settings.model} makes, {training}"
    unused = "; edge features are not used (--model gine uses them)"
    return (
        f"{model_title(settings.model)} of {_each(settings, 'layers')} × "
        f"{_each(settings, 'hidden')}"
        f"{_form(architecture)}, {training}"
        f"{unused if graphs.num_edge_features and settings.model not in EDGE_MODELS else ''}"
    )


def _training(settings: Settings, graphs: GraphSet) -> str:
    """Say how models are trained: `50 epochs by adam, learning rate 0.01 (linear), …`."""
    warmup = f" after {several(settings.warmup, 'epoch')} of warm-up" if settings.warmup else ""
    parts = [
        f"{several(settings.epochs, 'epoch')} by {settings.optimizer}",
        f"{_rates(settings)} ({_DECAYS.get(settings.schedule, settings.schedule)}{warmup})",
        f"weight decay {_each(settings, 'weight_decay')}",
        _batches(settings, graphs),
    ]
    if settings.clip is not None:
        parts.append(f"gradients clipped at {settings.clip:g}")
    if graphs.atoms is not None:
        weight = FORCE_WEIGHT if settings.force_weight is None else settings.force_weight
        parts.append(f"forces weighted {weight:g}")
    if settings.patience is not None:
        parts.append(f"stopped after {several(settings.patience, 'epoch')} without a better score")
    return ", ".join(parts)


def _form(architecture: Mapping[str, Any]) -> str:
    """Say what is special about a model: its heads, and where its norms and sums are."""
    if "cutoff" in architecture:
        edge_norm = architecture["edge_norm"]
        of_edges = "" if edge_norm == "none" else f", edge norm {edge_norm}"
        return f" (cutoff {architecture['cutoff']:g} Å{of_edges})"
    place, residual = architecture["norm_place"], architecture["residual_place"]
    parts = {
        f"norms {place}": place != NORM_PLACES[0],
        residual: architecture["residual"] and residual not in RESIDUAL_PLACES,
        f"{architecture.get('heads')} heads": "heads" in architecture,
        f"QK-norm {architecture.get('qk_norm')}": architecture.get("qk_norm", "none") != "none",
        f"edge norm {architecture.get('edge_norm')}": architecture.get("edge_norm", SAME) != SAME,
    }
    said = [part for part, is_there in parts.items() if is_there]
    return f" ({', '.join(said)})" if said else ""


def _varied(settings: Settings) -> str:
    """Say what the models have in common, and where they differ: `GIN of 2/4/8 × 64`."""
    sizes = [_each(settings, name) for name in ("layers", "hidden")]
    name = _each(settings, "model")
    named = "/".join(map(model_title, name.split("/"))) if "model" in settings.vary else name
    known = "None" not in sizes
    return f"{model_title(named)} of {' × '.join(sizes)}" if known else model_title(named)


def _batches(settings: Settings, graphs: GraphSet) -> str:
    """Say what a training step sees."""
    sizes = settings.num_neighbors
    if sizes is None and len(graphs) == 1:
        return "the whole graph in every step (--num-neighbors samples it)"
    what = "graph" if sizes is None else "training node"
    said = f"batches of {several(settings.batch_size, what)}"
    if "batch_size" in settings.vary or "batch_size" in settings.search:
        said = f"batches of {_each(settings, 'batch_size')} {what}s"
    if sizes is None:
        return said
    drawn = ", ".join("all" if size == -1 else str(size) for size in sizes)
    hops = "in each of the layers" if len(sizes) == 1 else "layer by layer"
    return f"{said} and {drawn} sampled neighbours of a node {hops} (evaluated on the whole graph)"


def _each(settings: Settings, name: str) -> str:
    """Write a setting: its value, those of the treatments, `2/4/8`, or what is searched, `2:8`."""
    if name in settings.search:
        return settings.search[name]
    value = getattr(settings, name, settings.architecture.get(name))
    return "/".join(map(_text, settings.vary.get(name, [value])))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _protocol(settings: Settings) -> str:
    share = f"{settings.holdout:.0%}"
    metric = metric_named(settings.metric).title
    chosen, what = "as given", "learning rate"
    if settings.own_training and not settings.learning_rates and not settings.search:
        return _protocol_of_own(settings)
    if settings.selects:
        each = f"{settings.noun}{' and seed' if settings.protocol == 'split' else ''}"
        chosen = f"chosen there, for each {each}"
    if settings.search:
        names = (name.replace("_", " ") for name in settings.space)
        what = listing(names)
    if settings.protocol == "paper":
        return (
            f"paper, OPTIMISTIC: {_folds(settings, 'folds')}; epoch and learning rate are "
            f"chosen by the same {metric} that is reported, as in the GIN and GraphNorm papers"
        )
    if settings.protocol == "split":
        if settings.folds > 1:
            return (
                f"split, budget {settings.budget}: the {settings.folds} splits of the "
                f"data; epoch by validation {metric}, {what} {chosen}; "
                f"each split tested with {several(settings.runs, 'fresh seed')}"
            )
        how = "the split of the data"
        if settings.split != "given":
            together = " that keeps twins together" if settings.group_twins else ""
            how = f"one random split ({share} to validate, {share} to test){together}"
        return (
            f"split, budget {settings.budget}: {how}; epoch by validation {metric}, "
            f"{what} {chosen}; tested with {several(settings.runs, 'seed')}"
        )
    return (
        f"nested, budget {settings.budget}: {_folds(settings, 'test folds')}, {share} "
        f"of the rest to validate; epoch by validation {metric}, {what} {chosen}; "
        f"each fold tested with {several(settings.runs, 'fresh seed')}"
    )


def _protocol_of_own(settings: Settings) -> str:
    """Say how user code that takes no learning rate is tested."""
    head = f"{settings.protocol}, budget {settings.budget}"
    share = f"{settings.holdout:.0%}"
    if settings.protocol == "nested":
        return (
            f"{head}: {_folds(settings, 'test folds')}, {share} of the rest to validate; "
            f"{several(settings.runs, 'fresh seed')} a fold tested"
        )
    if settings.folds > 1:
        seeds = several(settings.runs, "fresh seed")
        return f"{head}: the {settings.folds} splits of the data; {seeds} a split tested"
    how = "the split of the data"
    if settings.split != "given":
        how = f"one random split ({share} to validate, {share} to test)"
    return f"{head}: {how}; {settings.runs} seeds tested"


def _why_split(plan: Plan) -> str:
    """Say where the protocol comes from if it is not asked for but that of the data."""
    options = plan.options
    if plan.settings.split != "given" or options.protocol is not None or options.split is not None:
        return ""
    return ". The data carry a split, so it is used; --protocol nested cuts folds instead"


def _folds(settings: Settings, noun: str) -> str:
    """Say what the data are cut into: `10 folds`, `10 folds, cut anew in each of 3 repeats`."""
    anew = f", cut anew in each of {settings.repeats} repeats" if settings.repeats > 1 else ""
    return f"{settings.folds} {noun}{_together(settings)}{anew}"


def _together(settings: Settings) -> str:
    return " that keep twins together" if settings.group_twins else ""


def _trials(settings: Settings) -> str:
    reported, selection = settings.reported_trials, settings.selection_trials
    if selection:
        chosen = "values" if settings.search else "rate"
        return f"({selection} to choose the {chosen} + {reported} tested)"
    return several(reported, "trial")


def _rates(settings: Settings) -> str:
    if RATE in settings.space:
        return f"learning rate {settings.space[RATE]}"
    rates = ", ".join(f"{rate:g}" for rate in settings.learning_rates)
    return f"learning rate{'s' * (len(settings.learning_rates) > 1)} {rates}"
