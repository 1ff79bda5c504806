from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from graphnorms.lab.causes import CAUSES
from graphnorms.lab.judge import Terms
from graphnorms.lab.judge import judge as judge_trials
from graphnorms.lab.reason_sentences import reason_sentence, why
from graphnorms.lab.reasons import CONSISTENT, SUPPORTED, Why
from graphnorms.lab.trials import group_trials
from graphnorms.training.interventions import INTERVENTIONS
from graphnorms.training.record import Record
from graphnorms.training.trial_config import TrialConfig

from .made import EASE, trial

LOST = {"mean_label": [0.4, 0.1], "mean_label_after": [0.0, 0.1]}
KEPT = {"mean_label": [0.4, 0.4], "mean_label_after": [0.4, 0.4]}
NOISE = (0.004, -0.003, 0.002, -0.006, 0.005, -0.001, 0.003, -0.004, 0.001, -0.002)
"""What a difference of two norms varies by over the folds; the sum is -0.001."""

Score = Callable[[int], float]


def full(record: Record, measures: Mapping[str, Any] | None = None) -> Record:
    """A record with the whole config of a trial, and what was measured in it."""
    config = {
        "dataset": "MUTAG",
        "fingerprint": "f",
        "model": {"name": "gin", "layers": 4, "head": "graph"},
        "batch_size": 32,
        "schedule": "linear",
        "weight_decay": 0.0,
        "device": "cpu",
        "dtype": "float32",
        "graphnorms_version": "0",
        "torch_version": "2",
        **record.config,
    }
    made = TrialConfig(**config)
    found = {"final": dict(measures)} if measures else {}
    return replace(record, key=made.key, config=made.to_dict(), measures=found)


def of_norm(norm: str, score: Score, measures: Mapping[str, Any], **about: Any) -> list[Record]:
    return [
        full(trial(norm, fold, score=score(fold) + EASE[fold], **about), measures)
        for fold in range(10)
    ]


def changed(
    records: Iterable[Record], intervention: str, score: Score | None, factor: float = 1.0
) -> dict[str, Record]:
    """The trials with an intervention, by key; without a score they have failed."""
    found = {}
    for record in records:
        config = INTERVENTIONS[intervention].applied(TrialConfig(**record.config), factor)
        assert config is not None
        fold = config.split["fold"]
        outcome = {} if score is None else {**record.outcome, "test_score": score(fold)}
        done = {"outcome": outcome, "status": "done" if score else "failed"}
        found[config.key] = replace(record, key=config.key, config=config.to_dict(), **done)
    return found


def explain(
    records: Sequence[Record],
    tests: Mapping[str, Record] | None = None,
    facts: Mapping[str, float] | None = None,
) -> Why:
    trials = group_trials(records, (), protocol="nested")
    return Why(trials, judge_trials(trials, Terms(baseline="none", trivial=None)), tests, facts)


def level(base: float, sign: int = 1) -> Score:
    return lambda fold: base + sign * NOISE[fold]


GRAPH = of_norm("graph", level(0.86), KEPT)
INSTANCE = of_norm("instance", level(0.80, -1), LOST)


def test_without_a_test_a_number_beyond_its_threshold_is_consistent() -> None:
    found = explain([*GRAPH, *INSTANCE])
    (reason,) = found.reasons
    assert (reason.cause, reason.norm, reason.other) == ("lost-mean", "graph", "instance")
    assert (reason.status, reason.p, reason.change) == (CONSISTENT, None, None)
    assert reason.value.mean == pytest.approx(0.4)
    assert reason.lead.mean == pytest.approx(0.06 + 2 * sum(NOISE) / 10)
    assert [config.intervention for config in found.to_run()] == ["mean-as-feature"] * 20


def test_trials_that_test_pair_with_those_of_the_comparison() -> None:
    records = [*GRAPH, *INSTANCE]
    plain = {record.key: record.config for record in records}
    for config in explain(records).to_run():
        assert replace(config, intervention=None).key in plain
        assert plain[replace(config, intervention=None).key]["seed"] == config.seed


def test_supported_by_the_paired_test_of_the_verdict() -> None:
    tests = changed(GRAPH, "mean-as-feature", level(0.861, 2))
    tests |= changed(INSTANCE, "mean-as-feature", level(0.857))
    (reason,) = explain([*GRAPH, *INSTANCE], tests).reasons
    noise = np.array(NOISE)
    # Of the test folds' scores EASE is part of what is compared, and not of what tests it.
    plain = (0.86 + noise) - (0.80 - noise)
    after = (0.861 + 2 * noise) - (0.857 + noise)
    change = plain - after
    error = change.std(ddof=1) * math.sqrt(1 / 10 + 10 / 81)  # Nadeau & Bengio
    p = 2 * stats.t.sf(abs(change.mean()) / error, 9)
    assert reason.status == SUPPORTED
    assert reason.p == pytest.approx(p)
    assert reason.lead_under_intervention is not None
    assert reason.lead_under_intervention.mean == pytest.approx(after.mean())
    reach = stats.t.ppf(0.975, 9) * after.std(ddof=1) * math.sqrt(1 / 10 + 10 / 81)
    assert reason.lead_under_intervention.high == pytest.approx(after.mean() + reach)
    assert reason.explained == pytest.approx(change.mean() / plain.mean())


