"""What a process has bought or is buying that SQL does not have yet: its own journal tells."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from workers.journal.adoption import _Story, _survey


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Inputs of calls in flight, and of replies that are not committed yet."""

    in_flight: int = 0
    uncommitted: int = 0

    @property
    def all(self) -> int:
        """Both."""
        return self.in_flight + self.uncommitted


def unsettled(journals: Path, pid: int) -> Unsettled:
    """What lies in the journal of the process `pid`, which stands still."""
    total = Unsettled()
    for folder in _folders(journals, f"{pid}-*"):
        story = _read(folder)
        in_flight, open_now = _inputs(story, story.unanswered), _inputs(story, story.open)
        total = Unsettled(total.in_flight + in_flight, total.uncommitted + open_now - in_flight)
    return total


def all_settled(journals: Path) -> bool:
    """Whether every journal, of the living and the dead, has nothing open."""
    return all(not _read(folder).open for folder in _folders(journals, "*"))


def _folders(journals: Path, pattern: str) -> list[Path]:
    return [path for path in journals.glob(pattern) if path.name[0] != "." and path.suffix != ".damaged"]


def _read(folder: Path) -> _Story:
    """A living process removes segments while we read; then we read again."""
    for _ in range(20):
        try:
            return _survey(folder)
        except FileNotFoundError:
            time.sleep(0.05)
    raise AssertionError(f"{folder} changes all the time")


def _inputs(story: _Story, attempts: set[bytes]) -> int:
    return sum(row.items for attempt in attempts for row in story.estimates.get(attempt, ()))
