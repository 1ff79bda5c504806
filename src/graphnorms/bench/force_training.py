"""A training step of an equivariant model of energies and forces, with ours and fairchem's norms.

In a loss that holds forces a gradient is differentiated again, so that a norm runs four times a
step: forward, backward, and the backward of both. The step is that of small molecules: 32 of
20 atoms with 12 neighbours each, two blocks of 128 channels to degree 2, five norms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.bench.number_checks import Check, relative_error
from graphnorms.bench.results import Case
from graphnorms.bench.session import Session, circumstances
from graphnorms.bench.timing import in_turn
from graphnorms.layers.equivariant import EquivariantRMSNorm
from graphnorms.models import ForceModel, ForceModelConfig
from graphnorms.segments import Segments
from graphnorms.testing import tolerance

OURS: Final = "EquivariantRMSNorm"
PLAIN: Final = "fairchem's formula"
NONE: Final = "no norm"

_FORCES: Final = 10.0
_CUTOFF: Final = 5.0


class PlainRMSNorm(nn.Module):
    """`rms_norm_sh` in plain torch, as fairchem computes it: the rival of `EquivariantRMSNorm`.

    Shapes: `x` and the result `(nodes, (lmax + 1)², channels)`.

    Args:
        norm: Whose parameters it shares.

    Source: `EquivariantRMSNormArraySphericalHarmonicsV2` of fairchem-core 2.24.0.
    """

    degree: Tensor
    balance: Tensor

    def __init__(self, norm: EquivariantRMSNorm) -> None:
        super().__init__()
        self.affine_weight, self.affine_bias = norm.affine_weight, norm.affine_bias
        self.eps = norm.eps
        degrees = torch.arange(norm.lmax + 1, device=self.affine_weight.device)
        degree = torch.repeat_interleave(degrees, 2 * degrees + 1)
        balance = 1 / ((2 * degree + 1) * (norm.lmax + 1)).to(self.affine_weight.dtype)
        self.register_buffer("degree", degree)
        self.register_buffer("balance", balance)

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        """Normalize `x`."""
        scalars = x[:, :1]
        centred = torch.cat((scalars - scalars.mean(2, keepdim=True), x[:, 1:]), 1)
        power = torch.einsum("nkc,k->nc", centred.square(), self.balance)
        scale = (power.mean(1) + self.eps).pow(-0.5)[:, None, None]
        y = centred * (scale * self.affine_weight[self.degree])
        return torch.cat((y[:, :1] + self.affine_bias, y[:, 1:]), 1)


@dataclass(frozen=True)
class Molecules:
    """Random molecules of equal size with energies and forces to learn.

    Args:
        z, pos: Atomic numbers and positions.
        edge_index: The nearest pairs of each molecule, both directions.
        segments: The molecule of each atom.
        energy, force: What to learn.
    """

    z: Tensor
    pos: Tensor
    edge_index: Tensor
    segments: Segments
    energy: Tensor
    force: Tensor

    @classmethod
    def drawn(cls, number: int, atoms: int, neighbours: int, place: torch.device) -> Molecules:
        """Draw molecules; an atom has so many neighbours on average."""
        draw = torch.Generator().manual_seed(0)
        pos = torch.randn(number, atoms, 3, generator=draw, dtype=torch.float64) * 1.5
        one, other = torch.triu_indices(atoms, atoms, 1)
        distance = (pos[:, one] - pos[:, other]).norm(dim=2)
        nearest = distance.topk(atoms * neighbours // 2, largest=False).indices
        first = atoms * torch.arange(number).unsqueeze(1)
        ends = torch.stack([(side[nearest] + first).flatten() for side in (one, other)])
        return cls(
            z=torch.randint(1, 10, (number * atoms,), generator=draw).to(place),
            pos=pos.flatten(0, 1).to(place),
            edge_index=torch.cat((ends, ends.flip(0)), 1).to(place),
            segments=Segments.from_counts(torch.full((number,), atoms, device=place)),
            energy=torch.randn(number, 1, generator=draw).to(place),
            force=torch.randn(number * atoms, 3, generator=draw).to(place),
        )

    def gradients(self, model: ForceModel) -> list[Tensor]:
        """Return the loss of a step, and its gradients by all parameters."""
        pos = self.pos.clone().requires_grad_()
        energy = model(self.z, pos, self.edge_index, self.segments)
        (slope,) = torch.autograd.grad(energy.sum(), pos, create_graph=True)
        loss = (energy - self.energy).square().mean()
        loss = loss + _FORCES * (slope + self.force).square().mean()
        parameters = list(model.parameters())
        return [loss.detach(), *torch.autograd.grad(loss, parameters, allow_unused=True)]


def measure_training(session: Session) -> Iterator[Case]:
    """Time training steps of a model with our norm, with fairchem's formula, and without a norm.

    Raises:
        WrongNumbersError: Loss or gradients with our norm differ from those with the formula.
    """
    settings = session.settings
    if settings.norms or settings.shape is not None:
        return
    sizes = (4, 6, 3, 8) if settings.quick else (32, 20, 12, 128)
    number, atoms, neighbours, channels = sizes
    given = Molecules.drawn(number, atoms, neighbours, torch.device(settings.device))
    for threads, dtype in settings.circumstances():
        if dtype not in (torch.float32, torch.float64):
            continue
        models = {name: _model(name, channels).to(given.z.device, dtype) for name in (OURS, NONE)}
        models[PLAIN] = _in_plain_torch(models[OURS], channels)
        session.checks.append(_check(given, models).require())
        steps = {name: _step(given, model) for name, model in models.items()}
        values = in_turn(steps, settings.rounds, settings.device)
        title = (
            f"training step, equivariant model of 2 blocks, degree 2, {channels} channels; "
            f"{number} molecules of {atoms} atoms; {circumstances(dtype, threads)}"
        )
        session.say(f"{title}: done")
        about = {
            "dtype": str(dtype).removeprefix("torch."),
            "threads": threads,
            "molecules": number,
            "atoms": atoms,
            "channels": channels,
        }
        yield Case(title, about, "seconds", values, (PLAIN,))


def _model(name: str, channels: int) -> ForceModel:
    config = ForceModelConfig(name="equivariant", layers=2, hidden=channels, cutoff=_CUTOFF)
    return ForceModel(config, "none" if name == NONE else "rms", seed=0)


def _in_plain_torch(model: ForceModel, channels: int) -> ForceModel:
    """Build the same model with fairchem's formula in the place of every `EquivariantRMSNorm`."""
    other = _model(PLAIN, channels).to(model.head.weight.device, model.dtype)
    other.load_state_dict(model.state_dict())
    for module in list(other.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, EquivariantRMSNorm):
                setattr(module, name, PlainRMSNorm(child))
    return other


def _step(given: Molecules, model: ForceModel) -> Callable[[], object]:
    return lambda: given.gradients(model)


def _check(given: Molecules, models: dict[str, ForceModel]) -> Check:
    """Compare loss and gradients with our norm to those with the formula."""
    ours, plain = (given.gradients(models[name]) for name in (OURS, PLAIN))
    error = max(
        relative_error(one, other.double(), 1e-3)
        for one, other in zip(ours, plain, strict=True)
        if one is not None
    )
    dtype = models[OURS].dtype
    # Gradients of parameters are sums over all rows, of derivatives of derivatives.
    allowed = 100 * tolerance(dtype, given.z.shape[0])
    name = str(dtype).removeprefix("torch.")
    return Check(f"{OURS}, training step", PLAIN, name, error, allowed)
