"""Tables of scores, read and judged: against SciPy, statsmodels, baycomp and GraphNetz."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import baycomp
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW
from tests.records import synthetic_records
from tests.verdicts import judge as judge_records

import graphnorms
from graphnorms.lab.frames import records_to_frame
from graphnorms.lab.paired_tests import PairedTest
from graphnorms.lab.score_entries import MOST_METHODS
from graphnorms.lab.score_metric import metric_of

HERE = Path(__file__).parent
METHODS = {"GCN": 0.80, "GIN": 0.83, "GAT": 0.805}


def rows(
    repeats: int = 10, *, column: str = "seed", noise: float = 0.01, **constant: Any
) -> list[dict[str, Any]]:
    """Scores of three methods on common repeats."""
    rng = np.random.default_rng([repeats, len(column)])
    hard = rng.normal(0, 0.02, repeats)
    return [
        {
            "model": method,
            column: repeat,
            "accuracy": float(mean + hard[repeat] + rng.normal(0, noise)),
            **constant,
        }
        for method, mean in METHODS.items()
        for repeat in range(repeats)
    ]


def table(**choice: Any) -> pd.DataFrame:
    return pd.DataFrame(rows(**choice))


def by_pair(tests: tuple[PairedTest, ...]) -> dict[tuple[str, str], PairedTest]:
    """The tests by their two methods in the order of the alphabet."""
    turned = (test if test.first < test.second else test.reversed() for test in tests)
    return {(test.first, test.second): test for test in turned}


def differences(frame: pd.DataFrame, column: str = "seed") -> dict[tuple[str, str], np.ndarray]:
    wide = frame.pivot(index=column, columns="model", values="accuracy")
    return {
        pair: (wide[pair[0]] - wide[pair[1]]).to_numpy()
        for pair in itertools.combinations(sorted(wide.columns), 2)
    }


def test_independent_splits_are_judged_as_other_packages_do() -> None:
    """No correction: the t-test of SciPy, Holm of statsmodels, TOST of statsmodels."""
    frame = table(column="split")
    verdict = graphnorms.judge(frame, test_share=0.0, margin=0.02).verdict
    found, each = by_pair(verdict.differences), differences(frame, "split")
    raw = {pair: stats.ttest_1samp(d, 0.0).pvalue for pair, d in each.items()}
    tost = {pair: DescrStatsW(d).ttost_mean(-0.02, 0.02)[0] for pair, d in each.items()}
    for values, ours in ((raw, "adjusted_p"), (tost, "adjusted_equivalence_p")):
        adjusted = multipletests(list(values.values()), method="holm")[1]
        for pair, p in zip(values, adjusted, strict=True):
            assert getattr(found[pair], ours) == pytest.approx(p, abs=1e-12)
    for pair, p in raw.items():
        assert found[pair].p_value == pytest.approx(p, abs=1e-12)
        assert found[pair].equivalence_p == pytest.approx(tost[pair], abs=1e-12)


def test_resampled_splits_are_corrected_as_baycomp_does() -> None:
    """Its posterior is the corrected t distribution, so that p follows from its two sides."""
    frame = table(column="split")
    found = by_pair(graphnorms.judge(frame, test_share=0.2, margin=0.01).verdict.differences)
    for pair, d in differences(frame, "split").items():
        left, equal, right = baycomp.CorrelatedTTest.probs(
            d, np.zeros(d.size), rope=0.01, runs=2
        )  # of two runs of five folds: n_test / n_train is 1/4
        odds = found[pair].probabilities
        assert odds is not None
        assert (odds.first, odds.equal, odds.second) == pytest.approx((left, equal, right))
        error = d.std(ddof=1) * np.sqrt(1 / d.size + 0.25)
        p = 2 * stats.t.sf(abs(d.mean()) / error, d.size - 1)
        assert found[pair].p_value == pytest.approx(p)


def test_graphnetz_and_we_agree_where_nothing_is_corrected() -> None:
    """A report of GraphNetz 0.2.0, and what it says of it itself."""
    judged = graphnorms.judge(HERE / "graphnetz_report.json", test_share=0.0, margin=0.01)
    assert [one.name for one in judged.sets] == ["MUTAG", "sizes"]
    assert [one.verdict.scale.metric.name for one in judged.sets] == ["accuracy", "mae"]
    theirs = pd.read_csv(HERE / "graphnetz_pairwise.csv").merge(
        pd.read_csv(HERE / "graphnetz_equivalence.csv"), on=["task", "model_a", "model_b"]
    )
    verdicts = {one.name: one.verdict for one in judged.sets}
    compared = 0
    for _, row in theirs.iterrows():
        test = by_pair(verdicts[row["task"]].differences)[row["model_a"], row["model_b"]]
        assert test.estimate.mean == pytest.approx(row["mean_diff_x"], abs=1e-12)
        assert test.deviation == pytest.approx(row["sigma_d"], abs=1e-12)
        if np.isnan(row["p_raw"]):  # two models that always say the same
            assert test.p_value == 1.0
            continue
        assert test.p_value == pytest.approx(row["p_raw"], abs=1e-12)
        assert test.equivalence_p == pytest.approx(row["p_tost_raw"], abs=1e-12)
        compared += 1
        if row["task"] == "sizes":  # where no test is undefined, so that Holm counts alike
            assert test.adjusted_p == pytest.approx(row["p_holm"], abs=1e-12)
            assert test.adjusted_equivalence_p == pytest.approx(row["p_tost_holm"], abs=1e-12)
    assert compared == 5


def test_graphnetz_splits_are_taken_to_overlap() -> None:
    judged = graphnorms.judge(HERE / "graphnetz_report.json")
    assert judged.assumed.name == "resampled"
    assert judged.sets[0].verdict.design.test_ratio == pytest.approx(0.1 / 0.8)
    assert graphnorms.judge(HERE / "graphnetz_report.json", design="seeds").assumed.name == "seeds"


def test_a_report_of_graphnetz_at_the_best_epoch(tmp_path: Path) -> None:
    data = json.loads((HERE / "graphnetz_report.json").read_text())
    data["options"]["epoch_selection"] = "best_val"
    (tmp_path / "report.json").write_text(json.dumps(data))
    judged = graphnorms.judge(tmp_path / "report.json")
    history = data["histories"]["sizes"]["GIN"][3]
    best = int(np.argmin(history["val_mae"]))
    scores = judged.sets[1].trials["GIN"].scores()
    assert scores[0, 3, 0] == history["test_mae"][best]
    data["histories"]["sizes"]["GIN"].pop()
    (tmp_path / "report.json").write_text(json.dumps(data))
    with pytest.raises(graphnorms.GraphnormsError, match="without a score"):
        graphnorms.judge(tmp_path / "report.json")


@pytest.mark.parametrize("protocol", ["nested", "split"])
def test_our_own_trials_give_the_same_verdict(protocol: str, tmp_path: Path) -> None:
    """What is written by `to_frame().to_csv` is judged as the run is, to the last bit."""
    records = synthetic_records(
        protocol=protocol, failed=lambda norm, place: norm == "layer" and place < 3
    )
    verdict = judge_records(records, protocol=protocol)
    records_to_frame(records).to_csv(tmp_path / "trials.csv", index=False)
    for source in (tmp_path / "trials.csv", records_to_frame(records)):
        judged = graphnorms.judge(source).verdict
        assert judged.differences == verdict.differences
        for key in ("best", "tied", "contenders", "margin", "detectable_after", "shared"):
            assert getattr(judged, key) == getattr(verdict, key)
        if protocol == "nested":
            assert judged.detectable_before == verdict.detectable_before
        assert [(row.norm, row.score, row.failed) for row in judged.rows] == [
            (row.norm, row.score, row.failed) for row in verdict.rows
        ]


def test_every_form_of_a_table_gives_the_same_verdict(tmp_path: Path) -> None:
    frame = table()
    expected = graphnorms.judge(frame).verdict.differences
    wide = frame.pivot(index="seed", columns="model", values="accuracy").reset_index()
    across = frame.pivot(index="model", columns="seed", values="accuracy")
    across.columns = [f"seed {seed}" for seed in across.columns]
    frame.to_csv(tmp_path / "long.csv", index=False)
    frame.to_csv(tmp_path / "long.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "index.csv")
    frame.to_csv(tmp_path / "comma.csv", index=False, sep=";", decimal=",")
    frame.to_parquet(tmp_path / "long.parquet")
    frame.to_json(tmp_path / "rows.jsonl", orient="records", lines=True, double_precision=15)
    wide.to_csv(tmp_path / "wide.csv", index=False)
    across.reset_index().to_csv(tmp_path / "across.csv", index=False)
    sources = [*sorted(tmp_path.iterdir()), rows(), frame.to_dict("list"), wide]
    sources.append(frame.set_index(["model", "seed"]))
    for source in sources:
        found = graphnorms.judge(source).verdict.differences
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours.first, ours.second) == (theirs.first, theirs.second)
            assert ours.estimate.mean == pytest.approx(theirs.estimate.mean, abs=1e-12)
            assert ours.adjusted_p == theirs.adjusted_p


def test_percentages_are_fractions() -> None:
    frame = table()
    expected = graphnorms.judge(frame).verdict
    percent = graphnorms.judge(frame.assign(accuracy=100 * frame["accuracy"])).verdict
    text = graphnorms.judge(frame.assign(accuracy=[f"{100 * x:.10f}%" for x in frame["accuracy"]]))
    for found in (percent, text.verdict):
        assert found.margin == expected.margin == 0.01
        for ours, theirs in zip(found.differences, expected.differences, strict=True):
            assert ours.estimate.mean == pytest.approx(theirs.estimate.mean)


@pytest.mark.parametrize(
    ("name", "values", "higher", "fraction", "percent"),
    [
        ("test_acc", [0.8, 0.9], True, True, False),
        ("Accuracy (%)", [80.0, 90.0], True, True, True),
        ("val/auroc", [0.5, 0.7], True, True, False),
        ("hits@10", [12.0, 30.0], True, True, True),
        ("test_mae", [0.4, 2.0], False, False, False),
        ("RMSE", [0.1, 0.2], False, False, False),
        ("error rate", [0.1, 0.2], False, True, False),
        ("mcc", [-0.1, 0.5], True, False, False),
        ("std_mae", [0.2, 0.3], False, False, False),
        ("quality", [0.1, 0.5], True, True, False),
        ("quality", [3.0, 500.0], True, False, False),
        ("test MAE (eV)", [0.1, 0.5], False, False, False),
        ("test_mae_ev", [0.1, 0.5], False, False, False),
        ("RMSE [kcal/mol]", [1.1, 1.5], False, False, False),
        ("Test Accuracy (%)", [80.0, 90.0], True, True, True),
        ("perplexity", [20.0, 30.0], False, False, False),
    ],
)
def test_what_a_metric_is(
    name: str, values: list[float], higher: bool, fraction: bool, percent: bool
) -> None:
    found = metric_of(name, values)
    assert (found.metric.higher_is_better, found.metric.fraction, found.percent) == (
        higher,
        fraction,
        percent,
    )
    assert metric_of(name, values, higher=not higher).metric.higher_is_better is not higher


def test_numbers_of_runs_are_no_methods() -> None:
    """A column of text has them, whatever the header is called; equal numbers are paired."""
    expected = graphnorms.judge(rows()).verdict.differences
    for method, run in (("Modell", "Lauf"), ("name", "experiment"), ("algo", "rep_no")):
        named = [{method: r["model"], run: r["seed"], "accuracy": r["accuracy"]} for r in rows()]
        shuffled = [named[at] for at in np.random.default_rng(0).permutation(len(named))]
        judged = graphnorms.judge(shuffled)
        assert judged.verdict.differences == expected
        assert f"Column {run!r} has the same numbers for every method" in "".join(judged.notes)


def test_decimal_commas_with_percent_signs(tmp_path: Path) -> None:
    lines = [f"{r['model']};{r['seed']};{100 * r['accuracy']:.8f} %" for r in rows()]
    text = "model;seed;accuracy\n" + "\n".join(lines).replace(".", ",")
    (tmp_path / "a.csv").write_text(text)
    found, expected = graphnorms.judge(tmp_path / "a.csv").verdict, graphnorms.judge(rows()).verdict
    for ours, theirs in zip(found.differences, expected.differences, strict=True):
        assert ours.estimate.mean == pytest.approx(theirs.estimate.mean)


def test_a_wide_table_has_the_margin_of_a_long_one() -> None:
    wide = table(column="fold").pivot(index="fold", columns="model", values="accuracy")
    judged = graphnorms.judge(wide.reset_index())
    assert judged.verdict.margin == graphnorms.judge(table(column="fold")).verdict.margin == 0.01
    folds = wide.T.set_axis([f"fold{fold}" for fold in wide.index], axis=1).reset_index()
    notes = "".join(graphnorms.judge(folds).notes)
    assert "One column per fold: fold0, fold1, fold2, fold3, fold4, fold5 and 4 more." in notes


@pytest.mark.parametrize(
    ("change", "design", "ratio"),
    [
        ({"column": "seed"}, "seeds", 0.0),
        ({"column": "fold"}, "folds", 1 / 9),
        ({"column": "split"}, "resampled", 0.25),
        ({"column": "run", "train_items": 80, "test_items": 20}, "seeds", 0.0),
        ({"column": "fold", "train_items": 800, "test_items": 100}, "folds", 0.125),
        ({"column": "split", "train_items": 600, "test_items": 100}, "resampled", 1 / 6),
    ],
)
def test_the_design_is_guessed(change: dict[str, Any], design: str, ratio: float) -> None:
    judged = graphnorms.judge(table(**change))
    assert judged.assumed.name == design
    assert judged.verdict.design.test_ratio == pytest.approx(ratio)
    assert judged.design[0].startswith("Design: ")
    assert judged.design[1].startswith("If that is wrong: ")


def test_repeated_cross_validation_and_seeds_within_folds() -> None:
    """25 values of 5 × 5 folds; of 5 folds with 5 seeds each, 5 means."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        [
            {"algo": algo, "repeat": repeat, "fold": fold, "rmse": rng.normal(1, 0.1)}
            for algo in "ab"
            for repeat in range(5)
            for fold in range(5)
        ]
    )
    test = graphnorms.judge(frame).verdict.differences[0]
    assert test.pairs == 25
    within = graphnorms.judge(frame.rename(columns={"repeat": "seed"})).verdict
    assert within.differences[0].pairs == 5
    assert within.differences[0].estimate.mean == pytest.approx(
        test.estimate.mean if test.first == within.differences[0].first else -test.estimate.mean
    )
    flat = frame.assign(fold=frame["repeat"] * 5 + frame["fold"]).drop(columns="repeat")
    assert graphnorms.judge(flat).verdict.design.test_ratio == pytest.approx(1 / 24)
    shared = graphnorms.judge(flat, test_share=0.2).verdict
    assert shared.design.test_ratio == pytest.approx(1 / 4)
    assert shared.differences[0].p_value == pytest.approx(test.p_value)


