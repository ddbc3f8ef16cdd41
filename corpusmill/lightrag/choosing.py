"""Which mode calls are made in: decided at the first call, by the settings, unless the program says so."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corpusmill.lightrag.modes import Mode

_OFF = ("off", "false", "0", "no")
_chosen: Mode | None = None


def mode() -> Mode:
    """The mode in force."""
    return _chosen or use_local()


def use_local(*, cache: bool | None = None) -> Mode:
    """Make calls in this process from now on, with an empty cache in memory.

    `cache` None: unless CORPUSMILL_CACHE is off.
    """
    from corpusmill.lightrag.local import Local
    from corpusmill.lightrag.memory import Memory

    if cache is None:
        cache = os.environ.get("CORPUSMILL_CACHE", "on").strip().lower() not in _OFF
    return use(Local(Memory() if cache else None))


def use(chosen: Mode) -> Mode:
    """Make calls in this mode from now on."""
    global _chosen
    _chosen = chosen
    return chosen
