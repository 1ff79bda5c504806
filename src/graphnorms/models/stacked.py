"""Several GNNs of one architecture at once: their channels stand side by side."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.kernels import aggregate
from graphnorms.layers.batch_norm import BatchNorm
from graphnorms.layers.factory import lookup
from graphnorms.layers.graph_norm import GraphNorm
from graphnorms.layers.graph_size_norm import GraphSizeNorm
from graphnorms.layers.identity import Identity
from graphnorms.layers.instance_norm import InstanceNorm
from graphnorms.layers.mean_subtraction_norm import MeanSubtractionNorm
from graphnorms.layers.norm_of_groups import NormOfGroups
from graphnorms.layers.pair_norm import PairNorm
from graphnorms.models.config import ModelConfig
from graphnorms.models.convolutions import GCNConv, GINConv, GINEConv
from graphnorms.models.gnn import GNN
from graphnorms.models.initialize import seed_draws
from graphnorms.models.readout import readout
from graphnorms.models.slot import GraphContext, NormSlot
from graphnorms.segments import Segments

_PER_CHANNEL: Final = (
    BatchNorm, GraphNorm, GraphSizeNorm, Identity, InstanceNorm, MeanSubtractionNorm,
)  # fmt: skip
"""Layers that treat every channel by itself: K of them are one of K times the channels."""

_OF_GROUPS: Final = (NormOfGroups, PairNorm)
"""Layers whose statistics are of groups of channels: K of them are one of K times the groups."""

_RANDOM: Final = frozenset({"granola"})


def is_stackable(norm: str) -> bool:
    """Whether models with this norm can be stacked: not if it draws random numbers at each call.

    Those would be the numbers of another model.
    """
    return lookup(norm).name.partition(":")[0] not in _RANDOM


class StackedGNN(nn.Module):
    r"""K models of one architecture, computed at once.

    Features are `(nodes, K · hidden)`: the batch, aggregation and readout are one call for all
    channels. *Merged*, a Linear is one product of K matrices, too, and norms that treat every
    channel by itself are one layer of all channels of the models that have it; those that take
    the channels of a model together are one of as many groups. Others run model by model. What is
    computed is what the models compute by themselves, up to rounding. Not merged, Linears and
    norms run model by model, and give the same bits.

    The parameters are those of the models. Running statistics of merged norms are written into
    the models by `write_back`.

    Args:
        models: The models; those with the same norm should stand next to each other.
        norms: Their normalizations as text.
        merged: Whether to merge Linears and norms, which saves launches on a GPU.

    Attributes:
        dropout_seeds: What each model's dropout draws from; read by each call in training.

    Raises:
        ValueError: There are none, they have different architectures, or a norm draws random
            numbers.
    """

    def __init__(self, models: Sequence[GNN], norms: Sequence[str], *, merged: bool) -> None:
        super().__init__()
        shapes = {
            (model.config, model.in_channels, model.out_channels, model.edge_channels)
            for model in models
        }
        if len(shapes) != 1:
            raise ValueError(
                f"models has {len(models)} models of {len(shapes)} architectures, expected one"
            )
        for norm in norms:
            if not is_stackable(norm):
                raise ValueError(f"the norm {norm!r} draws random numbers, and cannot be stacked")
        self.models = list(models)
        self.merged = merged
        self.dropout_seeds: Sequence[int] = [0] * len(models)
        self._registered = nn.ModuleList(models)
        self.config = models[0].config
        self.needs = {need for model in models for need in model.needs}
        convolutions = [list(model.convolutions) for model in models]
        self._layers: list[list[Any]] = [list(layer) for layer in zip(*convolutions, strict=True)]
        self._slots: dict[str, _StackedSlot] = {}
        for layer, several in enumerate(self._layers):
            for name in ("norm", "norm2"):
                if hasattr(several[0], name):
                    slots = [getattr(convolution, name) for convolution in several]
                    self._slots[f"{layer}-{name}"] = _StackedSlot(
                        slots, norms, self.config, merged=merged
                    )
        self._registered_slots = nn.ModuleList(self._slots.values())

    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        segments: Segments,
        edge_features: Tensor | None = None,
        factors: Tensor | None = None,
    ) -> Tensor:
        """Return the logits of all models, `(K, graphs, out_channels)`, or `(K, nodes, …)`.

        Args:
            x, adjacency, segments, edge_features, factors: Those of `GNN.forward`.
        """
        config, count = self.config, len(self.models)
        context = GraphContext(
            adjacency, segments,
            types=x.argmax(1) if "types" in self.needs else None,
            condition=readout(x, segments, "mean") if "condition" in self.needs else None,
            factors=factors,
            edge_features=edge_features,
        )  # fmt: skip
        for layer, several in enumerate(self._layers):
            residual = x if config.residual and layer else None
            if config.name == "gcn":
                x = self._gcn(layer, several, x, context, residual)
            else:
                x = self._gin(layer, several, x, context, residual)
        if config.head == "graph":
            x = readout(x, segments, config.readout)
        x = x.unflatten(1, (count, -1))  # (items, K, hidden)
        if config.dropout_on == "features":
            x = self._dropped(x)
        logits = self._linear([model.head for model in self.models], x)
        if config.dropout_on == "logits":
            logits = self._dropped(logits)
        return logits.transpose(0, 1)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the models."""
        return self.models[0].dtype

    def write_back(self) -> None:
        """Write the running statistics of merged norms into the models."""
        for slot in self._slots.values():
            slot.write_back()

    def _gin(
        self, layer: int, several: list[GINConv | GINEConv], x: Tensor, context: GraphContext,
        residual: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """GIN and GINE, see `GINConv` and `GINEConv`."""
        count, source = len(several), x
        weight = several[0].self_weight
        of_edges = [each.edge_linear for each in several if isinstance(each, GINEConv)]
        if of_edges:
            if context.edge_features is None:
                raise ValueError("GINE needs features of the edges, and the graphs have none")
            edges = self._linear(of_edges, context.edge_features)
            every = x if layer else x.repeat(1, count)
            x = aggregate(
                every, context.adjacency, self_weight=weight, edge_features=edges.flatten(1)
            ).unflatten(1, (count, -1))
        else:
            x = aggregate(x, context.adjacency, self_weight=weight)
            x = x.unflatten(1, (count, -1)) if layer else x
        x = self._linear([each.linear for each in several], x).flatten(1)
        x = self._slots[f"{layer}-norm"](x, context, source, None, shared=not layer)
        x = self._linear([each.linear2 for each in several], x.unflatten(1, (count, -1))).flatten(1)
        y: Tensor = self._slots[f"{layer}-norm2"](x, context, source, residual, shared=not layer)
        return y

    def _gcn(
        self, layer: int, several: list[GCNConv], x: Tensor, context: GraphContext,
        residual: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """GCN, see `GCNConv`."""
        source, adjacency = x, context.adjacency
        scale = torch.rsqrt(adjacency.in_degree.to(x.dtype) + 1)
        x = x.unflatten(1, (len(several), -1)) if layer else x
        x = self._linear([each.linear for each in several], x).flatten(1)
        x = aggregate(x, adjacency, self_weight=1.0, node_scale=scale)
        # One by one where bits count: a sum over the rows of a wider tensor rounds otherwise.
        biases = [each.bias.to(x.dtype) for each in several]
        if self.merged:
            x = x + torch.cat(biases)
        else:
            parts = _apart(x, len(several))
            x = _beside([part + bias for part, bias in zip(parts, biases, strict=True)])
        y: Tensor = self._slots[f"{layer}-norm"](x, context, source, residual, shared=not layer)
        return y

    def _linear(self, layers: Sequence[nn.Linear], x: Tensor) -> Tensor:
        """Apply one Linear per model to its rows, or to those of all: `(rows, K, out)`.

        Args:
            layers: One of each model.
            x: `(rows, K, in)`, or `(rows, in)` for all models.
        """
        if not self.merged:
            parts = [x] * len(layers) if x.dim() == 2 else _apart(x.flatten(1), len(layers))
            results = [layer(part) for layer, part in zip(layers, parts, strict=True)]
            together: Tensor = _beside(results).unflatten(1, (len(layers), -1))
            return together
        weight = torch.stack([layer.weight for layer in layers])  # (K, out, in)
        biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
        bias = torch.stack(biases) if biases else None  # (K, out)
        if x.dim() == 2:
            y = F.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
            return y.view(-1, *weight.shape[:2])
        x, weight = x.transpose(0, 1), weight.transpose(1, 2)
        y = x @ weight if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight)
        return y.transpose(0, 1)

    def _dropped(self, x: Tensor) -> Tensor:
        """Drop entries of `(items, K, channels)`, those that each model drops by itself."""
        share = self.config.dropout
        if not self.training or not share:
            return x
        masks: dict[int, Tensor] = {}
        for seed in self.dropout_seeds:
            if seed not in masks:
                seed_draws(x.device, seed)
                masks[seed] = F.dropout(x.new_ones(x.shape[0], x.shape[2]), share)
        return x * torch.stack([masks[seed] for seed in self.dropout_seeds], 1)


class _StackedSlot(nn.Module):
    """The slots of several models at one place.

    Args:
        slots: Those of the models.
        norms: Their normalizations as text.
        config: What they stand in.
        merged: Whether to merge those that treat every channel by itself.
    """

    def __init__(
        self, slots: list[NormSlot], norms: Sequence[str], config: ModelConfig, *, merged: bool
    ) -> None:
        super().__init__()
        self._channels = config.hidden
        self._groups: list[list[NormSlot]] = []
        self._merged = nn.ModuleDict()
        for norm, group in itertools.groupby(zip(norms, slots, strict=True), lambda pair: pair[0]):
            members = [slot for _, slot in group]
            if merged and len(members) > 1 and _is_mergeable(members[0].norm, config.hidden):
                self._merged[str(len(self._groups))] = _merged(norm, members, config)
            self._groups.append(members)

    def forward(
        self, x: Tensor, context: GraphContext, source: Tensor, residual: Tensor | None, *,
        shared: bool,
    ) -> Tensor:  # fmt: skip
        """Normalize `(nodes, K · channels)`, see `NormSlot`.

        Args:
            x, context, source, residual: Of `NormSlot.forward`, the channels of all models.
            shared: Whether `source` is the input of the network, the same for all models.
        """
        sizes = [len(group) * self._channels for group in self._groups]
        parts = x.split(sizes, 1)
        residuals: Sequence[Tensor | None] = [None] * len(sizes)
        if residual is not None:
            residuals = residual.split(sizes, 1)
        sources = [source] * len(sizes) if shared else source.split(sizes, 1)
        results = []
        for number, group in enumerate(self._groups):
            part, added, origin = parts[number], residuals[number], sources[number]
            if str(number) in self._merged:
                results.append(self._all_at_once(number, part, context, added))
            else:
                results += self._one_by_one(group, part, context, origin, added, shared=shared)
        return _beside(results)

    def write_back(self) -> None:
        """Give the models their part of the buffers."""
        for number, merged in self._merged.items():
            group = self._groups[int(number)]
            for name, buffer in merged.named_buffers():
                parts = buffer.chunk(len(group)) if buffer.dim() else [buffer] * len(group)
                for slot, part in zip(group, parts, strict=True):
                    slot.get_buffer(name).copy_(part)

    def _all_at_once(
        self, number: int, x: Tensor, context: GraphContext, residual: Tensor | None
    ) -> Tensor:
        group = self._groups[number]
        names = [name for name, _ in group[0].named_parameters()]
        parameters = {name: torch.cat([s.get_parameter(name) for s in group]) for name in names}
        merged = self._merged[str(number)]
        positions = isinstance(merged.norm, PairNorm)  # which takes groups as a dimension
        if positions:
            x = x.unflatten(1, (len(group), -1))
            residual = None if residual is None else residual.view(x.shape)
        y: Tensor = torch.func.functional_call(
            merged, parameters, (x, context), {"residual": residual}
        )
        return y.flatten(1) if positions else y

    def _one_by_one(
        self, group: list[NormSlot], x: Tensor, context: GraphContext, source: Tensor,
        residual: Tensor | None, *, shared: bool,
    ) -> list[Tensor]:  # fmt: skip
        count = len(group)
        residuals = [None] * count if residual is None else _apart(residual, count)
        sources = [source] * count if shared else _apart(source, count)
        return [
            slot(part, context, source=origin, residual=added)
            for slot, part, origin, added in zip(
                group, _apart(x, count), sources, residuals, strict=True
            )
        ]


def _apart(x: Tensor, count: int) -> list[Tensor]:
    """Return the channels of each model, in memory of their own."""
    return [part.contiguous() for part in x.chunk(count, 1)]


def _beside(parts: Sequence[Tensor]) -> Tensor:
    """Put the channels of several models side by side.

    Their gradients come back in memory of their own: kernels and BLAS may round those of another
    layout otherwise.
    """
    for part in parts:
        if part.requires_grad:
            part.register_hook(Tensor.contiguous)
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), 1)


def _merged(norm: str, slots: list[NormSlot], config: ModelConfig) -> NormSlot:
    """Make one slot of the channels of several; its parameters are given in each call."""
    merged = NormSlot(
        norm, len(slots) * config.hidden, eps=config.eps_of(norm), place=config.norm_place,
        residual_place=config.residual_place,
    )  # fmt: skip
    one, all_of_them = slots[0].norm, merged.norm
    if isinstance(one, NormOfGroups) and isinstance(all_of_them, NormOfGroups):
        all_of_them.num_groups = len(slots) * one.num_groups
    first = next(slots[0].parameters(), None)
    if first is not None:
        merged.to(first.device, first.dtype)
    merged.requires_grad_(False)
    with torch.no_grad():
        for name, buffer in merged.named_buffers():
            parts = [slot.get_buffer(name) for slot in slots]
            buffer.copy_(torch.cat(parts) if buffer.dim() else parts[0])
    return merged


def _is_mergeable(norm: nn.Module, channels: int) -> bool:
    tensors = itertools.chain(norm.parameters(), norm.buffers())
    return isinstance(norm, (*_PER_CHANNEL, *_OF_GROUPS)) and all(
        tensor.shape in ((channels,), ()) for tensor in tensors
    )
