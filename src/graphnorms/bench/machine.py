"""Where a measurement was taken: device, versions, load, instruction sets, commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from graphnorms.kernels import backends
from graphnorms.training.record import processor_name
from graphnorms.version import __version__


def describe(device: str) -> dict[str, Any]:
    """Return everything about this machine that a time depends on, JSON-able."""
    return {
        "device": device_name(device),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "kernels": {backend.name: backend.detail for backend in backends()},
        "torch_instruction_set": torch.backends.cpu.get_cpu_capability(),
        "versions": {
            "graphnorms": __version__,
            "commit": commit(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torch_geometric": installed_version("torch_geometric"),
            **_gpu_versions(device),
        },
        "load": load(),
    }


def _gpu_versions(device: str) -> dict[str, str | None]:
    if torch.device(device).type != "cuda":
        return {}
    return {"cuda": torch.version.cuda, "triton": installed_version("triton")}


def device_name(device: str) -> str:
    """Return what the device calls itself."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(torch.device(device))
    return processor_name()


def slug(name: str) -> str:
    """Return a device's name as the name of a folder: `intel-xeon-processor`."""
    without_marks = re.sub(r"\((r|tm|c)\)", "", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", without_marks).strip("-") or "unknown"


def load() -> float | None:
    """Return the average number of running processes of the last minute, where known."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # Windows has none
        return None


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, or `None`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """Return the commit of the checkout this runs from, `-dirty` if changed; else `None`."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=10"]
    try:
        run = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # An installation inside somebody else's checkout is not that checkout.
    installed = "site-packages" in Path(__file__).parts
    return run.stdout.strip() if run.returncode == 0 and not installed else None
