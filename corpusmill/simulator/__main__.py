"""`python -m corpusmill.simulator`: the command `corpusmill simulate`, without the rest of the command line."""

from __future__ import annotations

import sys

import typer

from corpusmill.cli.simulate import simulate
from corpusmill.errors import CorpusmillError

if __name__ == "__main__":
    try:
        typer.run(simulate)
    except CorpusmillError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
