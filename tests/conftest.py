from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import graphnorms
from graphnorms.kernels.cpu import extension
from graphnorms.lab.engines import default_workers
from tests.interpreter import choose_interpreter
from tests.left_out import Selection

# Test processes run side by side; threads that wait for each other would only slow them down.
torch.set_num_threads(1)

HAVE_KERNELS = extension.unavailable() is None
INSTRUCTION_SETS = extension.kernels().instruction_sets() if HAVE_KERNELS else ["baseline"]
BACKENDS = [f"cpu:{name}" for name in INSTRUCTION_SETS] + ["reference"]
if choose_interpreter():
    BACKENDS.append("triton")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the C++ kernels are asked the interpreted ones are asked too, most with `-m slow`."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("backend") == "triton":
            if getattr(item, "originalname", "") != "test_agrees_in_the_interpreter":
                item.add_marker(pytest.mark.slow)
            # NumPy, on which the interpreter computes, warns of NaN where torch does not.
            item.add_marker(pytest.mark.filterwarnings("ignore::RuntimeWarning"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores with `-n auto`: a quarter of the time tests wait for others."""
    return default_workers("cpu") + 1


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-combinations",
        action="store_true",
        help="run all combinations of parameters, not only every pair, and what is marked `full`",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Selection(config))


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
    if name in ("auto", "reference", "triton"):
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
