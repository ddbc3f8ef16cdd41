"""Log lines: JSON where a program reads them, words where a person does, and no secret in either."""

from __future__ import annotations

import io
import json
import logging
import sys
from decimal import Decimal
from typing import Any

import pytest

from corpusmill import logs


def record(message: str, *args: object, **extra: Any) -> logging.LogRecord:
    return logging.getLogger("workers.shard").makeRecord(
        "workers.shard", logging.WARNING, "", 0, message, args, extra.pop("exc_info", None), extra=extra or None
    )


def line(*args: Any, **extra: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(logs.Json().format(record(*args, **extra)))
    del told["at"]
    return told


HEAD = {"level": "warning", "logger": "workers.shard"}


def test_what_is_named_in_a_message_becomes_a_fact_of_its_own_type() -> None:
    assert line("shard ended job=%s shard=%d outcome=%s usd=%s", "j_1", 3, None, Decimal("0.10")) == {
        **HEAD, "event": "shard ended", "job": "j_1", "shard": 3, "outcome": None, "usd": "0.10",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("message", "args", "event"),
    [
        ("nothing to fill in: 100 %", (), "nothing to fill in: 100 %"),
        ("%d %% of %s done", (50, "it"), "50 % of it done"),
        ("waited %.1f s", (2.04,), "waited 2.0 s"),
        ("put off job=%d: %s", (7, "it is away"), "put off: it is away"),
    ],
)
def test_the_rest_of_the_message_says_what_happened(message: str, args: tuple[object, ...], event: str) -> None:
    assert line(message, *args)["event"] == event


def test_more_facts_come_with_the_record() -> None:
    assert line("ready", facts={"slots": 16}) == {**HEAD, "event": "ready", "slots": 16}
    assert logs.Human(logs.HUMAN).format(record("ready", facts={"slots": 16})).endswith("workers.shard ready slots=16")


def test_an_exception_is_told_by_type_and_place_and_not_by_its_text() -> None:
    secret = "".join(("can", "ary"))
    try:
        raise ValueError(f"the prompt was: {secret}")
    except ValueError:
        broken = record("crashed", exc_info=sys.exc_info())
    told = json.loads(logs.Json().format(broken))
    assert told["error"] == "ValueError"
    assert "test_logs.py:" in told["places"][-1]
    for text in (json.dumps(told), logs.Human(logs.HUMAN).format(broken)):
        assert "canary" not in text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("key sk-proj-canary123 refused", "key sk-*** refused"),
        ("at redis://:canary@h:1/0", "at redis://:***@h:1/0"),
        ("sent Authorization: Bearer canary.abc", "sent Authorization: Bearer ***"),
    ],
)
def test_what_looks_like_a_secret_is_shown_in_neither_form(said: str, shown: str) -> None:
    assert line("%s", said)["event"] == shown
    assert logs.Human(logs.HUMAN).format(record("%s", said)).endswith(shown)


def test_a_terminal_gets_words_and_anything_else_json() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    kept = logging.getLogger().handlers[:]
    try:
        for stream, form in ((Terminal(), logs.Human), (io.StringIO(), logs.Json)):
            logging.getLogger().handlers[:] = []
            logs.to_stderr(stream)
            assert type(logging.getLogger().handlers[0].formatter) is form
    finally:
        logging.getLogger().handlers[:] = kept
