"""LightRAG's functions and ours through a fleet in the same situations: the same value, the same exception.

The rows are those of `test_lightrag_contract`. Calls are not compared: in a fleet the workers retry, by their own
settings. Where a fleet is meant to differ, the reason stands here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import tenacity

from corpusmill.lightrag import choosing, retrying, use_fleet
from corpusmill.lightrag import openai as ours
from tests.fixtures.fleet import KEY, Fleet
from tests.fixtures.lightrag import lightrag_module
from tests.fixtures.simulator import running
from tests.fixtures.valkey import Server
from tests.integration.lightrag_rows import ROWS, Outcome, Row
from tests.integration.test_lightrag_contract import outcome_of

# A hundred situations with a commit each; those of `test_lightrag_contract` are in every run.
pytestmark = pytest.mark.slow

WAITS = "the fleet waits until the endpoint takes requests again: that is a matter of time, and uses up no attempt"
AT_ITS_WORD = "the fleet's bodies are made once and checked, so a 400 is taken at its word"
UNCOUNTED = "a reply that does not say what it cost would make the ledger's sums lie"
WHOLE = "stream=False does not go over a worker's wire: it says how an answer travels, not what is asked"
NO_CACHE = "the fleet of these rows has no cache, so that none answers another"
# By name of the row: why it ends otherwise, and how; None: with a wait that is too long for a test, or not looked at.
DIFFERS: dict[str, tuple[str, str | None]] = {
    "a rate limit": (WAITS, None),
    "a rate limit on vectors": (WAITS, None),
    "an overloaded endpoint": (WAITS, None),
    "a body damaged on its way": (AT_ITS_WORD, "BadRequestError"),
    "a body damaged once": (AT_ITS_WORD, "BadRequestError"),
    "no usage": (UNCOUNTED, "RetryError(InvalidResponseError)"),
    "vectors without usage": (UNCOUNTED, "RetryError(InvalidResponseError)"),
    "a text twice": (NO_CACHE, None),
    "no stream is asked for": (WHOLE, None),
}


@pytest.fixture(scope="module")
def theirs() -> ModuleType:
    module = lightrag_module("lightrag.llm.openai")
    module.openai_complete_if_cache.retry.wait = tenacity.wait_none()
    module.openai_embed.func.retry.wait = tenacity.wait_none()
    return module


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, valkey_session: Server) -> Iterator[Fleet]:
    home = tmp_path_factory.mktemp("contract-fleet")
    (home / "paid.jsonl").touch()
    with running(home / "paid.jsonl", latency_ms=0) as simulator:
        # Without a cache, so that no row answers another.
        fleet = Fleet(home, valkey_session, f"sqlite:///{home}/ledger.db", simulator, cache=False)
        try:
            fleet.scheduler()
            fleet.worker()
            opened = use_fleet(fleet.settings)
            yield fleet
            opened.close()
        finally:
            choosing.use_local()
            fleet.close()


@pytest.fixture(autouse=True)
def environment(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying.COMPLETION, "wait", tenacity.wait_none())
    monkeypatch.setenv("OPENAI_API_BASE", fleet.simulator.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


# Rows with an environment of their own are about addresses and keys that the workers of this fleet do not have.
LOOKED_AT = [row for row in ROWS if not row.env and DIFFERS.get(row.name, ("", ""))[1] is not None]


@pytest.mark.parametrize("row", LOOKED_AT, ids=lambda row: row.name)
async def test_a_situation_ends_through_a_fleet_as_it_does_with_lightrag(
    row: Row, fleet: Fleet, theirs: ModuleType
) -> None:
    _why, expected = DIFFERS.get(row.name, ("", ""))
    found = await asyncio.wait_for(outcome_of(row, ours, fleet.simulator), 60)
    _let_go_on(fleet)
    if expected:
        assert _ending(found) == expected
    elif row.expected is None:
        wanted = await outcome_of(row, theirs, fleet.simulator)
        assert _ending(found) == _ending(wanted)
    else:
        assert found.error or row.expected(found)


def _ending(outcome: Outcome) -> str:
    if outcome.error:
        return outcome.error
    value = outcome.value
    if isinstance(value, np.ndarray):
        return f"array {value.shape} {value.dtype} {value.tobytes().hex()[:64]}"
    return f"{type(value).__name__} {value}"


def _let_go_on(fleet: Fleet) -> None:
    for job in fleet.ledger.jobs():
        if job.state in ("paused", "stopped"):
            fleet.ledger.resume(job.id)
            fleet.ledger.cancel(job.id)