def test_what_follows_if_the_design_is_wrong() -> None:
    """A small difference that seeds on one split show, and splits that overlap do not."""
    frame = table(noise=0.008)
    as_seeds = {
        frozenset((t.first, t.second))
        for t in graphnorms.judge(frame).verdict.differences
        if t.told_apart
    }
    as_splits = {
        frozenset((t.first, t.second))
        for t in graphnorms.judge(frame, design="resampled", test_share=0.2).verdict.differences
        if t.told_apart
    }
    lost = as_seeds - as_splits
    assert lost
    said = graphnorms.judge(frame).design[1]
    for pair in lost:
        assert " from ".join(sorted(pair)) in said
    assert "not be told apart" in said


def test_unequal_repeats_are_paired_and_the_rest_is_named() -> None:
    frame = table(repeats=12)
    lacking = frame[~((frame["model"] == "GAT") & frame["seed"].isin([3, 7]))]
    judged = graphnorms.judge(lacking)
    kept = graphnorms.judge(frame[~frame["seed"].isin([3, 7])])
    assert judged.verdict.differences == kept.verdict.differences
    assert any("GAT" in note and "3 and 7" in note for note in judged.notes)
    few = frame[(frame["model"] != "GAT") | (frame["seed"] < 2)]
    assert graphnorms.judge(few).verdict.contenders == ("GIN", "GCN")


