"""Plant errors in the code, one at a time, and see whether `make test` notices.

    python scripts/mutations.py            # all of them, two at a time; needs minutes
    python scripts/mutations.py derivative # those whose name has this word
    python scripts/mutations.py --kernels  # those of the C++ kernels instead, compiled once

Each mutation is an exact piece of a source file, what stands there instead, and a part of
`make test` that must fail with it: what that part notices, the whole notices. The sources are
copied to a temporary folder first; the checkout is not touched. `--kernels` needs a C++ compiler,
cmake and nanobind (`pip install nanobind`). `scripts/mutations.csv` gets a row
for each, with the first test that failed. The exit code is the number of mutations that nobody
noticed.

Each is tested in a fork of this process, which has imported torch but not graphnorms: that saves
most of what a test costs that fails at once.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import scipy.stats  # noqa: F401 - for the forks
import torch

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_suffix(".csv")
LAYERS = "tests/conformance/test_layers.py"
DERIVATIVES = "tests/conformance/test_derivatives.py"


@dataclass(frozen=True)
class Mutation:
    """An error.

    Args:
        name: What it is.
        file: Where, below `src/graphnorms`.
        old: What stands there, exactly once.
        new: What stands there instead.
        tests: Arguments of pytest.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def layer(name: str) -> tuple[str, ...]:
    """The tests of one layer."""
    return (f"tests/unit/layers/test_{name}.py",)


def formula(name: str) -> tuple[str, ...]:
    """The comparison of one layer with its formula."""
    words = " and ".join(name.split())  # pytest's expressions have no spaces within a word
    return (LAYERS, "-k", f"papers and [{words}")


def lab(name: str) -> tuple[str, ...]:
    """The tests of one part of the lab."""
    return (f"tests/unit/lab/test_{name}.py",)


