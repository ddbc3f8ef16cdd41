"""Bad text is replaced at the same length, and found where it stands."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corpusmill.intake import clean as cleaning
from corpusmill.intake.clean import BadTextFinder, bad_character, clean, clean_tree, decoded
from corpusmill.intake.duplicates import IdHashes
from corpusmill.intake.naming import Named, labels, sources
from corpusmill.intake.rawjson import raw_value

anything = st.text(st.characters(categories=None), max_size=80)


@given(anything)
def test_cleaned_text_keeps_its_length_and_can_be_stored(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) == len(text)
    assert "\0" not in cleaned
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert (bad_character(text) is None) == (cleaned == text)


def test_everything_else_stays_as_it_is() -> None:
    text = "a\r\nb\u2028c\u0085d\ufeffe\x1b\t"
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [("ab\0c", "NUL at character 2"), ("\udfff", "lone surrogate U+DFFF at character 0"), ("abc", None)],
)
def test_a_bad_character_is_named_with_its_place(text: str, found: str | None) -> None:
    assert bad_character(text) == found


@given(st.binary(max_size=400), st.integers(1, 7))
def test_decoding_in_blocks_gives_what_python_reads(data: bytes, block: int) -> None:
    assume(data not in (b"\xef", b"\xef\xbb"))  # utf-8-sig forgets the half of a byte order mark at a file's end
    whole = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", errors="replace", newline="").read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning, "_READ_BYTES", block)
        assert "".join(decoded(io.BytesIO(data))) == whole.replace("\0", "\ufffd")


@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode), st.integers(1, 7))
def test_the_first_bad_byte_is_found_whatever_the_blocks(data: bytes, block: int) -> None:
    finder = BadTextFinder()
    for start in range(0, len(data), block):
        finder.feed(data[start : start + block])
    finder.feed(b"", final=True)
    try:
        data.decode("utf-8")
        invalid = len(data)
    except UnicodeDecodeError as error:
        invalid = error.start
    nul = data.find(b"\0")
    if nul >= 0 and nul < invalid:
        assert finder.found == f"NUL at byte {nul}"
    elif invalid < len(data):
        assert finder.found == f"invalid UTF-8 at byte {invalid}"
    else:
        assert finder.found is None


def test_a_record_is_cleaned_in_all_its_parts() -> None:
    value = {"a\0": ["\ud800", {"b": "x\0"}], "n": 2**70, "m": -(2**63), "t": True, "z": None}
    assert clean_tree(value) == {
        "a\ufffd": ["\ufffd", {"b": "x\ufffd"}],
        "n": 2.0**70,
        "m": -(2**63),
        "t": True,
        "z": None,
    }


@pytest.mark.parametrize("in_memory", [10, 10_000])
def test_repeated_ids_are_suspected_in_memory_and_on_disk(in_memory: int) -> None:
    ids = [f"id-{number}" for number in range(2_000)]
    with IdHashes(in_memory) as hashes:
        for identifier in [*ids, "id-7", "id-1999"]:
            hashes.add(identifier)
        assert hashes.seen_twice() == {hash("id-7"), hash("id-1999")}


def test_different_ids_are_not_suspected() -> None:
    with IdHashes() as hashes:
        for number in range(5_000):
            hashes.add(str(number))
        assert hashes.seen_twice() == frozenset()


def named(*paths: tuple[str, int]) -> list[Named]:
    return [Named(Path(path), parts) for path, parts in paths]


def test_one_folder_needs_no_name_and_several_carry_theirs() -> None:
    assert labels([Path("/a/docs")]) == [0]
    assert labels([Path("/a/docs"), Path("/a/notes")]) == [1, 1]
    assert labels([Path("/a/docs"), Path("/b/docs"), Path("/b/notes")]) == [2, 2, 1]


def test_files_that_would_share_a_source_take_the_parents_that_tell_them_apart() -> None:
    given_files = named(("/x/a/n.txt", 1), ("/x/b/n.txt", 1), ("/x/b/m.txt", 1), ("/y/b/n.txt", 1))
    assert sources(given_files) == ["a/n.txt", "x/b/n.txt", "m.txt", "y/b/n.txt"]


def test_a_file_name_that_is_no_utf8_still_gives_a_source_that_can_be_stored() -> None:
    assert sources(named(("/x/caf\udce9.txt", 1))) == ["caf\\xe9.txt"]


bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6) | st.just("body"), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(bodies, bodies, st.sampled_from([(",", ":"), (" , ", " :\t"), (",\t", " : ")]))
def test_a_value_comes_back_as_its_bytes_stood(body: object, other: object, separators: tuple[str, str]) -> None:
    raw = json.dumps(body, separators=separators)
    line = f'{{"custom_id": "a", "other": {json.dumps(other)}, "body" :{raw} , "url": "x,}}{{"}}'.encode()
    assert raw_value(line, "body") == raw.encode()


def test_of_a_key_that_comes_twice_the_last_counts_as_in_json() -> None:
    assert raw_value(b'{"body": 1, "a": {"body": 5}, "b\\u006fdy": [2, "}"]}', "body") == b'[2, "}"]'
    assert raw_value(b'{"a": {"body": 1}}', "body") is None
    assert raw_value(b'{"b\\u006fdy": [1], "a": {"body": {}}}', "body") == b"[1]"
    assert raw_value(b'{"b\\u006fdy": [1], "a\\"body": {}}', "body") == b"[1]"
    assert raw_value(b'{"body": {}, "b\\u006fdy": [1]} ', "body") == b"[1]"
    assert raw_value(b'{"a": "body", "body" : {"b": "}"} }\r\n', "body") == b'{"b": "}"}'