def test_failed_trials_are_left_out_and_named() -> None:
    frame = table(repeats=12)
    score = frame["accuracy"].astype(object)
    score[3], score[20] = float("nan"), "OOM"
    judged = graphnorms.judge(frame.assign(accuracy=score))
    failed = {row.norm: (row.failed, row.reasons) for row in judged.verdict.rows}
    assert failed == {
        "GCN": (1, (("no score", 1),)),
        "GIN": (1, (("oom", 1),)),
        "GAT": (0, ()),
    }
    assert judged.verdict.shared == 10


def test_one_score_per_method_orders_and_tests_nothing() -> None:
    judged = graphnorms.judge([{"model": "a", "acc": 0.8}, {"model": "b", "acc": 0.9}])
    assert not judged.verdict.conclusive
    assert judged.verdict.recommended is None
    assert [row.norm for row in judged.verdict.rows] == ["b", "a"]
    assert any("nothing can be tested" in note for note in judged.notes)


def test_scores_with_their_deviation_rank_over_data_sets() -> None:
    frame = pd.DataFrame(
        {
            "Dataset": list("ABCDEFG"),
            "x": ["80.1 ± 1.2"] * 7,
            "y": ["82.0±0.9"] * 7,
            "z": [79.0] * 7,
        }
    )
    judged = graphnorms.judge(frame)
    assert judged.ranked_only
    assert judged.across is not None
    assert judged.across.ranks == {"y": 1.0, "x": 2.0, "z": 3.0}
    with pytest.raises(ValueError, match="7 data sets"):
        judged.verdict  # noqa: B018


