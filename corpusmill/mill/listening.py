"""What a producer hears while a job is made: notes for the person, and how far the loading is."""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """Somebody who is told; the command line prints, the Python API is silent."""

    def note(self, text: str) -> None:
        """Something worth knowing: files left out, a flag that has no effect here."""

    def loading(self, items: int) -> None:
        """So many items stand in the ledger."""


class Silent:
    """Hears and says nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def loading(self, items: int) -> None:
        """Nothing."""
