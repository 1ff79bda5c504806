"""`replace_norms(model, "fused")`: ours in the place of a norm that computes exactly the same."""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import warnings
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from graphnorms.dropin.call_once import NormCall
from graphnorms.dropin.known_norms import KnownNorm, same
from graphnorms.dropin.result import Replacement
from graphnorms.dropin.rotating_norms import TABLES
from graphnorms.dropin.transfer import device_and_dtype, has_hooks
from graphnorms.layers.base import Norm
from graphnorms.layers.equivariant.degrees_norm import DegreesNorm

_ROWS: Final = 6
_TOLERANCE: Final = 1e-6
"""Relative, in float64: tables that were made in float32 stay rounded."""

_INPUTS: Final = ("input", "node_input")
"""What torch, e3nn and fairchem call `x`."""


def fuse(
    result: Replacement, decide: Callable[[KnownNorm], nn.Module | str], unshare: bool
) -> Replacement:
    """Replace the norms of a model, and add the notes on what changes beside the results.

    Args:
        result: The model.
        decide, unshare: See `Replacement.exchange`; `decide` returns `fused_norm`.
    """
    model, rotating = result.model, False
    before = _without_decay(model)
    for norm, ones, _ in result.exchange(decide, unshare=unshare):
        rotating = rotating or norm.layer is not None
        for one in ones:
            _keep_attributes(norm.module, one)
    result.name_unknown()
    if rotating:
        result.notes += (
            "Given bfloat16 beside float32 parameters, the old norms of rotating features return "
            "float32 or raise; ours return bfloat16.",
        )
    if missing := before - _without_decay(model):
        result.notes += (
            f"no_weight_decay() finds norms by their class and now misses {len(missing)} "
            "parameters; take what it returned before.",
        )
    return result


def fused_norm(old: KnownNorm, model: nn.Module, calls: list[NormCall] | None) -> nn.Module | str:
    """Build our layer for a norm, or return why the norm is left.

    A copy of either norm is called on random features, with random parameters, in `train()` and in
    `eval()`: the norm is replaced only if results and running averages agree and the states load
    both ways.

    Args:
        old: The norm.
        model: The model, whose device and dtype a norm without tensors gets.
        calls: The calls of the norm with the example, if given.
    """
    if reason := _reason(old):
        return reason
    try:
        new = same(old, **device_and_dtype(old.module, model))
    except ValueError as error:
        return f"ours has no equal: {error}"
    assert isinstance(new, Norm)
    rotates = isinstance(new, DegreesNorm)
    for call in () if rotates or new.takes_rows or new.takes_positions else calls or ():
        if len(call.shape) != 2:
            return f"its input is {call.shape}, not (nodes, channels)"
    _keep_state(old.module, new)
    new.register_forward_pre_hook(_name_input, with_kwargs=True)
    return _difference(old, new) or new


def _without_decay(model: nn.Module) -> set[str]:
    """List the parameters that `no_weight_decay()` of a model or its parts names, as timm's does.

    Such a method often finds norms by their class, which a replacement changes.
    """
    found: set[str] = set()
    for name, module in model.named_modules():
        names = getattr(module, "no_weight_decay", None)
        if callable(names):
            with contextlib.suppress(Exception):
                found.update(f"{name}.{each}" if name else each for each in names())
    return found


def _keep_attributes(old: nn.Module, new: nn.Module) -> None:
    """Copy the arguments of a norm that ours calls otherwise, as other code may read them."""
    for name, value in vars(old).items():
        if not (name.startswith("_") or name == "training" or hasattr(new, name)):
            setattr(new, name, value)


def _reason(old: KnownNorm) -> str:
    module = old.module
    if old.library == "graphnorms":
        return "it is ours, and fused already"
    if isinstance(module, nn.SyncBatchNorm):
        return "it shares its statistics over ranks; convert_sync replaces it"
    if isinstance(module, nn.InstanceNorm1d):
        return "torch's treats (nodes, channels) as one sequence and normalizes each row"
    if old.reason:
        return old.reason
    if "forward" in vars(module):
        return "its forward was replaced"
    if type(module).__call__ is not nn.Module.__call__:
        return f"{type(module).__name__} has a __call__ of its own"
    for part in module.modules():
        if has_hooks(part):
            return "it has hooks; remove them first"
        if parametrize.is_parametrized(part):
            return "its parameters are computed (parametrized); remove that first"
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        return "it is on the meta device; load its values first"
    return ""


