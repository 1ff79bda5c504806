"""`inspect`: what the norms of a model see on real batches, and what is wrong with it."""

from __future__ import annotations

import copy
import fnmatch
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from graphnorms.doctor.costs import measure_costs, try_compilers
from graphnorms.doctor.example import Example, examples_of
from graphnorms.doctor.facts import ModelFacts, jsonable
from graphnorms.doctor.measure import facts_of, size_error
from graphnorms.doctor.rotation import rotation_errors
from graphnorms.doctor.rules import RANKS, RULES, Rank, Rule, require_rank
from graphnorms.doctor.walk import Norm, norms_of, quiet, walk
from graphnorms.errors import one_line
from graphnorms.probes.state import Snapshot

_MOST_BATCHES = 8


@dataclass(frozen=True, eq=False)
class Finding:
    """Something wrong with some norms of a model.

    Args:
        rule: The row of the table.
        evidence: The numbers, by name of the norm.
        change: What to change.
    """

    rule: Rule
    evidence: dict[str, dict[str, Any]]
    change: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.rule.name

    @property
    def rank(self) -> Rank:
        """Its rank of harm: `"error"`, `"warning"` or `"note"`."""
        return self.rule.rank

    def sentences(self) -> list[tuple[str, str]]:
        """Return the evidence in words, by name of the norm."""
        return [(name, self.rule.says.format(**n)) for name, n in self.evidence.items()]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "name": self.name,
            "rank": self.rank,
            "norms": [
                {"norm": name, "says": says, "numbers": jsonable(self.evidence[name])}
                for name, says in self.sentences()
            ],
            "why": self.rule.why,
            "change": self.change,
            "sure": self.rule.sure,
            "source": self.rule.source,
        }


