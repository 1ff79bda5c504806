"""The base of norms whose statistics have ragged cells of columns."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from graphnorms.kernels.layout import Layout
from graphnorms.kernels.point import Call, Parameters
from graphnorms.kernels.primitive import Statistics, normalize
from graphnorms.layers.base import Norm
from graphnorms.segments import Segments


class CellsNorm(Norm):
    """A norm by one call of the equation, with a layout of its columns.

    The layout and other tables of integers are buffers that checkpoints leave out.
    """

    _cells: Tensor

    def _add_tables(self, device: torch.device | str | None) -> None:
        """Keep the tables beside the parameters, but not in checkpoints."""
        self._numbers_of_cells = self.cells()[1:]
        for name, table in self._tables().items():
            kept = table.to(torch.get_default_device() if device is None else device)
            self.register_buffer(name, kept, persistent=False)

    def _tables(self) -> dict[str, Tensor]:
        """Compute the buffers that the arguments determine, on the CPU."""
        return {"_cells": self.cells().table}

    def reset_parameters(self) -> None:
        """Fill the tables, which `to_empty` leaves empty."""
        for name, table in self._tables().items():
            self.get_buffer(name).copy_(table)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        # Weights that take the place of those on the meta device need tables.
        given = next((state_dict[key] for key in state_dict if key.startswith(prefix)), None)
        if self._cells.is_meta and local_metadata.get("assign_to_params_buffers"):
            self._add_tables(None if given is None else given.device)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    @abstractmethod
    def cells(self) -> Layout:
        """Make the layout, on the CPU."""

    @abstractmethod
    def parameters_in_columns(self) -> Parameters:
        """Return α, γ and β of each column; None for 1, 1 and 0."""

    def _by_cells(
        self, x: Tensor, segments: Segments, residual: Tensor | None, *, statistics: bool = False
    ) -> tuple[Tensor, Statistics | None]:
        """Run the equation, and return its statistics if requested."""
        assert self.point is not None
        return normalize(
            x,
            Call(segments, self.point, self.eps, layout=self.column_layout),
            self.parameters_in_columns(),
            residual,
            backend=self.backend,
            statistics=statistics,
            ranks=self._ranks,
        )

    @property
    def column_layout(self) -> Layout:
        """The layout of a call, on the device of the layer."""
        return Layout(self._cells, *self._numbers_of_cells)
