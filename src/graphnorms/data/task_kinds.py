"""The kinds of tasks and their units, for texts and options: known without torch."""

from __future__ import annotations

from typing import Final

KINDS: Final = ("classification", "binary", "regression")
FORCES: Final = "forces"
"""The kind of the task of atoms, which no reader of other graphs can be asked for."""
LEVELS: Final = ("graph", "node")

ENERGY_UNIT: Final = "eV"
FORCE_UNIT: Final = "eV/Å"
LENGTH_UNIT: Final = "Å"
