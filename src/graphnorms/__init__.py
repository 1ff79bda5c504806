"""graphnorms: normalization for graph neural networks.

Layers that drop into PyTorch Geometric models, and a lab that compares them on your graphs.
Importing the package imports torch, registers the operators of the kernels and loads nothing
heavier; the lab is loaded at first use. In the command line all of it is loaded at first use: torch
takes seconds, and `graphnorms --help` does not need it.
"""

from typing import TYPE_CHECKING, Any

from graphnorms import interrupts

if interrupts.IS_COMMAND:
    interrupts.leave_at_once()
if TYPE_CHECKING or not interrupts.IS_COMMAND:
    from graphnorms.adjacency import Adjacency
    from graphnorms.dropin import Replacement, batch, convert_sync, replace_norms, resolve_norm
    from graphnorms.errors import BackendRefusedError, DatasetError, GraphnormsError, RunExistsError
    from graphnorms.kernels import (
        BackendStatus,
        Layout,
        Over,
        aggregate,
        backends,
        segment_normalize,
    )
    from graphnorms.layers import (
        CATALOG,
        AdaNorm,
        AdjaNorm,
        BatchNorm,
        ConditionalNorm,
        ContraNorm,
        CustomNorm,
        Derf,
        DiffGroupNorm,
        DyT,
        EquivariantLayerNorm,
        EquivariantRMSNorm,
        Granola,
        GraphNorm,
        GraphSizeNorm,
        GroupNorm,
        HeteroBatchNorm,
        HeteroLayerNorm,
        Identity,
        InstanceNorm,
        IrrepsBatchNorm,
        IrrepsGraphNorm,
        IrrepsLayerNorm,
        LayerNorm,
        MeanSubtractionNorm,
        MessageNorm,
        NodeNorm,
        PairNorm,
        PowerNorm,
        QKNorm,
        RMSNorm,
        SuperNorm,
        UnitedNorm,
        make_norm,
        recalibrate,
    )
    from graphnorms.segments import Segments
    from graphnorms.version import __version__

if TYPE_CHECKING:
    from graphnorms.data import GraphSet, load_dataset
    from graphnorms.doctor import inspect
    from graphnorms.lab.compare import compare
    from graphnorms.lab.comparison import Comparison, open_comparison
    from graphnorms.lab.judged_table import JudgedTable, judge
    from graphnorms.probes.watch import BlowUpError, BlowUpWarning, Watch
    from graphnorms.training.lightning_watch import watch_callback

__all__ = [
    "CATALOG",
    "AdaNorm",
    "AdjaNorm",
    "Adjacency",
    "BackendRefusedError",
    "BackendStatus",
    "BatchNorm",
    "BlowUpError",
    "BlowUpWarning",
    "Comparison",
    "ConditionalNorm",
    "ContraNorm",
    "CustomNorm",
    "DatasetError",
    "Derf",
    "DiffGroupNorm",
    "DyT",
    "EquivariantLayerNorm",
    "EquivariantRMSNorm",
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
    "IrrepsBatchNorm",
    "IrrepsGraphNorm",
    "IrrepsLayerNorm",
    "JudgedTable",
    "LayerNorm",
    "Layout",
    "MeanSubtractionNorm",
    "MessageNorm",
    "NodeNorm",
    "Over",
    "PairNorm",
    "PowerNorm",
    "QKNorm",
    "RMSNorm",
    "Replacement",
    "RunExistsError",
    "Segments",
    "SuperNorm",
    "UnitedNorm",
    "Watch",
    "__version__",
    "aggregate",
    "backends",
    "batch",
    "compare",
    "convert_sync",
    "inspect",
    "judge",
    "load_dataset",
    "make_norm",
    "open_comparison",
    "recalibrate",
    "replace_norms",
    "resolve_norm",
    "segment_normalize",
    "watch_callback",
]

_LATE = {
    "BlowUpError": "graphnorms.probes.watch",
    "BlowUpWarning": "graphnorms.probes.watch",
    "Watch": "graphnorms.probes.watch",
    "watch_callback": "graphnorms.training.lightning_watch",
}
"""Names that are loaded at first use, and need no more than torch."""

_LAB = {
    "Comparison": "graphnorms.lab.comparison",
    "JudgedTable": "graphnorms.lab.judged_table",
    "compare": "graphnorms.lab.compare",
    "judge": "graphnorms.lab.judged_table",
    "open_comparison": "graphnorms.lab.comparison",
    "inspect": "graphnorms.doctor",
    "GraphSet": "graphnorms.data",
    "load_dataset": "graphnorms.data",
}


_LAYERS = ("errors", "adjacency", "segments", "kernels", "layers", "dropin", "version")
"""Modules that have the names that are not of the lab."""

_PARTS = ("data", "doctor", "lab", "models", "probes", "report", "studies", "testing", "training")
"""Packages that are loaded at first access."""


def __getattr__(name: str) -> Any:
    import importlib
    import importlib.util

    if name in _PARTS or name in _LAYERS:
        return importlib.import_module(f"graphnorms.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'graphnorms' has no attribute {name!r}")
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    if name not in _LAB:
        parts = (importlib.import_module(f"graphnorms.{part}") for part in _LAYERS)
        return next(getattr(part, name) for part in parts if hasattr(part, name))
    for needed in ("numpy", "scipy", "sklearn", "jinja2", "vl_convert", "rich"):
        if importlib.util.find_spec(needed) is None:
            raise ImportError(
                f"graphnorms.{name} belongs to the lab and needs {needed}: "
                "pip install 'graphnorms[lab]'"
            )
    module = importlib.import_module(_LAB[name])
    value = getattr(module, name)
    globals()[name] = value
    return value
