"""Join the supervisor of a HOME, starting it if there is none.

    with join(settings, provider_names=["openai"]) as session:
        mill_on(session.settings)          # a fleet's settings: broker, database and limiter of this machine
        session.attach(job_id)

The connection is what tells the supervisor that somebody looks: it ends with this process, however that ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from corpusmill import __version__
from corpusmill.embedded import lock
from corpusmill.embedded.place import Sockets, place_of, prepare
from corpusmill.embedded.starter import Starter
from corpusmill.embedded.wire import Wire
from corpusmill.errors import CorpusmillError, Unavailable, UsageError
from corpusmill.settings import Settings

READY_WITHIN_S = 60.0
# One that ends just now makes way for another; more than a few that end at once will not get better.
MOST_STARTS = 4
# Handed over or the producer's own: no difference there is worth a word.
_NOT_COMPARED = ("HOME", "BROKER_URL", "DATABASE_URL", "REDIS_URL", "LIMITS__", "CACHE", "PRICES", "METRICS_PORT")


class Session:
    """A client's time with the supervisor; may be shared between threads."""

    def __init__(self, settings: Settings, provider_names: Sequence[str]) -> None:
        self._lock = threading.RLock()
        self._own = settings
        self._providers = settings.messages(provider_names)
        self._attached: list[int] = []
        self._stopped: str | None = None
        self._wire, self._ready = _connected(settings)
        self._hand_over()

    @property
    def settings(self) -> Settings:
        """The client's settings with the supervisor's broker, database and Redis."""
        urls = {name: self._ready[name] for name in ("broker_url", "database_url", "redis_url")}
        return self._own.model_copy(update=urls)

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return int(self._ready["pid"])

    @property
    def metrics_port(self) -> int:
        """Where the machinery answers monitors; 0: nowhere."""
        return int(self._ready["environment"].get("CORPUSMILL_METRICS_PORT", 0))

    @property
    def notes(self) -> list[str]:
        """What this command sets and the running supervisor, started by another, does not heed."""
        there: Mapping[str, str] = self._ready["environment"]
        here = self._own.as_environment()
        return [
            f"{name}={here.get(name, 'unset')} has no effect: the machinery that runs has {there.get(name, 'unset')}; "
            "`corpusmill down` first"
            for name in sorted(here.keys() | there.keys())
            if here.get(name) != there.get(name) and not name.removeprefix("CORPUSMILL_").startswith(_NOT_COMPARED)
        ]

    def attach(self, job_id: int) -> None:
        """Say that somebody looks at the job."""
        with self._lock:
            self._attached.append(job_id)
            self._tell({"attach": job_id})

    def detach(self, job_id: int) -> None:
        """Say that nobody does any more; a job never detached is paused with its last viewer."""
        with self._lock:
            if job_id in self._attached:
                self._attached.remove(job_id)
                self._tell({"detach": job_id})

    def keep(self) -> bool:
        """Look after the connection; call it now and then. False: the machinery was stopped on purpose.

        Raises:
            CorpusmillError: the supervisor died, and cannot be started again.
        """
        with self._lock:
            try:
                while self._stopped is None and (message := self._wire.receive(within_s=0)) is not None:
                    self._stopped = message.get("stopping")
            except EOFError:
                if self._stopped is None:
                    self._rejoin()
            return self._stopped is None

    def up(self, *, workers: int | None) -> dict[str, Any]:
        """Make it stay until `down`, with so many workers (None: as it is); return its state."""
        return self._asked({"up": {"workers": workers}})

    def state(self) -> dict[str, Any]:
        """Process ids and restarts of the children."""
        return self._asked({"state": True})

    def wait_until_stopped(self) -> str:
        """Wait until the machinery is stopped by somebody; return why."""
        while True:
            try:
                message = self._wire.receive(within_s=3600) or {}
            except EOFError:
                return self._stopped or "it ended"
            self._stopped = message.get("stopping") or self._stopped

    def close(self) -> None:
        """Leave. Jobs still attached were left on purpose, too."""
        for job_id in list(self._attached):
            self.detach(job_id)
        self._wire.close()

    def _asked(self, message: dict[str, Any]) -> dict[str, Any]:
        self._wire.send(message)
        reply = self._wire.receive(within_s=READY_WITHIN_S)
        if reply is None or "state" not in reply:
            raise Unavailable("the supervisor does not answer", where=str(place_of(self._own).log))
        state: dict[str, Any] = reply["state"]
        return state

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            self._wire.send(message)
        except OSError:
            # Gone: `keep` joins the next one and says it all again.
            return

    def _hand_over(self) -> None:
        if self._providers:
            self._tell({"providers": self._providers})

    def _rejoin(self) -> None:
        self._wire.close()
        self._wire, self._ready = _connected(self._own)
        self._hand_over()
        for job_id in self._attached:
            self._tell({"attach": job_id})


