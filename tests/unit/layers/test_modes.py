"""Layers that PyG calls in ways of their own, in every mode of PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphnorms.layers.diff_group_norm import DiffGroupNorm
from graphnorms.layers.graph_size_norm import GraphSizeNorm
from graphnorms.layers.hetero_batch_norm import HeteroBatchNorm
from graphnorms.layers.hetero_layer_norm import HeteroLayerNorm
from graphnorms.layers.mean_subtraction_norm import MeanSubtractionNorm
from graphnorms.layers.message_norm import MessageNorm
from graphnorms.layers.pair_norm import PairNorm
from graphnorms.segments import Segments
from tests.conformance import test_modes as modes
from tests.unit.layers.common import normal

pytestmark = modes.pytestmark


class OfTypes(nn.Module):
    """Takes the graphs of the nodes for their types."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def reset_parameters(self) -> None:
        self.layer.reset_parameters()

    def forward(self, x: Tensor, batch: Any = None, batch_size: int | None = None) -> Tensor:
        if batch is None:
            batch = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
        elif isinstance(batch, Segments):
            batch = batch.index
        y: Tensor = self.layer(x, batch % 4)
        return y


class OfMessages(nn.Module):
    """Takes the features for the messages, and others for the nodes'."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def reset_parameters(self) -> None:
        self.layer.reset_parameters()

    def forward(self, x: Tensor, batch: Any = None, batch_size: int | None = None) -> Tensor:
        y: Tensor = self.layer(torch.cos(x), x, residual=x)
        return y


LAYERS: dict[str, Callable[..., nn.Module]] = {
    "pair": lambda **k: PairNorm(2.0, activation="silu", **k),
    "pair individually": lambda **k: PairNorm(scale_individually=True, **k),
    "pair simultaneously": lambda **k: PairNorm(simultaneously=True, activation="gelu", **k),
    "pair masked": lambda **k: modes.MaskedBlock(PairNorm(scale_individually=True, **k)),
    "mean subtraction": lambda **k: MeanSubtractionNorm(activation="silu", **k),
    "graph size": lambda **k: GraphSizeNorm(**k),
    "graph size masked": lambda **k: modes.MaskedBlock(GraphSizeNorm(activation="relu", **k)),
    "hetero batch": lambda **k: OfTypes(HeteroBatchNorm(6, 4, **k)),
    "hetero batch cumulative": lambda **k: OfTypes(HeteroBatchNorm(6, 4, momentum=None, **k)),
    "hetero layer": lambda **k: OfTypes(HeteroLayerNorm(6, 4, **k)),
    "message": lambda **k: OfMessages(MessageNorm(True, **k)),
    "diff group": lambda **k: DiffGroupNorm(6, 3, lamda=0.3, **k),
    "diff group masked": lambda **k: modes.MaskedBlock(DiffGroupNorm(6, 3, lamda=0.3, **k)),
}
TRACKED = ("hetero batch", "hetero batch cumulative", "diff group", "diff group masked")
PLAIN = ("message", "diff group", "diff group masked")


@pytest.fixture(autouse=True)
def in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in LAYERS.items():
        monkeypatch.setitem(modes.LAYERS, name, make)
    monkeypatch.setattr(modes, "TRACKED", (*modes.TRACKED, *TRACKED))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mode", modes.MODES)
@pytest.mark.parametrize("name", LAYERS)
def test_mode(name: str, mode: str, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in PLAIN:
        # Only the operators of the kernels are looked for, and there are none.
        monkeypatch.setattr(modes, "TRACKED", ())
        monkeypatch.setattr(modes, "ops", lambda graphs: AnyList())
    modes.MODES[mode](name, training)


class AnyList(list[str]):
    """Equals every list."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("name", LAYERS)
def test_onnx(name: str) -> None:
    modes.test_onnx(name)


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", LAYERS)
def test_inductor(name: str, training: bool) -> None:
    modes.test_inductor(name, training)


@pytest.mark.parametrize("make", [HeteroBatchNorm, HeteroLayerNorm])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "given",
    [
        {"type_ptr": [0, 5, 5, 12, 20]}, {"type_ptr": torch.tensor([0, 5, 5, 12, 20])},
        {"type_vec": Segments.from_ptr(torch.tensor([0, 5, 5, 12, 20]))},
    ],
)  # fmt: skip
def test_compiled_types(make: Any, training: bool, given: dict[str, Any]) -> None:
    torch._dynamo.reset()
    layer = make(6, 4).train(training)
    twin = copy.deepcopy(layer)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = normal(20, 6).float()
    torch.testing.assert_close(compiled(x, **given), twin(x, **given))
    torch.testing.assert_close(list(layer.buffers()), list(twin.buffers()))


@pytest.mark.parametrize("make", [PairNorm, MeanSubtractionNorm, GraphSizeNorm])
def test_compiled_positions(make: Any) -> None:
    torch._dynamo.reset()
    layer = make()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (20, 31):
        x = normal(rows, 3, 6).float()
        batch = torch.arange(rows) % 4
        torch.testing.assert_close(compiled(x, batch, 4), layer(x, batch, 4))
