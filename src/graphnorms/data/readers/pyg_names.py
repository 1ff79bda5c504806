"""Loads data sets of PyTorch Geometric by name, downloaded by PyG if they are not there."""

from __future__ import annotations

import ast
import contextlib
import inspect
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from graphnorms.data.graphset import GraphSet
from graphnorms.data.official_metrics import official_metric
from graphnorms.data.readers.pyg_data import from_pyg
from graphnorms.data.readers.read_options import Reading
from graphnorms.data.readers.tu import read_collection
from graphnorms.data.text_format import some
from graphnorms.errors import DatasetError, did_you_mean, one_line

PREFIX: Final = "pyg:"

_FORM: Final = "pyg:Class/name or pyg:Class/name,key=value, such as pyg:Planetoid/Cora"
_OWN: Final = ("root", "transform", "pre_transform", "pre_filter", "force_reload")
_BASES: Final = ("Dataset", "InMemoryDataset", "OnDiskDataset")
_PARTS: Final = ("train", "val", "test")


def read_pyg_name(spec: str, root: str | os.PathLike[str], reading: Reading) -> GraphSet:
    """Load a data set of `torch_geometric.datasets`.

    `pyg:Class/name,key=value` is `Class(root, name, key=value)`, with `root/Class` for its root, or
    `root` itself if the set is there. Where PyG has a data set for each part (`split="train"`,
    `"val"`, `"test"`), the parts are put together to one set with a given split, unless `split` is
    among the arguments. Masks are given splits, too, and official metrics are known.

    PyG reads its raw files, some of which are pickles that can execute code: only give files that
    you trust.

    Args:
        spec: The name.
        root: The folder of the sets.
        reading: The options.

    Raises:
        DatasetError: PyG is missing, a name or argument is unknown (the message suggests similar
            ones), or the files are missing and cannot be downloaded (the message says which files
            to put where).
    """
    name = _Name.of(spec)
    reading.refuse("a data set of PyG", "smiles", "target", "edges")
    options = {key: value for key, value in vars(reading).items() if key not in _NOT_PASSED}
    if name.cls.__name__ == "TUDataset":
        return read_collection(str(name.arguments["name"]), root, **options)
    metric = official_metric(name.official)
    if not name.has_parts:
        graphs = name.load(root)
        split = _snapshots(graphs)
        return from_pyg(
            _homogeneous(spec, graphs), name.title, **options, split=split, metric=metric
        )
    parts = [name.load(root, split=part) for part in _PARTS]
    items = [item for part in parts for item in _homogeneous(spec, part)]
    part = torch.repeat_interleave(torch.arange(3), torch.tensor([len(part) for part in parts]))
    y = getattr(items[0], "y", None)
    of_nodes = isinstance(y, Tensor) and y.dim() and y.shape[0] == items[0].num_nodes > 1
    if of_nodes:
        part = torch.repeat_interleave(part, torch.tensor([item.num_nodes for item in items]))
    return from_pyg(items, name.title, **options, split=part, metric=metric)


_NOT_PASSED: Final = ("smiles", "target", "edges")