@contextmanager
def join(settings: Settings, *, provider_names: Sequence[str] = ()) -> Iterator[Session]:
    """Join the supervisor of `settings.home`, or start it, and hand over providers, keys included.

    Raises:
        SettingsError: HOME cannot be used.
        Unavailable: the supervisor does not start.
    """
    session = Session(settings, provider_names)
    try:
        yield session
    finally:
        session.close()


def running(settings: Settings) -> Wire | None:
    """A connection to the supervisor if one lives."""
    note = lock.read(place_of(settings).lock)
    return Wire.open(Sockets(Path(note.folder)).control) if note and lock.is_held(place_of(settings).lock) else None


def stays(settings: Settings) -> bool:
    """Whether the machinery runs and was asked to stay, by `up`."""
    wire = running(settings)
    if wire is None:
        return False
    with wire:
        try:
            wire.send({"state": True})
            reply = wire.receive(within_s=5.0)
        except (OSError, EOFError):
            return False
    return bool(reply and reply.get("state", {}).get("stays"))


def down(settings: Settings) -> bool:
    """Stop the supervisor gracefully and wait for its end; False when none runs."""
    wire = running(settings)
    if wire is None:
        return False
    with wire:
        wire.send({"down": True})
        deadline = time.monotonic() + settings.grace_s + 30
        while lock.is_held(place_of(settings).lock):
            if time.monotonic() > deadline:
                raise Unavailable("the supervisor does not end", where=str(place_of(settings).log))
            time.sleep(0.05)
    return True


def _connected(settings: Settings) -> tuple[Wire, dict[str, Any]]:
    """A connection that has been welcomed; a supervisor is started whenever none holds the lock."""
    place = prepare(settings)
    deadline = time.monotonic() + READY_WITHIN_S
    with ExitStack() as stack:
        starters: list[Starter] = []
        while time.monotonic() < deadline and len(starters) <= MOST_STARTS:
            found = _try(settings, deadline)
            if found is not None:
                for starter in starters:
                    starter.decided(within_s=READY_WITHIN_S)
                return found
            if not lock.is_held(place.lock) and all(starter.decided() for starter in starters):
                starters.append(Starter(settings, place))
                stack.callback(starters[-1].close)
            time.sleep(0.03)
    raise Unavailable(
        "the embedded machinery does not start",
        where=str(place.log),
        next_step=f"see what it says: tail {place.log}",
    )


def _try(settings: Settings, deadline: float) -> tuple[Wire, dict[str, Any]] | None:
    """A welcome by the supervisor that lives now, if one does and is not about to end."""
    wire = running(settings)
    if wire is None:
        return None
    try:
        ready = _welcome(wire, deadline)
    except CorpusmillError:
        wire.close()
        raise
    if ready is None:
        wire.close()
        return None
    return wire, ready


def _welcome(wire: Wire, deadline: float) -> dict[str, Any] | None:
    """What the supervisor says of itself, or None when it is about to end and another is needed."""
    try:
        wire.send({"hello": __version__})
        message = wire.receive(within_s=max(0.1, deadline - time.monotonic()))
    except (OSError, EOFError):
        return None
    if message and "error" in message:
        raise _told(message)
    ready: dict[str, Any] | None = (message or {}).get("ready")
    return ready


def _told(message: dict[str, Any]) -> CorpusmillError:
    what, where, next_step = (*message["error"], "", "")[:3]
    kind = UsageError if message.get("exit_code") == UsageError.exit_code else Unavailable
    return kind(what, where=where, next_step=next_step)
