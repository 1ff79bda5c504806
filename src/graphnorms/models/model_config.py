"""The configuration of models, and named presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from graphnorms.errors import unknown_name
from graphnorms.layers.factory import lookup
from graphnorms.layers.own_norm import OwnNorm
from graphnorms.layers.spec import parse_spec
from graphnorms.models.norm_slot import check_sizes, order_of

MODELS: Final = ("gin", "gcn", "gine")
READOUTS: Final = ("sum", "mean", "max")
DROPOUTS: Final = ("features", "logits")
HEADS: Final = ("graph", "node")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture of a GCN, GIN or GINE, apart from its normalization.

    Args:
        name: `"gin"`, `"gcn"`, or `"gine"`, which is GIN with edge features.
        layers: Number of convolutions.
        hidden: Channels of every hidden layer.
        self_weight: GIN and GINE: the weight 1 + ε of the node itself in the aggregation.
        residual: Whether every convolution except the first adds its input to its result.
        readout: The pooling of a graph's nodes: `"sum"`, `"mean"` or `"max"`.
        dropout: Dropout probability at the end of the model.
        dropout_on: Dropout on the `"features"`, the input of the last Linear, or on the `"logits"`,
            its output.
        norm_eps: ε by the catalogue name of a normalization; others, and those with `eps` in their
            text, use the default of their layer.
        norm_place: `"before-activation"`, directly after W and Q, or `"after-activation"`.
        residual_place: Whether the residual is added `"after-norm"` or `"before-norm"`.
        head: `"graph"`: one output per graph; `"node"`: one per node, without a readout.

    Raises:
        ValueError: A value is unknown, out of range or of a wrong type.
    """

    name: str
    layers: int = 4
    hidden: int = 64
    self_weight: float = 1.0
    residual: bool = False
    readout: str = "sum"
    dropout: float = 0.5
    dropout_on: str = "features"
    norm_eps: Mapping[str, float] = field(default_factory=dict, hash=False)
    norm_place: str = "before-activation"
    residual_place: str = "after-norm"
    head: str = "graph"

    def __post_init__(self) -> None:
        for kind, given, known in (
            ("model", self.name, MODELS),
            ("readout", self.readout, READOUTS),
            ("dropout_on", self.dropout_on, DROPOUTS),
            ("head", self.head, HEADS),
        ):
            if given not in known:
                raise unknown_name(kind, given, known)
        order_of(self.norm_place, self.residual_place)
        check_sizes(layers=self.layers, hidden=self.hidden)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected a number from 0 to below 1")
        if not isinstance(self.norm_eps, Mapping):
            raise ValueError(
                f"norm_eps is {self.norm_eps}, expected ε by norm, as in {{'graph': 1e-6}}"
            )
        for norm in self.norm_eps:
            lookup(norm)

    def eps_of(self, norm: str | OwnNorm) -> float | None:
        """Return ε of a normalization; None for the default of its layer."""
        return None if isinstance(norm, OwnNorm) else self.norm_eps.get(parse_spec(norm)[0])

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-able data; `ModelConfig(**data)` reads it back."""
        return asdict(self)


# GIN as in the GraphNorm authors' code: (1 + eps) x + the neighbours on a graph with added self
# loops, so that a node counts twice (eps = 0). Its GraphNorm has ε 1e-6, its BatchNorm is torch's.
_PAPER_EPS: Final = {"graph": 1e-6}
_PAPER: Final = {
    "gin": ModelConfig(
        name="gin", self_weight=2.0, residual=True, dropout_on="logits", norm_eps=_PAPER_EPS
    ),
    "gcn": ModelConfig(name="gcn", residual=True, dropout_on="logits", norm_eps=_PAPER_EPS),
}
_PRESETS: Final = {
    "default": {name: ModelConfig(name=name) for name in MODELS},
    "graphnorm-paper": _PAPER,
}
PRESETS: Final = tuple(_PRESETS)


def preset_models(name: str) -> tuple[str, ...]:
    """Return the names of the models of a preset.

    Raises:
        ValueError: There is no such preset.
    """
    if name not in _PRESETS:
        raise unknown_name("preset", name, _PRESETS)
    return tuple(_PRESETS[name])


def preset(model: str, name: str = "default", *, node_labels: bool = True) -> ModelConfig:
    """Return the named preset of a model.

    `"default"`: four convolutions of 64 channels, sum readout, dropout before the last Linear.
    `"graphnorm-paper"`: as the authors of GraphNorm trained them (Cai et al. 2021; `gnn_ws` of
    lsj2408/GraphNorm at 182d10a): residual connections except at the first convolution, dropout on
    the logits, ε 1e-6 in GraphNorm (1e-5 in BatchNorm), double weight of the node itself in GIN;
    mean readout if nodes have no labels (social graphs), else sum (molecules and proteins). They
    trained no GINE.

    Args:
        model: `"gin"`, `"gcn"` or `"gine"`.
        name: `"default"` or `"graphnorm-paper"`.
        node_labels: Whether the nodes have labels or attributes.

    Raises:
        ValueError: There is no such model or preset, or the preset has no such model.
    """
    if model not in MODELS:
        raise unknown_name("model", model, MODELS)
    if name not in _PRESETS:
        raise unknown_name("preset", name, _PRESETS)
    if model not in _PRESETS[name]:
        raise ValueError(
            f"the preset {name!r} has no {model}, expected {' or '.join(_PRESETS[name])}"
        )
    config = _PRESETS[name][model]
    if name == "graphnorm-paper" and not node_labels:
        return replace(config, readout="mean")
    return config
