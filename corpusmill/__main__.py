"""`python -m corpusmill`: the command `corpusmill` by another door."""

from __future__ import annotations

from corpusmill.cli.main import run

if __name__ == "__main__":
    run()
