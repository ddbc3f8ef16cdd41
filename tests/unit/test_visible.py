"""Hostile text on its way to a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmill.cli.output import Output
from corpusmill.errors import UsageError
from corpusmill.visible import in_one_line, visible

HOSTILE = "\x1b[2J\x1b]0;title\x07 \x9b31m \r ok \u202egpj.exe \x7f\x00"


@given(st.text())
def test_whatever_it_is_nothing_steers_and_nothing_is_lost(text: str) -> None:
    shown = visible(text)
    assert not any(ord(letter) < 32 and letter not in "\t\n" for letter in shown)
    assert not set(shown) & {chr(code) for code in (*range(0x7F, 0xA0), 0x202E, 0x2066)}
    assert visible(shown) == shown
    assert len(in_one_line(text).split("\n")) == 1


@given(st.text())
def test_in_json_it_means_the_same(text: str) -> None:
    assert json.loads(visible(json.dumps(text, ensure_ascii=False))) == text


@pytest.mark.parametrize("text", ["plain", "tab\tand\nline", "Grüße, 漢字, עברית, 🌾", ""])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_no_way_of_printing_lets_a_terminal_be_steered(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.line(HOSTILE)
    out.note(HOSTILE)
    out.table(["name", "state"], [[f"{HOSTILE}\nj_forged  finished", "paused"]])
    out.trouble(UsageError(HOSTILE, where=HOSTILE, next_step=HOSTILE))
    out.json = True
    out.result({"id": HOSTILE})
    said = capsys.readouterr()
    for shown in (said.out, said.err):
        assert all(line.isprintable() for line in shown.split("\n"))
        assert "title" in shown
    assert not any(line.startswith("j_forged") for line in said.out.splitlines())
    assert json.loads(said.out.splitlines()[-1]) == {"id": HOSTILE}
