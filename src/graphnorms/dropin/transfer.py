"""Transfers parameters, statistics, hooks and attributes from a norm to its replacement."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn

from graphnorms.dropin.known_norms import KnownNorm, has_parameter, holder_of, same
from graphnorms.dropin.norm_hook import NormHook
from graphnorms.dropin.rotating_norms import TABLES, recognize_any

_AFFINE: Final = {
    *("batch", "layer", "layer-graph", "instance", "graph", "rms", "group", "group-graph"),
    *("power", "custom", "adja", "united"),
}
"""The kinds with a weight and bias per channel, applied after the normalization."""

_HOOKS: Final = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_OF_HOOKS: Final = (
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
)
_HOOKS_OF_STATE: Final = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)

_WEIGHTS: Final = ("weight", "bias")

Owners = Mapping[int, list[tuple[nn.Module, str]]]
"""By the id of a parameter: the modules that own it, and its qualified name there."""


def device_and_dtype(*modules: nn.Module) -> dict[str, Any]:
    """Return device and dtype of the first floating-point tensor of the modules."""
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                return {"device": tensor.device, "dtype": tensor.dtype}
    return {}


def owners_in(model: nn.Module) -> Owners:
    """List the owners of every parameter."""
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    for name, module in model.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                owner = (module, f"{name}.{key}" if name else key)
                owners.setdefault(id(parameter), []).append(owner)
    return owners


def transfer(old: KnownNorm, new: nn.Module, owners: Owners, keep: bool = True) -> str:
    """Transfer everything with the same meaning; return a description of what was transferred.

    Between norms of the same kind these are all parameters and statistics, between others weight
    and bias, including the attributes and `requires_grad` of parameters. A parameter shared with
    another module stays shared. Hooks and attributes of the norm are always transferred.

    Args:
        old: The old norm.
        new: Its replacement.
        owners: The owners of every parameter of the model.
        keep: Whether to transfer parameters and statistics.
    """
    if old.module in set(new.modules()):
        return "everything: it holds the old norm"
    now = recognize_any(new)
    before, after = _tensors(old.module), _tensors(new)
    alike = now is not None and old.kind == now.kind
    affine = now is not None and old.kind in _AFFINE and now.kind in _AFFINE
    wanted: tuple[str, ...] = ()
    if keep:
        wanted = tuple(before) if alike else _WEIGHTS if affine else ()
    kept, lost, ties, ended = _hand_on(before, after, wanted, old.module, owners)
    if not keep:
        text = "nothing: keep_parameters=False"
    elif now is None:
        text = "nothing: its parameters are its own"
    elif alike or affine:
        text = _listed(kept) or "nothing to keep"
        if alike and kept and not lost:
            text = "everything"
    else:
        text = "nothing: its parameters mean something else" if before else "nothing to keep"
    also = _hand_on_hooks(old.module, new) + _hand_on_attributes(old, new)
    if text == "everything":
        also = []
    text += "".join(f"; {words}" for words in ties)
    if old.without_bias and "bias" in after:
        text += "; its bias is new"
    text += f"; also {_listed(also)}" if also else ""
    lost += [*ended, *_hooks_left(old.module, new)]
    text += f"; not {_listed(lost)}" if lost else ""
    caveat = _caveat(old, new)
    return f"{text}; {caveat}" if caveat else text


_Tensors = dict[str, tuple[dict[str, Any], str]]
"""Parameters and buffers by name without PyG's prefix: the dictionary that holds it, and the
key."""


def _tensors(norm: nn.Module) -> _Tensors:
    return {
        (f"{prefix}." if prefix else "").removeprefix("module.") + key: (named, key)
        for prefix, module in norm.named_modules()
        for named in (module._parameters, module._buffers)
        for key, value in named.items()
        if value is not None and key not in (*TABLES, *module._non_persistent_buffers_set)
    }


def _hand_on(
    before: _Tensors, after: _Tensors, wanted: tuple[str, ...], old: nn.Module, owners: Owners
) -> tuple[list[str], list[str], list[str], list[str]]:
    """Copy tensors with their attributes; share tensors that are tied to other modules.

    Returns:
        Descriptions of the transferred tensors, the tensors that the new norm lacks, the kept ties,
        and the dropped ties and hooks of parameters.
    """
    kept: list[str] = []
    lost: list[str] = []
    kept_ties: list[str] = []
    ended: list[str] = []
    inside = set(old.modules())
    for name, (named, key) in before.items():
        tensor, word = named[key], _word(name)
        tied = [words for module, words in owners.get(id(tensor), ()) if module not in inside]
        tie = [f"{word} tied to {' and '.join(tied)}"] if tied else []
        there, other = after.get(name, ({}, ""))
        new = there.get(other)
        if name not in wanted or new is None or new.shape != tensor.shape:
            if name in wanted or (wanted and key not in _WEIGHTS):
                lost.append(word)
            ended += tie
            continue
        kept.append(word)
        if tied and new.dtype == tensor.dtype and new.device == tensor.device:
            there[other] = tensor
            kept_ties += tie
            continue
        with torch.no_grad():
            new.copy_(tensor)
        if not isinstance(tensor, nn.Parameter):
            continue
        new.requires_grad_(tensor.requires_grad)
        new.__dict__.update(vars(tensor))
        ended += tie
        if tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None):
            ended.append(f"the hooks of {word}")
    return kept, lost, kept_ties, ended


def _word(name: str) -> str:
    key = name.rpartition(".")[2]
    is_running = key.startswith("running") or key == "num_batches_tracked"
    return "running statistics" if is_running else key


def _listed(words: list[str]) -> str:
    return " and ".join(dict.fromkeys(words))


def has_hooks(norm: nn.Module) -> bool:
    """Whether a user's hooks, or hooks on its state, are on a norm."""
    of_calls = any(map(_is_of_user, _hooks_of_calls(norm)))
    return of_calls or any(vars(norm)[kind] for kind in _HOOKS_OF_STATE)


