"""Documents of the sources matched with those of the collection: by id and content, by content, by id."""

from __future__ import annotations

import pytest

from corpusmill.collections.matching import Found, Matching
from corpusmill.ledger.collection_records import KnownDocument


def old(number: int, name: str, content: str, *, line: int = 0, source: str = "a.jsonl") -> KnownDocument:
    return KnownDocument(number, source, name, bytes([line]), content.encode(), number * 10, 2)


def new(name: str, content: str, *, line: int = 0, source: str = "a.jsonl") -> Found:
    return Found(source, name, bytes([line]), content.encode(), line)


def matched(before: list[KnownDocument], now: list[Found], *, recut: bool = False) -> tuple[Matching, dict[str, int]]:
    matching = Matching()
    matching.add_old(before)
    matching.add_new(now)
    return matching, {name: count for name, count in matching.match(recut=recut).items() if count}


def test_each_document_is_the_one_with_its_id_and_content_else_its_content_else_its_id() -> None:
    before = [old(0, "same", "x"), old(1, "was", "y"), old(2, "edited", "z"), old(3, "gone", "w")]
    now = [new("same", "x"), new("is", "y"), new("edited", "zz"), new("added", "v")]

    matching, counts = matched(before, now)

    assert counts == {"unchanged": 1, "moved": 1, "changed": 1, "added": 1, "deleted": 1}
    assert [found.id for found in matching.cut()] == ["edited", "added"]
    assert [(known.id, found.id) for known, found in matching.placed()] == [("was", "is")]
    assert sorted(matching.ended()) == [1, 2, 3]


def test_what_lies_on_another_line_is_unchanged_and_what_lies_in_another_file_has_moved() -> None:
    before = [old(0, "a", "x", line=1), old(1, "b", "y", line=2)]
    now = [new("b", "y", line=1), new("a", "x", line=2, source="b.jsonl")]

    matching, counts = matched(before, now)

    assert counts == {"unchanged": 1, "moved": 1}
    assert [(known.document_no, found.line) for known, found in matching.placed()] == [(1, 1), (0, 2)]
    assert sorted(matching.ended()) == [0, 1]


def test_of_several_alike_each_is_taken_once_and_the_first_goes_with_the_first() -> None:
    matching, counts = matched([old(0, "a", "x"), old(1, "b", "x")], [new(name, "x") for name in ("p", "q", "r")])

    assert counts == {"moved": 2, "added": 1}
    assert [(known.id, found.id) for known, found in matching.placed()] == [("a", "p"), ("b", "q")]
    assert [found.id for found in matching.cut()] == ["r"]


@pytest.mark.parametrize("before", [[], [old(0, "a", "x"), old(1, "b", "y")]])
def test_what_is_cut_anew_is_cut_whatever_is_there(before: list[KnownDocument]) -> None:
    matching, counts = matched(before, [new("a", "x")], recut=True)

    assert counts == ({"changed": 1, "deleted": 1} if before else {"added": 1})
    assert [found.id for found in matching.cut()] == ["a"]
    assert sorted(matching.ended()) == [known.document_no for known in before]
