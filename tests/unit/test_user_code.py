"""What the source of a function is, and when its hash changes."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

from graphnorms.user_code import find, is_spec, source_hash

MAKE = "import torch\nfrom beside import width\n\ndef make(wide=2):\n    return wide * width()\n"
BESIDE = "def width():\n    from deeper.inner import WIDTH\n\n    return WIDTH\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(MAKE)
    (tmp_path / "beside.py").write_text(BESIDE)
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "inner.py").write_text("WIDTH = 3\n")
    (tmp_path / "apart.py").write_text("import own\n")
    yield tmp_path
    for name in ("own", "beside", "deeper", "deeper.inner", "apart"):
        sys.modules.pop(name, None)


def hashed(spec: str = "own:make") -> str:
    for name in ("own", "beside", "deeper", "deeper.inner"):
        sys.modules.pop(name, None)
    return source_hash(find(spec, "a number"), spec.partition(":")[0])


def test_a_spec_has_a_module_and_a_function() -> None:
    assert all(map(is_spec, ("a:b", "a.b:c.d", "größe:f")))
    assert not any(map(is_spec, ("a", "a:", ":b", "a/b:c", "a.py:b:c", "a b:c", "1a:b")))


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("own.py", MAKE + "# a remark\n", True),
        ("beside.py", BESIDE.replace("return WIDTH", "return WIDTH + 1"), True),
        ("deeper/inner.py", "WIDTH = 4\n", True),
        ("apart.py", "import own  # which it is not imported by\n", False),
    ],
)
def test_every_file_that_a_function_leads_to_counts(
    folder: Path, file: str, text: str, changes: bool
) -> None:
    before = hashed()
    assert hashed() == before
    (folder / file).write_text(text)
    assert (hashed() != before) is changes


def test_where_the_files_lie_does_not_count(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hashed()
    other = tmp_path_factory.mktemp("other")
    folder.joinpath("deeper").rename(other / "deeper")
    for name in ("own.py", "beside.py"):
        folder.joinpath(name).rename(other / name)
    monkeypatch.chdir(other)
    assert hashed() == before


def test_what_a_function_carries_counts(folder: Path) -> None:
    make = find("own:make", "a number")

    def closed(width: int):
        return lambda wide=2: width * wide

    for one, other in (
        (functools.partial(make, 2), functools.partial(make, 3)),
        (functools.partial(make, wide=2), functools.partial(make, 2)),
        (closed(1), closed(2)),
        (make, closed(1)),
    ):
        assert source_hash(one) == source_hash(one)
        assert source_hash(one) != source_hash(other)
    assert source_hash(closed([1, {"a": make}])) != source_hash(closed([1, {"a": hashed}]))


def test_what_has_no_source_is_refused() -> None:
    thing = object()
    for function, message in (
        (lambda: thing, "carries a value of type object, which has no unique text"),
        (functools.partial(hashed, thing), "given a value of type object"),
        (len, "of type builtin_function_or_method, expected a function or a class"),
        (eval("lambda: 1", {"__name__": "nowhere"}), "<lambda> cannot be read; write it to a file"),
    ):
        with pytest.raises(ValueError, match=message):
            source_hash(function)
