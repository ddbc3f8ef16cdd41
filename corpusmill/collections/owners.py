"""Who writes a version: a process by machine, boot and number, so that one that was killed is known at once.

Of a process elsewhere nothing is known but when it was last heard of.
"""

from __future__ import annotations

import os
import platform
import secrets
from contextlib import suppress
from pathlib import Path

from corpusmill.ledger.clock import boot_id


def new_owner() -> str:
    """A name for one sync of this process; no other one has it."""
    return f"{_here()} {os.getpid()} {secrets.token_hex(8)}"


def is_gone(owner: str | None) -> bool:
    """Whether its process is known to have ended; False also where that cannot be known from here."""
    here, _, rest = (owner or "").partition(" ")
    number = rest.partition(" ")[0]
    if here != _here() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _here() -> str:
    # The same number may be another process after a boot, or in another container.
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return "/".join([platform.node(), boot_id(), space]).replace(" ", "_")
