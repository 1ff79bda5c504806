"""Packages whose import is put off until they are used."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator

import pytest

from graphnorms.late import postpone


@pytest.fixture
def package(tmp_path, monkeypatch) -> Iterator[str]:
    folder = tmp_path / "put_off"
    folder.mkdir()
    (folder / "__init__.py").write_text("answer = 42\n")
    (folder / "part.py").write_text("from put_off import answer\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "put_off"
    for name in ("put_off", "put_off.part"):
        sys.modules.pop(name, None)


def test_it_is_loaded_at_its_first_use(package):
    postpone(package)
    import put_off

    assert importlib.util.find_spec(package) is not None  # is asked of optional packages
    assert "answer" not in vars(sys.modules[package])
    assert put_off.answer == 42
    assert vars(sys.modules[package])["answer"] == 42
    with pytest.raises(AttributeError, match="no attribute 'question'"):
        _ = put_off.question


def test_it_is_loaded_with_a_module_of_its(package):
    postpone(package)
    from put_off.part import answer

    assert answer == 42


def test_what_is_loaded_or_not_there_stays_as_it_is(package):
    import put_off

    postpone(package, "no_such_package")
    assert sys.modules[package] is put_off
    assert "no_such_package" not in sys.modules