@dataclass(frozen=True, kw_only=True)
class _Name:
    """A parsed name.

    Args:
        spec: The name, as given.
        cls: The class.
        arguments: Its arguments except `root`.
    """

    spec: str
    cls: Any
    arguments: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: str) -> _Name:
        """Parse a name, and check that the class takes the arguments."""
        head, _, rest = spec.removeprefix(PREFIX).partition("/")
        head, comma, keys = head.partition(",")
        rest = rest + comma + keys if comma else rest
        found = _class(spec, head)
        parameters = _parameters(found)
        words = [word.strip() for word in rest.split(",") if word.strip()]
        given: dict[str, Any] = {}
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                free = [p for p in parameters if p not in given]
                if not free:
                    raise DatasetError(f"{spec}: {head} takes no argument {word!r}; {_FORM}")
                key, value = free[0], word
            if key not in parameters:
                hint = did_you_mean(key, parameters, f"it has {some(parameters)}")
                raise DatasetError(f"{spec}: {head} has no argument {key!r}; {hint}")
            given[key] = _literal(value)
        lacking = [
            key
            for key, parameter in parameters.items()
            if key not in given and _required(parameter)
        ]
        if lacking:
            known = _known_values(found, lacking[0])
            hint = f", one of {some(known, few=20)}" if known else ""
            form = f"{PREFIX}{head}/{lacking[0].upper()}" if not words else f"{spec},{lacking[0]}=…"
            raise DatasetError(f"{spec}: {head} needs its {lacking[0]}{hint}; write {form}")
        return cls(spec=spec, cls=found, arguments=given)

    @property
    def title(self) -> str:
        """The name of the set in reports: the first argument, or the class."""
        texts = [value for value in self.arguments.values() if isinstance(value, str)]
        return texts[0] if texts else self.cls.__name__

    @property
    def official(self) -> str:
        """`Class/name`."""
        return "/".join(
            [self.cls.__name__, *([self.title] if self.title != self.cls.__name__ else [])]
        )

    @property
    def has_parts(self) -> bool:
        """Whether PyG has a data set for each of training, validation and test."""
        split = inspect.signature(self.cls.__init__).parameters.get("split")
        if split is None or "split" in self.arguments or split.default not in ("train", None):
            return False
        text = _documentation(self.cls, "split")
        return all(f'"{part}"' in text for part in _PARTS)

    def load(self, root: str | os.PathLike[str], **more: Any) -> Any:
        """Load the data set; PyG downloads it if it is missing."""
        home = Path(root) / self.cls.__name__
        there = next(folder for folder in home.absolute().parents if folder.is_dir())
        try:
            return self._load(Path(root), home, self.arguments | more)
        except DatasetError:
            _remove_empty(home.absolute(), there)
            raise

    def _load(self, root: Path, home: Path, arguments: dict[str, Any]) -> Any:
        places = [home]
        if isinstance(self.title, str) and (root / self.title).is_dir():
            places.append(root)
        missing: _MissingFilesError | None = None
        for place in places:  # without a download first
            try:
                return self._make(place, arguments, download=False)
            except _MissingFilesError as error:
                missing = error
        try:
            return self._make(home, arguments, download=True)
        except _MissingFilesError as error:
            missing = error
        if unknown := self._unknown_value():
            raise DatasetError(unknown)
        files = some(missing.files, few=8)
        raise DatasetError(
            f"{self.spec}: not in {missing.folder}, and PyG could not download it "
            f"({missing.reason}); put {files} into {missing.folder}"
        )

    def _make(self, root: Path, arguments: dict[str, Any], *, download: bool) -> Any:
        cls = self.cls
        takes_root = "root" in inspect.signature(cls.__init__).parameters

        def fetch(dataset: Any) -> None:
            reason = "not tried"
            if download:
                try:
                    cls.download(dataset)
                    return
                except Exception as error:  # the network raises anything
                    reason = one_line(error)
            files = dataset.raw_file_names
            names = [files] if isinstance(files, str) else list(files)
            folder = Path(dataset.raw_dir)
            _remove_empty(folder, root.parent)
            raise _MissingFilesError(names, folder, reason)

        # Only a subclass can say which files are missing before it downloads them.
        loader = type(cls.__name__, (cls,), {"download": fetch}) if _downloads(cls) else cls
        try:
            with warnings.catch_warnings(), _quiet():
                warnings.simplefilter("ignore")  # those of PyG, which a user cannot change
                return loader(str(root), **arguments) if takes_root else loader(**arguments)
        except _MissingFilesError:
            raise
        except ImportError as error:
            raise DatasetError(f"{self.spec}: PyG needs a package for it ({error})") from None
        except Exception as error:
            raise DatasetError(self._refusal(error)) from None

    def _refusal(self, error: Exception) -> str:
        """Say why PyG refuses an argument, or fails to read a file."""
        return self._unknown_value() or f"{self.spec}: PyG raised {one_line(error)}"

    def _unknown_value(self) -> str:
        """Say which argument PyG does not document, if there is one."""
        for key, value in self.arguments.items():
            known = _known_values(self.cls, key)
            lower = [name.lower() for name in known]
            if isinstance(value, str) and known and value.lower() not in lower:
                hint = did_you_mean(value, known, f"known: {some(known, 20)}")
                return f"{self.spec}: {self.cls.__name__} has no {key} {value!r}; {hint}"
        return ""


