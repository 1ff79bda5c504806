"""Norms of features that rotate, beside the layers of e3nn and fairchem that they replace."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from graphnorms.bench.bench_settings import Shape
from graphnorms.bench.contenders import Contender
from graphnorms.bench.number_checks import Check, of_energy_and_force, relative_error
from graphnorms.bench.results import Case
from graphnorms.bench.session import Session, circumstances, labels
from graphnorms.bench.timing import force_step, forward, forward_and_backward, in_turn
from graphnorms.layers.equivariant import (
    EquivariantLayerNorm,
    EquivariantRMSNorm,
    IrrepsBatchNorm,
    IrrepsGraphNorm,
)

Make = Callable[[int], nn.Module]
"""Builds a layer for so many channels of every degree, or copies of every irrep."""

LMAX: Final = 2
_EXACT: Final = 1e-9


class Peer(NamedTuple):
    """A layer of another package.

    Args:
        name: What tables call it.
        package: What to install.
        module, layer: Where it is.
        arguments: The arguments of the layer for so many channels.
        twin: The layer here that gives the same numbers.
        others: Layers here to time beside it, by name.
    """

    name: str
    package: str
    module: str
    layer: str
    arguments: Callable[[int], tuple[object, ...]]
    twin: Make
    others: dict[str, Make]

    def make(self, channels: int) -> nn.Module | None:
        """Build the layer; `None` where its package is not installed."""
        if importlib.util.find_spec(self.module.partition(".")[0]) is None:
            return None
        made: nn.Module = getattr(importlib.import_module(self.module), self.layer)(
            *self.arguments(channels)
        )
        return made


def irreps(copies: int) -> str:
    """Write so many copies of every degree, of alternating parity."""
    return "+".join(f"{copies}x{degree}{'eo'[degree % 2]}" for degree in range(LMAX + 1))


_FAIRCHEM: Final = ("fairchem-core", "fairchem.core.models.uma.nn.layer_norm")
PEERS: Final = (
    Peer(
        "e3nn BatchNorm",
        "e3nn",
        "e3nn.nn",
        "BatchNorm",
        lambda copies: (irreps(copies),),
        lambda copies: IrrepsBatchNorm(irreps(copies)),
        {"IrrepsGraphNorm": lambda copies: IrrepsGraphNorm(irreps(copies))},
    ),
    Peer(
        "fairchem rms_norm_sh",
        *_FAIRCHEM,
        "EquivariantRMSNormArraySphericalHarmonicsV2",
        lambda channels: (LMAX, channels),
        lambda channels: EquivariantRMSNorm(channels, LMAX),
        {},
    ),
    Peer(
        "fairchem layer_norm_sh",
        *_FAIRCHEM,
        "EquivariantLayerNormArraySphericalHarmonics",
        lambda channels: (LMAX, channels),
        lambda channels: EquivariantLayerNorm(channels, LMAX, degrees="scalars-and-rest"),
        {},
    ),
)


def measure(session: Session, shapes: tuple[Shape, ...]) -> Iterator[Case]:
    """Time forward, forward with backward, and a force step, of `shape.channels` of every degree.

    Raises:
        WrongNumbersError: A layer gives other numbers than the one it replaces.
    """
    settings = session.settings
    for peer, (threads, dtype) in itertools.product(PEERS, settings.circumstances()):
        if peer.make(1) is None:
            session.note(f"{peer.name} left out: pip install {peer.package}")
            continue
        session.checks.append(_check(peer))
        for shape in shapes:
            contenders = _contenders(peer, shape, dtype, settings.device)
            x, *cotangents = _rows(peer, shape.rows, shape.channels, 4)
            x, *cotangents = (t.to(settings.device, dtype) for t in (x, *cotangents))
            passes: dict[str, dict[str, Callable[[], object]]] = {
                "forward": {c.name: forward(c, x) for c in contenders},
                "forward + backward": {
                    c.name: forward_and_backward(c, x, cotangents[0]) for c in contenders
                },
                "force step": {c.name: force_step(c, x, cotangents) for c in contenders},
            }
            for name, actions in passes.items():
                values = in_turn(actions, settings.rounds, settings.device)
                title = f"beside {peer.name}, {shape}, degrees 0 to {LMAX}"
                title = f"{title}; {circumstances(dtype, threads)}; {name}"
                session.say(f"{title}: done")
                about = {**labels(shape, dtype, threads), "peer": peer.name, "pass": name}
                yield Case(title, about, "seconds", values, (peer.name,), x.numel())


def _contenders(peer: Peer, shape: Shape, dtype: torch.dtype, device: str) -> list[Contender]:
    theirs = peer.make(shape.channels)
    assert theirs is not None
    theirs = theirs.to(device, dtype)
    contenders = [Contender(peer.name, theirs, theirs)]
    batch = shape.batch(device)
    twin = peer.twin(shape.channels)
    others = {name: make(shape.channels) for name, make in peer.others.items()}
    for name, layer in {type(twin).__name__: twin, **others}.items():
        made = layer.to(device, dtype)

        def call(x: Tensor, layer: nn.Module = made) -> Tensor:
            y: Tensor = layer(x, batch, shape.graphs)
            return y

        contenders.append(Contender(name, call, made))
    return contenders


def _rows(peer: Peer, rows: int, channels: int, count: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    components = (LMAX + 1) ** 2
    flat = peer.package == "e3nn"
    size = (rows, components * channels) if flat else (rows, components, channels)
    return (torch.randn(size, generator=generator) for _ in range(count))


def _check(peer: Peer) -> Check:
    """Compare energies' and forces' gradients with the peer's in float64.

    Raises:
        WrongNumbersError: They differ.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of the tables that theirs makes
    try:
        twin, theirs = peer.twin(4), peer.make(4)
        assert theirs is not None
        tensors = [t.double() for t in _rows(peer, 12, 4, 4)]
        found = [
            of_energy_and_force(layer, list(layer.parameters()), tensors[0], tensors[1:])
            for layer in (twin, theirs)
        ]
    finally:
        torch.set_default_dtype(before)
    error = max(relative_error(one, other) for one, other in zip(*found, strict=True))
    return Check(type(twin).__name__, peer.name, "float64", error, _EXACT).require()
