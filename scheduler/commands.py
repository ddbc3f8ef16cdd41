"""A command of ours that runs for a schedule, as a child process; what it says is the object of `--json`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any

from corpusmill import _entry

# Enough of a note to know what is wrong; the rest is in the command itself.
LONGEST_NOTE = 400
_STOP_WITHIN_S = 5.0
# What `sync` says of documents.
_CHANGES = ("added", "changed", "moved", "deleted")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: its exit code, the job that it named (an id such as `j_7fk2qa`), what it did or suffered."""

    code: int
    job: str | None
    note: str | None


class Command:
    """One command that was started. It has nothing to read, and a session of its own: only `stop` ends it early."""

    def __init__(self, argv: Sequence[str], folder: str, environment: Mapping[str, str]) -> None:
        self._said: IO[bytes] = TemporaryFile()  # noqa: SIM115 - open as long as the command runs
        try:
            self._process = subprocess.Popen(
                [*_entry.child_command("corpusmill"), *argv],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            self._said.close()
            raise

    def outcome(self) -> Outcome | None:
        """How it ended; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        said = self._object()
        self._said.close()
        return Outcome(code, said.get("job"), _trouble(code, said) if code else _done(said))

    def stop(self) -> None:
        """End it: the same command again goes on where it stopped."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def _object(self) -> dict[str, Any]:
        self._said.seek(0)
        lines = self._said.read().splitlines()
        try:
            said = json.loads(lines[-1]) if lines else {}
        except ValueError:
            return {}
        return said if isinstance(said, dict) else {}


def _done(said: Mapping[str, Any]) -> str | None:
    """What a sync found, or a command that makes no job has done."""
    if said.get("told"):
        return str(said["told"])
    changes = ", ".join(f"{said[name]:,} {name}" for name in _CHANGES if said.get(name))
    if said.get("job") is None:
        return f"{changes}; nothing to embed" if changes else "there was nothing to do"
    return changes or None


def _trouble(code: int, said: Mapping[str, Any]) -> str:
    error = said.get("error") or {}
    words = "; ".join(error[name] for name in ("what", "where", "next_step") if error.get(name))
    return (words or f"the command ended with {code}")[:LONGEST_NOTE]
