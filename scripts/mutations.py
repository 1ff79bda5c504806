"""Plant errors in the code, one at a time, and see whether the tests notice.

    python scripts/mutations.py            # all of them; needs minutes
    python scripts/mutations.py derivative # those whose name has this word
    python scripts/mutations.py --kernels  # those of the C++ kernels as well, each compiled anew

Each mutation is an exact piece of a source file, what stands there instead, and a part of
`make test` that must fail with it: what that part notices, the whole notices. The sources are
copied to a temporary folder first; the checkout is not touched. The exit code is the number of
mutations that nobody noticed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYERS = "tests/conformance/test_layers.py"
MODES = "tests/conformance/test_derivatives.py"


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


def lab(name: str) -> tuple[str, ...]:
    """The tests of one part of the lab."""
    return (f"tests/unit/lab/test_{name}.py",)


RANKS = ("tests/ranks/test_synchronized.py",)
REFERENCE = (LAYERS, "-k", "reference")
MUTATIONS = (
    Mutation("reference: eps is missing", "kernels/reference.py",
             "torch.rsqrt(squared + call.eps * unit * unit)", "torch.rsqrt(squared)", REFERENCE),
    Mutation("reference: the kept share of the mean has the wrong sign", "kernels/reference.py",
             "kept = (1 - share) *", "kept = (1 + share) *", REFERENCE),
    Mutation("reference: alpha is dropped", "kernels/reference.py",
             "return (shifted - share * removed) + kept", "return (shifted - removed) + kept",
             REFERENCE),
    Mutation("reference: bias is subtracted", "kernels/reference.py",
             "o = o + of_rows(bias", "o = o - of_rows(bias", REFERENCE),
    Mutation("reference: means of segments are sums", "kernels/reference.py",
             "return sum_of_segments(x, segments) / segments.counts.clamp(min=1).unsqueeze(1)",
             "return sum_of_segments(x, segments)", REFERENCE),
    Mutation("reference: an empty segment divides by 0", "kernels/reference.py",
             "segments.counts.clamp(min=1).unsqueeze(1)", "segments.counts.unsqueeze(1)",
             REFERENCE),
    Mutation("reference: groups take every other channel", "kernels/reference.py",
             "return x.reshape(x.shape[0], groups, x.shape[1] // groups)",
             "return x.reshape(x.shape[0], x.shape[1] // groups, groups).mT",
             layer("group_norm")),
    Mutation("dropout: what is left is not scaled", "kernels/dropout.py",
             "x / (1 - share), 0", "x, 0", ("tests/unit/kernels/test_dropout.py",)),
    Mutation("dropout: one channel further", "kernels/dropout.py",
             "channel = torch.arange(channels, device",
             "channel = torch.arange(1, channels + 1, device",
             ("tests/unit/kernels/test_dropout.py",)),
    Mutation("derivative: of alpha has the wrong sign", "kernels/derivatives.py",
             "-(first.mean * d).sum(0)", "(first.mean * d).sum(0)", (MODES,)),
    Mutation("derivative: the scale's share is missing", "kernels/derivatives.py",
             "factor * (g_hat - o_hat * share)", "factor * g_hat", (MODES,)),
    Mutation("derivative: of silu", "kernels/derivatives.py",
             "return share * (1 + z * (1 - share))", "return share * (1 + z * share)", (MODES,)),
    Mutation("second derivative: the tangent's share is missing", "kernels/derivatives.py",
             "factor * (o_dot - o_hat * share_dot)", "factor * o_dot", (MODES,)),
    Mutation("second derivative: of alpha", "kernels/derivatives.py",
             "through_mean = through_mean + t * d", "through_mean = through_mean - t * d",
             (MODES,)),
    Mutation("operators: a gradient goes to another parameter", "kernels/autograd.py",
             "needs_residual else None, *of_parameters, None, None, None",
             "needs_residual else None, *of_parameters[::-1], None, None, None",
             (LAYERS, "-k", "cpu")),
    Mutation("merge: the distance of the means is left out", "kernels/merging.py",
             "variances + (apart - relative).square()", "variances", RANKS),
    Mutation("merge: ranks without rows count", "kernels/merging.py",
             "share = count / count.sum(0).clamp(min=1)",
             "share = count / count.clamp(min=1).sum(0)", RANKS),
    Mutation("aggregate: the node itself is left out", "kernels/aggregation/reference.py",
             "y = y + self_weight * scaled", "y = y + 0 * scaled",
             ("tests/unit/kernels/test_aggregate.py",)),
    Mutation("aggregate: the backward follows the edges", "kernels/aggregation/reference.py",
             "grad_x = _scaled(grad_x.index_add(0, source, messages), node_scale)",
             "grad_x = _scaled(grad_x.index_add(0, _targets(adjacency), messages), node_scale)",
             ("tests/unit/kernels/test_aggregate.py",)),
    Mutation("segments: masked rows are those that count", "segments.py",
             "self.index.masked_fill(~mask", "self.index.masked_fill(mask",
             ("tests/unit/test_segments.py",)),
    Mutation("GraphNorm: alpha is dropped", "layers/graph_norm.py",
             "parameters = (self.mean_scale, self.weight, self.bias)",
             "parameters = (None, self.weight, self.bias)", (LAYERS, "-k", "graph")),
    Mutation("PairNorm: C for its root", "layers/pair_norm.py",
             "self.scale / math.sqrt(channels)", "self.scale / channels", layer("pair_norm")),
    Mutation("PairNorm: eps is not divided", "layers/pair_norm.py",
             "None, gain, None, self.eps / channels", "None, gain, None, self.eps",
             layer("pair_norm")),
    Mutation("GraphSizeNorm: the size for its root", "layers/graph_size_norm.py",
             "gain = counts.rsqrt()", "gain = counts.reciprocal()", layer("graph_size_norm")),
    Mutation("RMSNorm: centred", "layers/rms_norm.py",
             "Point(None, Over.CHANNELS)", "Point(Over.CHANNELS, Over.CHANNELS)",
             layer("rms_norm")),
    Mutation("NodeNorm: the variance's root for the deviation's", "layers/node_norm.py",
             "pow(-0.5 / self.p)", "pow(-1 / self.p)", layer("node_norm")),
    Mutation("AdaNorm: the gain rises", "layers/ada_norm.py",
             "(1 - self.k * constant(standard))", "(1 + self.k * constant(standard))",
             layer("ada_norm")),
    Mutation("MessageNorm: without the node's norm", "layers/message_norm.py",
             "* own.to(messages.dtype) * inverse", "* inverse", layer("message_norm")),
    Mutation("AdjaNorm: the node itself does not count", "layers/adja_norm.py",
             "count = 1 + _sum_at(", "count = 0 + _sum_at(", layer("adja_norm")),
    Mutation("DiffGroupNorm: groups are subtracted", "layers/diff_group_norm.py",
             "return x + self.lamda *", "return x - self.lamda *", layer("diff_group_norm")),
    Mutation("ContraNorm: nodes attract", "layers/contra_norm.py",
             "(1 + self.scale) * x - self.scale", "(1 - self.scale) * x + self.scale",
             layer("contra_norm")),
    Mutation("InstanceNorm: the running variance is the biased one", "layers/instance_norm.py",
             "(counts - 1).clamp(min=0).sum(0)", "counts.sum(0)", layer("running")),
    Mutation("running: eps is missing", "layers/running.py",
             "torch.rsqrt(running_var.to(dtype) + eps)", "torch.rsqrt(running_var.to(dtype))",
             layer("running")),
    Mutation("running: momentum is that of the old value", "layers/running.py",
             "running.mul_(1 - weight).add_(value * weight)",
             "running.mul_(weight).add_(value * (1 - weight))", layer("running")),
    Mutation("a layer's residual comes before the activation", "layers/base.py",
             "y = finish(y, self.activation, share, draw_seed(x.device) if share else None)",
             "y = finish(y if residual is None else y + residual, self.activation, share, None)",
             layer("node_norm")),
    Mutation("statistics: uncorrected folds", "lab/statistics.py",
             "math.sqrt(1 / scores.size + test_ratio)", "math.sqrt(1 / scores.size)",
             lab("statistics")),
    Mutation("statistics: one-sided p-values", "lab/statistics.py",
             "float(2 * stats.t.sf(abs(statistic), pairs - 1))",
             "float(stats.t.sf(abs(statistic), pairs - 1))", lab("statistics")),
    Mutation("statistics: Holm is off by one", "lab/statistics.py",
             "(len(known) - rank) * p_values[index]", "(len(known) - rank - 1) * p_values[index]",
             lab("statistics")),
    Mutation("statistics: ties do not count as hits", "lab/resampling.py",
             "hits += (largest >= seen).sum(axis=0)", "hits += (largest > seen + 1e-9).sum(axis=0)",
             lab("resampling")),
    Mutation("statistics: max-t is not stepped down", "lab/resampling.py",
             "np.maximum.accumulate(statistic, axis=1)[:, ::-1]",
             "np.repeat(statistic.max(axis=1, keepdims=True), statistic.shape[1], axis=1)",
             lab("resampling")),
    Mutation("statistics: equal beyond the margin", "lab/equivalence.py",
             "statistic = (margin - abs(mean))", "statistic = (margin + abs(mean))",
             lab("equivalence")),
)  # fmt: skip

KERNELS = (
    Mutation("kernel: eps is missing within rows", "kernels/cpu/row.inl",
             "rstd = A(1) / std::sqrt(moment + A(p.eps));", "rstd = A(1) / std::sqrt(moment);",
             (LAYERS, "-k", "cpu")),
    Mutation("kernel: chunks merge without their distance", "kernels/cpu/segment.inl",
             "m2[c] += double(own[C + c]) + rows * distance * distance;",
             "m2[c] += double(own[C + c]);", (LAYERS, "-k", "cpu")),
    Mutation("kernel: a short segment's last row is left out", "kernels/cpu/short_segments.inl",
             "reduce<A, K, 1>(begin, end, [&](int64_t i, Vec<A> (&sums)[1][K]) {",
             "reduce<A, K, 1>(begin, end - 1, [&](int64_t i, Vec<A> (&sums)[1][K]) {",
             (LAYERS, "-k", "cpu")),
    Mutation("kernel: alpha is dropped from the backward", "kernels/cpu/short_segments.inl",
             "removed *= alpha;", "", (LAYERS, "-k", "cpu")),
)  # fmt: skip


def plant(mutation: Mutation, copy: Path) -> bool:
    """Put a mutation into a copy of the sources, run its tests, and put the old text back.

    Returns:
        Whether a test failed.
    """
    file = copy / "src/graphnorms" / mutation.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise SystemExit(
            f"{mutation.file} has {mutation.old!r} {text.count(mutation.old)} times, expected "
            f"once: mend the mutation {mutation.name!r}"
        )
    file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        if file.suffix == ".inl":
            build(copy)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            *mutation.tests,
        ]
        environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
        ended = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    finally:
        file.write_text(text, encoding="utf-8")
    if ended.returncode not in (0, 1):
        raise SystemExit(f"{mutation.name}: pytest could not run\n{ended.stdout}{ended.stderr}")
    return ended.returncode == 1


def build(copy: Path) -> None:
    """Compile the kernels of a copy and put them beside its sources."""
    place = copy / "build"
    python = f"-DPython_EXECUTABLE={sys.executable}"
    nanobind = subprocess.run(
        [sys.executable, "-m", "nanobind", "--cmake_dir"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    configure = ["cmake", "-S", copy, "-B", place, "-DCMAKE_BUILD_TYPE=Release", python,
                 f"-Dnanobind_DIR={nanobind}"]  # fmt: skip
    for command in (configure, ["cmake", "--build", place, "--parallel"]):
        subprocess.run(command, check=True, capture_output=True)
    for library in place.glob("_kernels*"):
        if library.is_file():
            shutil.copy(library, copy / "src/graphnorms/kernels/cpu")


def copy_of_sources(folder: Path) -> Path:
    """Copy what the tests need, the compiled kernels included."""
    import graphnorms.kernels.cpu as cpu
    from graphnorms.kernels.cpu.extension import kernels

    copy = folder / "graphnorms"
    copy.mkdir()
    for name in ("src", "tests", "examples", "docs", "scripts"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "CMakeLists.txt", "README.md"):
        shutil.copy(ROOT / name, copy / name)
    shutil.copy(str(kernels().__file__), copy / "src/graphnorms/kernels/cpu")
    assert cpu.__file__ is not None
    return copy


def main() -> int:
    """Plant what was asked for and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("word", nargs="?", default="", help="mutations whose name has it")
    parser.add_argument("--kernels", action="store_true", help="those of the C++ kernels, too")
    arguments = parser.parse_args()
    chosen = [
        each
        for each in (*MUTATIONS, *(KERNELS if arguments.kernels else ()))
        if arguments.word in each.name
    ]
    unnoticed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_sources(Path(folder))
        for mutation in chosen:
            noticed = plant(mutation, copy)
            unnoticed += not noticed
            print(f"{'noticed' if noticed else 'MISSED '}  {mutation.name}", flush=True)
    print(f"{len(chosen) - unnoticed} of {len(chosen)} noticed")
    return unnoticed


if __name__ == "__main__":
    sys.exit(main())
