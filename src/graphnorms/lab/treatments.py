"""What a comparison compares: norms, each by itself or with every value of varied options."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from graphnorms.errors import unknown_name
from graphnorms.lab.phrases import listing
from graphnorms.lab.values import PLAIN, Kind

if TYPE_CHECKING:
    from graphnorms.lab.option_kinds import About

VARIABLE: Final = (
    *("model", "layers", "hidden", "dropout", "norm_place", "residual"),
    *("batch_size", "weight_decay"),
)
"""Options that `vary` takes: they leave data, splits, seeds and budget as they are."""

_ELSEWHERE: Final[Mapping[str, str]] = {
    "norms": "--norms compares those",
    "learning_rate": "it is chosen for each treatment; --lr says among which",
    "epochs": "every treatment gets the same budget",
    "budget": "every treatment gets the same budget",
}
_DATA: Final = (
    "it changes the data, which treatments share; run a comparison for each value, and "
    "graphnorms report RUN RUN puts them on one page"
)
_SHARED: Final = "treatments share it, for they are paired by fold and seed"


@dataclass(frozen=True)
class Treatment:
    """What is trained and judged under one name.

    Args:
        norm: The normalization as text.
        varied: The values of the varied options; empty if none is varied.
    """

    norm: str
    varied: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The norm, with its values behind it: `graph`, `graph layers=4`."""
        from graphnorms.training.trial_config import treatment_name

        return treatment_name(self.norm, self.varied)

    @property
    def values(self) -> str:
        """The values alone, see `values_of`."""
        return values_of(self.varied)


def treatments_of(norms: Iterable[str], vary: Mapping[str, Sequence[Any]]) -> dict[str, Treatment]:
    """Return the treatments by name: every norm with every combination of values."""
    made = [Treatment(norm, varied) for norm in norms for varied in combinations(vary)]
    return {treatment.name: treatment for treatment in made}


def combinations(vary: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """List the combinations of the values of options; without an option an empty one."""
    return [dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())]


def values_of(varied: Mapping[str, Any]) -> str:
    """Write the values of options: `layers=4 hidden=32`."""
    return Treatment("", varied).name.strip()


def check_vary(
    vary: Mapping[str, Any],
    about: Mapping[str, About],
    given: Iterable[str],
    own: Iterable[str] = (),
) -> None:
    """Check which options are varied, and their values.

    Args:
        vary: Values by the name of the option.
        about: The descriptions of all options.
        given: Options that are given a value for all treatments.
        own: Arguments of user code that trains, which are no options.

    Raises:
        ValueError: An option cannot be varied, has fewer than two values, one twice, or one that is
            not possible; or it is given beside.
    """
    if not vary:
        raise ValueError("vary is empty; name an option and its values, as in layers=2,4,8")
    for name, values in vary.items():
        if name in own:
            _check_values(name, values, PLAIN)
            continue
        if name not in about:
            raise unknown_name("option to vary", name, VARIABLE)
        if name not in VARIABLE:
            why = _ELSEWHERE.get(name, _DATA if about[name].part == "reading" else _SHARED)
            raise ValueError(f"vary has {name}, but {why}; what varies is {listing(VARIABLE)}")
        hint = f"; --{name.replace('_', '-')} gives one to all treatments"
        _check_values(name, values, about[name].kind, hint)
        if name in given:
            raise ValueError(f"{name} is given, and varied as well; leave one of them out")


def _check_values(name: str, values: Any, kind: Kind, hint: str = "") -> None:
    if not isinstance(values, list | tuple):
        raise ValueError(f"vary has {name}={values!r:.100}, expected a list of values")
    for value in values:
        kind.require(name, value)
        if values.count(value) > 1:
            raise ValueError(f"vary has {name}={value} more than once; name it once")
    if len(values) < 2:
        raise ValueError(f"vary has one value of {name}, expected two or more{hint}")
