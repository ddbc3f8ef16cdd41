"""Whether anyone is there to do the work: said once where nobody is, and once when somebody comes."""

from __future__ import annotations

import logging
import time

from corpusmill.ledger import Ledger
from corpusmill.lightrag.standing import Standing

log = logging.getLogger(__name__)

# A fleet that is being started, or restarted, is not complained of at once.
PATIENCE_S = 5.0


class Attendance:
    """Looks for live workers of the lanes that calls wait for. Used by one thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._alone_since: dict[tuple[str, str], float] = {}
        self._told: set[tuple[str, str]] = set()

    def nobody_for(self, standing: Standing) -> bool:
        """Whether no live worker can serve these calls; warns when that has lasted for some seconds."""
        lane = (standing.spec.endpoint, standing.key_fingerprint)
        if self._ledger.serving(*lane):
            self._alone_since.pop(lane, None)
            if lane in self._told:
                self._told.discard(lane)
                log.warning("a worker serves %s again", lane[0])
            return False
        since = self._alone_since.setdefault(lane, time.monotonic())
        if lane not in self._told and time.monotonic() - since > PATIENCE_S:
            self._told.add(lane)
            log.warning(
                "no live worker serves %s with this key: calls wait for one. "
                "Start `corpusmill worker` with a provider of this address and key; `corpusmill doctor` tells more.",
                lane[0],
            )
        return True