class _MissingFilesError(Exception):
    """The raw files are missing, and were not downloaded."""

    def __init__(self, files: list[str], folder: Path, reason: str) -> None:
        super().__init__(reason)
        self.files, self.folder, self.reason = files, folder, reason


def _class(spec: str, name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch_geometric import datasets
    except ImportError as error:
        raise DatasetError(
            f"{spec}: takes PyTorch Geometric (pip install torch_geometric): {error}"
        ) from None
    known = {each.lower(): each for each in datasets.__all__}
    if name.lower() not in known:
        hint = did_you_mean(name, datasets.__all__, _FORM)
        raise DatasetError(f"{spec}: PyG has no data set {name!r}; {hint}")
    return getattr(datasets, known[name.lower()])


def _parameters(cls: Any) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {
        p.name: p for p in list(parameters)[1:] if p.name not in _OWN and p.kind != p.VAR_KEYWORD
    }


def _downloads(cls: Any) -> bool:
    """Whether a data set class overrides `download`."""
    return any("download" in vars(base) for base in cls.__mro__ if base.__name__ not in _BASES)


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty


def _literal(text: str) -> Any:
    """Convert True, None and numbers; other texts stay."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, bool | int | float) or value is None else text


def _documentation(cls: Any, key: str) -> str:
    """Return what the docstring says of an argument."""
    text = inspect.getdoc(cls) or ""
    found = re.search(
        rf"^ {{4}}{key} \(.*?(?=^ {{4}}\w+ \(|^\S|\Z)", text, re.MULTILINE | re.DOTALL
    )
    return found.group(0) if found else ""


def _known_values(cls: Any, key: str) -> list[str]:
    """Return the texts that an argument may be, by the docstring."""
    quoted = re.findall(r':obj:`"([^"`]+)"`', _documentation(cls, key))
    if key != "name":  # what is said of some names there
        quoted = [text for text in quoted if text not in _known_values(cls, "name")]
    if not quoted and key == "name":
        names = getattr(cls, "names", None) or getattr(cls, "available_datasets", None) or ()
        quoted = [name for name in names if isinstance(name, str)]
    return list(dict.fromkeys(quoted))


def _homogeneous(spec: str, graphs: Any) -> Any:
    """Refuse graphs with several types of nodes."""
    first = graphs[0]
    if type(first).__name__ == "HeteroData":
        raise DatasetError(
            f"{spec}: its nodes and edges are of several types, which graphnorms does not compare"
        )
    if getattr(first, "y", None) is None:
        raise DatasetError(
            f"{spec}: its graphs have no y (they have {some(first.keys())}); graphnorms predicts "
            "targets of graphs or nodes, and no links"
        )
    return graphs


def _snapshots(graphs: Any) -> Tensor | None:
    """Return the part of each node where there are three graphs, one per part, with a `mask` each
    of the nodes that count (inductive GraphLand)."""
    if len(graphs) != 3 or not all(isinstance(getattr(g, "mask", None), Tensor) for g in graphs):
        return None
    return torch.cat([torch.where(graph.mask, part, -1) for part, graph in enumerate(graphs)])


def _remove_empty(folder: Path, stop: Path) -> None:
    """Remove a folder that PyG made for a download, and its parents below `stop`, if empty."""
    with contextlib.suppress(OSError):
        while folder != stop and stop in folder.parents:
            if folder.is_dir():
                folder.rmdir()
            folder = folder.parent


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide PyG's messages on downloads and processing."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
