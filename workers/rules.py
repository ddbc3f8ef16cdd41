"""Limits set with `corpusmill limits`: they outrank the settings, and all workers follow them within two seconds."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from corpusmill.endpoint import Endpoint, Limits
from corpusmill.ledger.records import LimitRule

log = logging.getLogger(__name__)


class Rules:
    """The rules in force, as of the last look into the ledger. Used on the loop only."""

    def __init__(self) -> None:
        self._by_scope: dict[tuple[str, str], LimitRule] = {}
        self.version = 0

    def take(self, rules: Iterable[LimitRule], version: int) -> None:
        """These hold from now on."""
        self._by_scope = {(rule.provider, rule.model): rule for rule in rules}
        self.version = version
        log.info("limits set rules=%d version=%d", len(self._by_scope), version)

    def limits(self, endpoint: Endpoint, model: str) -> Limits:
        """What holds for a model at an endpoint: said for the model, for the provider, or by the settings."""
        said: dict[str, int | float] = {}
        for scope in ((endpoint.name, ""), (endpoint.name, model)):
            if rule := self._by_scope.get(scope):
                said |= rule.said()
        return endpoint.limits.model_copy(update=said) if said else endpoint.limits
