"""When something last happened, and whether that is too long ago."""

from __future__ import annotations

import time

# Everything that is watched happens every few seconds; so long without it is no hiccup.
PATIENCE_S = 30.0


class Pulse:
    """Beats when something has been done; safe to use from any thread."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def beat(self) -> None:
        """It has been done just now."""
        self._at = time.monotonic()

    @property
    def age_s(self) -> float:
        """How long ago that was."""
        return time.monotonic() - self._at

    def trouble(self, what: str) -> str | None:
        """What to tell when it has not beaten for too long."""
        age_s = self.age_s
        return f"{what} for {age_s:.0f} s" if age_s > PATIENCE_S else None
