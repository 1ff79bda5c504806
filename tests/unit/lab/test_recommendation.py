"""Made-up tables of scores whose right recommendation is worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from tests.verdicts import judge

from graphnorms.lab.across_datasets import across_verdicts
from graphnorms.lab.sentences import sentences
from graphnorms.lab.trivial import Trivial
from graphnorms.lab.verdict import Verdict
from graphnorms.training.record import Record

EPOCHS = 20
EASE = (0, 4, -5, 2, -1, 5, -3, 1, -4, 3)
"""Points by which a fold is easier than the average, for every norm."""


@dataclass(frozen=True, kw_only=True)
class Norm:
    """The trials of one norm: `mean` in points plus `EASE`, and ± `jitter` in turns.

    The corrected standard error of a difference of two norms over ten folds is 0.498 points per
    point of jitter that they do not share (1.054 times the root of 1/10 + 10/81).
    """

    mean: float
    jitter: float = 0.0
    places: int = 10
    fails: tuple[int, ...] = ()
    falls: Mapping[int, float] = field(default_factory=dict)
    reaches: int = EPOCHS
    rates: tuple[float, ...] = ()
    parameters: int = 1000
    ease: bool = True
    train_jitter: float = 0.0


def records_of(name: str, norm: Norm, protocol: str, metric: str, folds: int) -> list[Record]:
    records = []
    unit = 0.01 if metric != "mae" else 1.0
    for place in range(norm.places):
        points = norm.mean + norm.jitter * (-1) ** place - norm.falls.get(place, 0.0)
        score = unit * (points + (EASE[place % 10] if norm.ease else 0))
        stages = [("final", 0.01, score)]
        stages += [("select", 0.01 * 2**k, unit * rate) for k, rate in enumerate(norm.rates)]
        for stage, rate, value in stages:
            failed = stage == "final" and place in norm.fails
            split = {"kind": "given", "folds": 0, "fold": 0, "seed": 0}
            if protocol != "split":
                split |= {"kind": "fold", "folds": folds, "fold": place}
            grown = [min(0.5, 0.4 * epoch / norm.reaches) for epoch in range(1, EPOCHS + 1)]
            moved = 0.5 + 0.01 * norm.train_jitter * (-1) ** place
            train = [moved + g if metric != "mae" else moved - g for g in grown]
            outcome = {"epoch": 1, "validation_score": value, "validation_loss": 1.0}
            test = {"test_score": value} if stage == "final" else {}
            records.append(
                Record(
                    key=f"{name}-{place}-{stage}-{rate}",
                    config={
                        "norm": name,
                        "split": split,
                        "stage": stage,
                        "metric": metric,
                        "run": place if protocol == "split" else 0,
                        "learning_rate": rate,
                        "epochs": EPOCHS,
                    },
                    status="failed" if failed else "done",
                    reason="loss is not finite" if failed else "",
                    history={} if failed else {"train_score": train},
                    outcome={} if failed else outcome | test,
                    counts={
                        "parameters": norm.parameters,
                        "train_items": 81,
                        "test_items": 10,
                        "steps_per_epoch": 1,
                    },
                )
            )
    return records


def judged(
    norms: Mapping[str, Norm],
    *,
    protocol: str = "nested",
    metric: str = "accuracy",
    chance: float | None = 0.5,
    train_chance: float = 0.5,
) -> Verdict:
    folds = max(norm.places for norm in norms.values())
    records = [
        record
        for name, norm in norms.items()
        for record in records_of(name, norm, protocol, metric, folds)
    ]
    trivial = None
    if chance is not None:
        trivial = Trivial(held_out=[chance] * folds, train=[train_chance] * folds)
    return judge(records, protocol=protocol, trivial=trivial, norms=tuple(norms))


HARD = tuple(range(10, 20))
COLLAPSE = dict.fromkeys(HARD, 15.0)

# Norms; how they are judged; the norm to recommend and what decides, or None; what is unproven.
TABLES: dict[str, tuple[dict[str, Norm], dict, tuple[str, str] | None, set[str]]] = {
    "a clear winner": (
        {"none": Norm(mean=70), "graph": Norm(mean=90, jitter=1)},
        {},
        ("graph", "score"),
        set(),
    ),
    "the best mean of noise": (
        {"none": Norm(mean=80), "graph": Norm(mean=80.3, jitter=3)},
        {},
        ("graph", "score"),
        {"none"},
    ),
    "noise is no candidate, however soon": (
        {"none": Norm(mean=79.5, jitter=3, reaches=2), "graph": Norm(mean=80)},
        {},
        ("graph", "score"),
        {"none"},
    ),
    "a constant 0.1 points is equal, and speed decides": (
        {"none": Norm(mean=80, reaches=5), "batch": Norm(mean=80.1)},
        {},
        ("none", "speed"),
        set(),
    ),
    "a constant 0.1 points, and simplicity decides": (
        {"none": Norm(mean=80), "batch": Norm(mean=80.1, parameters=2000)},
        {},
        ("none", "simplicity"),
        set(),
    ),
    "a constant 0.1 points, and a failure decides": (
        {"none": Norm(mean=80), "batch": Norm(mean=80.1, fails=(3,))},
        {},
        ("none", "robustness"),
        set(),
    ),
    "a constant 0.1 points, and nothing else": (
        {"none": Norm(mean=80), "batch": Norm(mean=80.1)},
        {},
        ("batch", "mean"),
        set(),
    ),
    "equal in everything": (
        {"graph": Norm(mean=80), "batch": Norm(mean=80)},
        {},
        ("batch", "name"),
        set(),
    ),
    "what needs the edges is less simple": (
        {"adja": Norm(mean=80.1), "batch": Norm(mean=80, parameters=2000)},
        {},
        ("batch", "simplicity"),
        set(),
    ),
    "exactly the margin is not within it": (
        {"none": Norm(mean=80, reaches=5), "batch": Norm(mean=81)},
        {},
        ("batch", "score"),
        set(),
    ),
    "just within the margin": (
        {"none": Norm(mean=80, reaches=5), "batch": Norm(mean=80.9)},
        {},
        ("none", "speed"),
        set(),
    ),
    # 0.5 ± 0.0498 t(9): |d| is 5 half points of standard error under the margin.
    "shown equal through noise": (
        {"none": Norm(mean=80, reaches=5), "batch": Norm(mean=80.5, jitter=0.2)},
        {},
        ("none", "speed"),
        set(),
    ),
    # t = 0.5 / 0.498 = 1.004 is too little to show that 0.5 is under 1, and to tell 0.5 from 0.
    "not shown equal through more of it": (
        {"none": Norm(mean=80, reaches=5), "batch": Norm(mean=80.5, jitter=1)},
        {},
        ("batch", "score"),
        {"none"},
    ),
    "equal to an equal is not equal to the leader": (
        {
            "none": Norm(mean=78.8, reaches=2),
            "batch": Norm(mean=79.4, reaches=5),
            "graph": Norm(mean=80),
        },
        {},
        ("batch", "speed"),
        set(),
    ),
    "one worse, one unproven": (
        {"none": Norm(mean=60), "batch": Norm(mean=79.5, jitter=3), "graph": Norm(mean=80)},
        {},
        ("graph", "score"),
        {"batch"},
    ),
    "one equal, one unproven": (
        {
            "none": Norm(mean=79.9, reaches=5),
            "batch": Norm(mean=79.5, jitter=3),
            "graph": Norm(mean=80),
        },
        {},
        ("none", "speed"),
        {"batch"},
    ),
    # d = batch − none is 15 on the hard folds and −0.5 on the others: 7.25 ± 2.8, t(19) = 2.6.
    "a norm that fails where it is hard does not choose the folds": (
        {
            "none": Norm(mean=80.5, places=20, falls=COLLAPSE),
            "batch": Norm(mean=80, places=20),
            "graph": Norm(mean=79, places=20, fails=HARD),
        },
        {},
        ("batch", "score"),
        set(),
    ),
    "the same over seeds": (
        {
            "none": Norm(mean=80.5, places=20, falls=COLLAPSE),
            "batch": Norm(mean=80, places=20),
            "graph": Norm(mean=79, places=20, fails=HARD),
        },
        {"protocol": "split"},
        ("batch", "score"),
        set(),
    ),
    "one failure leaves its fold out for all": (
        # On the nine folds that both have, `batch` leads by 1.5; alone, `none` has the better mean.
        {
            "none": Norm(mean=80, fails=(2,)),
            "batch": Norm(mean=81.5, falls={2: 40.0}),
        },
        {},
        ("batch", "score"),
        set(),
    ),
    "four of ten diverge": (
        {"none": Norm(mean=70), "graph": Norm(mean=90, fails=(1, 3, 5, 7))},
        {},
        ("none", "score"),
        set(),
    ),
    "one of ten may": (
        {"none": Norm(mean=70), "graph": Norm(mean=90, fails=(1,))},
        {},
        ("graph", "score"),
        set(),
    ),
    "two of ten may not": (
        {"none": Norm(mean=70), "graph": Norm(mean=90, fails=(1, 2))},
        {},
        ("none", "score"),
        set(),
    ),
    "all norms fail too often": (
        {"none": Norm(mean=70, fails=(0, 1)), "graph": Norm(mean=90, fails=(0, 1))},
        {},
        None,
        set(),
    ),
    "nothing beats the frequent class": (
        {"none": Norm(mean=66.5, ease=False), "graph": Norm(mean=66.5, ease=False)},
        {"chance": 0.665},
        None,
        set(),
    ),
    "the best is below the frequent class": (
        {"none": Norm(mean=60), "graph": Norm(mean=62)},
        {"chance": 0.665},
        None,
        set(),
    ),
    "an equal of the leader at chance is no candidate": (
        {"none": Norm(mean=66.4, reaches=2), "graph": Norm(mean=67)},
        {"chance": 0.667},
        ("graph", "score"),
        set(),
    ),
    # Six classes: `instance` stays at chance, soon and at every rate alike.
    "the worst of six classes": (
        {
            "none": Norm(mean=45, rates=(45, 44, 30)),
            "batch": Norm(mean=42, jitter=5),
            "instance": Norm(mean=17.8, jitter=8, reaches=2, rates=(17, 17, 17)),
        },
        {"chance": 0.167, "train_chance": 0.167},
        ("none", "score"),
        {"batch"},
    ),
    "a ROC-AUC of one half": (
        {"none": Norm(mean=49.8), "graph": Norm(mean=49.6)},
        {"metric": "roc_auc", "chance": None},
        None,
        set(),
    ),
    "a lower error": (
        {"none": Norm(mean=0.7, ease=False), "graph": Norm(mean=0.4, ease=False)},
        {"metric": "mae", "chance": 1.0, "train_chance": 1.0},
        ("graph", "score"),
        set(),
    ),
    "errors beyond that of the mean target": (
        {"none": Norm(mean=1.3, ease=False), "graph": Norm(mean=1.1, ease=False)},
        {"metric": "mae", "chance": 1.0, "train_chance": 1.0},
        None,
        set(),
    ),
    # All of the norm's own rates are alike, but ten points below the leader's best.
    "near the leader's best, not its own": (
        {
            "none": Norm(mean=80, rates=(70, 70, 70)),
            "batch": Norm(mean=79.9, rates=(80, 70, 70)),
        },
        {},
        ("none", "mean"),
        set(),
    ),
    "rates near the leader's best": (
        {
            "none": Norm(mean=80, rates=(80, 70, 70)),
            "batch": Norm(mean=79.9, rates=(79, 81, 70)),
        },
        {},
        ("batch", "robustness"),
        set(),
    ),
    "too few folds": (
        {"none": Norm(mean=50, places=3), "graph": Norm(mean=90, places=3)},
        {},
        None,
        set(),
    ),
    "two lucky folds": (
        {"none": Norm(mean=70), "batch": Norm(mean=80), "graph": Norm(mean=95, places=2)},
        {},
        ("batch", "score"),
        set(),
    ),
    "one norm": ({"graph": Norm(mean=80)}, {}, None, set()),
    "seeds on a split": (
        {"none": Norm(mean=80, reaches=5), "graph": Norm(mean=80.1)},
        {"protocol": "split"},
        ("none", "speed"),
        set(),
    ),
}


@pytest.mark.parametrize(("norms", "how", "right", "unproven"), TABLES.values(), ids=TABLES)
def test_the_norm_recommended(norms, how, right, unproven) -> None:
    verdict = judged(norms, **how)
    found = verdict.recommendation
    assert (found and (found.norm, found.decided_by)) == right
    assert set(found.unproven if found else ()) == unproven
    if found:
        assert verdict.best in found.among
        assert sentences(verdict).advice.startswith("Recommended")


@pytest.mark.parametrize(("norms", "how"), [case[:2] for case in TABLES.values()], ids=TABLES)
def test_the_signs_of_the_tests_are_those_of_the_ranks(norms, how) -> None:
    """Of contenders: nothing that is told apart from the best is better than it."""
    verdict = judged(norms, **how)
    higher = verdict.scale.metric.higher_is_better
    for test in verdict.differences:
        if {test.first, test.second} <= set(verdict.contenders):
            assert test.pairs == verdict.shared
            mean = test.estimate.mean if higher else -test.estimate.mean
            assert mean >= -1e-12


def test_it_is_said_on_which_trials_and_who_was_not_ranked() -> None:
    verdict = judged(TABLES["one failure leaves its fold out for all"][0])
    assert (verdict.shared, verdict.completed) == (9, 10)
    assert "Compared on the 9 of 10 trials that every norm ranked here" in sentences(verdict).score
    norms = TABLES["a norm that fails where it is hard does not choose the folds"][0]
    verdict = judged(norms)
    assert (verdict.shared, verdict.contenders) == (20, ("batch", "none"))
    assert "more than 10% failed: graph (10 of 20 trials failed)" in sentences(verdict).score
    assert "batch is best" in sentences(verdict).score


def test_the_sentence_that_recommends_says_how_many_trials_failed() -> None:
    verdict = judged({"none": Norm(mean=70), "graph": Norm(mean=90, fails=(1,))})
    assert "1 of its 10 trials failed" in sentences(verdict).advice


def test_what_is_not_shown_is_called_unproven() -> None:
    verdict = judged({"none": Norm(mean=80), "graph": Norm(mean=80.3, jitter=3)})
    assert "the best mean, not shown to be better than 'none'" in sentences(verdict).advice
    verdict = judged({"none": Norm(mean=60), "graph": Norm(mean=80)})
    assert "shown to be better than every other norm" in sentences(verdict).advice


def test_at_chance_nothing_is_recommended_timed_or_given_a_target() -> None:
    at_chance = {"none": Norm(mean=60), "graph": Norm(mean=62)}
    verdict = judged(at_chance, chance=0.665, train_chance=0.665)
    assert (verdict.trivial, verdict.target, verdict.speed_order) == (0.665, None, ())
    assert verdict.row("graph").steps_to_target is None
    assert "graph, the best, is no better than predicting the most" in sentences(verdict).advice
    assert "(66.5%)" in sentences(verdict).advice
    assert sentences(verdict).advice.startswith("No norm is recommended")
    # Beside norms that learn, one at chance is not timed, though it is soonest.
    verdict = judged({"none": Norm(mean=60, reaches=2), "graph": Norm(mean=80)}, chance=0.665)
    assert verdict.speed_order == ("graph",)
    assert verdict.row("none").steps_to_target is None
    assert "not shown to beat predicting" in sentences(verdict).speed


def test_a_training_target_beats_the_trivial_predictor() -> None:
    """`none` trains to 0.5 + 0.4 · 20 / 40 = 0.7, `graph` to 0.9."""
    norms = {"none": Norm(mean=70, reaches=40), "graph": Norm(mean=80)}
    target = judged(norms, train_chance=0.6).target
    assert target is not None
    assert (target.score, target.source) == (0.7, "none")
    target = judged(norms, train_chance=0.705).target
    assert target is not None
    assert (target.score, target.source) == (0.9, None)
    assert judged(norms, train_chance=0.9).target is None


@pytest.mark.parametrize(
    ("protocol", "metric", "chance"),
    [("nested", "accuracy", 0.5), ("split", "accuracy", 0.5), ("nested", "mae", 99.0)],
)
def test_only_what_is_shown_to_train_is_timed(protocol: str, metric: str, chance: float) -> None:
    """± 10 points over the folds are a standard error of 5: 3.5 points are nothing, 23.5 are."""
    train_chance = 0.665 if metric == "accuracy" else 0.335

    def at_chance_and_beyond(places: int) -> Verdict:
        none = Norm(mean=80, reaches=40, train_jitter=10, places=places)
        graph = Norm(mean=80, train_jitter=10, places=places)
        norms = {"none": none, "graph": graph}
        return judged(
            norms, protocol=protocol, metric=metric, chance=chance, train_chance=train_chance
        )

    verdict = at_chance_and_beyond(10)
    assert verdict.speed_order == ("graph",)
    assert verdict.target is not None
    assert verdict.target.source is None
    assert "Not timed: " in sentences(verdict).speed
    # Of too few nothing is judged, and the mean decides.
    assert set(at_chance_and_beyond(2).speed_order) == {"none", "graph"}


def test_what_is_not_shown_to_beat_chance_is_said() -> None:
    norms = {"none": Norm(mean=50), "graph": Norm(mean=68)}
    # ± 3.5 points by the folds, 1.65 as standard error: 1.5 points are nothing, 18 are.
    near = judged(norms, chance=0.665).recommendation
    far = judged(norms, chance=0.5).recommendation
    unknown = judged(norms, chance=None)
    assert near is not None
    assert far is not None
    assert unknown.recommendation is not None
    assert (near.above_trivial, far.above_trivial) == (False, True)
    assert unknown.recommendation.above_trivial is None
    assert "Not compared with predicting the most frequent class" in sentences(unknown).advice
    assert "not shown to be better than predicting" in sentences(judged(norms, chance=0.665)).advice


def test_rates_are_near_the_best_of_the_leader() -> None:
    verdict = judged(TABLES["the worst of six classes"][0], chance=0.167)
    near = {row.norm: row.sensitivity.near for row in verdict.rows if row.sensitivity}
    assert (near["none"], near["instance"]) == (2, 0)
    assert "within 2 points of the best of 'none'" in sentences(verdict).rates


def test_over_data_sets_a_norm_that_fails_too_often_is_left_out() -> None:
    failing = {
        "none": Norm(mean=70),
        "batch": Norm(mean=75),
        "graph": Norm(mean=90, fails=(1, 3, 5)),
    }
    sound = {"none": Norm(mean=70), "batch": Norm(mean=75), "graph": Norm(mean=90)}
    across = across_verdicts({"one": judged(failing), "other": judged(sound)})
    assert across.ranks == {"batch": 1.0, "none": 2.0}
