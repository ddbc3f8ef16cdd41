"""The benchmark's own arithmetic: what counts as reached, and that the work measured is what it is said to be."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import orjson
import psutil
import pytest

from benchmarks.loads import CHAT, EMBEDDINGS, Load
from benchmarks.machine import Meter, cpu_s
from benchmarks.page import Kept, as_markdown, keep, kept, write
from benchmarks.parts import FULL, PARTS, QUICK, USUAL
from benchmarks.report import Bar, Line, Plot, Section, Span, Table, fallen_short
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


def a_section(title: str, measured: float = 2) -> Section:
    storm = Plot("storm", "A storm", "s", "tokens/s", [Line("used", [(0, 1), (2, 3)])], [Span("429 & all", 0.5, 1)])
    return Section(title, "About it.", [Table("Figures", ("name", "value"), [["x", "1"]])], [Bar("cost", 1, measured)],
                   plots=[storm])  # fmt: skip


def test_the_page_names_the_machine_the_command_and_what_fell_short(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    keep("a", a_section("A part"), command="python -m benchmarks a", took_s=12, page=page)
    write(["a", "never measured"], page)
    text = page.read_text()
    assert "python -m benchmarks a" in text
    assert "Python" in text
    assert "| x | 1 |" in text
    assert "Fell short:\n\n- cost: 2, wanted ≤ 1" in text


def test_a_part_measured_anew_replaces_its_own_figures_and_keeps_the_others(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    for part, title in (("a", "First"), ("b", "Second"), ("a", "First anew")):
        keep(part, a_section(title), command=title, took_s=12, page=page)
        write("ab", page)
    text = page.read_text()
    assert "## First anew\n" in text
    assert "## First\n" not in text
    assert text.index("## First anew") < text.index("## Second")


def test_a_page_of_its_own_shows_a_part_s_tables_between_its_marks(tmp_path: Path) -> None:
    other = tmp_path / "a.md"
    other.write_text("# A\n\n<!-- figures -->\nold\n<!-- end of figures -->\n\nAfter.\n")
    for _ in range(2):
        keep("a", a_section("A part"), command="python -m benchmarks a", took_s=12, page=tmp_path / "page.md")
        write("a", tmp_path / "page.md")
    text = other.read_text()
    assert text.count("| x | 1 |") == 1
    assert "old" not in text
    assert text.endswith("<!-- end of figures -->\n\nAfter.\n")


def test_figures_are_kept_whole_also_those_not_measured(tmp_path: Path) -> None:
    section = a_section("A part", math.nan)
    keep("a", section, command="c", took_s=1, page=tmp_path / "page.md")
    found = kept("a", tmp_path / "page.md")
    assert isinstance(found, Kept)
    assert found.section.as_markdown() == section.as_markdown()
    assert "not measured" in as_markdown([found])


def test_a_plot_is_drawn_as_well_formed_svg_with_every_point(tmp_path: Path) -> None:
    keep("a", a_section("A part"), command="c", took_s=1, page=tmp_path / "page.md")
    picture = ElementTree.parse(tmp_path / "figures" / "storm.svg").getroot()
    lines = [each.get("points", "").split() for each in picture.iter("{http://www.w3.org/2000/svg}polyline")]
    assert [len(points) for points in lines] == [2]
    assert "429 & all" in [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")]


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


def test_larger_sizes_run_the_same_parts_for_longer() -> None:
    assert set(PARTS) >= {"hot-path", "limits", "growth", "growth-fleet", "submit", "ledger", "simulator"}
    assert QUICK.chats < USUAL.chats
    assert QUICK.turns < USUAL.turns < FULL.turns == 5
    assert max(USUAL.growth) == 100_000
    assert max(FULL.growth) == max(FULL.submits) == 1_000_000
    assert max(FULL.submits_on_postgres) == 5_000_000
