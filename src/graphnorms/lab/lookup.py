"""Look up what options name: norms, models, and user code that trains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from graphnorms.errors import unknown_name
from graphnorms.lab.option_kinds import BASELINE, DEFAULT_NORM, DEFAULT_NORMS
from graphnorms.lab.option_table import about
from graphnorms.lab.options import Options
from graphnorms.lab.phrases import listing
from graphnorms.lab.treatments import check_vary
from graphnorms.training.trial_config import LAB_TRAINS

if TYPE_CHECKING:
    from graphnorms.layers.own_norm import OwnNorm
    from graphnorms.models import ModelFactory
    from graphnorms.training.trainer import Trainer


def looked_up(options: Options) -> Options:
    """Return the options with the user's own model and norms loaded.

    Varied models are checked, and called by their names.

    Raises:
        ValueError: One is not known or not found, or two norms have the same name.
    """
    from graphnorms.training.trainer import Trainer

    if options.trial is not None and options.model is not None:
        raise ValueError(
            f"trial is {name_of(options.trial)} and model is {name_of(options.model)}, but a trial "
            "makes its own model; leave one out"
        )
    trial: Any = options.trial
    if trial is not None and not isinstance(trial, Trainer):
        trial = Trainer.of(_as_trial_spec(trial))
    model, vary = found_model(options.model), options.vary
    if vary is not None:
        _check_vary(replace(options, trial=trial, model=model))
        vary = {name: [_value(name, value) for value in values] for name, values in vary.items()}
    norms = _norms(options.norms, alone=vary is not None)
    return replace(options, trial=trial, model=model, norms=norms, vary=vary)


def _check_vary(options: Options) -> None:
    """Check what is varied, where it is known who trains.

    Raises:
        ValueError: See `graphnorms.lab.treatments.check_vary`, or user code does not take it.
    """
    from graphnorms.training.trainer import Trainer

    found: Any = options.trial or options.model
    trainer = found if isinstance(found, Trainer) else None
    vary = options.vary or {}
    possible = [] if trainer is None else trainer.variable()
    for name in vary if trainer else ():
        if name not in possible:
            raise ValueError(
                f"vary has {name}, expected what {name_of(trainer)} takes and treatments do not "
                f"share: {listing(possible) or 'nothing; give its arguments defaults'}"
            )
    every = {each.name: about(each.name) for each in fields(options)}
    check_vary(vary, every, options.said(), own_arguments(trainer, vary))


def own_arguments(trainer: Trainer | None, vary: Iterable[str]) -> list[str]:
    """List the arguments of user code that trains, which are varied and no options."""
    from graphnorms.training.trainer import CHOSEN

    return [] if trainer is None else [name for name in vary if name not in CHOSEN]


def _value(option: str, value: Any) -> Any:
    """Return the value of a varied option as it is kept."""
    if option in ("weight_decay", "dropout"):
        return float(value)
    if option != "model":
        return value
    model = found_model(value)
    if hasattr(model, "by"):
        raise ValueError(
            f"vary has the model {model.name}, which trains itself; run a comparison for each, and "
            "graphnorms report RUN RUN puts them on one page"
        )
    if not isinstance(model, str) and model is not None and model.in_memory:
        raise ValueError(
            f"{model.name} was made in memory; a model that is varied is named, as module:function"
        )
    return value if model is None else name_of(model)


def _as_trial_spec(trial: Any) -> Any:
    """Return what names or is a function; refuse other texts.

    Raises:
        ValueError: It is neither `module:function` nor `file.py:function`.
    """
    from graphnorms.user_code import as_spec, is_spec

    if isinstance(trial, str) and not is_spec(trial := as_spec(trial)):
        raise ValueError(f"trial is {trial!r}, expected module:function, e.g. my_module:train")
    return trial


def trainer_of(options: Options) -> Trainer | None:
    """Return the user code that trains, if there is some, given options that are looked up.

    Raises:
        ValueError: An option is given that it does not take.
    """
    from graphnorms.training.trainer import CHOSEN

    found: Any = options.trial or options.model
    if not hasattr(found, "by"):
        return None
    trainer: Trainer = found
    given = [name for name in LAB_TRAINS if getattr(options, name) is not None]
    for name in given:
        if name not in CHOSEN:
            raise ValueError(
                f"{name} is {getattr(options, name)!r}, but {trainer.name} trains itself; leave it "
                "out"
            )
    if options.protocol == "paper":
        raise ValueError(
            f"protocol is paper, which chooses an epoch of the lab's training, and {trainer.name} "
            "trains itself; choose nested or split"
        )
    trainer.taken(given)
    return trainer


def found_model(model: Any) -> Any:
    """Return the name of a model of the lab, what makes the user's own, or what trains it.

    Raises:
        ValueError: It is not known or not found.
    """
    from graphnorms.models import FORCE_MODELS, MODELS, ModelFactory
    from graphnorms.user_code import as_spec, is_spec

    if not isinstance(model, str):
        return _or_lightning(ModelFactory.of(model)) if callable(model) else model
    known = (*MODELS, *FORCE_MODELS)
    if model in known:
        return model
    model = as_spec(model)
    if not is_spec(model):
        raise ValueError(
            f"{unknown_name('model', model, known)}; one of your own is module:function"
        )
    return _or_lightning(ModelFactory.of(model))


def _or_lightning(factory: ModelFactory) -> Any:
    """Return what trains the model, if that is a LightningModule, else what makes it."""
    from graphnorms.training.lightning_trial import makes_lightning, trainer_for

    return trainer_for(factory) if makes_lightning(factory.function) else factory


def _norms(given: Iterable[Any] | str | None, *, alone: bool = False) -> list[str | OwnNorm]:
    """Return the norms by their names as the catalogue spells them, the baseline among them.

    Args:
        given: The norms.
        alone: Whether only those given are compared, without the baseline; by default one.
    """
    from graphnorms.layers.factory import lookup
    from graphnorms.layers.own_norm import OwnNorm, is_own
    from graphnorms.layers.spec import split_specs

    if given is None:
        given = (DEFAULT_NORM,) if alone else DEFAULT_NORMS
    found: list[str | OwnNorm] = []
    for norm in split_specs(given) if isinstance(given, str) else given:
        if isinstance(norm, OwnNorm):
            found.append(norm)
        elif callable(norm) or (isinstance(norm, str) and is_own(norm)):
            found.append(OwnNorm.of(norm))
        elif not isinstance(norm, str):
            raise ValueError(
                f"a norm is {norm!r:.100}, expected a text, such as 'graph' or 'pair:scale=2', or "
                "what makes a norm"
            )
        elif norm.strip():
            found.append(lookup(norm.strip()).name)
    names = [name_of(norm) for norm in found]
    for norm in found:
        if not isinstance(norm, str) and (_is_known(norm.name) or names.count(norm.name) > 1):
            raise ValueError(
                f"two norms are called {norm.name!r}; give the class or function another name"
            )
    return found if alone or BASELINE in names else [BASELINE, *found]


def name_of(choice: Any) -> str:
    """Return what a model or norm is called."""
    return choice if isinstance(choice, str) else str(getattr(choice, "name", choice))


def _is_known(norm: str) -> bool:
    """Whether the catalogue has a norm of this name."""
    from graphnorms.layers.catalog import CATALOG

    return norm.partition(":")[0] in CATALOG
