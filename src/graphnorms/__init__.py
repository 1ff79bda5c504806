"""graphnorms: normalization for graph neural networks.

Layers that drop into PyTorch Geometric models, and a lab that compares them on your graphs.
Importing the package imports torch and nothing heavier; the lab is loaded at first use.
"""

from typing import TYPE_CHECKING, Any

from graphnorms import interrupts

if interrupts.IS_COMMAND:  # torch takes seconds to load
    interrupts.leave_at_once()

from graphnorms.adjacency import Adjacency
from graphnorms.dropin import Replacement, batch, convert_sync, replace_norms, resolve_norm
from graphnorms.errors import BackendRefusedError, DatasetError, GraphnormsError, RunExistsError
from graphnorms.kernels import BackendStatus, Over, aggregate, backends, segment_normalize
from graphnorms.layers import (
    CATALOG,
    AdaNorm,
    AdjaNorm,
    BatchNorm,
    ConditionalNorm,
    ContraNorm,
    CustomNorm,
    DiffGroupNorm,
    Granola,
    GraphNorm,
    GraphSizeNorm,
    GroupNorm,
    HeteroBatchNorm,
    HeteroLayerNorm,
    Identity,
    InstanceNorm,
    LayerNorm,
    MeanSubtractionNorm,
    MessageNorm,
    NodeNorm,
    PairNorm,
    PowerNorm,
    RMSNorm,
    SuperNorm,
    UnitedNorm,
    make_norm,
    recalibrate,
)
from graphnorms.segments import Segments
from graphnorms.version import __version__

if TYPE_CHECKING:
    from graphnorms.comparison import Comparison, compare, open_comparison
    from graphnorms.data import GraphSet, load_dataset

__all__ = [
    "CATALOG",
    "AdaNorm",
    "AdjaNorm",
    "Adjacency",
    "BackendRefusedError",
    "BackendStatus",
    "BatchNorm",
    "Comparison",
    "ConditionalNorm",
    "ContraNorm",
    "CustomNorm",
    "DatasetError",
    "DiffGroupNorm",
    "Granola",
    "GraphNorm",
    "GraphSet",
    "GraphSizeNorm",
    "GraphnormsError",
    "GroupNorm",
    "HeteroBatchNorm",
    "HeteroLayerNorm",
    "Identity",
    "InstanceNorm",
    "LayerNorm",
    "MeanSubtractionNorm",
    "MessageNorm",
    "NodeNorm",
    "Over",
    "PairNorm",
    "PowerNorm",
    "RMSNorm",
    "Replacement",
    "RunExistsError",
    "Segments",
    "SuperNorm",
    "UnitedNorm",
    "__version__",
    "aggregate",
    "backends",
    "batch",
    "compare",
    "convert_sync",
    "load_dataset",
    "make_norm",
    "open_comparison",
    "recalibrate",
    "replace_norms",
    "resolve_norm",
    "segment_normalize",
]

_LAB = {
    "Comparison": "graphnorms.comparison",
    "compare": "graphnorms.comparison",
    "open_comparison": "graphnorms.comparison",
    "GraphSet": "graphnorms.data",
    "load_dataset": "graphnorms.data",
}


_PARTS = ("data", "lab", "models", "probes", "report", "studies", "testing", "training")
"""Packages that are loaded when somebody asks for them."""


def __getattr__(name: str) -> Any:
    import importlib
    import importlib.util

    if name in _PARTS:
        return importlib.import_module(f"graphnorms.{name}")
    if name not in _LAB:
        raise AttributeError(f"module 'graphnorms' has no attribute {name!r}")
    for needed in ("numpy", "scipy", "sklearn", "loky", "jinja2", "vl_convert", "rich"):
        if importlib.util.find_spec(needed) is None:
            raise ImportError(
                f"graphnorms.{name} belongs to the lab and needs {needed}: "
                "pip install 'graphnorms[lab]'"
            )
    module = importlib.import_module(_LAB[name])
    value = getattr(module, name)
    globals()[name] = value
    return value
