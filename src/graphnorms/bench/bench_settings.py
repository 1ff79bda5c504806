"""What is measured: shapes, dtypes, threads and rounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor

from graphnorms.errors import unknown_name
from graphnorms.kernels.point import ACTIVATIONS, Point
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.custom_norm import CustomNorm
from graphnorms.layers.factory import lookup
from graphnorms.layers.normalization import Normalization
from graphnorms.training import threads

DTYPES: Final = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True)
class Shape:
    """Features of so many rows and channels, in so many graphs.

    Args:
        name: What tables call it.
        rows, channels, graphs: The sizes.
        even: Whether all graphs have the same number of rows; else they vary about 3-fold.

    Raises:
        ValueError: A size is not positive, or there are more graphs than rows.
    """

    name: str
    rows: int
    channels: int
    graphs: int
    even: bool = False

    def __post_init__(self) -> None:
        for kind in ("rows", "channels", "graphs"):
            if getattr(self, kind) < 1:
                raise ValueError(f"{kind} is {getattr(self, kind)}, expected a positive number")
        if self.graphs > self.rows:
            raise ValueError(f"{self.graphs} graphs in {self.rows} rows, expected a row for each")

    def __str__(self) -> str:
        graphs = f"{self.graphs} graph{'s' * (self.graphs > 1)}"
        return f"{self.name}: {self.rows} × {self.channels}, {graphs}"

    def batch(self, device: torch.device | str = "cpu") -> Tensor:
        """Return the graph of every row, ascending, int64, `(rows,)`."""
        weight = torch.ones(self.graphs, dtype=torch.float64)
        if not self.even:
            generator = torch.Generator().manual_seed(0)
            weight = torch.rand(self.graphs, generator=generator, dtype=torch.float64) + 0.3
        # Every graph gets one row, and its share of the others; rounding the bounds instead of
        # the counts makes the counts add up.
        bounds = (weight.cumsum(0) / weight.sum() * (self.rows - self.graphs)).round().long()
        counts = bounds.diff(prepend=bounds.new_zeros(1)) + 1
        return torch.repeat_interleave(torch.arange(self.graphs), counts).to(device)


LARGE: Final = Shape("large", 35110, 128, 1024)
MEDIUM: Final = Shape("medium", 3000, 64, 128)
SMALL: Final = Shape("small", 50, 16, 4)
ONE_GRAPH: Final = Shape("one graph", 10**6, 16, 1)
TINY_GRAPHS: Final = Shape("tiny graphs", 3 * 10**5, 16, 10**5, even=True)

SHAPES: Final = (LARGE, MEDIUM, SMALL, ONE_GRAPH, TINY_GRAPHS)
QUICK_SHAPES: Final = (
    Shape("large", 300, 8, 10),
    Shape("medium", 60, 8, 5),
    Shape("small", 20, 4, 3),
    Shape("one graph", 200, 4, 1),
    Shape("tiny graphs", 60, 4, 20, even=True),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a benchmark is run.

    Args:
        threads: Numbers of threads, each measured in turn.
        dtypes: Names of the dtypes of the features, each measured in turn.
        shape: A shape of your own in place of the benchmark's.
        rounds: How often every contender is timed.
        norms: Catalogue names of the layers; empty for the benchmark's own choice.
        activations: What is fused behind each layer, each in turn: `"none"` or a name of
            `graphnorms.kernels.point.ACTIVATIONS`.
        device: Where to, e.g. `"cpu"` or `"cuda:0"`.
        compiled: Whether PyG's layers compete compiled as well.
        data: Names or paths of sets to train on in place of generated ones, for `size`.
        quick: Tiny sizes, to try the benchmark out.
        beside: The Python of another installation of graphnorms, which is timed in the same turns.

    Raises:
        ValueError: A name is unknown, or a number is not positive.
    """

    threads: tuple[int, ...] = (1,)
    dtypes: tuple[str, ...] = ("float32",)
    shape: Shape | None = None
    rounds: int = 25
    norms: tuple[str, ...] = ()
    activations: tuple[str, ...] = ("none", "relu")
    device: str = "cpu"
    compiled: bool = True
    data: tuple[str, ...] = ()
    quick: bool = False
    beside: str = ""

    def __post_init__(self) -> None:
        for number in (*self.threads, self.rounds):
            if number < 1:
                raise ValueError(f"threads or rounds is {number}, expected a positive number")
        for dtype in self.dtypes:
            if dtype not in DTYPES:
                raise unknown_name("dtype", dtype, DTYPES)
        for norm in self.norms:
            if needs := lookup(norm).needs:
                raise ValueError(
                    f"the norm {norm!r} needs {', '.join(needs)}: only those that take features "
                    "and graphs alone are timed"
                )
        fused = [name or "none" for name in ACTIVATIONS]
        for activation in self.activations:
            if activation not in fused:
                raise unknown_name("activation", activation, fused)

    @property
    def standard(self) -> bool:
        """Whether the sizes are the benchmark's own, so that results can stand side by side."""
        return self.shape is None and not (self.quick or self.norms or self.beside)

    def shapes(self) -> tuple[Shape, ...]:
        """Return what the layers are measured on."""
        if self.shape is not None:
            return (self.shape,)
        return QUICK_SHAPES if self.quick else SHAPES

    def rows_of_catalog(self, *default: str) -> list[Normalization]:
        """Return the normalizations asked for, else the default ones, else those on the kernels.

        Those are the named points of the one equation; what is composed of other
        operations is timed where it is asked for by name.
        """
        on_kernels = [
            name
            for name, row in CATALOG.items()
            if not row.needs and row.point != Point(None, None) and row.layer is not CustomNorm
        ]
        return [lookup(name) for name in self.norms or default or on_kernels]

    def circumstances(self) -> Iterator[tuple[int, torch.dtype]]:
        """Go through every number of threads, set while it is out, and every dtype."""
        for number in self.threads:
            with threads(number):
                for dtype in self.dtypes:
                    yield number, getattr(torch, dtype)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return asdict(self)
