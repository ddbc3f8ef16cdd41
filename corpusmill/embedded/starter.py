"""Starting a supervisor as nobody's child, and knowing when it has decided whether it is the one that serves.

Several may be started at the same moment; all but one find the lock taken and end. Until then each holds the write
end of a pipe to its starter: a straggler that came to the lock after the winner had been told to stop would
otherwise take over, with nobody to serve.
"""

from __future__ import annotations

import os
import select
import subprocess

from corpusmill import _entry
from corpusmill.embedded.place import Place
from corpusmill.settings import Settings


class Starter:
    """One supervisor that was started."""

    def __init__(self, settings: Settings, place: Place) -> None:
        self._pipe, write_end = os.pipe()
        try:
            self._start(settings, place, write_end)
        finally:
            os.close(write_end)
        self._decided = False

    def _start(self, settings: Settings, place: Place, write_end: int) -> None:
        log_file = os.open(place.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            launcher = subprocess.Popen(
                _entry.child_command("corpusmill.embedded"),
                env=_entry.child_env(settings),
                cwd=place.home,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=log_file,
                start_new_session=True,
            )
            # It forks at once and this half of it ends; waiting leaves no zombie.
            launcher.wait()
        finally:
            os.close(log_file)

    def decided(self, *, within_s: float = 0.0) -> bool:
        """Whether it serves or has ended."""
        if not self._decided and select.select([self._pipe], [], [], within_s)[0]:
            # Nothing is ever written: what can be read is the end.
            self._decided = True
        return self._decided

    def close(self) -> None:
        """Forget it."""
        os.close(self._pipe)


def say_decided() -> None:
    """In the supervisor: let go of the pipe, which is standard output; the log takes its place."""
    os.dup2(2, 1)
