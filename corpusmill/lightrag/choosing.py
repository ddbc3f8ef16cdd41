"""Which mode calls are made in: decided at the first call, by the settings, unless the program says so."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corpusmill.lightrag.fleet import Fleet
    from corpusmill.lightrag.local import Local
    from corpusmill.lightrag.memory import Cache
    from corpusmill.lightrag.modes import Mode
    from corpusmill.settings import Settings

_OFF = ("off", "false", "0", "no")
_chosen: Mode | None = None
_choosing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Said:
    """What the settings say of the mode, wherever they stand.

    A broker: the fleet's. A database alone: local, with the ledger as its cache. Neither: local, with one in memory.
    """

    broker_url: str | None
    database_url: str | None
    cache: bool

    @classmethod
    def read(cls) -> Said:
        """Look at `corpusmill.toml`, `.env` and the environment: a few milliseconds, and nothing heavy is imported.

        Raises:
            SettingsError: a file that cannot be read.
        """
        from corpusmill.settings_loading import gather

        given = {one.path: one.value for one in gather(Path.cwd(), {})}
        cache = str(given.get(("cache",), "on")).strip().lower() not in _OFF
        return cls(given.get(("broker_url",)), given.get(("database_url",)), cache)


def mode() -> Mode:
    """The mode in force."""
    if _chosen is None:
        with _choosing:
            if _chosen is None:
                return use_fleet() if Said.read().broker_url else use_local()
    return _chosen


def use_local(*, cache: bool | None = None) -> Local:
    """Make calls in this process from now on; their answers are kept in the ledger, or in memory without a database.

    `cache` None: unless CORPUSMILL_CACHE is off.

    Raises:
        SettingsError: a file that cannot be read.
    """
    from corpusmill.lightrag.local import Local

    said = Said.read()
    local = Local(_cache(said.database_url) if (said.cache if cache is None else cache) else None)
    _use(local)
    return local


def _cache(database_url: str | None) -> Cache:
    if database_url is None:
        from corpusmill.lightrag.memory import Memory

        return Memory()
    from corpusmill.lightrag.shelf import Shelf

    return Shelf(database_url)


def use_fleet(settings: Settings | None = None, **overrides: Any) -> Fleet:
    """Have calls made by the fleet from now on; close what comes back to let go of it.

    Args:
        settings: those of the fleet; None: as files and environment say.
        overrides: single settings over these, such as `broker_url` and `database_url`.

    Raises:
        SettingsError: no broker and database, or a setting that cannot be.
        Unavailable: the database cannot be reached.
    """
    from corpusmill.lightrag.fleet import Fleet
    from corpusmill.settings import Settings

    fleet = Fleet.open(settings if settings is not None else Settings.load(**overrides))
    _use(fleet)
    return fleet


def _use(chosen: Mode) -> None:
    global _chosen
    _chosen = chosen
