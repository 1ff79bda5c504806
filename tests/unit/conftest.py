"""What tests of whole comparisons have in common: trials in this process, and no page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from graphnorms import training
from graphnorms.lab import engines
from graphnorms.report import pictures


@pytest.fixture
def in_this_process(monkeypatch) -> list[str]:
    """Trials run in this process, which saves the start of workers; the keys of those trained."""
    return _run_here(monkeypatch)


@pytest.fixture(scope="module")
def in_this_process_of_module() -> Iterator[list[str]]:
    """The same for the fixtures of a module."""
    with pytest.MonkeyPatch.context() as patch:
        yield _run_here(patch)


def _run_here(patch: pytest.MonkeyPatch) -> list[str]:
    trained: list[str] = []
    run_trial = training.run_trial

    def counted(config, dataset, on_epoch=None, **more):
        trained.append(config.key)
        return run_trial(config, dataset, on_epoch, **more)

    def make_engine(name, trial, dataset, **options):
        return engines.ThisProcess(trial, dataset)

    patch.setattr(training, "run_trial", counted)
    patch.setattr(engines, "make_engine", make_engine)
    return trained


@pytest.fixture
def stub_page(monkeypatch) -> None:
    """Write an empty report and no figures: that takes seconds, and a few tests look at it."""
    _stub(monkeypatch)


@pytest.fixture(scope="module")
def stub_page_of_module() -> Iterator[None]:
    """The same for the fixtures of a module."""
    with pytest.MonkeyPatch.context() as patch:
        _stub(patch)
        yield


def _stub(patch: pytest.MonkeyPatch) -> None:
    page = SimpleNamespace(write_page=lambda path, *_, **__: path.touch())
    patch.setitem(sys.modules, "graphnorms.report.page", page)
    patch.setattr(pictures, "write_pictures", lambda *_: [])