RANKS = ("tests/ranks/test_synchronized.py",)
REFERENCE = (LAYERS, "-k", "papers and reference")
CPU = (LAYERS, "-k", "papers and cpu")
EAGER = (DERIVATIVES, "-k", "test_eager or first_gradient")
SECOND = "tests/unit/kernels/test_double_backward.py"
ONE_NODE = ("tests/unit/models/test_one_node.py", "-k", "one_call")
AVERAGES = ("tests/unit/kernels/test_by_averages.py", "-k", "formula")
RAGGED = ("tests/unit/kernels/test_layout_rows.py", "-k", "are_the_reference")
CLOSED = (SECOND, "-k", "closed_form")
MUTATIONS = (
    Mutation(
        "reference: eps is missing",
        "kernels/reference.py",
        "torch.rsqrt(squared + call.eps * unit * unit)",
        "torch.rsqrt(squared)",
        REFERENCE,
    ),
    Mutation(
        "reference: the kept share of the mean has the wrong sign",
        "kernels/reference.py",
        "kept = (1 - share) *",
        "kept = (1 + share) *",
        REFERENCE,
    ),
    Mutation(
        "reference: alpha is dropped",
        "kernels/reference.py",
        "return (shifted - share * removed) + kept",
        "return (shifted - removed) + kept",
        REFERENCE,
    ),
    Mutation(
        "reference: bias is subtracted",
        "kernels/reference.py",
        "o = o + of_rows(bias",
        "o = o - of_rows(bias",
        REFERENCE,
    ),
    Mutation(
        "reference: means of segments are sums",
        "kernels/domain_cells.py",
        "return sum_of_segments(x, self.segments) / self.segments.counts.clamp(min=1).unsqueeze(1)",
        "return sum_of_segments(x, self.segments)",
        REFERENCE,
    ),
    Mutation(
        "reference: an empty segment divides by 0",
        "kernels/domain_cells.py",
        "segments.counts.clamp(min=1).unsqueeze(1)",
        "segments.counts.unsqueeze(1)",
        ("tests/unit/kernels/test_api.py", "-k", "without_entries"),
    ),
    Mutation(
        "reference: groups take every other channel",
        "kernels/domain_cells.py",
        "return x.reshape(x.shape[0], groups, x.shape[1] // groups)",
        "return x.reshape(x.shape[0], x.shape[1] // groups, groups).mT",
        formula("group"),
    ),
    Mutation(
        "dropout: what is left is not scaled",
        "kernels/dropout.py",
        "x / (1 - share), 0",
        "x, 0",
        ("tests/unit/kernels/test_dropout.py",),
    ),
    Mutation(
        "dropout: one channel further",
        "kernels/dropout.py",
        "channel = torch.arange(channels, device",
        "channel = torch.arange(1, channels + 1, device",
        ("tests/unit/kernels/test_dropout.py",),
    ),
    Mutation(
        "derivative: of alpha has the wrong sign",
        "kernels/derivatives.py",
        "-(first.mean * d).sum(0)",
        "(first.mean * d).sum(0)",
        ("tests/conformance/test_modes.py", "-k", "batched and [graph-"),
    ),
    Mutation(
        "derivative: the scale's share is missing",
        "kernels/derivatives.py",
        "factor * (g_hat - weighed(o_hat) * share)",
        "factor * g_hat",
        CLOSED,
    ),
    Mutation(
        "derivative: of silu",
        "kernels/derivatives.py",
        "return share * (1 + z * (1 - share))",
        "return share * (1 + z * share)",
        CLOSED,
    ),
    Mutation(
        "second derivative: the tangent's share is missing",
        "kernels/derivatives.py",
        "factor * (o_dot - o_hat * share_dot)",
        "factor * o_dot",
        CLOSED,
    ),
    Mutation(
        "second derivative: of alpha",
        "kernels/derivatives.py",
        "through_mean = through_mean + t * d",
        "through_mean = through_mean - t * d",
        CLOSED,
    ),
    Mutation(
        "operators: a gradient goes to another parameter",
        "kernels/autograd.py",
        "_in_dtype_of(weight, grad_weight) if needs_weight else None",
        "_in_dtype_of(weight, grad_bias) if needs_weight else None",
        CPU,
    ),
    Mutation(
        "merge: the distance of the means is left out",
        "kernels/rank_statistics.py",
        "variances + (apart - relative).square()",
        "variances",
        RANKS,
    ),
    Mutation(
        "merge: ranks without rows count",
        "kernels/rank_statistics.py",
        "share = count / count.sum(0).clamp(min=1)",
        "share = count / count.clamp(min=1).sum(0)",
        RANKS,
    ),
    Mutation(
        "aggregate: the node itself is left out",
        "kernels/aggregation/reference.py",
        "y = y + self_weight * scaled",
        "y = y + 0 * scaled",
        ("tests/unit/kernels/test_aggregate.py",),
    ),
    Mutation(
        "aggregate: the backward follows the edges",
        "kernels/aggregation/reference.py",
        "grad_x = _scaled(grad_x.index_add(0, source, messages), node_scale)",
        "grad_x = _scaled(grad_x.index_add(0, _targets(adjacency), messages), node_scale)",
        ("tests/unit/kernels/test_aggregate.py",),
    ),
    Mutation(
        "segments: masked rows are those that count",
        "segments.py",
        "self.index.masked_fill(~mask",
        "self.index.masked_fill(mask",
        ("tests/unit/test_segments.py",),
    ),
    Mutation(
        "bounded: the slope of tanh is that of its square root",
        "kernels/bounded_functions.py",
        "torch.cosh(v.clamp(-45, 45)).square().reciprocal()",
        "torch.cosh(v.clamp(-45, 45)).reciprocal()",
        EAGER,
    ),
    Mutation(
        "bounded: the gradient of the shift is that of the slope",
        "kernels/derivatives.py",
        "for part in (of_slope, of_shift)[: given.shape[0]]",
        "for part in (of_slope, of_slope)[: given.shape[0]]",
        CLOSED,
    ),
    Mutation(
        "bounded: the second derivative is that of a straight line",
        "kernels/derivatives.py",
        "+ _times_rows(first.g, weight, segments) * bend * v_dot",
        "",
        CLOSED,
    ),
    Mutation(
        "Derf: the shift is dropped",
        "layers/bounded_norm.py",
        "self.alpha if self.shift is None else torch.cat((self.alpha, self.shift))",
        "self.alpha",
        formula("derf"),
    ),
    Mutation(
        "DyT: the slope is forgotten",
        "layers/bounded_norm.py",
        "return self.point, argument, weight, bias, 0.0",
        "return self.point, None, weight, bias, 0.0",
        formula("dyt"),
    ),
    Mutation(
        "QKNorm: l2 divides by the root of the mean",
        "layers/qk_norm.py",
        "gain = 1 / math.sqrt(width)",
        "gain = 1.0",
        formula("qk l2"),
    ),
    Mutation(
        "ConditionalNorm: gain and bias change places",
        "layers/conditional_norm.py",
        "change, bias = both.chunk(2, dim=1)",
        "bias, change = both.chunk(2, dim=1)",
        formula("conditional per node"),
    ),
    Mutation(
        "GraphNorm: alpha is dropped",
        "layers/graph_norm.py",
        "parameters = (self.mean_scale, self.weight, self.bias)",
        "parameters = (None, self.weight, self.bias)",
        formula("graph"),
    ),
    Mutation(
        "PairNorm: C for its root",
        "layers/pair_norm.py",
        "self.scale / math.sqrt(channels)",
        "self.scale / channels",
        formula("pair"),
    ),
    Mutation(
        "PairNorm: eps is not divided",
        "layers/pair_norm.py",
        "None, gain, None, self.eps / channels",
        "None, gain, None, self.eps",
        formula("pair"),
    ),
    Mutation(
        "GraphSizeNorm: the size for its root",
        "layers/graph_size_norm.py",
        "gain = counts.rsqrt()",
        "gain = counts.reciprocal()",
        formula("graph-size"),
    ),
    Mutation(
        "RMSNorm: centred",
        "layers/rms_norm.py",
        "Point(None, Over.CHANNELS)",
        "Point(Over.CHANNELS, Over.CHANNELS)",
        formula("rms"),
    ),
    Mutation(
        "NodeNorm: the variance's root for the deviation's",
        "layers/node_norm.py",
        "pow(-0.5 / self.p)",
        "pow(-1 / self.p)",
        formula("node"),
    ),
    Mutation(
        "AdaNorm: the gain rises",
        "layers/ada_norm.py",
        "(1 - self.k * stop_gradient(standard))",
        "(1 + self.k * stop_gradient(standard))",
        formula("ada"),
    ),
    Mutation(
        "MessageNorm: without the node's norm",
        "layers/message_norm.py",
        "* own.to(messages.dtype) * inverse",
        "* inverse",
        formula("message"),
    ),
    Mutation(
        "AdjaNorm: the node itself does not count",
        "layers/adja_norm.py",
        "count = 1 + _sum_at(",
        "count = 0 + _sum_at(",
        formula("adja"),
    ),
    Mutation(
        "DiffGroupNorm: groups are subtracted",
        "layers/diff_group_norm.py",
        "return x + self.lamda *",
        "return x - self.lamda *",
        formula("diff-group"),
    ),
    Mutation(
        "ContraNorm: nodes attract",
        "layers/contra_norm.py",
        "(1 + self.scale) * x - self.scale",
        "(1 - self.scale) * x + self.scale",
        formula("contra"),
    ),
    Mutation(
        "InstanceNorm: the running variance is the biased one",
        "layers/instance_norm.py",
        "(counts - 1).clamp(min=0).sum(0)",
        "counts.sum(0)",
        layer("running"),
    ),
    Mutation(
        "running: eps is missing",
        "layers/running_statistics.py",
        "torch.rsqrt(running_var.to(dtype) + eps)",
        "torch.rsqrt(running_var.to(dtype))",
        layer("running"),
    ),
    Mutation(
        "running: momentum is that of the old value",
        "layers/running_statistics.py",
        "running.mul_(1 - weight).add_(value * weight)",
        "running.mul_(weight).add_(value * (1 - weight))",
        layer("running"),
    ),
    Mutation(
        "a layer's residual comes before the activation",
        "layers/base.py",
        "y = finish(y, self.activation, share, draw_seed(x.device) if share else None)",
        "y = finish(y if residual is None else y + residual, self.activation, share, None)",
        formula("node"),
    ),
    Mutation(
        "statistics: uncorrected folds",
        "lab/statistics.py",
        "math.sqrt(1 / scores.size + test_ratio)",
        "math.sqrt(1 / scores.size)",
        lab("statistics"),
    ),
    Mutation(
        "statistics: one-sided p-values",
        "lab/statistics.py",
        "2 * student_above(abs(statistic), pairs - 1)",
        "student_above(abs(statistic), pairs - 1)",
        lab("statistics"),
    ),
    Mutation(
        "statistics: Holm is off by one",
        "lab/statistics.py",
        "(len(known) - rank) * p_values[index]",
        "(len(known) - rank - 1) * p_values[index]",
        lab("statistics"),
    ),
    Mutation(
        "statistics: ties do not count as hits",
        "lab/resampling.py",
        "hits += (largest >= seen).sum(axis=0)",
        "hits += (largest > seen + 1e-9).sum(axis=0)",
        lab("resampling"),
    ),
    Mutation(
        "statistics: max-t is not stepped down",
        "lab/resampling.py",
        "np.maximum.accumulate(statistic, axis=1)[:, ::-1]",
        "np.repeat(statistic.max(axis=1, keepdims=True), statistic.shape[1], axis=1)",
        lab("resampling"),
    ),
    Mutation(
        "statistics: equal beyond the margin",
        "lab/equivalence.py",
        "statistic = (margin - abs(mean))",
        "statistic = (margin + abs(mean))",
        lab("equivalence"),
    ),
)

