"""Does an installed wheel run? `python smoke_test.py [--kernels]`, outside of the repository.

With `--kernels` the compiled kernels must be there, and agree with the reference.
"""

from __future__ import annotations

import argparse

import torch

import graphnorms as gn


def main() -> None:
    """Print what there is, and compare the first backend with the reference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernels", action="store_true", help="require the compiled kernels")
    required = parser.parse_args().kernels
    status = {backend.name: backend for backend in gn.backends()}
    print(gn.__version__, torch.__version__, *status.values(), sep="\n")
    if required and not status["cpu"].available:
        raise SystemExit(f"the kernels are missing: {status['cpu'].detail}")
    x = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    batch = torch.arange(30) // 10
    expected = gn.GraphNorm(8, backend="reference")(x, batch)
    torch.testing.assert_close(gn.GraphNorm(8)(x, batch), expected)


if __name__ == "__main__":
    main()
