"""Room for further shards while those that are held have nothing left to send.

A shard holds its slot until its last call is over. Where answers take 1 to 20 s the last of a hundred comes half a
minute after the first: sixteen shards then have far fewer calls under way than the window holds and the limit allows.
So a shard whose calls are all on their way lends its slot to another one, until it ends itself.
"""

from __future__ import annotations

import threading
from typing import Any

from celery import bootsteps

from corpusmill.app import App

# So many slots may be lent for each there is: what is lent only waits for answers, but its texts are in memory.
LENT_A_SLOT = 4


class Spare:
    """Slots that are lent: so many messages more Celery may take. From any thread."""

    def __init__(self, slots: int) -> None:
        self._most = LENT_A_SLOT * slots if slots > 1 else 0  # a solo pool runs one task, whatever it takes
        self._lent = 0
        self._qos: Any = None
        self._lock = threading.Lock()

    def lend(self) -> bool:
        """Lend a slot; False: enough are."""
        with self._lock:
            if self._lent >= self._most:
                return False
            self._lent += 1
            if self._qos is not None:
                self._qos.increment_eventually()
            return True

    def take_back(self) -> None:
        """The shard that lent it has ended."""
        with self._lock:
            self._lent -= 1
            if self._qos is not None:
                self._qos.decrement_eventually()

    def of(self, qos: Any) -> None:
        """Count on this consumer from now on, a new one with each connection to the broker."""
        with self._lock:
            self._qos = qos
            qos.increment_eventually(self._lent)

    def serve(self, app: App) -> None:
        """Lend to the workers of `app`."""
        spare = self

        class Lending(bootsteps.StartStopStep):  # type: ignore[misc]
            """Begins anew with each connection."""

            requires = ("celery.worker.consumer.tasks:Tasks",)

            def start(self, parent: Any) -> None:
                """The consumer is connected, and takes as many messages as there are slots."""
                spare.of(parent.qos)

        app.steps["consumer"].add(Lending)