KERNELS = (
    Mutation(
        "kernel: eps is missing within rows",
        "kernels/cpu/row.inl",
        "cells.rstd(k) = A(1) / std::sqrt(moment + A(p.eps));",
        "cells.rstd(k) = A(1) / std::sqrt(moment + (PLANTED(1) ? A(0) : A(p.eps)));",
        CPU,
    ),
    Mutation(
        "kernel: chunks merge without their distance",
        "kernels/cpu/segment.inl",
        "m2[c] += double(own[C + c]) + rows * distance * distance;",
        "m2[c] += double(own[C + c]) + (PLANTED(2) ? 0 : rows * distance * distance);",
        CPU,
    ),
    Mutation(
        "kernel: a short segment's last row is left out",
        "kernels/cpu/short_segments.inl",
        "reduce<A, K, 1>(begin, end, [&](int64_t i, Vec<A> (&sums)[1][K]) {",
        "reduce<A, K, 1>(begin, end - (PLANTED(3) ? 1 : 0), [&](int64_t i, Vec<A> (&sums)[1][K]) {",
        CPU,
    ),
    Mutation(
        "kernel: alpha is dropped from the backward",
        "kernels/cpu/short_segments.inl",
        "removed *= alpha;",
        "if (!PLANTED(4)) removed *= alpha;",
        CPU,
    ),
    Mutation(
        "kernel: a function's shift has the gradient of its slope",
        "kernels/cpu/bounded.inl",
        "sums.get()[2 * task + 1] = total_e;",
        "sums.get()[2 * task + 1] = PLANTED(5) ? total_xe : total_e;",
        CPU,
    ),
    Mutation(
        "kernel: tanh cancels near 0",
        "kernels/cpu/functions.inl",
        "distance = (A(1) - e.power) - e.power * rest;",
        "distance = PLANTED(6) ? A(1) - t : (A(1) - e.power) - e.power * rest;",
        ("tests/unit/layers/test_dyt.py", "-k", "digits"),
    ),
    Mutation(
        "kernel: a segment of one task adds to nobody's gradient",
        "kernels/cpu/row.inl",
        "return {!weight_ ? nullptr :",
        "return {!weight_ || (whole && PLANTED(7)) ? nullptr :",
        (LAYERS, "-k", "papers and cpu and [conditional"),
    ),
    Mutation(
        "kernel: the second derivative within rows forgets the scale's own",
        "kernels/cpu/row_second.inl",
        "(of.along - A(3) * of.b * of.c)",
        "(of.along - A(PLANTED(8) ? 1 : 3) * of.b * of.c)",
        (SECOND, "-k", "against_autograd"),
    ),
    Mutation(
        "kernel: the second derivative over nodes forgets alpha's cotangent",
        "kernels/cpu/segment_second.inl",
        "kappa = at(alpha) * removed + at(t) * d;",
        "kappa = at(alpha) * removed + (PLANTED(9) ? Vec<A>{} : at(t) * d);",
        (SECOND, "-k", "against_autograd"),
    ),
    Mutation(
        "kernel: columns of a layout weigh the same",
        "kernels/cpu/columns.inl",
        "else piece.weight = A(1) / A(divisor);",
        "else piece.weight = A(1) / A(PLANTED(10) ? width : divisor);",
        RAGGED,
    ),
    Mutation(
        "kernel: a centre over several pieces keeps their mean",
        "kernels/cpu/row.inl",
        "if (piece.center < 0 || piece.whole) continue;",
        "if (piece.center < 0 || piece.whole || PLANTED(11)) continue;",
        RAGGED,
    ),
    Mutation(
        "kernel: the second derivative takes every piece for whole",
        "kernels/cpu/row_second.inl",
        "if (!piece->whole) of_piece.o = horizontal_sum<A>(sum_o);",
        "if (!piece->whole && !PLANTED(12)) of_piece.o = horizontal_sum<A>(sum_o);",
        RAGGED,
    ),
    Mutation(
        "kernel: a chain writes over what it reads",
        "kernels/cpu/module_chain.cpp",
        "turn_ = 1 - turn_;",
        "turn_ = PLANTED(13) ? turn_ : 1 - turn_;",
        ONE_NODE,
    ),
    Mutation(
        "kernel: a chain sums the gradient of a bias over the first chunk",
        "kernels/cpu/module_chain.cpp",
        "for (int64_t first = 0; first < rows; first += kChunk) {",
        "for (int64_t first = 0; first < (PLANTED(14) ? kChunk : rows); first += kChunk) {",
        ONE_NODE,
    ),
    Mutation(
        "kernel: the statistics of a chain lie over each other",
        "kernels/cpu/module_chain.cpp",
        "step.statistics = keeps ? room : 0;",
        "step.statistics = keeps && !PLANTED(15) ? room : 0;",
        ONE_NODE,
    ),
    Mutation(
        "kernel: eps is missing by averages",
        "kernels/cpu/running.inl",
        "std::sqrt(var[c] + A(p.eps));",
        "std::sqrt(var[c] + (PLANTED(16) ? A(0) : A(p.eps)));",
        AVERAGES,
    ),
    Mutation(
        "kernel: the bias is missing by averages",
        "kernels/cpu/running.inl",
        "if (bias) v += get<Tail>(bias + c, tail);",
        "if (bias && !PLANTED(17)) v += get<Tail>(bias + c, tail);",
        AVERAGES,
    ),
)
PLANTED = "GRAPHNORMS_PLANTED"
"""The variable that says which error of the kernels is there: they are compiled once for all."""


