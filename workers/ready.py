"""What a process says once it is ready: who it is, on what it works, and which providers it serves."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from corpusmill import logs
from corpusmill.settings import Settings
from corpusmill.urls import without_password

log = logging.getLogger(__name__)


def tell(settings: Settings, **facts: object) -> None:
    """One line for whoever started this process, without a password."""
    broker, database = without_password(settings.broker_url or ""), without_password(settings.database_url or "")
    log.info("ready", extra={logs.FACTS: {**facts, "broker": broker, "database": database}})


def providers(served: Mapping[str, str]) -> str:
    """Names and endpoints: `openai=https://…,other=http://…`."""
    return ",".join(f"{name}={without_password(endpoint)}" for name, endpoint in sorted(served.items())) or "none"


def warn_of_none() -> None:
    """A worker of a fleet that holds no provider takes no job, and looks as if all were well."""
    log.warning(
        "this worker serves no provider and takes no job: give it the OPENAI_API_KEY, or the "
        "CORPUSMILL_PROVIDERS__<NAME>__BASE_URL and __API_KEY_FILE, that the commands have"
    )