def _hooks_of_calls(norm: nn.Module) -> list[Any]:
    """List the hooks on its calls that another norm at its place needs, too."""
    hooks = [hook for kind in _HOOKS for hook in vars(norm)[kind].values()]
    return [hook for hook in hooks if not isinstance(getattr(hook, "__self__", None), NormHook)]


def _hand_on_hooks(old: nn.Module, new: nn.Module) -> list[str]:
    """Share the hooks with the new norm, so that their handles still remove them."""
    hooks = _hooks_of_calls(old)
    if not hooks:
        return []
    for kind in (*_HOOKS, *_OF_HOOKS):
        given, own = vars(old)[kind], vars(new)[kind]
        if own:
            own.update(given)
        else:
            vars(new)[kind] = given
    if old._is_full_backward_hook is not None:
        new._is_full_backward_hook = old._is_full_backward_hook
    return ["hooks"] if any(map(_is_of_user, hooks)) else []


def _caveat(old: KnownNorm, new: nn.Module) -> str:
    """Return a known difference in behaviour from the old norm; empty if there is none."""
    if isinstance(old.module, nn.InstanceNorm1d):
        return "torch's treats (nodes, channels) as one sequence and normalizes each row"
    of_parameters = old.kind in ("graph", "layer-graph") and has_parameter(old.module, "weight")
    if old.library == "PyG" and of_parameters:
        return "for bfloat16 input PyG's returns float32, as under autocast, and ours bfloat16"
    is_shared = getattr(new, "process_group", None) is not None
    if isinstance(old.module, nn.SyncBatchNorm) and not is_shared:
        return "not its synchronization over ranks"
    return ""


def _hooks_left(old: nn.Module, new: nn.Module) -> list[str]:
    """List the hooks that are not transferred."""
    inner = holder_of(old)
    lost = []
    if inner is not old and any(vars(inner)[kind] for kind in _HOOKS):
        lost.append("the hooks of its inner module")
    if any(len(vars(old)[kind]) > len(vars(new)[kind]) for kind in _HOOKS_OF_STATE):
        lost.append("the hooks of its state_dict")
    return lost


def _is_of_user(hook: Any) -> bool:
    return getattr(hook, "__module__", None) != "graphnorms.dropin.fused"


def _hand_on_attributes(old: KnownNorm, new: nn.Module) -> list[str]:
    """Copy the attributes that users set on the old norm."""
    if old.library == "graphnorms":
        usual = set(vars(same(old)))
    else:
        usual = {
            name
            for base in type(old.module).__mro__
            if base is not nn.Module and "__init__" in vars(base)
            for name in inspect.signature(vars(base)["__init__"]).parameters
        }
    names = [
        name
        for name in vars(old.module)
        if not (name.startswith("_") or name in usual or hasattr(new, name))
    ]
    for name in names:
        setattr(new, name, vars(old.module)[name])
    return [f"attribute {name}" for name in names]