class FirstFailure:
    """Remembers which test failed first."""

    def __init__(self) -> None:
        self.name = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note a test that failed."""
        if report.failed and not self.name:
            self.name = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        """Note a file that cannot be imported."""
        if report.failed and not self.name:
            self.name = f"{report.nodeid}, while it was imported"


def start(mutation: Mutation, copy: Path) -> int:
    """Put a mutation into a copy of the sources and run its tests in a fork.

    Returns:
        The fork's process id. Its exit code is pytest's; `failed` beside the copy names the test.
    """
    of_kernels = mutation in KERNELS
    if not of_kernels:
        change(copy, mutation.file, mutation.old, mutation.new)
    process = os.fork()
    if process:
        return process
    with (copy / "said").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    os.chdir(copy)
    sys.dont_write_bytecode = True  # an error must not outlive itself
    sys.path[:0] = [str(copy), str(copy / "src")]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    if of_kernels:
        os.environ[PLANTED] = str(KERNELS.index(mutation) + 1)
    first = FirstFailure()
    code = pytest.main(
        ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *mutation.tests], plugins=[first]
    )
    (copy / "failed").write_text(first.name, encoding="utf-8")
    sys.stdout.flush()
    os._exit(int(code))


def change(copy: Path, name: str, old: str, new: str) -> None:
    """Exchange what stands once in a file of a copy."""
    file = copy / "src/graphnorms" / name
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times, expected once"
    file.write_text(text.replace(old, new), encoding="utf-8")


def restore(mutation: Mutation, copy: Path) -> None:
    """Put the old text back."""
    if mutation not in KERNELS:
        shutil.copy(
            ROOT / "src/graphnorms" / mutation.file, copy / "src/graphnorms" / mutation.file
        )


def build(copy: Path) -> None:
    """Compile the kernels of a copy with all their mutations and put them beside its sources."""
    for mutation in KERNELS:
        change(copy, mutation.file, mutation.old, mutation.new)
    header = copy / "planted.h"
    header.write_text(
        "#include <cstdlib>\n"
        "static inline bool graphnorms_planted(int number) {\n"
        f'  const char *said = std::getenv("{PLANTED}");\n'
        "  return said && std::atoi(said) == number;\n"
        "}\n"
        "#define PLANTED(number) graphnorms_planted(number)\n",
        encoding="utf-8",
    )
    place = copy / "build"
    nanobind = subprocess.run(
        [sys.executable, "-m", "nanobind", "--cmake_dir"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    configure = [
        "cmake",
        "-S",
        copy,
        "-B",
        place,
        "-DCMAKE_BUILD_TYPE=Release",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dnanobind_DIR={nanobind}",
        f"-DCMAKE_CXX_FLAGS=-include {header}",
        "-DGRAPHNORMS_SETS=native",
    ]
    for command in (configure, ["cmake", "--build", place, "--parallel"]):
        subprocess.run(command, check=True, capture_output=True)
    for library in place.glob("_kernels*"):
        if library.is_file():
            shutil.copy(library, copy / "src/graphnorms/kernels/cpu")


WITHOUT_EDITABLE = """\
import sys

