"""`python -m graphnorms`: the command line."""

import sys

from graphnorms.cli import main

if __name__ == "__main__":
    sys.exit(main())
