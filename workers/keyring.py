"""The providers that this process can call: those it is configured with, and those handed to it while it runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from corpusmill.endpoint import Endpoint, Limits
from corpusmill.errors import SettingsError
from corpusmill.settings import Provider, Settings

log = logging.getLogger(__name__)

Lane = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Rotation:
    """A provider's key has changed: jobs bound to the old fingerprint go on under the new one."""

    endpoint: str
    old: str
    new: str


class Keyring:
    """Providers with their keys; used from several threads. Keys stay in this process.

    A lane is an (endpoint, key fingerprint) pair, as jobs are bound to it.
    """

    def __init__(self, settings: Settings, salt: bytes) -> None:
        self._settings, self._salt = settings, salt
        self._lock = threading.Lock()
        self._lanes: dict[str, Lane] = {}
        self._replaced: dict[Lane, tuple[Endpoint, ...]] = {}
        self.refresh()

    def add(self, message: Mapping[str, Any]) -> None:
        """Take over a provider from the supervisor's pipe.

        One that goes by a name in use already takes its place; jobs of the old one are served on, since two commands
        at once may well mean different endpoints or keys by one name.

        Raises:
            SettingsError: this is no provider.
        """
        fields = {name: value for name, value in message.items() if name != "provider"}
        try:
            name, provider = str(message["provider"]), Provider(**fields)
        except (KeyError, ValidationError):
            # Without the cause: it shows the fields, and a key is one of them.
            raise SettingsError("the supervisor sent something that is no provider") from None
        with self._lock:
            if name in self._lanes:
                self._replaced[self._lanes[name]] = self._settings.endpoints(name)
            provider = _limited_as_before(provider, self._settings.providers.get(name))
            self._settings = self._settings.with_providers({name: provider})
            self._lanes = self._read()

    def refresh(self) -> list[Rotation]:
        """Look at every key again; returns those that have changed since the last time."""
        with self._lock:
            before, self._lanes = self._lanes, self._read()
            pairs = [(before[name], lane) for name, lane in self._lanes.items() if name in before]
        return [Rotation(new[0], old[1], new[1]) for old, new in pairs if old[0] == new[0] and old[1] != new[1]]

    def holds(self) -> frozenset[Lane]:
        """The lanes that this process can serve, as of the last refresh."""
        with self._lock:
            return frozenset((*self._lanes.values(), *self._replaced))

    def served(self) -> dict[str, str]:
        """The endpoint of every provider by the provider's name, as of the last refresh."""
        with self._lock:
            return {name: endpoint for name, (endpoint, _) in self._lanes.items()}

    def endpoints(self, lane: Lane) -> tuple[Endpoint, ...]:
        """Where calls of a lane may go: one endpoint, or the members of a pool; empty when it is not held."""
        with self._lock:
            for name, held in self._lanes.items():
                if held == lane:
                    return self._settings.endpoints(name)
            return self._replaced.get(lane, ())

    def _read(self) -> dict[str, Lane]:
        lanes = {}
        for name in self._settings.providers:
            try:
                lanes[name] = self._settings.lane(name, self._salt)
                self._settings.endpoints(name)
            except SettingsError as error:
                lanes.pop(name, None)
                log.warning("provider left out provider=%s reason=%s", name, error.what)
        return lanes


def _limited_as_before(provider: Provider, before: Provider | None) -> Provider:
    """The provider, with the limits that it leaves open as an earlier command set them: to watch a job lifts none."""
    if before is None or before.limits is None or before.address != provider.address:
        return provider
    limits = provider.limits or Limits()
    names = ("rpm", "tpm", "rpd", "tpd")
    kept = {name: getattr(before.limits, name) for name in names if getattr(limits, name) is None}
    return provider.model_copy(update={"limits": limits.model_copy(update=kept)})
