"""What a check works on and what it gives back."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import corpusmill
from corpusmill.embedded.client import running
from corpusmill.embedded.place import place_of
from corpusmill.errors import CorpusmillError
from corpusmill.ledger import Ledger
from corpusmill.settings import Settings
from corpusmill.urls import redis_url_of


@dataclass(frozen=True)
class Finding:
    """What one check found; `fix` is what to type or change."""

    what: str
    state: Literal["ok", "warning", "failed"] = "ok"
    fix: str = ""
    exit_code: int = 0

    @classmethod
    def warning(cls, what: str, fix: str) -> Finding:
        """It works, but not as well as it should."""
        return cls(what, "warning", fix)

    @classmethod
    def of(cls, error: CorpusmillError) -> Finding:
        """An error in the shape of a finding."""
        what = f"{error.what} ({error.where})" if error.where else error.what
        return cls(what, "failed", error.next_step, error.exit_code)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"state": self.state, "what": self.what, "fix": self.fix}


class Patient:
    """What the checks look at, opened when the first one needs it."""

    def __init__(self, settings: Settings, provider: str | None) -> None:
        self.settings = settings
        self.provider = provider
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @cached_property
    def ledger(self) -> Ledger | None:
        """The ledger; None while its file has not been made."""
        url = self.settings.database_url or place_of(self.settings).database_url
        file = url.partition("sqlite:///")[2].partition("?")[0]
        if file and not Path(file).exists():
            return None
        return self._open.enter_context(Ledger.open(url, create=False))

    @cached_property
    def broker_url(self) -> str | None:
        """The broker's Redis; None while the embedded machinery is down."""
        if self.settings.broker_url is not None:
            return redis_url_of(self.settings.broker_url)
        wire = running(self.settings)
        if wire is None:
            return None
        with wire:
            wire.send({"hello": corpusmill.__version__})
            ready = (wire.receive(within_s=10) or {}).get("ready", {})
        url: str | None = ready.get("redis_url")
        return url