def test_several_data_sets_are_judged_and_ranked() -> None:
    frame = pd.concat([table(dataset=name) for name in ("A", "B", "C")])
    judged = graphnorms.judge(frame)
    alone = graphnorms.judge(table())
    assert [one.verdict.differences for one in judged.sets] == [alone.verdict.differences] * 3
    assert judged.across is not None
    assert list(judged.across.ranks) == ["GIN", "GAT", "GCN"]
    assert json.loads(json.dumps(judged.to_dict(), allow_nan=False))["across"]["decisive"] == []


def test_a_data_set_with_one_method_and_a_method_that_failed_on_one() -> None:
    frame = pd.concat([table(dataset=name) for name in ("A", "B", "C")])
    alone = frame[(frame["dataset"] == "A") & (frame["model"] == "GCN")].assign(dataset="alone")
    failed = (frame["dataset"] == "B") & (frame["model"] == "GAT")
    frame = pd.concat([frame.assign(accuracy=frame["accuracy"].mask(failed)), alone])
    judged = graphnorms.judge(frame)
    assert judged.across is not None
    assert judged.across.datasets == ("A", "B", "C")
    assert list(judged.across.ranks) == ["GIN", "GCN"]
    assert "alone" in judged.ranks
    assert "GAT" in judged.ranks


