"""Normalization: what a row of the catalogue says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphnorms.kernels.point import Point
    from graphnorms.layers.base import Norm


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """One row of the catalogue.

    Args:
        name: The name in the command line and in `make_norm`.
        title: The name in tables and pages.
        class_name: The name of the layer class in `graphnorms.layers`.
        summary: Which entries share a mean and a variance, in words.
        formula: The formula in plain text.
        invariant: Transformations of the features that leave the result unchanged, in words.
        loses: Information that the result no longer contains, in words.
        use: When to use it, in words.
        source: The paper.
        needs: Further required inputs of its forward: `"adjacency"`, `"types"`, `"condition"`,
            `"factors"` (of subgraphs) or `"message"`.
        takes: Optional inputs of its forward.
        arguments: Default arguments of the layer. They make the rows comparable: where possible,
            every normalization has learned parameters per channel.
    """

    name: str
    title: str
    class_name: str
    summary: str
    formula: str
    invariant: str
    loses: str
    use: str
    source: str = ""
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def layer(self) -> type[Norm]:
        """The layer class, which is imported with torch at first use."""
        from graphnorms import layers

        found: type[Norm] = getattr(layers, self.class_name)
        return found

    def titled(self, arguments: Mapping[str, Any]) -> str:
        """Return the title with arguments of a text: `PairNorm (scale=2)`."""
        words = ", ".join(f"{key}={value}" for key, value in sorted(arguments.items()))
        return f"{self.title} ({words})" if words else self.title

    @property
    def point(self) -> Point:
        """The point of the one equation; without centre and scale for a layer that is not a
        point."""
        from graphnorms.kernels.point import Point

        return self.layer.point_with(self.arguments) or Point(None, None)

    @property
    def segment(self) -> str:
        """The rows that share a statistic: `"batch"`, `"graph"`, `"type"` or `"node"`."""
        center, scale, segment, *_ = self.point
        return "" if center is scale is None else segment or "node"
