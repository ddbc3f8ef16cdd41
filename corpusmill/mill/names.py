"""The rules for what a job may be called."""

from __future__ import annotations

from corpusmill.errors import UsageError


def check(name: str | None) -> None:
    """Refuse a name that would be taken for something else.

    Raises:
        UsageError: the name is empty, `last`, or looks like a job's id.
    """
    if name is None:
        return
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise UsageError(f"{name!r} cannot be a job's name", next_step="use letters, digits and dashes")
    if name == "last" or name.startswith("j_"):
        raise UsageError(
            f"a job cannot be called {name}: `last` is the newest job and `j_…` are ids",
            next_step="choose another --name",
        )
