"""What the files around the code say of the package is what pyproject.toml says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version():
    released = re.findall(r"^## ([\d.]+) - (\S+)$", text("CHANGELOG.md"), re.MULTILINE)
    version, date = released[0]
    assert PROJECT["version"] == version
    assert f"\nversion: {version}\n" in text("CITATION.cff")
    assert f"\ndate-released: {date}\n" in text("CITATION.cff")


def test_badges_are_true():
    badges = dict(re.findall(r"badge/(\w+)-([\w.+]+)-\w+\)", text("README.md")))
    assert f">={badges.pop('python')}" == f"{PROJECT['requires-python']}+"
    assert f"torch>={badges.pop('pytorch')}" == f"{PROJECT['dependencies'][0]}+"
    assert badges.pop("license") == PROJECT["license"]
    assert badges == {"types": "mypy_strict"}
