"""The optimizer of a trial, and its learning rate at every step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor

from graphnorms.errors import unknown_name
from graphnorms.layers.spec import format_spec, parse_spec
from graphnorms.training.trial_config import OPTIMIZERS, TrialConfig

_CLASSES: Final[dict[str, Any]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {"sgd": {"momentum": 0.9}}
"""Where our defaults are not torch's: graph networks are trained with momentum."""

_OPTIONS: Final = {"lr": "learning_rate", "weight_decay": "weight_decay"}


def make_optimizer(
    text: str, parameters: Iterable[Tensor], rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    r"""Make an optimizer of torch.

    `"adam"` adds the L2 penalty $\lambda \theta$ to the gradient. `"adamw"` decays the weights
    apart from the gradient, $\theta \leftarrow (1 - \eta \lambda)\, \theta$ (Loshchilov & Hutter
    2019). `"sgd"` has momentum 0.9 and the L2 penalty. All parameters are decayed, those of norms
    and biases as well, as torch does by default.

    Args:
        text: `"adam"`, `"adamw"` or `"sgd"`, with further arguments of torch's class after a colon:
            `"sgd:momentum=0.95,nesterov=true"`.
        parameters: What it optimizes.
        rate: The learning rate.
        weight_decay: The penalty or decay $\lambda$.

    Raises:
        ValueError: There is no such optimizer, or it does not take the arguments.
    """
    name, arguments = parse_spec(text)
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    for argument, option in _OPTIONS.items():
        if argument in arguments:
            raise ValueError(
                f"optimizer {text!r} has {argument}, which is the option {option}; leave it out"
            )
    given = {**_ARGUMENTS.get(name, {}), **arguments}
    try:
        made: torch.optim.Optimizer = _CLASSES[name](
            parameters, lr=rate, weight_decay=weight_decay, **{"fused": True, **given}
        )
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(f"optimizer {text!r} cannot be made: {error}") from None
    return made


def optimizer_text(text: str) -> str:
    """Return the text of an optimizer with its arguments in order.

    Raises:
        ValueError: There is no such optimizer, or it does not take the arguments.
    """
    name, arguments = parse_spec(text)
    if arguments or name not in OPTIMIZERS:  # making one loads torch._dynamo: a second, and 70 MiB
        make_optimizer(text, [torch.zeros(1, requires_grad=True)], 0.01, 0.0)
    return format_spec(name, arguments)


def rate_at(config: TrialConfig, epoch: int, step: int, steps_per_epoch: int) -> float:
    r"""Return the learning rate of a training step.

    In the `warmup` epochs it rises step by step, linearly from 0. In the others, of which $t$ of
    $T$ are done, it is the configured rate times 1 (`"constant"`), $1 - t / T$ (`"linear"`) or
    $\tfrac12 (1 + \cos(\pi t / T))$ (`"cosine"`), constant within an epoch.

    Args:
        config: The trial.
        epoch, step: From 0; the step within the epoch.
        steps_per_epoch: Steps of an epoch.
    """
    if epoch < config.warmup:
        return config.learning_rate * (epoch + step / steps_per_epoch) / config.warmup
    done = (epoch - config.warmup) / (config.epochs - config.warmup)
    if config.schedule == "linear":
        return config.learning_rate * (1 - done)
    if config.schedule == "cosine":
        return config.learning_rate * (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate
