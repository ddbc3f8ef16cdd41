"""Where jobs live and run: the ledger, and the queue with its workers, each opened when it is first needed.

Reading a finished job starts nothing. Work that has to be done joins the embedded supervisor, or, in a fleet,
publishes to the broker that is configured.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from corpusmill.embedded.place import place_of, prepare
from corpusmill.errors import Unavailable
from corpusmill.ledger import Ledger
from corpusmill.ledger.workers import LIVE_S
from corpusmill.settings import Settings

if TYPE_CHECKING:
    from corpusmill.embedded.client import Session


class Place:
    """An open place for jobs; a context manager. Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._open = ExitStack()
        self._lock = threading.RLock()
        self._ledger: Ledger | None = None
        self._session: Session | None = None
        self._joined = False
        self._app: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the supervisor and close the ledger; a job that was never detached pauses with its last viewer."""
        self._open.close()
        self._ledger = self._session = self._app = None
        self._joined = False

    @property
    def ledger(self) -> Ledger:
        """The ledger; the embedded one is made when there is none."""
        with self._lock:
            if self._ledger is None:
                self._ledger = self._open.enter_context(Ledger.open(self._database_url()))
            return self._ledger

    def _database_url(self) -> str:
        return self.settings.database_url or prepare(self.settings).database_url

    @property
    def has_ledger(self) -> bool:
        """Whether there is a ledger to look into; a plan should not make one."""
        return not self.settings.embedded or (place_of(self.settings).home / "ledger.db").exists()

    @property
    def joined(self) -> bool:
        """Whether work can be sent: the supervisor was joined, or the broker of this fleet has answered."""
        return self._joined

    def join(self, providers: Collection[str]) -> None:
        """Make sure that work can be sent: start or join the supervisor and hand it these providers.

        Raises:
            Unavailable: the supervisor does not come up, or the fleet's broker cannot be reached.
        """
        with self._lock:
            if not self._joined:
                self._join(providers)
                self._joined = True

    def _join(self, providers: Collection[str]) -> None:
        if self.settings.embedded:
            from corpusmill.embedded.client import join

            self._session = self._open.enter_context(join(self.settings, provider_names=list(providers)))
        else:
            from corpusmill.feed import queue_lengths

            # Asked once: with no worker there is nothing to publish, and a broker that is away would never be told.
            queue_lengths(self._publisher())

    def _publisher(self) -> Any:
        with self._lock:
            if self._app is None:
                from corpusmill.app import make_app

                self._app = make_app(self._session.settings if self._session else self.settings)
            return self._app

    def feed(self) -> None:
        """Send as many shards as the fleet has room for, now; the scheduler sends the rest.

        Raises:
            Unavailable: the broker of the fleet cannot be reached.
        """
        # Nobody to send to: the first worker's coming is the scheduler's to see. Celery takes long to load.
        if not self.ledger.workers(LIVE_S):
            return
        from corpusmill.feed import feed

        try:
            feed(self.ledger, self._publisher())
        except Unavailable:
            # Embedded, the queue is being started again by its supervisor; the scheduler feeds it then.
            if self._session is None:
                raise

    def attach(self, job_id: int) -> None:
        """Be a viewer of this job: embedded, it runs while it has one."""
        if self._session is not None:
            self._session.attach(job_id)

    def detach(self, job_id: int) -> None:
        """Leave this job; embedded, its last viewer pauses it unless it was ever detached."""
        if self._session is not None:
            self._session.detach(job_id)

    def keep(self) -> bool:
        """Call it while waiting: a supervisor that died is started anew. False: it was stopped on purpose."""
        return self._session is None or self._session.keep()

    @property
    def notes(self) -> list[str]:
        """What is set here and not heeded by the machinery that runs already."""
        return [] if self._session is None else self._session.notes
