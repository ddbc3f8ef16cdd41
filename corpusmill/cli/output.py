"""What a command prints, and where: results on stdout, notes, progress and errors on stderr.

With `--json` stdout carries one object, printed last, for success and failure alike. With `-q` only what was
asked for and errors are printed. Commands use the one `out` of this module and declare no such flags themselves.
Whatever is printed cannot steer the terminal: see `corpusmill.visible`.
"""

from __future__ import annotations

import errno
import json as json_module
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpusmill.errors import CorpusmillError, DiskFull
from corpusmill.visible import in_one_line, visible

# What a shell shows of a program that SIGPIPE ended.
_BROKEN_PIPE = 141
_INTERRUPTED = 130


@dataclass
class Output:
    """The printing of one command: `json`, `quiet` and `progress` are the global flags."""

    json: bool = False
    quiet: bool = False
    progress: bool = True

    def reset(self) -> None:
        """Forget the flags of an earlier command in the same process."""
        self.json, self.quiet, self.progress = False, False, True

    def line(self, text: str = "") -> None:
        """A line of what was asked for: on stdout, left out with `--json`."""
        if not self.json:
            _print(visible(text))

    def summary(self, text: str) -> None:
        """A line that says how it went: on stdout, left out with `--json` and `-q`."""
        if not self.quiet:
            self.line(text)

    def note(self, text: str) -> None:
        """Something worth knowing on the way: on stderr, left out with `-q`."""
        if not self.quiet:
            print(visible(text), file=sys.stderr, flush=True)

    def result(self, value: Mapping[str, Any]) -> None:
        """The one object of `--json`; nothing without the flag. Call it once, last."""
        if self.json:
            _print(visible(json_module.dumps(value, ensure_ascii=False, default=str)), flush=True)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """A table of plain text on stdout; columns numbered in `right` are set flush right."""
        rows = [[in_one_line(cell) for cell in row] for row in rows]
        widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
        for row in [head, *rows]:
            cells = [
                cell.rjust(widths[column]) if column in right else cell.ljust(widths[column])
                for column, cell in enumerate(row)
            ]
            self.line("  ".join(cells).rstrip())

    def trouble(self, error: CorpusmillError) -> None:
        """What went wrong, where, and what to type next: up to three lines on stderr."""
        print(error.told(), file=sys.stderr, flush=True)

    def error(self, error: CorpusmillError) -> None:
        """The same for a command that ends with it: with `--json` it is the object, too."""
        self.trouble(error)
        what = {"what": error.what, "where": error.where, "next_step": error.next_step}
        self.result({"error": what, "exit_code": error.exit_code})


def _print(text: str, *, flush: bool = False) -> None:
    try:
        print(text, flush=flush)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_print(error) from None


def cannot_print(error: OSError) -> CorpusmillError:
    """The error for a stdout that takes nothing more; from here on nothing is printed there, at exit neither."""
    _print_nowhere()
    kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else CorpusmillError
    return kind(
        f"what was asked for cannot be printed: {error.strerror}",
        where="standard output",
        next_step="make room, or print elsewhere, then run the same command again: what was done is saved",
    )


def has_stuck() -> bool:
    """Whether stdout holds something that it cannot get rid of."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def nobody_reads() -> int:
    """Our reader has left (`| head`): let nothing complain about it, at exit either. Gives the exit code."""
    _print_nowhere()
    return _BROKEN_PIPE


def _print_nowhere() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def interrupted() -> int:
    """Ctrl-C in the middle of a command that has nothing else to say then. Gives the exit code."""
    what = {"what": "interrupted", "where": "", "next_step": ""}
    out.result({"error": what, "exit_code": _INTERRUPTED})
    return _INTERRUPTED


out = Output()