def test_an_export_of_weights_and_biases() -> None:
    frame = pd.DataFrame(
        [
            {
                "Name": f"run-{i}", "State": "crashed" if i == 4 else "finished", "Notes": "-",
                "Created": "2026-10-01", "Runtime": 12, "Sweep": "s", "model.type": row["model"],
                "seed": row["seed"], "lr": 0.01, "test/acc": "" if i == 4 else row["accuracy"],
                "val/acc": 0.9, "train/loss": 0.1, "_step": 100,
            }
            for i, row in enumerate(rows(repeats=12))
        ]
    )  # fmt: skip
    judged = graphnorms.judge(frame)
    assert judged.reading.roles.columns["method"] == "model.type"
    assert judged.reading.roles.columns["score"] == "test/acc"
    assert judged.verdict.row("GCN").reasons == (("crashed", 1),)
    assert judged.verdict.shared == 11


def test_results_of_graphgym(tmp_path: Path) -> None:
    """The score of a seed is that of the test part at the best epoch by validation."""
    for row in rows(repeats=6):
        folder = tmp_path / f"grid-layer_type={row['model']}-depth=2" / str(row["seed"])
        for part in ("train", "val", "test"):
            (folder / part).mkdir(parents=True)
            lines = [
                {"epoch": 0, "loss": 1.0, "accuracy": 0.1},
                {"epoch": 1, "loss": 0.5, "accuracy": row["accuracy"] if part == "test" else 0.9},
                {"epoch": 2, "loss": 0.4, "accuracy": 0.99 if part == "test" else 0.8},
            ]
            (folder / part / "stats.json").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "agg").mkdir()
    judged = graphnorms.judge(tmp_path)
    expected = graphnorms.judge(rows(repeats=6))
    # "layer_type" is the one setting that varies, and so names the methods.
    names = {test.first: test for test in judged.verdict.differences}
    assert names.keys() == {test.first for test in expected.verdict.differences}
    assert judged.verdict.differences == expected.verdict.differences
    with pytest.raises(ValueError, match="no results of GraphGym"):
        graphnorms.judge(tmp_path / "agg")


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (rows(), {"score": "acc"}, "unknown column .*did you mean accuracy"),
        (rows(), {"method": "architecture"}, "unknown column"),
        ([r for r in rows() if r["model"] == "GIN"], {}, "one method, 'GIN', with 10 scores"),
        ([*rows(), {"model": "GIN", "seed": 3, "accuracy": 0.5}], {}, "there twice .*'accuracy'"),
        ([{**rows()[0], "accuracy": "good"}, *rows()[1:]], {}, "no number, e.g. 'good' in row 1"),
        (
            [r | {"accuracy": r["accuracy"] * (100 if r["model"] == "GIN" else 1)} for r in rows()],
            {},
            "scores of 'GCN' and 'GAT' are fractions, and those of 'GIN' percentages",
        ),
        ([{"x": "b", "y": "a"}], {}, "no column looks like the scores"),
        ([{"x": 1, "acc": 0.5}, {"x": 2, "acc": 0.6}], {}, "no column looks like the methods"),
        ([], {}, "no rows"),
        (rows(), {"design": "fold"}, "unknown design"),
        (rows(), {"design": "datasets"}, "ranks methods over data sets"),
        (rows(), {"test_share": 0.2}, "has none"),
        (rows(column="split"), {"test_share": 1.5}, "test share is 1.5"),
        (rows(), {"margin": -1.0}, "margin is -1"),
        (rows(), {"margin": 1.0}, "0.01 is one point"),
        (rows(repeats=1, column="fold"), {"design": "folds"}, "two folds at least"),
        ([{**r, "accuracy": None} for r in rows()], {}, "nothing to judge|looks like the scores"),
        (3, {}, "expected a file"),
    ],
)
def test_bad_input(source: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        graphnorms.judge(source, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "no rows"),
        ("a.csv", "acc\n0.5\n", "one column"),
        ("a.csv", "model,seed,acc\na,0\n", "line 2 has 2 entries"),
        ("a.csv", "model,model,acc\na,0,1\n", "'model' 2 times"),
        ("a.csv", "# by me\nmodel,seed,acc\n\na,0,1\nb,0,x\n", "'x' in line 5"),
        ("a.csv", 'model,seed,acc\n"a\nb",0,.5\nb,0,x\n', "'x' in line 4"),
        ("a.csv", "model,seed,acc\na,0,.5\na,0,.6\nb,0,1\n", r"\(lines 2, 3, which differ"),
        ("a.json", "{", "line 1 is no JSON"),
        ("a.json", "3", "no table"),
        ("a.xlsx", "x", "is no table"),
        ("a.parquet", "x", "no Parquet file"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises((ValueError, graphnorms.GraphnormsError), match=message):
        graphnorms.judge(tmp_path / name)


def test_an_empty_cell_of_a_wide_table_is_a_missing_score_and_no_failure() -> None:
    seeds = list(range(8))
    scores = {"GCN": [0.70 + 0.01 * s for s in seeds], "GIN": [0.75 + 0.01 * s for s in seeds]}
    scores["GIN"][3] = math.nan
    wide = pd.DataFrame(scores)  # paired by the order of the rows
    found = graphnorms.judge(wide).verdict
    rows = {row.norm: row for row in found.rows}
    assert (rows["GIN"].failed, rows["GIN"].score.mean) == (
        0,
        pytest.approx(np.mean([0.75 + 0.01 * s for s in seeds if s != 3])),
    )
    (difference,) = found.differences
    assert abs(difference.estimate.mean) == pytest.approx(0.05), "each seed with itself"
    long = wide.melt(var_name="model", value_name="accuracy").assign(seed=[*seeds, *seeds])
    assert {row.norm: row.failed for row in graphnorms.judge(long).verdict.rows}["GIN"] == 1


@pytest.mark.parametrize("number", [MOST_METHODS, MOST_METHODS + 1])
def test_no_table_of_results_has_more_methods(number: int) -> None:
    table = {"method": [f"m{i}" for i in range(number)] * 2, "accuracy": [0.5, 0.7] * number}
    if number == MOST_METHODS:
        assert len(graphnorms.judge(table).verdict.rows) == number
        return
    with pytest.raises(ValueError, match=f"names {number} methods, expected {MOST_METHODS}"):
        graphnorms.judge(table)
