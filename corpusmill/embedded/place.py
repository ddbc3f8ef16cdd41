"""Where the embedded machinery lives: HOME, and a short private folder for its sockets.

HOME holds what must survive; the socket folder lies in the temporary directory because the path of a Unix socket
may have 107 bytes at most (103 on macOS), and HOME's is as long as the user likes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from corpusmill.errors import SettingsError
from corpusmill.settings import Settings

SOCKET_PREFIX = "cm-"
LONGEST_SOCKET_PATH = 103
# File systems whose locks or shared memory other hosts, or this one after a reconnect, do not see: SQLite's
# write-ahead log and our own locks would be broken in silence.
NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "davfs", "drvfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs"}
    | {"nfs4", "orangefs", "pvfs2", "smb2", "smb3", "smbfs", "webdav"}
    | {f"fuse.{name}" for name in ("ceph", "gcsfuse", "glusterfs", "rclone", "s3fs", "sshfs")}
)


@dataclass(frozen=True)
class Place:
    """The paths inside one HOME."""

    home: Path

    @property
    def lock(self) -> Path:
        """Held by the supervisor as long as it lives; says where its sockets are."""
        return self.home / "supervisor.lock"

    @property
    def log(self) -> Path:
        """What supervisor, worker and scheduler have to say; never texts or keys."""
        return self.home / "supervisor.log"

    @property
    def valkey(self) -> Path:
        """The queue's append-only file."""
        return self.home / "valkey"

    @property
    def database_url(self) -> str:
        """The ledger."""
        return f"sqlite:///{self.home / 'ledger.db'}"


@dataclass(frozen=True)
class Sockets:
    """The paths inside one socket folder."""

    folder: Path

    @property
    def control(self) -> Path:
        """Where clients talk to the supervisor."""
        return self.folder / "control"

    @property
    def valkey(self) -> Path:
        """Where everybody talks to Valkey."""
        return self.folder / "valkey"


def place_of(settings: Settings) -> Place:
    """The place of these settings, with no look at the disk."""
    return Place(settings.home)


def prepare(settings: Settings) -> Place:
    """Make HOME, for its owner alone, and refuse one where the ledger would not be safe.

    Raises:
        SettingsError: HOME cannot be made or written, or lies on a network file system.
    """
    home = settings.home
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"CORPUSMILL_HOME cannot be made: {error.strerror}", where=str(home), next_step=_ELSEWHERE
        ) from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise SettingsError("CORPUSMILL_HOME cannot be written", where=str(home), next_step=_ELSEWHERE)
    kind = file_system_of(home)
    if kind in NETWORK_FILE_SYSTEMS:
        raise SettingsError(
            f"CORPUSMILL_HOME lies on a network file system ({kind}), where SQLite can lose data",
            where=str(home),
            next_step=f"{_ELSEWHERE}, or run a fleet on PostgreSQL",
        )
    return Place(home)


_ELSEWHERE = "set CORPUSMILL_HOME to a folder on a local disk"


def file_system_of(path: Path) -> str:
    """The type of the file system that `path` lies on, or `unknown`."""
    real = path.resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    inside = [mount for mount in mounts if real == mount or mount in real.parents]
    return mounts[max(inside, key=lambda mount: len(mount.parts))].lower() if inside else "unknown"


def make_sockets() -> Sockets:
    """A new folder for sockets, for its owner alone, with a path short enough."""
    for base in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp makes a fresh 0700 folder in it
        folder = Path(tempfile.mkdtemp(prefix=SOCKET_PREFIX, dir=base))
        if len(os.fsencode(Sockets(folder).control)) <= LONGEST_SOCKET_PATH:
            return Sockets(folder)
        folder.rmdir()
    raise SettingsError("no folder has a path short enough for a Unix socket", next_step="set TMPDIR=/tmp")


def remove_sockets(folder: Path) -> None:
    """Remove a socket folder, but nothing that does not look like one of ours."""
    try:
        ours = folder.name.startswith(SOCKET_PREFIX) and folder.lstat().st_uid == os.getuid()
    except OSError:
        return
    if ours and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
