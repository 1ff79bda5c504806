"""Search: which values of options a norm tries in a fold, one proposal after the other.

The first half of the proposals (ten at most) is fixed beforehand: what the options are without a
search, then a Latin hypercube. Every norm gets the same ones, as it gets the same grid: a good
point that one norm is dealt and another is not would be a difference between them by chance. The
other half is adapted to what the norm scored, by the tree-structured Parzen estimator of Optuna
(multivariate, its defaults otherwise). With the few proposals that a fold can pay for, it has
advantages over a Gaussian process: it takes whole numbers and logarithmic scales, and it looks at
the order of the scores alone, which on the validation part of a small fold are full of ties.

A proposal is a function of the seed, its number and the order of the earlier outcomes. Optuna keeps
nothing: for each proposal its study is made anew from these outcomes, so that a run that is
continued, by whatever workers, proposes what an uninterrupted one would. A trial keeps the hash of
what it was proposed after: what is in a run is found again without Optuna, or with another version
of it.

Source: Bergstra, Bardenet, Bengio & Kégl, NeurIPS 2011; McKay, Beckman & Conover 1979.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from graphnorms.lab.search_space import Range, Space, count_of, fixed_of, points
from graphnorms.training.trial_config import content_hash

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Values: TypeAlias = dict[str, float]
"""What is proposed: a value for every option that is searched."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """The proposals of one norm in one fold.

    Args:
        space: What the options are searched among.
        proposals: How many; a space of fewer points is tried point by point.
        seed: That of the fold.
        usual: The values without a search, as far as they are known; the first proposal has the
            nearest of the space, and the middle of the range where none is known.
    """

    space: Space
    proposals: int
    seed: int
    usual: Mapping[str, float | None]

    @property
    def count(self) -> int:
        """The number of proposals."""
        return count_of(self.space, self.proposals)

    def fixed(self) -> list[Values]:
        """Return the proposals that need no outcome."""
        number = fixed_of(self.space, self.proposals)
        if number == points(self.space):
            every = itertools.product(*(each.values for each in self.space.values()))
            return [dict(zip(self.space, values, strict=True)) for values in every]
        rng = np.random.default_rng(self.seed)
        cells = np.tile(np.arange(number - 1), (len(self.space), 1))
        cube = (rng.permuted(cells, axis=1) + rng.random(cells.shape)) / max(1, number - 1)
        found = [self._usual()]
        for point in cube.T.tolist():
            found.append(self._new(self._at(point), found, rng))
        return found

    def next(self, tried: Sequence[Values], places: Sequence[Any]) -> Values:
        """Return the proposal that follows from the outcomes of the earlier ones.

        Args:
            tried: The earlier proposals, in their order.
            places: What orders them, the best first when sorted; equal ones are equally good.
        """
        import optuna

        ranks = _ranks(places)
        seed = int(np.random.SeedSequence([self.seed, len(tried)]).generate_state(1)[0])
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, multivariate=True)
            study = optuna.create_study(sampler=sampler)
            axes = {name: _axis(one) for name, one in self.space.items()}
            for values, rank in zip(tried, ranks, strict=True):
                told = {name: _told(self.space[name], value) for name, value in values.items()}
                study.add_trial(
                    optuna.trial.create_trial(params=told, distributions=axes, value=rank)
                )
            asked = study.ask(axes).params
        finally:
            optuna.logging.set_verbosity(verbosity)
        proposed = {name: _value(one, asked[name]) for name, one in self.space.items()}
        return self._new(proposed, tried, np.random.default_rng(seed))

    def after(self, places: Sequence[Any]) -> str:
        """Return the hash of all that the proposal after such outcomes depends on."""
        return content_hash([self.seed, _ranks(places)])

    def _usual(self) -> Values:
        found = {}
        for name, one in self.space.items():
            usual = self.usual.get(name)
            found[name] = one.at(0.5) if usual is None else one.nearest(usual)
        return found

    def _at(self, point: Sequence[float]) -> Values:
        return {
            name: one.at(share)
            for (name, one), share in zip(self.space.items(), point, strict=True)
        }

    def _new(self, values: Values, tried: Sequence[Values], rng: np.random.Generator) -> Values:
        """Return values that were not tried: these, or others by chance; the same say nothing."""
        while values in tried:
            values = self._at(rng.random(len(self.space)).tolist())
        return values


def _ranks(places: Sequence[Any]) -> list[int]:
    """Number what orders outcomes, from 0 for the best; equal ones alike."""
    order = sorted({*places})
    return [order.index(place) for place in places]


def _axis(one: Range) -> BaseDistribution:
    """Return a range as Optuna has it; of values their places, since they have an order."""
    from optuna.distributions import FloatDistribution, IntDistribution

    if one.values:
        return IntDistribution(0, len(one.values) - 1)
    return FloatDistribution(one.low, one.high, log=one.logarithmic)


def _told(one: Range, value: float) -> float:
    return one.values.index(value) if one.values else value


def _value(one: Range, asked: Any) -> float:
    return one.values[asked] if one.values else one.rounded(asked)


def require_optuna() -> None:
    """Say before anything is trained that Optuna is missing.

    Raises:
        ImportError: It is.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ImportError("--search needs Optuna: pip install 'graphnorms[search]'") from None
