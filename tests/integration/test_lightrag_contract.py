"""LightRAG's own functions and ours in the same situations, row by row: calls made, what was sent, value, exception.

The specification is the program: lightrag-hku itself runs beside ours against the real simulator. Where ours is meant
to differ, the row says why.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import tenacity

from corpusmill.lightrag import choosing, retrying
from corpusmill.lightrag import openai as ours
from corpusmill.lightrag.utils import TokenTracker
from tests.fixtures.fleet import KEY
from tests.fixtures.lightrag import lightrag_module
from tests.fixtures.simulator import Simulator, running
from tests.integration.lightrag_rows import ROWS, Outcome, Row


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying.COMPLETION, "wait", tenacity.wait_none())
    monkeypatch.setattr(retrying.EMBEDDING, "wait", tenacity.wait_none())
    choosing.use_local()


@pytest.fixture(scope="module")
def theirs() -> ModuleType:
    module = lightrag_module("lightrag.llm.openai")
    module.openai_complete_if_cache.retry.wait = tenacity.wait_none()
    module.openai_embed.func.retry.wait = tenacity.wait_none()
    return module


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    paid = tmp_path_factory.mktemp("contract") / "paid.jsonl"
    paid.touch()
    with running(paid, latency_ms="0") as started:
        yield started


@pytest.fixture(autouse=True)
def environment(endpoint: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_BASE", endpoint.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_situation_ends_as_it_does_with_lightrag(
    row: Row, endpoint: Simulator, theirs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in row.env.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value.format(root=endpoint.root_url))
    wanted = await outcome_of(row, theirs, endpoint)
    found = await outcome_of(row, ours, endpoint)
    if row.expected is None:
        assert _alike(wanted, found), f"LightRAG: {_shown(wanted)}; ours: {_shown(found)}"
    else:
        assert row.expected(found), f"ours: {_shown(found)}"
        assert not row.expected(wanted), f"no difference any more, where the reason was: {row.differs}"


async def outcome_of(row: Row, module: ModuleType, endpoint: Simulator) -> Outcome:
    """Run the row against a module, in the mode that is chosen."""
    endpoint.set_faults(*row.faults)
    before = endpoint.stats()["requests"]
    tracker = TokenTracker()
    common = {"base_url": endpoint.base_url, "api_key": KEY, "token_tracker": tracker}
    value, error = None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = await row.call(module, common)
        except Exception as raised:
            error = _named(raised)
    counts = tracker.get_usage()
    counted = (counts["call_count"], counts["prompt_tokens"], counts["completion_tokens"], counts["total_tokens"])
    calls = endpoint.stats()["requests"] - before
    (last,) = endpoint.requests() if calls else (None,)
    return Outcome(calls, value, error, counted, (last["path"], last["body"]) if last else None)


def _named(error: BaseException) -> str:
    if isinstance(error, tenacity.RetryError):
        last = error.last_attempt.exception()
        return f"RetryError({type(last).__name__})"
    return type(error).__name__


def _alike(wanted: Outcome, found: Outcome) -> bool:
    said = [(each.calls, each.error, each.counted, each.sent) for each in (wanted, found)]
    same = said[0] == said[1]
    if isinstance(wanted.value, np.ndarray) and isinstance(found.value, np.ndarray):
        same = same and wanted.value.dtype == found.value.dtype
        return same and wanted.value.shape == found.value.shape and bool(np.array_equal(wanted.value, found.value))
    return same and wanted.value == found.value and type(wanted.value).__name__ == type(found.value).__name__


def _shown(outcome: Outcome) -> str:
    value = outcome.value
    shown = f"array{value.shape}" if isinstance(value, np.ndarray) else repr(value)
    return f"{outcome.calls} calls, {outcome.error or shown}, counted {outcome.counted}, sent {outcome.sent}"
