"""Compare norms on many public data sets, and write `docs/evidence.md`.

    git clone --mirror https://github.com/OWNER/NAME CLONES/OWNER/NAME    # each of datasets.csv
    python scripts/evidence.py CLONES RUNS --sets MUTAG,BZR --workers 2

`evidence.csv`, beside this script, lists the sets by their names in `datasets.csv`, with their
kind and the options of `graphnorms data`, which `graphnorms compare` gets, too: a line more adds a
set. A comparison that was
interrupted goes on where it stopped; finished ones, which `docs/evidence/runs` keeps, are not
trained again. With `--sets ""` nothing is trained, and the page is written anew.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
from measure_datasets import fetched, score, table

from graphnorms.files import fill_slots, replacing
from graphnorms.lab.comparison import open_comparison
from graphnorms.lab.phrases import listing
from graphnorms.lab.rank_sentences import ranks_sentence
from graphnorms.lab.verdict import Verdict
from graphnorms.layers.catalog import CATALOG
from graphnorms.report.several import report_several
from graphnorms.reproduce.kept_records import keep, restore

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "evidence.md"
KEPT = PAGE.with_suffix("")
NORMS = ("none", "batch", "layer", "instance", "graph", "pair", "rms")
DATA = (
    "set",
    "graphs",
    "nodes",
    "most frequent class, or median",
    "size alone",
    "features without edges",
    "message passing at best",
    "tested with a twin in training",
)
FACTS = "data.json"


def main() -> None:
    """Compare what is not compared yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clones", type=Path, help="a folder of OWNER/NAME")
    parser.add_argument("runs", type=Path, help="the folder of the comparisons")
    parser.add_argument("--local", type=Path, help="a folder with files of no repository")
    parser.add_argument("--sets", help="names, separated by semicolons; all by default")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with (HERE / "datasets.csv").open(newline="") as file:
        sources = {row["name"]: row for row in csv.DictReader(file)}
    with (HERE / "evidence.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [row["name"] for row in rows]
    if arguments.sets is not None:
        known, chosen = chosen, list(filter(None, map(str.strip, arguments.sets.split(";"))))
        if unknown := sorted({*chosen} - {*known}):
            sys.exit(f"evidence.csv has no {listing(unknown)}; add a line, or correct --sets")
    if unknown := sorted({row["name"] for row in rows} - {*sources}):
        sys.exit(f"datasets.csv has no {listing(unknown)}; add repository, commit and path")
    for row in rows:
        row["run"], kept = arguments.runs / slug(row["name"]), KEPT / "runs" / slug(row["name"])
        if kept.exists() and not row["run"].exists():
            shutil.copytree(kept, row["run"])
            restore(row["run"])
        elif row["name"] in chosen:
            compare(row, sources[row["name"]], arguments)
        if (row["run"] / FACTS).exists() and open_comparison(row["run"]).verdict.finished:
            keep(row["run"], kept)
            shutil.copy(row["run"] / FACTS, kept)
    write_page([row for row in rows if (KEPT / "runs" / row["run"].name).exists()])


def slug(name: str) -> str:
    """The name of a set as a file's."""
    return name.replace(", ", "-").replace(" ", "-")


def compare(row: dict[str, Any], source: dict[str, str], arguments: argparse.Namespace) -> None:
    """Train what is missing of a comparison, and note what the data allow."""
    print(row["name"], flush=True)
    options = shlex.split(row["options"])
    folder = arguments.runs / "data"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        # A table of molecules stays one: the reader of tables makes the graphs.
        path = fetched(source | {"smiles": ""}, arguments.clones, arguments.local, Path(scratch))
        if not (folder / path.name).exists():
            shutil.move(path, folder)
    data, run = f"data/{path.name}", row["run"]  # a run's settings hold the path as it is given
    workers = ("--workers", str(arguments.workers))
    norms = ("--norms", ",".join(NORMS))
    graphnorms(arguments.runs, "compare", data, *norms, *options, *workers, "-q", "-o", run.name)
    if not (run / FACTS).exists():
        with replacing(run / FACTS) as temporary:
            temporary.write_text(graphnorms(arguments.runs, "data", data, "--json", *options))


def graphnorms(folder: Path, *arguments: str) -> str:
    """Run a command in a folder, and return what it printed."""
    command = [sys.executable, "-m", "graphnorms", *arguments]
    done = subprocess.run(command, cwd=folder, text=True, check=False, stdout=subprocess.PIPE)
    if done.returncode:  # it has said why
        sys.exit(done.returncode)
    return done.stdout


def write_page(rows: list[dict[str, Any]]) -> None:
    """Write the tables, the page over all sets and the table of trials."""
    for row in rows:
        row["comparison"] = open_comparison(row["run"])
        row["verdict"] = row["comparison"].verdict
        row["facts"] = json.loads((row["run"] / FACTS).read_text())
    across = report_several(
        [row["comparison"] for row in rows], KEPT / "evidence.html", figures=False
    )
    frames = [row["comparison"].to_frame().assign(dataset=row["name"]) for row in rows]
    with replacing(KEPT / "trials.parquet") as temporary:
        pd.concat(frames).to_parquet(temporary, compression="zstd", index=False)
    parts = {
        "across": ranks_sentence(across, title),
        "ranks": table(("norm", "mean rank", "best on", "worst on"), ranks(rows, across.ranks)),
        "scores": table(
            ("set", "kind", "metric", *map(title, NORMS), "least difference found"),
            [scores(row) for row in rows],
        ),
        "pairs": table(("better", "worse", "told apart on", "shown equal on"), pairs(rows)),
        "data": table(DATA, [data(row) for row in rows]),
    }
    fill_slots(PAGE, "|".join(parts), parts.__getitem__)


def title(norm: str) -> str:
    """What a norm is called."""
    return CATALOG[norm].title


def ranks(rows: list[dict[str, Any]], average: dict[str, float]) -> list[list[Any]]:
    """Each norm's mean rank, and on how many sets it has the best and the worst mean score."""
    first = Counter(row["verdict"].contenders[0] for row in rows)
    last = Counter(row["verdict"].contenders[-1] for row in rows)
    return [[title(norm), f"{rank:.2f}", first[norm], last[norm]] for norm, rank in average.items()]


def scores(row: dict[str, Any]) -> list[Any]:
    """The mean score of each norm on a set, the best in bold."""
    verdict: Verdict = row["verdict"]
    found = {each.norm: each.score for each in verdict.rows}
    cells = []
    for norm in NORMS:
        score = found.get(norm)
        text = verdict.scale.number(score.mean) if score else "–"
        cells.append(f"**{text}**" if norm == verdict.best else text)
    least = verdict.detectable_after
    return [
        row["name"],
        row["kind"],
        row["facts"]["metric"],
        *cells,
        "too few splits" if least is None else verdict.scale.number(least),
    ]


def pairs(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """Which pairs are told apart, and on which sets, or shown equal within the margin."""
    apart: dict[tuple[str, str], list[str]] = {}
    equal: Counter[frozenset[str]] = Counter()
    for row in rows:
        for test in row["verdict"].differences:
            if test.told_apart:
                apart.setdefault((test.first, test.second), []).append(row["name"])
            if test.practically_equal:
                equal[frozenset((test.first, test.second))] += 1
    order = sorted(apart, key=lambda pair: (-len(apart[pair]), pair))
    found = [
        [
            title(one),
            title(other),
            listing(apart[one, other]),
            equal.pop(frozenset((one, other)), 0),
        ]
        for one, other in order
    ]
    return found + [[*sorted(map(title, pair)), "–", count] for pair, count in equal.items()]


def data(row: dict[str, Any]) -> list[Any]:
    """What a set holds and what simple models score, a cell for each of `DATA`."""
    facts, it = row["facts"], row["facts"]["data"]
    simple = (facts["baselines"].get(name) for name in ("constant", "size", "features"))
    return [
        row["name"],
        it["graphs"],
        it["nodes"],
        *(score(facts["metric"], value) for value in simple),
        score(facts["metric"], facts["ceilings"].get("alike")),
        f"{facts['with_twin_in_training']} of {facts['tested']}" if it["twins"] else "–",
    ]


if __name__ == "__main__":
    main()
