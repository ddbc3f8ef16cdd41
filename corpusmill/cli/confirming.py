"""Asking a person before something is done that nothing undoes."""

from __future__ import annotations

import sys

from corpusmill.cli.output import out
from corpusmill.errors import UsageError


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether the person at the terminal says yes; `yes`: it was said on the command line.

    Raises:
        UsageError: nobody is there to ask.
    """
    if yes:
        return True
    if out.json or not sys.stdin.isatty():
        raise UsageError(
            f"{question} Nobody is there to say so", next_step="add --yes, or see first what it does: --dry-run"
        )
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
