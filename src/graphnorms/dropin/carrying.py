"""What a new norm takes over from the one in whose place it stands."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import nn

from graphnorms.dropin.giving import Giver
from graphnorms.dropin.norms import Known, holder_of, same

_AFFINE: Final = frozenset({
    "batch", "layer", "layer-graph", "instance", "graph", "rms", "group", "group-graph", "power",
    "custom", "adja", "united",
})  # fmt: skip
"""The kinds whose weight and bias are those of each channel, behind the normalization."""

_HOOKS: Final = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_OF_HOOKS: Final = (
    "_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
)  # fmt: skip
_HOOKS_OF_STATE: Final = (
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)  # fmt: skip

_WEIGHTS: Final = ("weight", "bias")

Owners = Mapping[int, list[tuple[nn.Module, str]]]
"""By the id of a parameter, the modules that have it, and what it is called there."""


def owners_in(model: nn.Module) -> Owners:
    """Find out which modules have which parameter, before anything is exchanged."""
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    for name, module in model.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                owner = (module, f"{name}.{key}" if name else key)
                owners.setdefault(id(parameter), []).append(owner)
    return owners


def carry_over(
    old: nn.Module, was: Known, new: nn.Module, now: Known | None, owners: Owners, keep: bool = True
) -> str:
    """Hand on what means the same, and say in words what was handed on and what was not.

    Between norms of one kind that is all parameters and statistics, between others weight and
    bias; with a parameter what was set on it, and whether it is trained. A parameter that another
    module has as well stays the one that both have. Hooks and attributes go along in any case.

    Args:
        old: The norm that goes.
        was: What is known of it.
        new: The norm that comes.
        now: What is known of it; `None` for a module that is no norm of those known.
        owners: Who has which parameter.
        keep: Whether parameters and statistics are handed on.
    """
    if old in set(new.modules()):
        return "everything: it holds the old norm"
    before, after = _tensors(old), _tensors(new)
    kept: list[str] = []
    lost: list[str] = []
    if not keep:
        text = "nothing: keep_parameters=False"
    elif now is None:
        text = "nothing: its parameters are its own"
    elif was.kind == now.kind or (was.kind in _AFFINE and now.kind in _AFFINE):
        kept, lost = _in_both(before, after, alike=was.kind == now.kind)
        text = _listed([_word(name) for name in kept]) or "nothing to keep"
        if was.kind == now.kind and kept and not lost:
            text = "everything"
    else:
        text = "nothing: its parameters mean something else" if before else "nothing to keep"
    ties = _hand_on(kept, before, after, {id(module) for module in old.modules()}, owners)
    also = _hand_on_hooks(old, new) + _hand_on_attributes(old, was, new)
    if text == "everything":
        also = []
    lost += ties.lost
    lost += _hooks_left(old, new)
    text += "".join(f"; {words}" for words in ties.kept)
    if was.without_bias and "bias" in after:
        text += "; its bias is new"
    text += f"; also {_listed(also)}" if also else ""
    return f"{text}; not {_listed(lost)}" if lost else text


class _Ties(NamedTuple):
    kept: list[str]
    lost: list[str]


_Tensors = dict[str, tuple[dict[str, Any], str]]
"""Parameters and buffers by name without PyG's prefix: the dictionary that has it, and its key."""


def _tensors(norm: nn.Module) -> _Tensors:
    return {
        (f"{prefix}." if prefix else "").removeprefix("module.") + key: (named, key)
        for prefix, module in norm.named_modules()
        for named in (module._parameters, module._buffers)
        for key, value in named.items()
        if value is not None and key not in module._non_persistent_buffers_set
    }


def _in_both(before: _Tensors, after: _Tensors, *, alike: bool) -> tuple[list[str], list[str]]:
    """List what both norms have, and what only the old one has; if not alike, weight and bias."""
    kept: list[str] = []
    lost: list[str] = []
    for name, (named, key) in before.items():
        if not alike and name not in _WEIGHTS:
            if key not in _WEIGHTS:
                lost.append(name)
            continue
        there, other = after.get(name, ({}, ""))
        same_shape = other and there[other].shape == named[key].shape
        (kept if same_shape else lost).append(name)
    return kept, [_word(name) for name in lost]


def _word(name: str) -> str:
    key = name.rpartition(".")[2]
    is_running = key.startswith("running") or key == "num_batches_tracked"
    return "running statistics" if is_running else key


def _listed(words: list[str]) -> str:
    return " and ".join(dict.fromkeys(words))


def _hand_on(
    names: list[str], before: _Tensors, after: _Tensors, old: set[int], owners: Owners
) -> _Ties:
    """Copy tensors, with all that is set on them; what is tied to another module is not copied."""
    kept: list[str] = []
    lost: list[str] = []
    for name, (named, key) in before.items():
        tensor = named[key]
        ties = [words for module, words in owners.get(id(tensor), ()) if id(module) not in old]
        tie = f"{_word(name)} tied to {' and '.join(ties)}"
        if name not in names:
            lost += [tie] if ties else []
            continue
        there, other = after[name]
        new = there[other]
        if ties and new.dtype == tensor.dtype and new.device == tensor.device:
            there[other] = tensor
            kept.append(tie)
            continue
        with torch.no_grad():
            new.copy_(tensor)
        if not isinstance(tensor, nn.Parameter):
            continue
        new.requires_grad_(tensor.requires_grad)
        new.__dict__.update(vars(tensor))
        lost += [tie] if ties else []
        if tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None):
            lost.append(f"the hooks of {_word(name)}")
    return _Ties(kept, lost)


def _hand_on_hooks(old: nn.Module, new: nn.Module) -> list[str]:
    """Have the new norm share the hooks of the old one, so that their handles remove them there."""
    if not any(_is_of_user(hook) for kind in _HOOKS for hook in vars(old)[kind].values()):
        return []
    for kind in (*_HOOKS, *_OF_HOOKS):
        given, own = vars(old)[kind], vars(new)[kind]
        if own:
            own.update(given)
        else:
            vars(new)[kind] = given
    if old._is_full_backward_hook is not None:
        new._is_full_backward_hook = old._is_full_backward_hook
    return ["hooks"]


def _hooks_left(old: nn.Module, new: nn.Module) -> list[str]:
    """List the hooks that the new norm does not have."""
    inner = holder_of(old)
    lost = []
    if inner is not old and any(vars(inner)[kind] for kind in _HOOKS):
        lost.append("the hooks of its inner module")
    if any(len(vars(old)[kind]) > len(vars(new)[kind]) for kind in _HOOKS_OF_STATE):
        lost.append("the hooks of its state_dict")
    return lost


def _is_of_user(hook: Any) -> bool:
    return not isinstance(getattr(hook, "__self__", None), Giver)


def _hand_on_attributes(old: nn.Module, was: Known, new: nn.Module) -> list[str]:
    """Set on the new norm what was set on the old one and is nothing that such norms have."""
    if was.library == "graphnorms":
        usual = set(vars(same(was)))
    else:
        usual = {
            name
            for base in type(old).__mro__
            if base is not nn.Module and "__init__" in vars(base)
            for name in inspect.signature(vars(base)["__init__"]).parameters
        }
    names = [
        name
        for name in vars(old)
        if not (name.startswith("_") or name in usual or hasattr(new, name))
    ]
    for name in names:
        setattr(new, name, vars(old)[name])
    return [f"attribute {name}" for name in names]