sys.meta_path[:] = [
    finder for finder in sys.meta_path if type(finder).__name__ != "ScikitBuildRedirectingFinder"
]
"""
"""What an editable install puts before every path would find the checkout's modules."""


def copy_of_sources(folder: Path, library: str) -> Path:
    """Copy what the tests need, the compiled kernels included."""
    copy = folder / "graphnorms"
    copy.mkdir(parents=True)
    for name in ("src", "tests", "examples", "docs", "scripts"):
        shutil.copytree(ROOT / name, copy / name)  # with what Python has compiled of them
    for name in ("pyproject.toml", "CMakeLists.txt", "README.md"):
        shutil.copy(ROOT / name, copy / name)
    shutil.copy(library, copy / "src/graphnorms/kernels/cpu")
    (copy / "sitecustomize.py").write_text(WITHOUT_EDITABLE, encoding="utf-8")
    return copy


def run(chosen: list[Mutation], copies: list[Path]) -> dict[str, str]:
    """Plant them all, as many at a time as there are copies.

    Returns:
        The first test that failed, by the mutation's name; nothing where none did.
    """
    waiting = list(chosen)
    running: dict[int, tuple[Mutation, Path]] = {}
    free = list(copies)
    found: dict[str, str] = {}
    while waiting or running:
        while waiting and free:
            mutation = waiting.pop(0)
            copy = free.pop()
            running[start(mutation, copy)] = (mutation, copy)
        process, status = os.wait()
        mutation, copy = running.pop(process)
        restore(mutation, copy)
        free.append(copy)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, 1, 2):
            said = (copy / "said").read_text(encoding="utf-8")
            raise SystemExit(f"{mutation.name}: pytest ended with {code}\n{said}")
        found[mutation.name] = (copy / "failed").read_text(encoding="utf-8") if code else ""
        keep(found)
        print(f"{'noticed' if code else 'MISSED '}  {mutation.name}", flush=True)
    return found


