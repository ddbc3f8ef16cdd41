"""What a scheduled command finds: its settings and keys, and whether schedules fire here at all.

In a fleet the scheduler's own environment is the command's. Embedded, the supervisor says by its pipe whether it was
started by `up`, and hands over providers, keys included: the command gets them in its environment, never by a file.
"""

from __future__ import annotations

import json
from typing import Any

from corpusmill import _entry
from corpusmill.settings import Settings
from workers import parent

# The command joins the supervisor, as any other does: these are not its to choose.
_NOT_TOLD = ("CORPUSMILL_BROKER_URL", "CORPUSMILL_DATABASE_URL", "CORPUSMILL_REDIS_URL")


class Surroundings:
    """Made once a process; `take` is called by the thread that reads the pipe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._embedded = parent.is_there()
        self._providers: dict[str, dict[str, Any]] = {}
        self.fires = not self._embedded

    def take(self, message: dict[str, Any]) -> None:
        """What the supervisor says: a provider, or that schedules fire from now on."""
        if "provider" in message:
            self._providers[message["provider"]] = message
        self.fires = self.fires or bool(message.get("schedules"))

    def environment(self) -> dict[str, str]:
        """The environment of a command."""
        if not self._embedded:
            return _entry.clean_env()
        plain = Settings(home=self._settings.home).as_environment()
        told = {
            name: value
            for name, value in self._settings.as_environment().items()
            # What is as it always is may be said otherwise by the files in the command's folder.
            if name not in _NOT_TOLD and (name == "CORPUSMILL_HOME" or plain.get(name) != value)
        }
        return {**_entry.bare_env(), **told, **self._keys()}

    def _keys(self) -> dict[str, str]:
        named = {}
        for message in list(self._providers.values()):
            provider = f"CORPUSMILL_PROVIDERS__{message['provider'].upper()}"
            limits = message.get("limits") or {}
            fields = {name: value for name, value in message.items() if name not in ("provider", "limits")}
            fields |= {f"limits__{name}": value for name, value in limits.items()}
            for field, value in fields.items():
                if value is not None:
                    named[f"{provider}__{field.upper()}"] = _text(value)
        return named


def _text(value: Any) -> str:
    """A value as an environment variable says it."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return json.dumps(value) if isinstance(value, dict) else str(value)
