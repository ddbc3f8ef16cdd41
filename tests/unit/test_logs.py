"""Log lines: JSON where a program reads them, words where a person does, and no secret in either."""

from __future__ import annotations

import base64
import io
import json
import logging
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from corpusmill import logs
from corpusmill.settings import Provider, Settings


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


def test_the_keys_that_this_process_holds_are_in_no_line_however_they_are_written() -> None:
    key = "gsk_canary/77=aa"
    Provider(base_url="http://e/v1", api_key=SecretStr(key))
    encoded = base64.b64encode(key.encode()).decode()
    for said in (f"refused {key}", f"?key={quote(key, safe='')}", f"Basic {encoded}"):
        assert "canary" not in line("%s", said)["event"]
        assert encoded.rstrip("=") not in line("%s", said)["event"]


def test_passwords_of_urls_are_learnt_and_mere_words_are_none() -> None:
    Settings(broker_url="redis://:canary%4077x@h/0", database_url="postgresql://corpusmill:corpusmill@h/corpusmill")
    assert line("%s", "wrong: canary@77x, canary%4077x")["event"] == "wrong: ***, ***"
    assert line("%s", "corpusmill is up")["event"] == "corpusmill is up"


def test_what_would_steer_a_terminal_is_shown_instead() -> None:
    for form in (logs.Human("%(message)s"), logs.Json()):
        shown = form.format(record("refused code=%s", "\x1b]0;title\x07\x9b2J\u202e"))
        assert shown.isprintable()
        assert "title" in shown


def test_what_nobody_catches_is_told_without_its_words(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, logging, sys, threading, warnings\n"
        "from corpusmill import logs\n"
        "if sys.argv[1:]: logs.to_stderr()\n"
        "logs.take_over()\n"
        "def fail(*_): raise ValueError('the ' + ''.join(('can', 'ary')))\n"
        "async def forgotten(): asyncio.create_task(failing()); await asyncio.sleep(0)\n"
        "async def failing(): fail()\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()\n"
        "asyncio.run(forgotten())\n"
        "try: fail()\n"
        "except ValueError: logging.getLogger('library').exception('it failed')\n"
        "fail()\n"
    )
    for where in ([], ["set up"]):
        done = subprocess.run([sys.executable, str(program), *where], capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.count("ValueError") >= 4
        assert "it failed" in done.stderr
        assert "canary" not in done.stderr


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
