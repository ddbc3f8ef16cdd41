"""The clocks of the ledger: one for leases, one for dates.

Leases are compared on the database's clock. For SQLite that is this machine's time since boot: it neither jumps with
the wall clock nor stops while the machine sleeps. A restart begins it anew, so the ledger remembers the boot id and
`corpusmill.ledger.schema` drops all leases of an earlier boot, whose owners are gone with it.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import psutil
from sqlalchemy import Connection, text

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# macOS has no CLOCK_BOOTTIME; its CLOCK_MONOTONIC goes on through sleep, as ours must.
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_POSTGRES_NOW = text(
    "SELECT extract(epoch FROM clock_timestamp())::float8, extract(epoch FROM pg_postmaster_start_time())::float8"
)
# A database that was away renewed nobody's lease. Until its workers have come back, which they do within two seconds,
# no lease is over: else what they paid for meanwhile, and could not write, would be bought again.
RESTART_S = 5.0


@dataclass(frozen=True, slots=True)
class Now:
    """One moment: `lease_s` on the clock of leases, `wall_s` in epoch seconds.

    A lease is over when it ended at `over_s` or before.
    """

    lease_s: float
    wall_s: float
    over_s: float


def read_clock(conn: Connection) -> Now:
    """The moment, as the database sees it. Read it after taking locks: waiting for one takes time."""
    if conn.dialect.name == "sqlite":
        since_boot = time.clock_gettime(_SINCE_BOOT)
        return Now(lease_s=since_boot, wall_s=time.time(), over_s=since_boot)
    at, started = conn.execute(_POSTGRES_NOW).one()
    return Now(lease_s=at, wall_s=at, over_s=at if at - started > RESTART_S else 0.0)


@cache
def boot_id() -> str:
    """What tells this run of the machine from the one before."""
    if _BOOT_ID.exists():
        return _BOOT_ID.read_text().strip()
    return _macos_boot_id() or f"{psutil.boot_time():.0f}"


def _macos_boot_id() -> str:
    try:
        asked = subprocess.run(["sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return asked.stdout.strip()


def day_of(wall_s: float) -> str:
    """The UTC date of a moment, as 2026-11-23."""
    return datetime.fromtimestamp(wall_s, tz=UTC).date().isoformat()
