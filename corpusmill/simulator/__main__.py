"""`python -m corpusmill.simulator`: the command `corpusmill simulate` by another door."""

from __future__ import annotations

import sys

from corpusmill.cli.main import run

if __name__ == "__main__":
    run(["simulate", *sys.argv[1:]])
