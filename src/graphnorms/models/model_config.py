"""The configuration of models, and named presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from graphnorms.errors import unknown_name
from graphnorms.layers.factory import lookup
from graphnorms.layers.own_norm import OwnNorm
from graphnorms.layers.spec import parse_spec
from graphnorms.models.attention import QK_NORMS
from graphnorms.models.norm_slot import NORM_PLACES, RESIDUAL_PLACES, check_sizes

MODELS: Final = ("gin", "gcn", "gine", "sage", "gat", "gatedgcn", "gps")
EDGE_MODELS: Final = ("gine", "gat", "gatedgcn", "gps")
"""The models that use the features of edges."""
READOUTS: Final = ("sum", "mean", "max")
DROPOUTS: Final = ("features", "logits")
HEADS: Final = ("graph", "node")
BLOCK_PLACES: Final = ("post", "pre", "sandwich")
"""Where the norms of a block stand, around a part and its residual sum."""
RESIDUALS: Final = (*RESIDUAL_PLACES, "rezero", "deepnorm")
SAME: Final = "same"
"""The edge norm that is the norm of the nodes."""

_BLOCKS: Final = ("gps",)
_ATTENTIVE: Final = ("gat", "gps")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture of a model, apart from its normalization.

    Values of `None` or `""` are those of the model; a field that it does not have stays `None`.

    Args:
        name: One of `MODELS`: `"gin"`, `"gcn"`, `"gine"` (GIN with edge features), `"sage"`
            (GraphSAGE), `"gat"`, `"gatedgcn"` or `"gps"`.
        layers: Number of convolutions, or of blocks.
        hidden: Channels of every hidden layer.
        self_weight: GIN, GINE and that in GPS: the weight 1 + ε of the node itself in the
            aggregation.
        train_eps: GIN: whether ε is learned, added to `self_weight` and 0 at first; see
            `graphnorms.models.convolutions.GINEpsilonConv`.
        residual: Whether every convolution except the first adds its input to its result. Default:
            GatedGCN does, the other convolutions do not; the parts of a block always do.
        readout: The pooling of a graph's nodes: `"sum"`, `"mean"` or `"max"`.
        dropout: Dropout probability at the end of the model.
        dropout_on: Dropout on the `"features"`, the input of the last Linear, or on the `"logits"`,
            its output.
        norm_eps: ε by the catalogue name of a normalization; others, and those with `eps` in their
            text, use the default of their layer.
        norm_place: In convolutions `"before-activation"` (default), directly after W and Q, or
            `"after-activation"`. In blocks `"post"` (default), `"pre"` or `"sandwich"`, see
            `graphnorms.models.gps.GPSLayer`.
        residual_place: Whether the residual is added `"after-norm"` or `"before-norm"`; or the kind
            of sum: `"rezero"`, $x + \\alpha F(x)$ with a learned $\\alpha$ that begins at 0, or
            `"deepnorm"`, $\\mathrm{Norm}(a x + F(x))$ with $a = M^{1/4}$ for $M$ sums in the model
            and the weights of $F$ multiplied by $(4M)^{-1/4}$ at first. Default: `"after-norm"`,
            in blocks with post-norm `"before-norm"`.
        head: `"graph"`: one output per graph; `"node"`: one per node, without a readout.
        heads: GAT and GPS: heads of attention, a divisor of `hidden`; default 4.
        qk_norm: GPS: the normalization of queries and keys, `"none"` (default), `"layer"`, `"rms"`
            or `"l2"`; see `graphnorms.models.attention.QKNorm`.
        edge_norm: GatedGCN: the normalization of the edges as text; `"same"` (default) for that of
            the nodes, `"none"` for none.
        layer_dropout: GPS: dropout probability at the end of every part, and within the
            feed-forward network; default 0.
        attention_dropout: GAT and GPS: dropout probability of the attention; default 0.

    Raises:
        ValueError: A value is unknown, out of range, of a wrong type, or not one for this model.

    Source: ReZero: Bachlechner et al. 2020, https://arxiv.org/abs/2003.04887; DeepNorm: Wang et al.
    2022, https://arxiv.org/abs/2203.00555, whose encoder of N layers has M = 2N sums.
    """

    name: str
    layers: int = 4
    hidden: int = 64
    self_weight: float = 1.0
    residual: bool | None = None
    readout: str = "sum"
    dropout: float = 0.5
    dropout_on: str = "features"
    norm_eps: Mapping[str, float] = field(default_factory=dict, hash=False)
    norm_place: str = ""
    residual_place: str = ""
    head: str = "graph"
    heads: int | None = None
    qk_norm: str | None = None
    edge_norm: str | None = None
    layer_dropout: float | None = None
    attention_dropout: float | None = None
    train_eps: bool | None = None

    def __post_init__(self) -> None:
        for kind, given, known in (
            ("model", self.name, MODELS),
            ("readout", self.readout, READOUTS),
            ("dropout_on", self.dropout_on, DROPOUTS),
            ("head", self.head, HEADS),
        ):
            if given not in known:
                raise unknown_name(kind, given, known)
        for name, value in self._own_values().items():
            if getattr(self, name) in (None, ""):
                object.__setattr__(self, name, value)
        check_sizes(layers=self.layers, hidden=self.hidden)
        self._check_places()
        self._check_parts()
        for name in ("dropout", "layer_dropout", "attention_dropout"):
            share = getattr(self, name)
            if share is not None and not 0 <= share < 1:
                raise ValueError(f"{name} is {share}, expected a number from 0 to below 1")
        if not isinstance(self.norm_eps, Mapping):
            raise ValueError(
                f"norm_eps is {self.norm_eps}, expected ε by norm, as in {{'graph': 1e-6}}"
            )
        for norm in self.norm_eps:
            lookup(norm)

    def _own_values(self) -> dict[str, Any]:
        """Return the values of the model for what is not given."""
        blocks = self.name in _BLOCKS
        place = self.norm_place or ("post" if blocks else "before-activation")
        values: dict[str, Any] = {
            "norm_place": place,
            "residual": blocks or self.name == "gatedgcn",
            "residual_place": "before-norm" if place == "post" else "after-norm",
        }
        if self.name in _ATTENTIVE:
            values |= {"heads": 4, "attention_dropout": 0.0}
        if blocks:
            values |= {"qk_norm": "none", "layer_dropout": 0.0}
        if self.name == "gatedgcn":
            values["edge_norm"] = SAME
        return values

    def _check_places(self) -> None:
        """Refuse places of norms and residual sums that are unknown or that the model lacks."""
        place, residual = self.norm_place, self.residual_place
        places = (*NORM_PLACES, *BLOCK_PLACES)
        for kind, given, known in (
            ("norm_place", place, places),
            ("residual_place", residual, RESIDUALS),
        ):
            if given not in known:
                raise unknown_name(kind, given, known)
        own = BLOCK_PLACES if self.is_blocks else NORM_PLACES
        if place not in own:
            others = "gps" if place in BLOCK_PLACES else "models of convolutions"
            raise ValueError(
                f"norm_place is {place}, which is for {others}; {self.name} has {', '.join(own)}"
            )
        if not self.is_blocks:
            return
        if not self.residual:
            raise ValueError(
                f"residual is none, but the parts of {self.name} have residual sums; leave it out, "
                "or choose rezero or deepnorm"
            )
        if place != "post" and residual in ("before-norm", "deepnorm"):
            raise ValueError(
                f"residual is {residual}, where the norm follows the sum, but norm_place is "
                f"{place}, where the sum is last; choose norm_place post, or residual after-norm "
                "or rezero"
            )

    def _check_parts(self) -> None:
        """Refuse values for parts that the model lacks."""
        for name, models in (
            ("heads", _ATTENTIVE),
            ("attention_dropout", _ATTENTIVE),
            ("qk_norm", _BLOCKS),
            ("layer_dropout", _BLOCKS),
            ("edge_norm", ("gatedgcn",)),
            ("train_eps", ("gin",)),
        ):
            value = getattr(self, name)
            if value is not None and self.name not in models:
                raise ValueError(
                    f"{name} is {value}, which is for {' and '.join(models)}, but the model is "
                    f"{self.name}; leave it out"
                )
        if self.heads is not None:
            check_sizes(heads=self.heads)
            if self.hidden % self.heads:
                raise ValueError(
                    f"hidden is {self.hidden}, expected a multiple of the {self.heads} heads of "
                    f"{self.name}; set --heads or --hidden"
                )
        if self.qk_norm is not None and self.qk_norm not in QK_NORMS:
            raise unknown_name("qk_norm", self.qk_norm, QK_NORMS)
        if self.edge_norm not in (None, SAME):
            lookup(self.edge_norm)

    @property
    def is_blocks(self) -> bool:
        """Whether the model is a stack of blocks, not of convolutions."""
        return self.name in _BLOCKS

    @property
    def is_rezero(self) -> bool:
        """Whether a learned number that begins at 0 multiplies what is added to the residual."""
        return bool(self.residual) and self.residual_place == "rezero"

    @property
    def sums_before_norm(self) -> bool:
        """Whether the norm at the end of a convolution or part follows the residual sum."""
        if self.residual_place == "rezero":
            return self.norm_place == "post"
        return self.residual_place in ("before-norm", "deepnorm")

    @property
    def deepnorm(self) -> tuple[float, float]:
        """The factor of the residual and that of the first weights; 1 without DeepNorm."""
        sums = 2 * self.layers if self.is_blocks else self.layers - 1
        if not (self.residual and self.residual_place == "deepnorm" and sums):
            return 1.0, 1.0
        return sums**0.25, (4 * sums) ** -0.25

    def eps_of(self, norm: str | OwnNorm) -> float | None:
        """Return ε of a normalization; None for the default of its layer."""
        return None if isinstance(norm, OwnNorm) else self.norm_eps.get(parse_spec(norm)[0])

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-able data; `ModelConfig(**data)` reads it back.

        What the model does not have is left out, so that GCN, GIN and GINE have the dict, and the
        trials the keys, that they had before the other models existed.
        """
        return {name: value for name, value in asdict(self).items() if value is not None}


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
    "graphnorm-table": _PAPER | {"gin": replace(_PAPER["gin"], train_eps=True)},
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

    `"default"`: four convolutions or blocks of 64 channels, sum readout, dropout before the last
    Linear.
    `"graphnorm-paper"`: as the authors of GraphNorm trained them (Cai et al. 2021; `gnn_ws` of
    lsj2408/GraphNorm at 182d10a): residual connections except at the first convolution, dropout on
    the logits, ε 1e-6 in GraphNorm (1e-5 in BatchNorm), double weight of the node itself in GIN;
    mean readout if nodes have no labels (social graphs), else sum (molecules and proteins). They
    trained no other models.
    `"graphnorm-table"`: the same with a learned ε in GIN, as in the scripts for their table.

    Args:
        model: One of `MODELS`.
        name: `"default"`, `"graphnorm-paper"` or `"graphnorm-table"`.
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
    if name != "default" and not node_labels:
        return replace(config, readout="mean")
    return config
