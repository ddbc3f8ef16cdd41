"""Where a table is loaded into: a PostgreSQL, by a URL that is never shown.

libpq's errors quote what they cannot read, the password with it, so nothing of theirs about a URL is passed on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from corpusmill import secrecy
from corpusmill.errors import SettingsError, UsageError
from corpusmill.pgvector import trouble

Connection = psycopg.Connection[tuple[Any, ...]]

_SCHEME = re.compile(r"postgres(ql)?(\+psycopg)?://")
_VARIABLE = "env:"
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 10,
    "application_name": "corpusmill",
    "keepalives_idle": 15,
    "keepalives_interval": 5,
}


@dataclass(frozen=True, slots=True)
class Target:
    """A database to load into; `place` may be shown. `exposed`: its password stands in the command line."""

    parameters: Mapping[str, Any] = field(repr=False)
    place: str
    exposed: bool

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection that commits what a transaction of its own makes.

        Raises:
            Unavailable: the server cannot be reached, or does not let this user in.
            DiskFull: it has no room left.
            UsageError: the user lacks a right.
        """
        password = self.parameters.get("password")
        try:
            # No prepared statements: a pooler in front may give each transaction another connection.
            connection = psycopg.connect(**{**_DEFAULTS, **self.parameters}, autocommit=True, prepare_threshold=None)
            # Whatever the user's default: what an earlier load wrote while this one waited for it has to be seen.
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            with connection:
                yield connection
        except psycopg.Error as error:
            raise trouble.told(error, self.place, password) from None


def target(to: str) -> Target:
    """The database that `--to` names: a URL, or `env:NAME` for the URL in an environment variable.

    Raises:
        UsageError: it is neither.
    """
    variable = to.removeprefix(_VARIABLE) if to.startswith(_VARIABLE) else None
    url = to if variable is None else _in_environment(variable)
    where = "--to" if variable is None else f"the environment variable {variable}"
    if not _SCHEME.match(url):
        raise _unknown(where)
    try:
        # Its port is checked by libpq only when it connects, in words that quote it.
        parameters = conninfo_to_dict(_SCHEME.sub("postgresql://", url, count=1))
        ports = [int(port) for port in str(parameters.get("port", "5432")).split(",") if port]
    except (psycopg.Error, ValueError):
        raise _unknown(where) from None
    password = str(parameters.get("password") or "")
    secrecy.learn(password)
    return Target(parameters, _place(parameters, ports), variable is None and bool(password))


def _in_environment(name: str) -> str:
    found = os.environ.get(name, "").strip()
    if not found:
        raise SettingsError(
            f"the environment variable {name} is not set", where="--to", next_step=f"export {name}=postgresql://…"
        )
    return found


def _place(parameters: Mapping[str, Any], ports: list[int]) -> str:
    host = str(parameters.get("host") or parameters.get("hostaddr") or "localhost")
    return f"postgresql://{host}:{ports[0] if ports else 5432}/{parameters.get('dbname', '')}"


def _unknown(where: str) -> UsageError:
    return UsageError(
        "that is no URL of a PostgreSQL database",
        where=where,
        next_step="write postgresql://USER:PASSWORD@HOST/NAME, special characters percent-encoded; "
        "or --to env:NAME, with the URL in that environment variable",
    )
