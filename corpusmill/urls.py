"""URLs of servers: which are taken, how each library spells them, and how they are shown."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

BROKER_SCHEMES = ("redis", "rediss", "redis+socket")


def checked_broker(value: Any) -> Any:
    """A broker's URL, if it is one; for pydantic."""
    if isinstance(value, str) and urlsplit(value).scheme not in BROKER_SCHEMES:
        raise ValueError(f"a broker URL starts with {', '.join(s + '://' for s in BROKER_SCHEMES)}")
    return value


def checked_database(value: Any) -> Any:
    """A database's URL, if it is one; for pydantic.

    `postgresql://` means psycopg 3 here: SQLAlchemy would take it for a driver that we do not ship.
    """
    if not isinstance(value, str):
        return value
    scheme, mark, rest = value.partition("://")
    if not mark or scheme not in ("postgresql", "postgres", "postgresql+psycopg", "sqlite"):
        raise ValueError("a database URL starts with postgresql:// or sqlite:///")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgresql", "postgres") else value


def redis_url_of(broker_url: str) -> str:
    """The broker's Redis in redis-py's spelling."""
    if not broker_url.startswith("redis+socket://"):
        return broker_url
    parts = urlsplit(broker_url)
    database = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair).get("virtual_host", "0")
    return f"unix://{parts.path}?db={database}"


def without_password(url: str) -> str:
    """A URL that may be shown."""
    url = re.sub(r"(password=)[^&]*", r"\1***", url)
    # Up to the last @ of the part before the path: a password may hold one that somebody did not quote.
    return re.sub(r"(://[^:/?]*):[^/?]*@", r"\1:***@", url)
