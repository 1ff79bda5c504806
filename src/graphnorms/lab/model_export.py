"""The model of a comparison that is exported: which trial it comes from, and its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphnorms.errors import GraphnormsError
from graphnorms.lab.comparison import Comparison
from graphnorms.lab.learning_rate import best_trial
from graphnorms.lab.run import read_config
from graphnorms.layers.factory import lookup
from graphnorms.training.trial_config import treatment_of

if TYPE_CHECKING:
    from graphnorms.lab.treatments import Treatment
    from graphnorms.training import Predictor, Record


def chosen_trial(comparison: Comparison, norm: str | None) -> Record:
    """Return the trial with the best validation score of a norm.

    Raises:
        ValueError: No norm is named and none recommended, or no trial with this norm was done.
    """
    treatments = comparison.settings.treatments
    reported = [record for record in comparison.records if record.config["stage"] != "select"]
    if best_trial(reported) is None:
        raise ValueError("no trial was done; there is no model to write")
    if norm is None:
        advice = comparison.verdict.recommendation
        if advice is None:
            raise ValueError(
                "the verdict recommends no norm, so say whose model to write: --norm NAME, in "
                f"Python norm=…; the comparison has {', '.join(treatments)}"
            )
        norm = advice.norm
    wanted = _named(norm, treatments)
    record = best_trial(record for record in reported if treatment_of(record.config) in wanted)
    if record is None:
        raise ValueError(f"no trial with the norm {norm!r} was done; there is no model to write")
    return record


def exported_trial(comparison: Comparison, norm: str | None) -> Record:
    """Return the trial whose model is exported, see `chosen_trial`.

    Raises:
        ValueError: As `chosen_trial`, or user code trains.
    """
    if comparison.settings.own_training:
        raise ValueError(
            f"{comparison.settings.model} trains its models itself, and the lab has none to write; "
            "Comparison.kept reads what its trials keep by report.keep"
        )
    return chosen_trial(comparison, norm)


def kept_weights(comparison: Comparison, norm: str | None) -> dict[str, Any]:
    """Return what the best trial of a norm kept by `report.keep`, see `chosen_trial`.

    Raises:
        ValueError: As `chosen_trial`, or the trial kept nothing.
    """
    from graphnorms.training.checkpoints import Checkpoints, load_weights

    path = Checkpoints(comparison.folder, chosen_trial(comparison, norm).key).weights
    if not path.exists():
        raise ValueError(
            f"there is no {path}: the trial kept nothing; report.keep(model=model) keeps weights"
        )
    return load_weights(path)


def _named(text: str, treatments: Mapping[str, Treatment]) -> set[str]:
    """Return the treatments that a text names: one, or all of a norm or of some values."""
    if text in treatments:
        return {text}
    found = {name for name, each in treatments.items() if text in (each.norm, each.values)}
    if found:
        return found
    if "=" in text.partition(":")[0]:
        raise ValueError(f"no treatment is {text!r}; the comparison has {', '.join(treatments)}")
    norm = lookup(text).name
    return {name for name, each in treatments.items() if each.norm == norm}


def trial_words(record: Record, unit: str) -> str:
    """Describe a trial: norm, rate, fold, seed, epoch and scores.

    Args:
        record: The trial.
        unit: Unit of scores that are not fractions.
    """
    from graphnorms.lab.number_format import Scale
    from graphnorms.training import metric_named

    config, outcome = record.config, record.outcome
    several = config["split"].get("folds", 1) > 1
    fold = f"fold {config['split'].get('fold', 0)}, " if several else ""
    metric = metric_named(config["metric"])
    scores = [
        f"{part} {Scale.fitting(metric, score, unit).score(score)}"
        for part in ("validation", "test")
        if (score := outcome.get(f"{part}_score")) is not None
    ]
    noun = "treatment" if config.get("varied") else "norm"
    values = {"learning_rate": config["learning_rate"]} | (config.get("searched") or {})
    chosen = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in values.items())
    return (
        f"{noun} {treatment_of(config)}, {chosen}, {fold}run "
        f"{config['run']} (seed {config['seed']}), epoch {outcome['epoch']:.0f} of "
        f"{config['epochs']}; {metric.title}: {', '.join(scores)}"
    )


def train_again(comparison: Comparison, record: Record) -> Predictor:
    """Train a finished trial again and return its model.

    Raises:
        GraphnormsError: The data have changed, or the trial ends differently now.
    """
    from graphnorms.training import TrialConfig, threads, train

    graphs = comparison.graphs()
    config = TrialConfig(**record.config)
    if graphs.fingerprint != config.fingerprint:
        raise GraphnormsError(
            f"{graphs.name} has changed since the run (fingerprint {graphs.fingerprint}, then "
            f"{config.fingerprint}); its models cannot be made again"
        )
    with threads(1):  # as in the run, for the same rounding
        again, predictor = train(
            config, graphs, factory=comparison.factory, norms=comparison.norm_functions
        )
    if predictor is None or again.from_json(again.to_json()).outcome != record.outcome:
        raise GraphnormsError(
            "the trial did not end as it did before, so there is no model of it to write; it "
            f"was made with torch {record.environment.get('torch')} on "
            f"{record.environment.get('processor')}"
        )
    predictor.reading = read_config(comparison.folder).get("reading", {})
    return predictor
