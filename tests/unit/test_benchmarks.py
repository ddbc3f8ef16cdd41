"""The benchmark's own arithmetic: what counts as reached, and that the work measured is what it is said to be."""

from __future__ import annotations

import math

import orjson
import psutil
import pytest

from benchmarks.__main__ import PARTS, QUICK, USUAL
from benchmarks.loads import CHAT, EMBEDDINGS, Load
from benchmarks.machine import Meter, cpu_s
from benchmarks.report import Bar, Section, Table, fallen_short, page
from corpusmill.llm.packs import MAX_INPUTS, MAX_TOKENS
from corpusmill.tokens import encoding_for


@pytest.mark.parametrize(
    ("bar", "met"),
    [
        (Bar("cost", 0.6, 0.6), True),
        (Bar("cost", 0.6, 0.61), False),
        (Bar("share", 0.97, 0.98, at_least=True), True),
        (Bar("share", 0.97, 0.96, at_least=True), False),
        (Bar("cost", 0.6, math.nan), False),
        (Bar("share", 0.97, math.nan, at_least=True), False),
    ],
)
def test_an_aim_is_reached_at_its_value_and_never_without_a_figure(bar: Bar, met: bool) -> None:
    assert bar.met is met
    assert (bar.what in fallen_short([bar])) is not met


def test_the_page_names_the_machine_the_command_and_what_fell_short() -> None:
    section = Section("A part", "About it.", [Table("Figures", ("name", "value"), [["x", "1"]])], [Bar("cost", 1, 2)])
    text = page([section], "make bench")
    assert "make bench" in text
    assert "Python" in text
    assert "| x | 1 |" in text
    assert "Fell short:\n\n- cost: 2, wanted ≤ 1" in text


@pytest.mark.parametrize("load", [pytest.param(CHAT, id="chat"), pytest.param(EMBEDDINGS, id="embeddings")])
def test_a_chunk_has_about_the_tokens_that_its_load_states(load: Load) -> None:
    count = encoding_for(load.model).count(next(load.texts(1, "series")))
    assert count == pytest.approx(load.tokens, rel=0.25)


def test_the_floor_sends_packs_as_full_as_ours() -> None:
    first, second = (orjson.loads(body)["input"] for body in EMBEDDINGS.bodies(2 * EMBEDDINGS.pack, "series"))
    assert len(first) == len(second) == EMBEDDINGS.pack == min(MAX_INPUTS, MAX_TOKENS // EMBEDDINGS.tokens)
    assert not set(first) & set(second)


def test_a_meter_counts_the_cpu_that_a_block_spends() -> None:
    us = [psutil.Process()]
    before = cpu_s(us)
    with Meter({"us": us}) as meter:
        sum(number * number for number in range(2_000_000))
    assert 0 < meter.cpu_s["us"] <= cpu_s(us) - before + 0.01
    assert meter.peak("us") > 0


def test_quick_and_usual_sizes_run_the_same_parts() -> None:
    assert set(PARTS) >= {"hot-path", "limits", "growth", "ledger", "simulator"}
    assert QUICK.chats < USUAL.chats
    assert max(USUAL.growth) == 100_000
