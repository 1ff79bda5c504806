"""Internal covariate shift: how a layer's gradient changes when the layers below are updated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.probes.state import Loss, Snapshot, layers_of, objective


@dataclass(frozen=True, slots=True)
class LayerShift:
    r"""How the gradient of one layer changed.

    Args:
        difference: $\lVert G - G' \rVert_2$, the internal covariate shift of the layer.
        cosine: The cosine of the angle between $G$ and $G'$; NaN where one of them is 0.
        before: $\lVert G \rVert_2$.
        after: $\lVert G' \rVert_2$.
    """

    difference: float
    cosine: float
    before: float
    after: float

    @property
    def relative(self) -> float:
        r"""$\lVert G - G' \rVert / \lVert G \rVert$; NaN where $G$ is 0."""
        return self.difference / self.before if self.before else math.nan


def covariate_shift(
    model: nn.Module,
    loss: Loss,
    step: Callable[[], object],
    layers: Sequence[str] | None = None,
) -> dict[str, LayerShift]:
    r"""Take a step of training, and measure the internal covariate shift that it brings.

    With $W_1 \dots W_k$ the parameters of the layers from the input to the output, $t$ before
    the step and $t + 1$ after it, both gradients on the same batch,

    $$ G_i = \nabla_{W_i} L(W_1^{t}, \dots, W_k^{t}), \qquad
       G'_i = \nabla_{W_i} L(W_1^{t+1}, \dots, W_{i-1}^{t+1}, W_i^{t}, \dots, W_k^{t}). $$

    $\lVert G_i - G'_i \rVert$ is what the layers below $i$ did to the gradient of layer $i$ by
    being updated at the same time. For the first layer it is 0.

    The step is taken as if nothing were measured: afterwards parameters, buffers, optimizer and
    random numbers are what `step` alone would have left. Costs one gradient per layer, and one
    more.

    Args:
        model: The model.
        loss: Computes its loss on the batch of this step.
        step: Trains it on that batch: gradients, and the optimizer's step.
        layers: Names of modules from the input to the output, each with all parameters inside
            it; `None` for every module that has parameters, in the order in which they were
            assigned. Parameters outside all of them count as above the last one.

    Returns:
        By the name of the layer, from the input to the output.

    Raises:
        ValueError: A layer is unknown, has no learned parameters, or shares them with a layer
            before it; or `loss` does not return one number that depends on the parameters.

    Source: Santurkar et al. 2018, definition 2.1, https://arxiv.org/abs/1805.11604.
    """
    parts = _parts(model, layers)
    found = {}
    with objective(model, loss) as at:
        before = at.split(at.gradient()[1])
        at.start.restore()
        step()
        moved = Snapshot.take(model)
        new = {name: p.detach().clone() for name, p in at.parameters.items()}
        below: list[str] = []
        for layer, names in parts.items():
            at.start.restore()
            for name in below:
                at.parameters[name].data.copy_(new[name])
            after = at.split(at.derivative(at.here()))
            found[layer] = _shift([before[name] for name in names], [after[name] for name in names])
            below.extend(names)
    moved.restore()
    return found


def _shift(before: Sequence[Tensor], after: Sequence[Tensor]) -> LayerShift:
    g = torch.cat([part.reshape(-1) for part in before])
    moved = torch.cat([part.reshape(-1) for part in after])
    norm, moved_norm, difference = (
        float(torch.linalg.vector_norm(vector)) for vector in (g, moved, g - moved)
    )
    product = norm * moved_norm
    return LayerShift(
        difference=difference,
        cosine=float(g @ moved) / product if product else math.nan,
        before=norm,
        after=moved_norm,
    )


def _parts(model: nn.Module, layers: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """The parameters of each layer, by the name of the layer."""
    if layers is None:
        return layers_of(model)
    known = [name for name, _ in model.named_modules() if name]
    learned = [name for name, p in model.named_parameters() if p.requires_grad]
    taken: set[str] = set()
    parts = {}
    for layer in layers:
        if layer not in known:
            raise unknown_name("layer", layer, known)
        names = tuple(name for name in learned if name.startswith(f"{layer}."))
        if not names:
            raise ValueError(f"the layer {layer!r} has no learned parameters; leave it out")
        if taken.intersection(names):
            raise ValueError(
                f"the layer {layer!r} shares parameters with a layer before it; name each once"
            )
        taken.update(names)
        parts[layer] = names
    return parts
