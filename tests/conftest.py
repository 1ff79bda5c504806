from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import graphnorms
from graphnorms.kernels.cpu import extension
from tests.interpreter import choose_interpreter
from tests.pairwise import thin

# Test processes run side by side; threads that wait for each other would only slow them down.
torch.set_num_threads(1)

HAVE_KERNELS = extension.unavailable() is None
INSTRUCTION_SETS = extension.kernels().instruction_sets() if HAVE_KERNELS else ["baseline"]
BACKENDS = [f"cpu:{name}" for name in INSTRUCTION_SETS] + ["reference"]
if choose_interpreter():
    BACKENDS.append("triton")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the C++ kernels are asked the interpreted ones are asked too; most of it with `-m slow`.

    Always: every layer on every awkward input, plain, in float32 and bfloat16.
    """
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("backend") == "triton":
            point = (callspec.params.get("epilogue"), callspec.params.get("dtype"))
            if point not in (("None", torch.float32), ("None", torch.bfloat16)):
                item.add_marker(pytest.mark.slow)
            # NumPy, on which the interpreter computes, warns of NaN where torch does not.
            item.add_marker(pytest.mark.filterwarnings("ignore::RuntimeWarning"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-combinations",
        action="store_true",
        help="run tests for all combinations of their parameters, not only for every pair",
    )


class Thinning:
    """Thins what is left after pytest's own choice, as by `-m` and `-k`."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, items: list[pytest.Item], config: pytest.Config
    ) -> None:
        chosen = thin(items)
        left_out = set(items).difference(chosen)
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = chosen


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("all_combinations"):
        config.pluginmanager.register(Thinning())


@pytest.fixture(autouse=True)
def uninitialized_memory_is_nan() -> Iterator[None]:
    """`torch.empty` gives NaN under deterministic algorithms: what a kernel forgets shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every backend, the C++ one in every instruction set that this processor has."""
    name, _, instruction_set = request.param.partition(":")
    if name in ("reference", "triton"):
        yield name
        return
    if not HAVE_KERNELS:
        pytest.skip(graphnorms.backends()[0].detail)
    kernels = extension.kernels()
    before = kernels.instruction_set()
    kernels.use_instruction_set(instruction_set)
    yield name
    kernels.use_instruction_set(before)


@pytest.fixture
def threads() -> Iterator[None]:
    """Restore the number of threads that a test changes."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
