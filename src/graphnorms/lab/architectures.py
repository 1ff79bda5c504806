"""Architectures: the sizes and places that options ask for, in a model's own keyword arguments."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from graphnorms.lab.option_kinds import DEFAULT_PRESET
from graphnorms.lab.options import Options
from graphnorms.lab.search_space import ranges_of
from graphnorms.training.trial_config import LAB_TRAINS

if TYPE_CHECKING:
    from graphnorms.data import Atoms, GraphSet
    from graphnorms.models import ModelFactory
    from graphnorms.training.trainer import Trainer


def architecture_of(
    graphs: GraphSet, model: str | ModelFactory | Trainer, preset: str, options: Options
) -> dict[str, Any]:
    """Return the architecture that the options ask for.

    Args:
        graphs: The data.
        model: Its name, or the user's own model or training.
        preset: The preset that it starts from.
        options: The options, with one value each.

    Raises:
        ValueError: The model does not take an option, a size is not possible, or the model is not
            one for these data.
    """
    from graphnorms.models import FORCE_MODELS, ModelFactory, OwnModelConfig
    from graphnorms.models import preset as preset_of

    sizes: dict[str, Any] = {
        name: float(value) if name == "dropout" else value
        for name in ("layers", "hidden", "dropout")
        if (value := getattr(options, name)) is not None
    }
    if not isinstance(model, str | ModelFactory):
        given = [name for name in LAB_TRAINS if getattr(options, name) is not None]
        given += ranges_of(options.searched) if options.searched is not None else ()
        taken = model.taken(given)
        sizes = {name: value for name, value in sizes.items() if name in taken}
        return {
            "trial": model.name,
            "source": model.source,
            "by": model.by,
            "takes": taken,
            **sizes,
        }
    if not isinstance(model, str):
        if graphs.atoms is not None:
            _refuse_for_task(model.name, graphs)
        for name in ("norm_place", "residual", "edge_norm", "qk_norm", "heads"):
            if getattr(options, name) is not None:
                raise ValueError(
                    f"{name} is {getattr(options, name)}, but {model.name} places its norms "
                    "itself; leave it out"
                )
        own = OwnModelConfig(name=model.name, source=model.source, head=graphs.task.level, **sizes)
        own.asked_of(model.function)
        return own.to_dict()
    if (model in FORCE_MODELS) != (graphs.atoms is not None):
        _refuse_for_task(model, graphs)
    if graphs.atoms is not None:
        return _force_architecture(graphs.atoms, model, options)
    has_labels = graphs.features not in ("one-hot degree", "constant")
    changes: dict[str, Any] = {"head": graphs.task.level, **sizes}
    for name in ("norm_place", "edge_norm", "qk_norm", "heads"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    if options.dropout is not None and model == "gps":
        changes["layer_dropout"] = changes["dropout"]
    if options.norm_place is not None:
        changes["residual_place"] = ""  # the model's own at this place
    if options.residual is not None:
        changes["residual"] = options.residual != "none"
        if options.residual != "none":
            changes["residual_place"] = options.residual
    return replace(preset_of(model, preset, node_labels=has_labels), **changes).to_dict()


def _refuse_for_task(model: str, graphs: GraphSet) -> NoReturn:
    """Refuse a model of graphs for atoms, or one of atoms for other graphs."""
    from graphnorms.models import FORCE_MODELS, MODELS

    needs = "gives no forces"
    known: tuple[str, ...] = FORCE_MODELS
    if graphs.atoms is None:
        needs = "needs atoms with energies and forces, such as an extended-XYZ file"
        known = MODELS
    raise ValueError(
        f"the model is {model}, which {needs}, but {graphs.name} has {graphs.task}; expected "
        f"{' or '.join(known)}"
    )


def _force_architecture(atoms: Atoms, model: str, options: Options) -> dict[str, Any]:
    """Return the architecture of a model of energies and forces."""
    from graphnorms.models import ForceModelConfig

    for name in ("norm_place", "residual", "qk_norm", "heads", "dropout"):
        if (value := getattr(options, name)) is not None:
            raise ValueError(f"{name} is {value}, which {model} does not have; leave it out")
    if options.preset not in (None, DEFAULT_PRESET):
        raise ValueError(f"preset is {options.preset}, which has no {model}; leave it out")
    given: dict[str, Any] = {
        name: value
        for name in ("layers", "hidden", "edge_norm")
        if (value := getattr(options, name)) is not None
    }
    return ForceModelConfig(name=model, cutoff=atoms.cutoff, **given).to_dict()
