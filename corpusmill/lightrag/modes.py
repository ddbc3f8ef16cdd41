"""How calls are made: by this process itself, or by the fleet. Decided at the first call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from corpusmill.lightrag.asking import Ask
from corpusmill.lightrag.packing import Pack
from corpusmill.lightrag.places import Where
from corpusmill.lightrag.usage import Meter


class Mode(Protocol):
    """A way to get answers."""

    async def complete(self, ask: Ask, where: Where, meter: Meter) -> str | AsyncIterator[str]:
        """The answer; an iterator of its text where `ask` streams."""

    async def embed(self, pack: Pack, where: Where, meter: Meter) -> NDArray[np.float32]:
        """The vectors of a pack: shape (texts, dimensions), row i for text i."""
