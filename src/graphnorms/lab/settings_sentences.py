"""The settings of a comparison in words: its model, its training and its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from graphnorms.lab.phrases import listing, model_title, several
from graphnorms.lab.search_space import RATE
from graphnorms.lab.treatments import values_of
from graphnorms.models.model_config import EDGE_MODELS, SAME
from graphnorms.models.norm_slot import NORM_PLACES, RESIDUAL_PLACES
from graphnorms.training.force_objective import FORCE_WEIGHT
from graphnorms.training.metrics import metric_named

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.lab.settings import Settings

_DECAYS: Final = {"linear": "decays linearly to 0"}
"""What a schedule does, where its name does not say so."""


def model_words(settings: Settings, graphs: GraphSet) -> str:
    """Say which model is trained, its form, and how it is trained."""
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
    """Write a setting: one value, several treatments as `2/4/8`, or a searched range as `2:8`."""
    if name in settings.search:
        return settings.search[name]
    value = getattr(settings, name, settings.architecture.get(name))
    return "/".join(map(_text, settings.vary.get(name, [value])))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def protocol_words(settings: Settings) -> str:
    """Say what is held out, what is chosen on which part, and how often it is tested."""
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


def _folds(settings: Settings, noun: str) -> str:
    """Say what the data are cut into: `10 folds`, `10 folds, cut anew in each of 3 repeats`."""
    anew = f", cut anew in each of {settings.repeats} repeats" if settings.repeats > 1 else ""
    return f"{settings.folds} {noun}{_together(settings)}{anew}"


def _together(settings: Settings) -> str:
    return " that keep twins together" if settings.group_twins else ""


def _rates(settings: Settings) -> str:
    if RATE in settings.space:
        return f"learning rate {settings.space[RATE]}"
    rates = ", ".join(f"{rate:g}" for rate in settings.learning_rates)
    return f"learning rate{'s' * (len(settings.learning_rates) > 1)} {rates}"
