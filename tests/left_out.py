"""What `make test` leaves to `make test-all`, and why."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pairwise import thin

RANKS, WORKERS, KILLS = "ranks in processes", "worker processes and Dask", "kills of whole runs"
COMPILED, INTERPRETED = "compiled and exported layers", "interpreted kernels"
COPIES, SIMULATED = "copies of the sources, and whole backends", "simulated comparisons"
PAGE = "snippets of a page"
FULL = {
    "tests/ranks/test_examples.py": RANKS,
    "tests/ranks/test_fsdp.py": RANKS,
    "tests/unit/lab/engines/test_dask.py": WORKERS,
    "tests/unit/lab/engines/test_local.py": WORKERS,
    "tests/unit/lab/engines/test_slurm.py::test_trials": WORKERS,
    "tests/unit/lab/engines/test_slurm.py::test_a_trial": WORKERS,
    "tests/unit/test_worked_examples.py::test_the_script_runs": "worked examples",
    "tests/unit/docs/test_pages.py::test_python[judge]": PAGE,
    "tests/unit/docs/test_pages.py::test_python[README]": PAGE,
    "tests/unit/docs/test_pages.py::test_python[testing]": PAGE,
    "tests/unit/lab/test_survival.py": KILLS,
    "tests/unit/lab/test_journal.py::test_kill_9": KILLS,
    "tests/unit/cli/test_signals.py": KILLS,
    "tests/unit/cli/test_cli.py::test_ctrl_c": KILLS,
    "tests/unit/cli/test_cli.py::test_a_reader_that_leaves_early": WORKERS,
    "tests/unit/test_comparison.py::test_where_trials_run": WORKERS,
    "tests/unit/test_comparison_forces.py::test_from_a_file": "a comparison and its export",
    "tests/unit/test_comparison_norms.py::test_worker_processes": WORKERS,
    "tests/unit/test_comparison_own.py::test_worker_processes": WORKERS,
    "tests/unit/test_comparison_own.py::test_a_record_does_not": WORKERS,
    "tests/unit/test_comparison_own.py::test_no_code_of_ones_own": WORKERS,
    "tests/unit/test_comparison_tasks.py::test_worker_processes": WORKERS,
    "tests/unit/dropin/test_fused_models.py": "force fields of others",
    "tests/unit/report/test_browser.py": "a browser",
    "tests/unit/kernels/test_triton.py::test_results_and_statistics": INTERPRETED,
    "tests/unit/kernels/test_triton.py::test_the_equation[torch.float32]": INTERPRETED,
    "tests/unit/kernels/test_triton_compiles.py": INTERPRETED,
    "tests/conformance/test_derivatives.py::test_whole_step": COMPILED,
    "tests/conformance/test_derivatives.py::test_compiled_autograd_of_both": COMPILED,
    "tests/conformance/test_derivatives.py::test_compiled_autograd_of_the_loss": COMPILED,
    "tests/conformance/test_aggregate_modes.py::test_onnx": COMPILED,
    "tests/conformance/test_aggregate_modes.py::test_opcheck": COMPILED,
    "tests/conformance/test_battery.py::test_compiles_in_one_graph": COMPILED,
    "tests/conformance/test_modes.py::test_onnx": COMPILED,
    "tests/conformance/test_modes.py::test_opcheck": COMPILED,
    "tests/unit/test_tracing.py": COMPILED,
    "tests/unit/test_recipe.py::test_factory_docs_reports_and_battery": COPIES,
    "tests/unit/test_recipe.py::test_the_conformance_tests_run_it": COPIES,
    "tests/unit/testing/test_batteries.py::test_every_backend_passes": COPIES,
    "tests/unit/lab/test_simulation.py": SIMULATED,
    "tests/unit/lab/test_judged_simulation.py": SIMULATED,
    "tests/unit/lab/test_search_simulation.py": SIMULATED,
    "tests/unit/lab/test_real_nulls.py::test_a_row_for_every": SIMULATED,
    "tests/unit/bench/": "benchmarks",
}
"""Beginnings of the names of tests; `@pytest.mark.full(reason)` says the same of one.

What is marked `brief` is the other way round: `make test-all` runs the same, and more, elsewhere.
"""

STUDIES = ("landscape", "placement", "preconditioning")
"""Those that `make test` runs end to end, at size tiny; it tries the rules of all."""


class Selection:
    """Leaves out what is marked, and of the combinations of parameters all but every pair."""

    def __init__(self, config: pytest.Config) -> None:
        self.everything = config.getoption("all_combinations")
        self.left_out: collections.Counter[str] = collections.Counter()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, items: list[pytest.Item], config: pytest.Config
    ) -> None:
        items.sort(key=begins_late)
        if self.everything:
            brief = [item for item in items if item.get_closest_marker("brief")]
            config.hook.pytest_deselected(items=brief)
            items[:] = [item for item in items if item not in brief]
            return
        kept = [item for item in items if not list(reasons(item))]
        self.left_out.update(reason for item in items for reason in reasons(item))
        chosen = thin(kept)
        self.left_out["combinations of which every pair is met"] = len(kept) - len(chosen)
        left = set(items).difference(chosen)
        config.hook.pytest_deselected(items=[item for item in items if item in left])
        items[:] = chosen

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:  # a process of xdist, which alone knows what it has collected
            output["left_out"] = dict(self.left_out)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.left_out = collections.Counter(getattr(node, "workeroutput", {}).get("left_out", {}))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if +self.left_out:
            parts = ", ".join(f"{count} of {reason}" for reason, count in (+self.left_out).items())
            terminalreporter.write_line(f"left to `make test-all`: {parts}")


def begins_late(item: pytest.Item) -> tuple[bool, bool]:
    """Order tests: the thousands of short ones last.

    Processes of xdist get long stretches at first and short ones at last. So a file's fixtures,
    whole comparisons some of them, are made by one process, and all end at the same time.
    """
    return item.path.parent.name == "conformance", item.path.name == "test_layers.py"


def reasons(item: pytest.Item) -> Iterator[str]:
    """Why an item is left out, once at most."""
    for marker in item.iter_markers("full"):
        yield marker.args[0]
        return
    for beginning, reason in FULL.items():
        if item.nodeid.startswith(beginning):
            yield reason
            return
    tiny = isinstance(item, pytest.Function) and "run_tiny" in item.function.__code__.co_names
    if tiny and item.path.stem.removeprefix("test_") not in STUDIES:
        yield "studies end to end"
