"""Checkpoints of trials that user code trains: where a trial goes on, and the weights it keeps.

In the folder of a run, each file named by the key of its trial:

    checkpoints/<key>.pt    of a trial that has not ended; removed when it has
    weights/<key>.pt        what a reported trial keeps for the user

A file is written under a temporary name and renamed, and read with `weights_only=True`, which
executes no code.
"""

from __future__ import annotations

import io
import logging
import pickle
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from graphnorms.errors import GraphnormsError, one_line
from graphnorms.files import replacing

_log = logging.getLogger(__name__)

CHECKPOINTS: Final = "checkpoints"
WEIGHTS: Final = "weights"

_PLAIN: Final = (Tensor, bool, int, float, str, bytes, type(None), torch.dtype, torch.device)


class Checkpoints:
    """The files of one trial.

    Args:
        folder: The run's folder; None: there is none.
        key: The key of the trial.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self.folder = folder
        self.path = Path() if folder is None else folder / CHECKPOINTS / f"{key}.pt"
        self.weights = Path() if folder is None else folder / WEIGHTS / f"{key}.pt"

    @property
    def usable(self) -> bool:
        """Whether this machine has the folder: a worker of a cluster may not see it."""
        return self.folder is not None and self.folder.is_dir()

    def read(self) -> dict[str, Any] | None:
        """Return the checkpoint of an earlier attempt, on the CPU; None if there is none.

        One that cannot be read is left aside with a warning: the trial then begins anew.
        """
        if not self.usable or not self.path.exists():
            return None
        try:
            return load_weights(self.path)
        except GraphnormsError as error:
            _log.warning("%s; the trial begins anew", error)
            return None

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint."""
        _write(self.path, state)

    def keep(self, state: Mapping[str, Any]) -> None:
        """Replace the weights that are kept."""
        _write(self.weights, state)

    def remove(self) -> None:
        """Remove the checkpoint, and what a process has left that was killed while it wrote it.

        The folder stays, as another trial may be about to write into it.
        """
        for path in (self.path, *self.path.parent.glob(f".{self.path.name}.*")):
            path.unlink(missing_ok=True)


def load_weights(path: Path) -> dict[str, Any]:
    """Read what was saved by `torch.save`, by a trial or a user, or as `.safetensors`, on the CPU.

    Nothing in the file is executed.

    Raises:
        GraphnormsError: The file cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise GraphnormsError(f"{path}: {error.strerror or error}") from None
    except pickle.UnpicklingError:
        raise GraphnormsError(
            f"{path} holds more than tensors, which could run code when it is loaded; write it by "
            "torch.save(model.state_dict(), …)"
        ) from None
    except Exception as error:  # of zipfile, pickle, torch and safetensors
        raise GraphnormsError(f"{path} cannot be read: {one_line(error)[:100]}") from None
    return found


def state_of(what: str, value: Any) -> Any:
    """Return the state of an object as tensors, numbers, texts, and lists and mappings of these.

    Args:
        what: The object, for messages.
        value: Anything with a `state_dict`, a `torch.Generator`, or a state already.

    Raises:
        ValueError: It has no such state.
    """
    if isinstance(value, torch.Generator):
        return value.get_state()
    if callable(getattr(value, "state_dict", None)):
        value = value.state_dict()
    if isinstance(value, Mapping):
        return {key: state_of(f"{what}[{key!r}]", each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([state_of(f"{what}[{i}]", each) for i, each in enumerate(value)])
    if isinstance(value, Tensor):
        return value.detach()
    if not isinstance(value, _PLAIN):
        raise ValueError(
            f"report: {what} is of type {type(value).__name__}, expected something with a "
            "state_dict, or tensors, numbers and texts"
        )
    return value


def restore(what: str, target: Any, state: Any) -> None:
    """Give an object the state that `state_of` returned.

    Raises:
        ValueError: It takes none.
    """
    if isinstance(target, torch.Generator):
        target.set_state(state)
    elif callable(getattr(target, "load_state_dict", None)):
        target.load_state_dict(state)
    else:
        raise ValueError(
            f"report: {what} is of type {type(target).__name__}, expected something with a "
            "load_state_dict; read other values from report.checkpoint"
        )


def generator_states() -> dict[str, Any]:
    """Return the states of the generators of Python, NumPy and torch."""
    found: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        found["cuda"] = torch.cuda.get_rng_state_all()
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        name, keys, *rest = numpy.random.get_state()
        found["numpy"] = [name, torch.from_numpy(keys.astype("int64")), *rest]
    return found


def set_generators(states: Mapping[str, Any]) -> None:
    """Set the generators to what `generator_states` returned."""
    random.setstate(states["python"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all(states["cuda"])
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and "numpy" in states:
        name, keys, *rest = states["numpy"]
        numpy.random.set_state((name, keys.numpy().astype("uint32"), *rest))


def _write(path: Path, state: Mapping[str, Any]) -> None:
    content = io.BytesIO()  # torch's own errors of a full disk do not name the file
    torch.save(dict(state), content)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())
