"""What every chunk promises, whatever the text."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.intake.chunker import Span, spans
from corpusmill.tokens import encoding

E = encoding()
WORDS = ["river", "of", "the", "queue", "a", "worker", "holds", "tokens", "and", "never", "sleeps", "when", "limits"]

MORSELS = (
    *("word ", "Sentence ends. ", "Really?! ", "line\n", "paragraph.\n\n", "# Heading\n", "    indented\n", "字字。"),
    *(
        "x" * 60,
        "😀",
        "👩‍👩‍👧‍👦",
        "\r\n",
        "\r\n\r\n",
        "\u2028",
        "e\u0301",
        " " * 50,
        " " * 90,
        "\t",
        "\n" * 30,
        ".",
        "\ufffd",
    ),
    "<|endoftext|>",
)
words = st.lists(st.sampled_from(MORSELS), max_size=120).map("".join)
texts = words | st.text(max_size=400)
sizes = st.integers(8, 60).flatmap(lambda tokens: st.tuples(st.just(tokens), st.integers(0, tokens // 2)))


def check(text: str, cuts: list[Span], tokens: int, overlap: int) -> None:
    """Offsets count exactly, nothing is over the limit or only white space, and every character has its place."""
    covered = 0
    for cut in cuts:
        chunk = text[cut.start : cut.end]
        assert chunk.strip()
        assert cut.tokens == E.count(chunk) <= tokens
        assert covered <= cut.fresh < cut.end
        assert covered == cut.fresh or text[covered : cut.fresh].isspace()
        assert E.count(text[cut.start : cut.fresh]) <= overlap
        covered = cut.end
    assert not text[covered:].strip()


@given(texts, sizes)
def test_chunks_keep_their_promises_for_any_text(text: str, size: tuple[int, int]) -> None:
    tokens, overlap = size
    check(text, list(spans(text, tokens=tokens, overlap=overlap, encoding=E)), tokens, overlap)


@settings(max_examples=30)
@given(words, st.integers(3, 12))
def test_a_text_that_comes_in_parts_is_cut_with_the_same_promises(text: str, times: int) -> None:
    whole, cuts, before, fresh = text * times, [], 0, 0
    for end in range(500, len(whole), 500):
        for cut in spans(whole[:end], tokens=40, overlap=8, encoding=E, fresh=fresh, before=before, final=False):
            cuts.append(cut)
            before, fresh = cut.fresh, cut.end
    cuts += spans(whole, tokens=40, overlap=8, encoding=E, fresh=fresh, before=before)
    check(whole, cuts, 40, 8)


@pytest.mark.parametrize(
    "text",
    [
        " " * 1_000_000,
        "a" + " " * 300_000 + "b",
        "a" * 20_000,
        "word " * 50_000,
        "a\n" * 20_000,
        "\n" * 300_000 + "x",
        (" " * 5_000 + "\n") * 50 + "x",
        ". " * 50_000,
        '."' * 50_000,
        "字" * 20_000,
        "👩‍👩‍👧‍👦" * 2_000,
        "a" + "\u0301" * 20_000,
        "\u200d" * 20_000,
        "\u2003" * 20_000 + "a",
        "hello\u2028" * 5_000,
        "hello world\r\n\r\n" * 5_000,
        "<|endoftext|>" * 2_000,
    ],
    ids=lambda text: repr(text[:12]),
)
@pytest.mark.parametrize(("tokens", "overlap"), [(800, 80), (64, 0)])
def test_hostile_texts_are_cut_like_any_other(text: str, tokens: int, overlap: int) -> None:
    check(text, list(spans(text, tokens=tokens, overlap=overlap, encoding=E)), tokens, overlap)


def test_ten_megabytes_without_a_border_are_cut() -> None:
    text = "abcdefghij" * 1_000_000
    cuts = list(spans(text, tokens=8_000, overlap=0, encoding=E))
    assert cuts[-1].end == len(text)
    assert max(cut.tokens for cut in cuts) <= 8_000


def test_a_text_that_fits_is_one_chunk_as_it_is() -> None:
    text = "  Short text.\n\nWith two paragraphs. \n"
    assert list(spans(text, tokens=800, overlap=80, encoding=E)) == [Span(0, len(text), E.count(text), 0)]


def test_an_ordinary_text_is_covered_to_the_last_character() -> None:
    text = "\n\n" + "".join(f"  Sentence {n} stands here.{chr(10) * (n % 4)} " for n in range(500)) + " \n \n"
    cuts = list(spans(text, tokens=60, overlap=10, encoding=E))
    assert [0, *(cut.end for cut in cuts)] == [*(cut.fresh for cut in cuts), len(text)]


def test_nothing_but_white_space_gives_no_chunk() -> None:
    assert [list(spans(text, tokens=800, overlap=80, encoding=E)) for text in ("", " \n\t", "\u3000")] == [[], [], []]


def test_borders_lie_between_paragraphs_where_there_are_some() -> None:
    text = "".join(f"Paragraph {n}. It has a few sentences. This is its last one.\n\n" for n in range(200))
    cuts = list(spans(text, tokens=200, overlap=40, encoding=E))
    assert len(cuts) > 10
    assert all(text[cut.fresh :].startswith("Paragraph") for cut in cuts)


def test_a_heading_goes_with_what_follows_it() -> None:
    section = "# Title {}\n\n" + "Some words in a sentence. " * 12 + "\n\n"
    text = "".join(section.format(number) for number in range(30))
    cuts = list(spans(text, tokens=130, overlap=0, encoding=E))
    assert all(text[cut.start :].startswith("# Title") for cut in cuts)


def test_the_overlap_starts_with_a_sentence() -> None:
    text = "".join(f"Sentence number {n} stands here. " for n in range(500))
    cuts = list(spans(text, tokens=100, overlap=20, encoding=E))
    assert all(text[cut.start :].startswith("Sentence number") for cut in cuts)
    assert all(8 <= E.count(text[cut.start : cut.fresh]) <= 20 for cut in cuts[1:])


def test_an_indented_line_keeps_its_indentation() -> None:
    text = "".join(f"def function_{n}(argument):\n    first = {n}\n    return first\n\n" for n in range(100))
    cuts = list(spans(text, tokens=60, overlap=0, encoding=E))
    assert all(text[cut.start - 1] == "\n" and text[cut.start] != "\n" for cut in cuts[1:])


def test_the_last_chunk_is_no_crumb() -> None:
    for length in range(100, 200):
        cuts = list(spans("word. " * length, tokens=100, overlap=0, encoding=E))
        assert cuts[-1].tokens >= 20


def test_chunks_are_well_filled() -> None:
    text = "".join(f"Sentence number {n} stands here. " for n in range(3_000))
    cuts = list(spans(text, tokens=200, overlap=0, encoding=E))
    assert sum(cut.tokens for cut in cuts[:-1]) / (len(cuts) - 1) > 0.7 * 200


def chunks_of(text: str) -> list[str]:
    return [text[cut.start : cut.end] for cut in spans(text, tokens=400, overlap=40, encoding=E)]


def changed_by_an_edit_at_the_top(text: str) -> int:
    before = set(chunks_of(text))
    return sum(chunk not in before for chunk in chunks_of("A new first line.\n" + text))


def test_an_edit_at_the_top_changes_three_chunks_at_most_and_mostly_fewer() -> None:
    changed = []
    for seed in range(60):
        random = Random(seed)
        paragraphs = [" ".join(random.choices(WORDS, k=random.randint(5, 90))) for _ in range(60)]
        changed.append(changed_by_an_edit_at_the_top(".\n\n".join(paragraphs)))
    assert max(changed) <= 3
    assert sorted(changed)[len(changed) // 2] <= 2


def test_an_edit_before_a_line_of_thousands_of_numbers_changes_few_chunks() -> None:
    for seed in range(5):
        random = Random(seed)
        assert changed_by_an_edit_at_the_top(" ".join(f"{random.random():.7e}" for _ in range(4_000))) <= 6


def test_an_edit_in_the_middle_changes_four_chunks_at_most() -> None:
    for seed in range(60):
        random = Random(seed)
        lines = [" ".join(random.choices(WORDS, k=random.randint(3, 30))) for _ in range(200)]
        before = set(chunks_of("\n".join(lines)))
        lines[random.randint(80, 120)] = "another line"
        assert sum(chunk not in before for chunk in chunks_of("\n".join(lines))) <= 4