def known() -> dict[str, str]:
    """Read the table: the first test that fails, by the mutation's name."""
    if not TABLE.exists():
        return {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {row["mutation"]: row["first test that fails"] for row in csv.DictReader(file)}


def keep(found: dict[str, str]) -> None:
    """Write the table, rows that were not asked for as they were."""
    rows = known() | found
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["mutation", "file", "first test that fails"])
        for mutation in (*MUTATIONS, *KERNELS):
            if mutation.name in rows:
                writer.writerow([mutation.name, mutation.file, rows[mutation.name]])


def check(chosen: list[Mutation]) -> None:
    """Raise if what a mutation exchanges is not there, or not once."""
    wrong = []
    for mutation in chosen:
        text = (ROOT / "src/graphnorms" / mutation.file).read_text(encoding="utf-8")
        if text.count(mutation.old) != 1:
            wrong.append(f"{mutation.file} has {mutation.old!r} {text.count(mutation.old)} times")
    if wrong:
        raise SystemExit("\n".join([*wrong, "expected each once: bring the mutations up to date"]))


def main() -> int:
    """Plant what was asked for and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("word", nargs="?", default="", help="mutations whose name has it")
    parser.add_argument("--kernels", action="store_true", help="those of the C++ kernels")
    parser.add_argument("--missing", action="store_true", help="those that the table has not")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    library = subprocess.run(
        [
            sys.executable,
            "-c",
            "from graphnorms.kernels.cpu.extension import kernels; print(kernels().__file__)",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    exec(WITHOUT_EDITABLE, {})
    chosen = [
        each
        for each in (KERNELS if arguments.kernels else MUTATIONS)
        if arguments.word in each.name and not (arguments.missing and each.name in known())
    ]
    check(chosen)
    with tempfile.TemporaryDirectory() as folder:
        copies = [
            copy_of_sources(Path(folder) / str(number), library)
            for number in range(1 if arguments.kernels else 2)
        ]
        if arguments.kernels:
            build(copies[0])
        found = run(chosen, copies)
    unnoticed = sum(not name for name in found.values())
    print(f"{len(found) - unnoticed} of {len(found)} noticed")
    return unnoticed


if __name__ == "__main__":
    sys.exit(main())
