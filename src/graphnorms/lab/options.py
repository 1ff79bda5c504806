"""The options of a comparison: checked, completed from a run, and made from its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

from graphnorms.lab.halving import HALVING
from graphnorms.lab.option_kinds import Part
from graphnorms.lab.option_table import OptionTable, about
from graphnorms.lab.search_space import check_search, ranges_of

if TYPE_CHECKING:
    from graphnorms.lab.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Options(OptionTable):
    """The options that were given to a comparison, see `OptionTable`."""

    def said(self, *parts: Part) -> dict[str, Any]:
        """Return the given options by name: those of some parts, by default all but `"running"`."""
        wanted = parts or ("comparison", "reading")
        return {
            name: value
            for name, value in vars(self).items()
            if value is not None and about(name).part in wanted
        }

    def check(self) -> None:
        """Check the value of every option that is given.

        Raises:
            ValueError: A value is not possible.
        """
        for name, value in self.said("comparison", "reading", "running").items():
            about(name).kind.require(name, value)
        if self.searched is not None:
            every = {each.name: about(each.name) for each in fields(self)}
            check_search(ranges_of(self.searched), every, self.said(), self.vary or ())

    def check_protocol(self, protocol: str) -> None:
        """Check that every option applies to a protocol.

        Raises:
            ValueError: One does not.
        """
        for name, value in self.said().items():
            one = about(name)
            if protocol not in one.protocols:
                hint = f"; {one.instead}" if one.instead else ""
                raise ValueError(
                    f"{name} is {value!r:.100}, but it goes with protocol "
                    f"{' or '.join(one.protocols)}, and the protocol is {protocol}; leave it out"
                    f"{hint}"
                )

    @property
    def halving(self) -> bool:
        """Whether learning rates are chosen by successive halving."""
        return self.search == HALVING

    @property
    def searched(self) -> Mapping[str, str] | Sequence[str] | str | None:
        """The options that are searched beside the learning rate."""
        return None if self.halving else self.search

    @property
    def by_scaffold(self) -> bool:
        """Whether molecules are divided by scaffold, which happens when they are read."""
        return self.split is not None and self.split.startswith("scaffold")

    @property
    def reading(self) -> dict[str, Any]:
        """Keyword arguments for `graphnorms.data.load_dataset`."""
        return self.said("reading") | ({"split_by": self.split} if self.by_scaffold else {})

    def or_those_of(self, stored: Options) -> Self:
        """Complete the options with those of the run to continue."""
        if self.protocol not in (None, stored.protocol):
            # `Run` reports the contradiction; these options would be refused first.
            not_of_all = ("folds", "repeats", "split", "patience", "search", "proposals")
            unsaid: dict[str, Any] = dict.fromkeys(not_of_all)
            stored = replace(stored, **unsaid)
        cleared = [] if self.vary is None else ["vary", *self.vary]
        cleared += [] if self.searched is None else ranges_of(self.searched)
        cleared += ["search", "proposals"] if self.halving else []
        # Code that trains itself varies arguments that are no options.
        nothing: dict[str, Any] = dict.fromkeys(name for name in cleared if name in vars(stored))
        stored = replace(stored, **nothing)
        return replace(self, **stored.said() | self.said())

    @classmethod
    def of(cls, settings: Settings, reading: Mapping[str, Any]) -> Self:
        """Return options that resolve to the settings of a run, independent of any default.

        Args:
            settings: Of the run.
            reading: How its data were read.
        """
        found: dict[str, Any] = {
            each.name: getattr(settings, each.name, None)
            for each in fields(cls)
            if about(each.name).part == "comparison"
        }
        found |= settings.model_options
        found |= {
            "group_twins": settings.group_twins or None,
            "vary": settings.vary or None,
            **{name: None for name in settings.vary if name in found},
            "search": HALVING if settings.halving else settings.search or None,
            **dict.fromkeys(settings.search),
        }
        for name in found:
            if settings.protocol not in about(name).protocols:
                found[name] = None
        for name, value in reading.items():
            if name == "split_by":
                found["split"] = value
            elif name in cls.__dataclass_fields__:
                found[name] = value
        return cls(**found)