def _name_input(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Pass the features by position if the model names them as the old norm did."""
    if args:
        return None
    rest = dict(kwargs)
    for name in _INPUTS:
        if name in rest:
            return (rest.pop(name),), rest
    return None


class _OldNames:
    """Saves the state of a norm of ours under the names that the old norm had.

    Args:
        names: The old name for each of ours that differs.
        tables: Buffers that the old norm has in its state and ours computes.
    """

    def __init__(self, names: dict[str, str], tables: dict[str, Tensor]) -> None:
        self.names = names
        self.tables = tables

    def __call__(self, module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
        """Rename what was saved."""
        for ours, theirs in self.names.items():
            state[prefix + theirs] = state.pop(prefix + ours)
        for name, table in self.tables.items():
            state[prefix + name] = table.clone()

    def undo(self, module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        """Rename what is loaded."""
        for ours, theirs in self.names.items():
            if prefix + theirs in state:
                state[prefix + ours] = state.pop(prefix + theirs)
        for name in self.tables:
            state.pop(prefix + name, None)


def _keep_state(old: nn.Module, new: nn.Module) -> None:
    """Make the new norm save and load its state under the names of the old one."""
    theirs = {key.removeprefix("module."): key for key in old.state_dict()}
    ours = {key.removeprefix("module."): key for key in new.state_dict()}
    shared = theirs.keys() & ours.keys()
    names = {ours[key]: theirs[key] for key in shared if ours[key] != theirs[key]}
    tables = {key: value for key, value in old.state_dict().items() if key in TABLES}
    if names or tables:
        kept = _OldNames(names, tables)
        new.register_state_dict_post_hook(kept)
        new.register_load_state_dict_pre_hook(kept.undo)


@torch.no_grad()
def _difference(old: KnownNorm, new: Norm) -> str:
    """Compare the results of two norms; return the difference in words, empty if there is none."""
    theirs, ours = (copy.deepcopy(norm).to("cpu", torch.float64) for norm in (old.module, new))
    random = torch.Generator().manual_seed(0)
    for tensor in (*theirs.parameters(), *_averages(theirs)):
        tensor.uniform_(0.5, 1.5, generator=random)
    try:
        ours.load_state_dict(theirs.state_dict())
        theirs.load_state_dict(ours.state_dict())
    except RuntimeError as error:
        return f"its state is not that of ours: {str(error).splitlines()[-1].strip()}"
    width = [(new.lmax + 1) ** 2] if isinstance(new, DegreesNorm) else []
    width.append(new.in_channels or 4)
    batches = _batches(old.module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for training, extra in itertools.product((True, False), batches):
            # Small, so that ε counts.
            x = torch.randn(_ROWS, *width, generator=random, dtype=torch.float64) / 10 + 0.05
            results = []
            for norm, whose in ((theirs, "it"), (ours, "ours")):
                try:
                    results.append(norm.train(training)(x.clone(), *extra))
                except Exception as error:
                    text = str(error).partition("\n")[0]
                    return f"{whose} raises {type(error).__name__} on random features: {text}"
            without = ", without a batch" if len(batches) > 1 and not extra else ""
            if (away := _distance(*results)) > _TOLERANCE:
                return f"its results differ from ours by {away:.1g}{without}"
            for averages in zip(_averages(theirs), _averages(ours), strict=True):
                if (away := _distance(*averages)) > _TOLERANCE:
                    return f"its running averages differ from ours by {away:.1g}{without}"
    return ""


def _averages(norm: nn.Module) -> list[Tensor]:
    return [
        tensor
        for name, tensor in norm.named_buffers()
        if name.rpartition(".")[2] in ("running_mean", "running_var")
    ]


def _batches(norm: nn.Module) -> list[tuple[Tensor, ...]]:
    """Return what a norm may be given besides features."""
    batch = inspect.signature(norm.forward).parameters.get("batch")
    graphs = (torch.tensor([0, 1, 1, 2, 2, 2]),)  # of different sizes
    if batch is None:
        return [()]
    return [graphs] if batch.default is batch.empty else [(), graphs]


def _distance(theirs: Tensor, ours: Tensor) -> float:
    """Return the largest difference, relative to the largest entry; infinite for other shapes."""
    if theirs.shape != ours.shape:
        return float("inf")
    scale = theirs.abs().amax().clamp(min=torch.finfo(theirs.dtype).tiny)
    return float(((theirs - ours).abs().amax() / scale).nan_to_num(float("inf")))
