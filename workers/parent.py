"""The pipe to the supervisor that started this process: keys come by it, and its end is our end.

Only a process with CORPUSMILL_CHILD=1 listens. Each line is one provider as JSON, key included: a pipe between two
processes of one user is the one way that keys take.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from corpusmill.errors import SettingsError

log = logging.getLogger(__name__)

MARK = "CORPUSMILL_CHILD"
# For writing what came back, and closing.
AFTER_GRACE_S = 30.0
EX_SOFTWARE = 70


def is_there() -> bool:
    """Whether a supervisor has started this process."""
    return bool(os.environ.get(MARK))


def listen(grace_s: float, take: Callable[[dict[str, Any]], None] | None = None) -> None:
    """Hand each line to `take` from a thread; when the pipe closes, end as on SIGTERM. Nothing without a supervisor.

    `grace_s`: how long an end in order may take, about; a process that hangs then is ended all the same.
    """
    if is_there():
        threading.Thread(target=_listen, args=(grace_s, take), name="parent", daemon=True).start()


def _listen(grace_s: float, take: Callable[[dict[str, Any]], None] | None) -> None:
    for line in _lines(sys.stdin.fileno()):
        if take is not None:
            _hand_over(line, take)
    log.info("the supervisor is gone: ending")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s + AFTER_GRACE_S)
    os._exit(EX_SOFTWARE)


def _lines(descriptor: int) -> Iterator[bytes]:
    # Not through sys.stdin: a thread that waits inside its lock makes the interpreter abort at exit.
    buffer = b""
    while chunk := os.read(descriptor, 65536):
        *lines, buffer = (buffer + chunk).split(b"\n")
        yield from lines


def _hand_over(line: bytes, take: Callable[[dict[str, Any]], None]) -> None:
    try:
        take(orjson.loads(line))
    except (orjson.JSONDecodeError, TypeError, SettingsError) as error:
        # The type alone: the line holds a key.
        log.error("not understood from the supervisor error=%s", type(error).__name__)