@pytest.mark.parametrize(
    ("graph", "instance", "status"),
    [
        (level(0.86), level(0.80, -1), None),  # as it was: contradicted
        (level(0.90), level(0.80, -1), None),  # longer: contradicted
        (lambda fold: 0.86 + 40 * NOISE[fold], level(0.80), CONSISTENT),  # does not decide
        (level(0.70), level(0.80), CONSISTENT),  # turned round by more than it was
    ],
)
def test_what_intervention_trials_decide(graph: Score, instance: Score, status: str | None) -> None:
    tests = changed(GRAPH, "mean-as-feature", graph)
    tests |= changed(INSTANCE, "mean-as-feature", instance)
    reasons = explain([*GRAPH, *INSTANCE], tests).reasons
    assert [reason.status for reason in reasons] == ([] if status is None else [status])


def test_a_part_of_the_trials_decides_nothing() -> None:
    tests = changed(GRAPH, "mean-as-feature", level(0.86))
    tests |= changed(INSTANCE[:9], "mean-as-feature", level(0.86))
    found = explain([*GRAPH, *INSTANCE], tests)
    assert [reason.status for reason in found.reasons] == [CONSISTENT]
    assert found.tested == 0


def test_an_intervention_that_fails_to_train_is_said() -> None:
    tests = changed(GRAPH, "mean-as-feature", level(0.86))
    tests |= changed(INSTANCE[:2], "mean-as-feature", None)
    tests |= changed(INSTANCE[2:], "mean-as-feature", level(0.858))
    found = explain([*GRAPH, *INSTANCE], tests)
    (reason,) = found.reasons
    assert (reason.status, reason.failed) == (SUPPORTED, 2)
    assert "2 such trials failed" in reason_sentence(reason, found.verdict.scale)


def test_where_it_acts_on_one_norm_the_others_trials_stand() -> None:
    noisy = {"batch_noise": [0.01, 0.2]}
    batch = of_norm("batch", level(0.80, -1), noisy)
    found = explain([*GRAPH, *batch])
    assert {config.norm for config in found.to_run()} == {"batch"}
    assert {config.intervention for config in found.to_run()} == {"whole-set-statistics"}
    tests = changed(batch, "whole-set-statistics", lambda fold: 0.858 + NOISE[fold] + EASE[fold])
    (reason,) = explain([*GRAPH, *batch], tests).reasons
    assert (reason.cause, reason.status) == ("batch-noise", SUPPORTED)
    assert reason.lead_under_intervention is not None
    assert reason.lead_under_intervention.mean == pytest.approx(0.002)


def test_what_is_too_dear_is_tested_otherwise() -> None:
    def larger(records: list[Record]) -> list[Record]:
        return [replace(r, counts={**r.counts, "train_items": 300}) for r in records]

    batch = of_norm("batch", level(0.80, -1), {"batch_noise": [0.2]})
    found = explain(larger([*GRAPH, *batch]))
    assert {(c.intervention, c.batch_size) for c in found.to_run()} == {("larger-batch", 128)}


def test_the_effective_rate_is_made_equal_pair_by_pair() -> None:
    layer = of_norm("layer", level(0.86), {"effective_rate": [0.4, 0.9]})
    rms = of_norm("rms", level(0.80, -1), {"effective_rate": [0.04, 0.04]})
    configs = explain([*layer, *rms]).to_run()
    assert {config.norm for config in configs} == {"rms"}
    # The geometric mean of 0.4 and 0.9 is 0.6: fifteen times 0.04.
    assert [config.learning_rate for config in configs] == pytest.approx([0.15] * 10)


