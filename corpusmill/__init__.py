"""Push millions of document chunks through OpenAI or any compatible endpoint.

Nothing is lost, nothing is paid for twice, and the endpoint's limits are never exceeded: jobs stand in SQL,
Celery carries them to workers, and one token bucket holds the whole fleet under the limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corpusmill.errors import CorpusmillError as CorpusmillError
    from corpusmill.mill import AsyncJob as AsyncJob
    from corpusmill.mill import AsyncMill as AsyncMill
    from corpusmill.mill import Job as Job
    from corpusmill.mill import Mill as Mill
    from corpusmill.mill import Result as Result
    from corpusmill.mill import Summary as Summary
    from corpusmill.settings import Settings as Settings

_HOMES = {
    "AsyncJob": "corpusmill.mill",
    "AsyncMill": "corpusmill.mill",
    "CorpusmillError": "corpusmill.errors",
    "Job": "corpusmill.mill",
    "Mill": "corpusmill.mill",
    "Result": "corpusmill.mill",
    "Settings": "corpusmill.settings",
    "Summary": "corpusmill.mill",
}

__version__ = "0.1.0"
__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that importing the package costs next to nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