@dataclass(frozen=True, eq=False)
class Inspection:
    """The facts about the norms of a model, and the findings, the most harmful first.

    It prints as a report.
    """

    facts: ModelFacts
    findings: tuple[Finding, ...]

    def fails(self, rank: str) -> bool:
        """Whether there is a finding of a rank, or of a more harmful one.

        Raises:
            ValueError: The rank is unknown.
        """
        require_rank(rank)
        worst = RANKS[: RANKS.index(rank) + 1]
        return any(finding.rank in worst for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            **self.facts.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def __str__(self) -> str:
        from graphnorms.doctor.rendering import as_text

        return as_text(self)


def inspect(
    model: nn.Module, batch: Any, *, ranks: int | None = None, compilers: bool = False
) -> Inspection:
    """Look at the norms of a model while it runs on real batches, and say what is wrong with them.

    A copy of the model runs once on each batch in `train()`, without gradients; each norm is then
    called again with what it was given, changed a little: a row, a shift, another mode or
    precision. Nothing of the model changes, nor do torch's generators.

    Found are, ordered by harm: a batch that does not reach a norm, norms behind the pooling or over
    the wrong dimension, counted padding, results that are not finite, a broken symmetry under
    rotations, running statistics that do not fit the data, statistics over few rows, dead channels,
    information that is removed, norms that ranks do not synchronize, biases without an effect, and
    what `graphnorms.doctor.rules.RULES` lists besides.

    Args:
        model: The model; also a LightningModule, whose `training_step` is called.
        batch: A batch: an object of PyG, a tuple of the model's arguments, a mapping of them by
            name. Or a list or `DataLoader` of batches, of which 8 are taken: more than three show
            how noisy the statistics of a batch are.
        ranks: Number of ranks that train the model; by default as many as there are.
        compilers: Whether to try `torch.compile` and `torch.export` on every norm, which takes
            seconds.

    Raises:
        ValueError: The model has no norm, cannot be copied, or does not run on the batch.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model has type {type(model).__name__}, expected a module of torch")
    if ranks is None:
        distributed = torch.distributed
        running = distributed.is_available() and distributed.is_initialized()
        ranks = distributed.get_world_size() if running else 1
    if not isinstance(ranks, int) or ranks < 1:
        raise ValueError(f"ranks is {ranks!r}, expected a number from 1")
    model = _copied(model)
    norms = norms_of(model)
    if not norms:
        raise ValueError(f"{type(model).__name__} has no norm to inspect")
    start = Snapshot.take(model)
    try:
        examples = examples_of(model, batch, _MOST_BATCHES)
        torch.manual_seed(0)  # of dropout
        facts = _facts(model, norms, examples, ranks, start)
        if compilers:
            try_compilers(norms, facts.norms)
    finally:
        start.restore()
    return Inspection(facts, _findings(facts))


def _copied(model: nn.Module) -> nn.Module:
    """Copy a model, without what wraps it."""
    while True:
        inner = getattr(model, "_orig_mod", None)  # of torch.compile
        if type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
            inner = model.module
        if not isinstance(inner, nn.Module):
            break
        model = inner
    try:
        return copy.deepcopy(model)
    except Exception as error:  # whatever the parts of a model raise
        raise ValueError(
            f"{type(model).__name__} cannot be copied: {one_line(error)}; make it anew, and load "
            "its state"
        ) from error


def _facts(
    model: nn.Module,
    norms: Sequence[Norm],
    examples: Sequence[Example],
    ranks: int,
    start: Snapshot,
) -> ModelFacts:
    outputs = walk(model, norms, examples)
    del outputs
    start.restore()
    found = [facts_of(norm, len(examples)) for norm in norms]
    nodes = [each.x.shape[0] for norm in norms for each in norm.calls if each.rows_are == "nodes"]
    graphs = [each.graphs for each in found if each.graphs]
    first = next((p for p in model.parameters() if p.is_floating_point()), None)
    facts = ModelFacts(
        model=type(model).__name__,
        batches=len(examples),
        graphs=max(graphs, default=0),
        nodes=sorted(nodes)[len(nodes) // 2] if nodes else 0,
        ranks=ranks,
        dtype="float32" if first is None else str(first.dtype).removeprefix("torch."),
        has_positions=bool(examples[0].positions),
        seconds=_seconds(model, examples[0]),
        norms=found,
    )
    start.restore()
    for norm, each in zip(norms, found, strict=True):
        if norm.calls:
            measure_costs(norm, each)
            if facts.has_positions and each.rows_are == "nodes" and each.reach == "graph":
                each.size_error = size_error(norm, norm.calls[0])
    if facts.has_positions:
        errors = rotation_errors(model, norms, examples[0])
        if errors is not None:
            facts.rotation_error, facts.unnormalized_rotation_error, single = errors
            for each, error in zip(found, single, strict=True):
                each.rotation_error = error
    return facts


def _seconds(model: nn.Module, example: Example) -> float:
    """Time a forward, the shorter of two."""
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        with torch.no_grad(), quiet():
            example.run(model)
        times.append(time.perf_counter() - begin)
    return min(times)


def _findings(facts: ModelFacts) -> tuple[Finding, ...]:
    found = []
    for rank in RANKS:
        for rule in (each for each in RULES if each.rank == rank):
            evidence = {norm.name: rule.evidence(norm, facts) for norm in facts.norms}
            shown = {name: dict(numbers) for name, numbers in evidence.items() if numbers}
            if shown:
                known = [norm.name for norm in facts.norms if norm.kind]
                where = _pattern([name for name in shown if name in known], known)
                change = rule.change.format(where=where)
                strange = [name for name in shown if name not in known]
                if strange and "replace_norms" in change:
                    change += f" (replace_norms does not know {', '.join(strange)})"
                found.append(Finding(rule, shown, change))
    return tuple(found)


def _pattern(names: list[str], everywhere: list[str]) -> str:
    """Return the argument `where` of `replace_norms` that selects some norms; empty for all."""
    if not names or set(names) == set(everywhere):
        return ""
    shapes = {re.sub(r"\b\d+\b", "*", name) for name in names}
    candidates = [*names] if len(names) == 1 else []
    candidates += shapes if len(shapes) == 1 else ()
    for pattern in candidates:
        if set(fnmatch.filter(everywhere, pattern)) == set(names):
            return f", where={pattern!r}"
    listed = ", ".join(map(repr, names))
    return f", where=lambda name, norm: name in {{{listed}}}"
