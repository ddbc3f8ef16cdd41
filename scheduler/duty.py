"""What a scheduler process holds open: the ledger, the app, and where this host's journals lie."""

from __future__ import annotations

import os
import platform
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from corpusmill.app import App
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import JobView
from corpusmill.ledger.stretches import Mark
from corpusmill.settings import Settings
from scheduler.schedules import Schedules
from workers.pulse import Pulse


class TickLog:
    """Ticks done and put off, by name; the pulse beats with each feed."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.put_off: Counter[str] = Counter()
        self.pulse = Pulse()


@dataclass(frozen=True, slots=True)
class Duty:
    """The open parts; the control tasks find them by `current`. `marks`: how far overtaken sets are brought up."""

    ledger: Ledger
    app: App
    journals: Path
    lease_s: float
    schedules: Schedules
    settings: Settings
    log: TickLog = field(default_factory=TickLog)
    marks: dict[tuple[int, int], Mark] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Who this is, where the ledger asks for a worker."""
        return name()

    def present_key(self, job: JobView) -> str | None:
        """The fingerprint of the key that a job of this provider is bound to now; None: it is not known here."""
        provider = self.settings.providers.get(job.provider)
        if provider is None or not (provider.members or provider.key()):
            return None
        endpoint, fingerprint = self.settings.lane(job.provider, self.ledger.salt())
        return fingerprint if endpoint == job.endpoint else None


def name() -> str:
    """Who this process is."""
    return f"scheduler@{platform.node()}:{os.getpid()}"


_current: list[Duty] = []


def take_up(duty: Duty) -> None:
    """Let the control tasks of this process use `duty`."""
    _current[:] = [duty]


def current() -> Duty:
    """The duty of this process."""
    return _current[0]