def test_supported_reasons_first_then_by_excess_and_all_tests_count() -> None:
    both = {**LOST, "dead": [0.9, 0.9], "gradient": [10.0**place for place in range(6)]}
    calm = {**KEPT, "dead": [0.0, 0.0], "gradient": [1.0] * 6}
    deep = {"model": {"name": "gin", "layers": 6, "head": "graph"}}

    def deeper(records: list[Record]) -> list[Record]:
        return [full(replace(r, config={**r.config, **deep}), r.measures["final"]) for r in records]

    graph = deeper([replace(r, measures={"final": calm}) for r in GRAPH])
    instance = deeper([replace(r, measures={"final": both}) for r in INSTANCE])
    found = explain([*graph, *instance])
    assert [reason.cause for reason in found.reasons] == ["dead-channels", "lost-mean", "depth"]
    wanted = {config.intervention for config in found.to_run()}
    assert wanted == {"mean-as-feature", "shallow"}
    tests = changed(graph, "mean-as-feature", level(0.86))
    tests |= changed(instance, "mean-as-feature", level(0.80, -1))
    alone = explain([*graph, *instance], tests).reasons
    assert [reason.cause for reason in alone] == ["dead-channels", "depth"]
    tests |= changed(graph, "shallow", level(0.83))
    tests |= changed(instance, "shallow", level(0.82))
    reasons = explain([*graph, *instance], tests).reasons
    assert [(reason.cause, reason.status) for reason in reasons] == [
        ("depth", SUPPORTED),
        ("dead-channels", CONSISTENT),
    ]
    single = explain(
        [*graph, *instance],
        {k: r for k, r in tests.items() if r.config["intervention"] == "shallow"},
    ).reasons
    assert reasons[0].p == pytest.approx(2 * single[0].p)  # Holm over two tests


def test_only_what_is_told_apart_has_reasons() -> None:
    near = of_norm("instance", lambda fold: 0.859 - 3 * NOISE[fold], LOST)
    found = explain([*GRAPH, *near])
    assert found.reasons == ()
    assert found.to_run() == []
    assert why(found) == ["No two norms are told apart, so there is no difference to explain."]


def test_it_is_said_that_no_reason_is_supported() -> None:
    texts = why(explain([*GRAPH, *INSTANCE]))
    assert texts[0].startswith("No reason is supported")
    assert len(texts) == 2
    small = [replace(record, measures={"final": KEPT}) for record in INSTANCE]
    assert why(explain([*GRAPH, *small])) == [
        "No reason is supported; no known cause fits the numbers."
    ]
    unmeasured = [replace(record, measures={}) for record in (*GRAPH, *INSTANCE)]
    assert why(explain(unmeasured)) == []


def test_a_norm_that_does_not_train_trails() -> None:
    large = {"input_rms": 1e4}
    good = of_norm("batch", level(0.86), large)
    bad = [
        replace(full(trial("none", fold, failed="the loss is not finite"), large))
        for fold in range(10)
    ]
    trials = group_trials([*good, *bad], (), protocol="nested")
    verdict = judge_trials(trials, Terms(baseline="none"))
    verdict = replace(verdict, trivial=0.6)
    found = Why(trials, verdict)
    (reason,) = found.reasons
    assert (reason.cause, reason.norm, reason.other) == ("feature-scale", "batch", "none")
    assert reason.failing == 10
    assert reason.lead.mean == pytest.approx(0.26 + (sum(EASE) + sum(NOISE)) / 10)
    tests = changed(good, "standardized-features", level(0.86))
    tests |= changed(bad, "standardized-features", level(0.857))
    (reason,) = Why(trials, verdict, tests).reasons
    assert reason.status == SUPPORTED
    assert reason.lead_under_intervention is not None
    assert reason.lead_under_intervention.mean == pytest.approx(0.003)


def test_errors_are_leads_too() -> None:
    graph = of_norm("graph", level(0.50), KEPT, metric="mae")
    instance = of_norm("instance", level(0.60, -1), LOST, metric="mae")
    tests = changed(graph, "mean-as-feature", level(0.50))
    tests |= changed(instance, "mean-as-feature", level(0.501))
    (reason,) = explain([*graph, *instance], tests).reasons
    assert (reason.norm, reason.status) == ("graph", SUPPORTED)
    assert reason.lead.mean == pytest.approx(0.1 - 2 * sum(NOISE) / 10)
    assert reason.lead_under_intervention is not None
    assert reason.lead_under_intervention.mean == pytest.approx(0.001)


def test_the_sentence_of_a_supported_reason() -> None:
    tests = changed(GRAPH, "mean-as-feature", level(0.861, 2))
    tests |= changed(INSTANCE, "mean-as-feature", level(0.857))
    found = explain([*GRAPH, *INSTANCE], tests)
    assert reason_sentence(found.reasons[0], found.verdict.scale) == (
        "graph leads instance by 6 points because it keeps the mean of each graph (supported: "
        "with the means, the size and the degree of each graph given to the readout the lead is "
        "0.4 points [0.0, 0.8], p < 0.001)."
    )


def test_the_table_of_causes() -> None:
    assert len({cause.name for cause in CAUSES}) == len(CAUSES)
    page = (Path(__file__).parents[3] / "docs" / "reasons.md").read_text(encoding="utf-8")
    for cause in CAUSES:
        for evidence in cause.evidence:
            row = next(line for line in page.splitlines() if f"| `{cause.name}` |" in line)
            assert cause.source in row
            assert f"| {evidence.written(evidence.threshold)} |" in page
        assert set(cause.interventions) <= set(INTERVENTIONS)
        assert all(evidence.threshold > 0 for evidence in cause.evidence)
    assert all(f"| `{name}` |" in page for name in INTERVENTIONS)
