"""What a collection and a set may be called, and which names are taken by a job."""

from __future__ import annotations

import re

from corpusmill.errors import JobNotFound, UsageError
from corpusmill.ledger import Ledger
from corpusmill.spec import JobSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check(name: str) -> None:
    """Refuse a name that would be taken for something else.

    Raises:
        UsageError: the name holds other characters than letters, digits, dots and dashes, or looks like a job's id.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a collection's name", next_step="use letters, digits, dots, dashes and underscores"
        )
    if name == "last" or name.startswith("j_"):
        raise UsageError(
            f"a collection cannot be called {name}: `last` is the newest job and `j_…` are ids",
            next_step="choose another name",
        )


def refuse_shared(ledger: Ledger, name: str) -> None:
    """Refuse a name that a job has as well: `export` could not know which is meant.

    Raises:
        UsageError: both go by it; the error has both ids.
    """
    try:
        job = ledger.job(name)
    except JobNotFound:
        return
    if job.name == name:
        known = ledger.collections.named(name)
        number = f"collection {known.id}" if known else "the collection to be made"
        raise UsageError(
            f"{name} is the name of a job and of a collection",
            where=f"job {job.public_id}, {number}",
            next_step=f"name the job by its id, {job.public_id}, and give the collection another name",
        )


def parted(ref: str) -> tuple[str, str | None]:
    """`COLLECTION@SET` as both, or a collection's name alone."""
    name, mark, set_name = ref.partition("@")
    return name, set_name if mark else None


def set_name(spec: JobSpec) -> str:
    """What a set is called: its model, and its dimensions where they were asked for."""
    model = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.model).strip("-") or "set"
    return model if spec.dimensions is None else f"{model}-{spec.dimensions}"
