"""What can go wrong, told to a person in three lines: what, where, and what to type next.

CorpusmillError                 exit 1: our own fault, unless a subclass says otherwise
├── UsageError                  exit 2: the command, a setting or the input has to be changed
│   ├── SettingsError           a setting is unknown or has a value that cannot be
│   ├── SourceError             a source cannot be read, with file and line
│   │   └── SourceChanged       a file changed while it was being read
│   ├── OutputExists            the output file belongs to somebody else
│   ├── JobNotFound             no job, or several, go by that name
│   └── JobStopped              every item fails alike: no such model, a bad parameter
├── BudgetReached               exit 5: the budget or the provider's credit is used up
├── Unavailable                 exit 69: endpoint, broker or database cannot be reached
├── DiskFull                    exit 74
└── KeyRefused                  exit 77: the endpoint refused the key

Failures of a single call to the endpoint are data for the worker, not for a person: see `corpusmill.llm.errors`.
"""

from __future__ import annotations

from typing import ClassVar

from corpusmill.visible import visible


class CorpusmillError(Exception):
    """A failure that a person reads: `what` happened, `where`, and `next_step`, what to type or change."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", next_step: str = "") -> None:
        self.what, self.where, self.next_step = what, where, next_step
        super().__init__(what)

    def lines(self) -> list[str]:
        """The message as it is shown: one to three lines, empty parts left out."""
        return [line for line in (self.what, self.where, self.next_step) if line]

    def told(self) -> str:
        """The message as a person at a terminal reads it, or in a log that somebody looks into."""
        first, *rest = self.lines() or [type(self).__name__]
        return visible("\n".join([f"✗ {first}", *(f"  {line}" for line in rest)]))

    def __str__(self) -> str:
        return "\n".join(self.lines())


class UsageError(CorpusmillError):
    """The command, a setting or the input has to be changed first."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting is unknown, or has a value that cannot be."""


class SourceError(UsageError):
    """A source cannot be read or used; `where` names file and line."""

    def __init__(self, what: str, *, path: str, line: int | None = None, next_step: str = "") -> None:
        self.path, self.line = path, line
        super().__init__(what, where=path if line is None else f"{path}:{line}", next_step=next_step)


class SourceChanged(SourceError):
    """A file changed, or went, between two looks at it."""


class OutputExists(UsageError):
    """The output file exists and was not written by this job."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"{path} exists and was not written by this job; it would be overwritten",
            where=path,
            next_step="choose another --out, or add --force to replace it",
        )


class JobNotFound(UsageError):
    """No job, or more than one, goes by that id, prefix or name."""


class JobStopped(UsageError):
    """Every item of the job fails alike, so it was stopped after a handful."""


class BudgetReached(CorpusmillError):
    """The job's budget or the provider's credit is used up; the job is paused and can go on."""

    exit_code = 5


class Unavailable(CorpusmillError):
    """The endpoint, the broker or the database cannot be reached."""

    exit_code = 69


class DiskFull(CorpusmillError):
    """There is no room left on a disk that the job needs."""

    exit_code = 74


class KeyRefused(CorpusmillError):
    """The endpoint refused the key."""

    exit_code = 77
