"""Folders and files as people have them: what is read, what is left out, and how it is named."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from corpusmill.errors import SourceError, UsageError
from corpusmill.intake import Chunking, Piece, Reading, Scan, digests_key, pieces, scan, validate
from corpusmill.tokens import encoding

Tree = Callable[[dict[str, str | bytes]], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Write files below a folder `docs`."""

    def write(files: dict[str, str | bytes]) -> Path:
        folder = tmp_path / "docs"
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    return write


def sources_of(found: Scan) -> list[str]:
    return [file.source for file in found.files]


def left_out(found: Scan) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {entry.reason: (entry.count, entry.names) for entry in found.left_out}


def cut(found: Scan, reading: Reading | None = None, chunking: Chunking | None = None) -> list[Piece]:
    return list(pieces(found, reading or Reading(), chunking or Chunking(), encoding()))


def test_files_come_in_the_order_of_their_relative_paths(tree: Tree) -> None:
    folder = tree({name: "x" for name in ("b.md", "a/z.md", "a.md", "a-b.md", "a/b/c.md", "Z.md")})
    found = sources_of(scan([folder], Reading()))
    assert found == sorted(found) == ["Z.md", "a-b.md", "a.md", "a/b/c.md", "a/z.md", "b.md"]


def test_a_source_that_is_named_twice_or_lies_in_another_is_read_once(tree: Tree) -> None:
    folder = tree({"a.md": "x", "deep/b.md": "y"})
    assert sources_of(scan([folder, folder], Reading())) == ["a.md", "deep/b.md"]
    assert len(scan([folder, folder / "deep"], Reading()).files) == 2
    assert len(scan([folder / "deep", folder], Reading()).files) == 2
    assert sources_of(scan([folder / "a.md", folder / "a.md"], Reading())) == ["a.md"]


def test_hidden_ignored_and_foreign_files_are_left_out(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "outside.md").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.md").write_text("x")
    folder = tree(
        {
            ".gitignore": "*.log\nbuild/\n!keep.log\n/top.md\n",
            "sub/.gitignore": "secret.md\n!again.log\n",
            "good.md": "x",
            "trace.log": "x",
            "keep.log": "x",
            "top.md": "x",
            "build/out.md": "x",
            "sub/top.md": "x",
            "sub/secret.md": "x",
            "sub/again.log": "x",
            ".hidden.md": "x",
            ".git/notes.md": "x",
            "node_modules/m/readme.md": "x",
        }
    )
    (folder / "link.md").symlink_to(tmp_path / "outside.md")
    (folder / "folder-link").symlink_to(tmp_path / "elsewhere")
    (folder / "same.md").symlink_to(folder / "good.md")
    (folder / "broken.md").symlink_to(folder / "nowhere.md")
    (folder / "sub" / "loop").symlink_to(folder)
    found = scan([folder], Reading())
    assert sources_of(found) == ["good.md", "keep.log", "same.md", "sub/again.log", "sub/top.md"]
    assert left_out(found) == {
        "broken link": (1, ("broken.md",)),
        "link out of the folder": (2, ("folder-link", "link.md")),
    }


def test_the_gitignore_of_the_repository_above_counts_too(tree: Tree) -> None:
    folder = tree({".git/HEAD": "x", ".gitignore": "drafts/\n", "docs/drafts/a.md": "x", "docs/b.md": "x"})
    assert sources_of(scan([folder / "docs"], Reading())) == ["b.md"]
    assert sources_of(scan([folder / "docs" / "drafts"], Reading())) == ["a.md"]


def test_unknown_and_binary_files_are_counted_and_named(tree: Tree) -> None:
    files: dict[str, str | bytes] = {f"part{number}.bin": b"\0" for number in range(9)}
    files |= {"a.md": "x", "e.md": "", "image.png": b"\x89PNG\r\n", "data.xyz": "x", "more.xyz": "x"}
    found = scan([tree(files | {"t.txt": "text".encode("utf-16")})], Reading())
    assert sources_of(found) == ["a.md"]
    assert left_out(found)["unknown kind"][0] == 12
    assert left_out(found)["UTF-16, not UTF-8"] == (1, ("t.txt",))
    assert left_out(found)["empty"] == (1, ("e.md",))
    assert (
        "12 files left out (unknown kind): data.xyz, image.png, more.xyz, part0.bin, part1.bin and 7 more"
        in found.notes
    )


def test_include_and_exclude_choose_among_the_files_of_a_folder(tree: Tree) -> None:
    folder = tree({"a.md": "x", "b.xyz": "x", "c/d.xyz": "x", "c/e.md": "x", "bin.xyz": b"\x7fELF\0"})
    assert sources_of(scan([folder], Reading(include=("*.xyz",)))) == ["b.xyz", "c/d.xyz"]
    assert sources_of(scan([folder], Reading(exclude=("c/",)))) == ["a.md"]
    assert sources_of(scan([folder], Reading(include=("*.md",), exclude=("c/e.md",)))) == ["a.md"]


@pytest.mark.parametrize(
    ("name", "converter"), [("paper.pdf", "markitdown"), ("letter.docx", "markitdown"), ("x.odt", "pandoc")]
)
def test_a_document_that_needs_a_converter_is_refused_with_its_name(tree: Tree, name: str, converter: str) -> None:
    folder = tree({name: b"%PDF-1.7", "a.md": "x"})
    with pytest.raises(SourceError) as refusal:
        scan([folder / name], Reading())
    assert converter in refusal.value.what
    assert "\n" not in refusal.value.what
    found = scan([folder], Reading())
    assert sources_of(found) == ["a.md"]
    assert any(converter in note for note in found.notes)


def test_a_folder_with_nothing_to_read_is_refused_and_says_what_it_holds(tree: Tree) -> None:
    with pytest.raises(SourceError, match="holds no file"):
        scan([tree({})], Reading())
    with pytest.raises(SourceError) as refusal:
        scan([tree({"paper.pdf": b"%PDF", "x.bin": b"\0"})], Reading())
    assert "paper.pdf" in refusal.value.next_step
    assert "markitdown" in refusal.value.next_step


def test_a_missing_or_empty_source_is_refused(tree: Tree) -> None:
    folder = tree({"empty.md": "", "image.md": b"\x89PNG\0\0\0"})
    for name, complaint in (("missing.md", "No such file"), ("empty.md", "empty"), ("image.md", "binary")):
        with pytest.raises(SourceError, match=complaint) as refusal:
            scan([folder / name], Reading())
        assert refusal.value.where == str(folder / name)
        assert refusal.value.exit_code == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(tree: Tree) -> None:
    folder = tree({"a.md": "x", "b.md": "x"})
    (folder / "b.md").chmod(0)
    with pytest.raises(SourceError, match="Permission denied"):
        scan([folder], Reading())


def test_a_file_named_by_a_person_is_read_whatever_its_suffix(tree: Tree) -> None:
    folder = tree({"notes.xyz": "some text"})
    assert [piece.text for piece in cut(scan([folder / "notes.xyz"], Reading()))] == ["some text"]


def test_several_sources_have_names_that_tell_them_apart(tree: Tree) -> None:
    folder = tree({"a/docs/x.md": "1", "b/docs/x.md": "2", "c/x.md": "3", "c/n.txt": "4", "n.txt": "5"})
    found = scan([folder / "a/docs", folder / "b/docs", folder / "c", folder / "n.txt"], Reading())
    assert sources_of(found) == ["a/docs/x.md", "b/docs/x.md", "c/n.txt", "c/x.md", "n.txt"]
    both = scan([folder / "c/n.txt", folder / "n.txt"], Reading())
    assert sources_of(both) == ["c/n.txt", "docs/n.txt"]


def test_a_file_in_two_sources_is_read_once(tree: Tree) -> None:
    folder = tree({"a.md": "x", "b.md": "y"})
    assert sources_of(scan([folder, folder / "a.md"], Reading())) == ["a.md", "b.md"]
    assert sources_of(scan([folder / "a.md", folder / "a.md"], Reading())) == ["a.md"]


def test_tables_in_a_folder_are_read_if_they_hold_texts(tree: Tree) -> None:
    folder = tree({"a.md": "x", "texts.csv": "id,text\n1,hello\n", "numbers.csv": "a,b\n1,2\n", "r.jsonl": '{"n":1}\n'})
    found = scan([folder], Reading())
    assert sources_of(found) == ["a.md", "texts.csv"]
    assert left_out(found) == {"no field 'text'": (2, ("numbers.csv", "r.jsonl"))}


def test_offsets_reproduce_the_text_as_a_person_would_read_it(tree: Tree) -> None:
    body = "\ufeffFirst line.\r\nSecond 😀 line; caf\u00e9.\r\n\r\nNext\u2028paragraph. " * 60
    folder = tree({"a.md": body, "bad.md": body.encode() + b"\xff\xc3 and \xed\xa0\x80 more." * 20})
    found = cut(scan([folder], Reading()), chunking=Chunking(tokens=100, overlap=20))
    assert {piece.source for piece in found} == {"a.md", "bad.md"}
    for piece in found:
        with (folder / piece.source).open(encoding="utf-8-sig", newline="", errors="replace") as file:
            assert file.read()[piece.start : piece.end] == piece.text
        assert piece.tokens == encoding().count(piece.text) <= 100
        assert piece.id == piece.source


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"ab\xffcd", "invalid UTF-8 at byte 2"),
        (b"ab\0cd", "NUL at byte 2"),
        (b"x" * (1 << 20) + b"\xe9", "byte 1,048,576"),
    ],
)
def test_bad_text_in_a_file_follows_the_policy_and_its_place_is_told(tree: Tree, content: bytes, what: str) -> None:
    folder = tree({"bad.md": content, "good.md": "fine"})
    replaced = scan([folder], Reading())
    assert sources_of(replaced) == ["bad.md", "good.md"]
    assert what in replaced.notes[0]
    skipped = scan([folder], Reading(on_bad_text="skip"))
    assert sources_of(skipped) == ["good.md"]
    assert what in skipped.notes[0]
    with pytest.raises(SourceError) as refusal:
        scan([folder], Reading(on_bad_text="fail"))
    assert what in refusal.value.what
    assert refusal.value.where == str(folder / "bad.md")


def test_a_replaced_character_takes_the_place_of_the_bad_one(tree: Tree) -> None:
    folder = tree({"bad.md": b"\xef\xbb\xbfa\0b\xffc\r\n"})
    assert [piece.text for piece in cut(scan([folder], Reading()))] == ["a\ufffdb\ufffdc\r\n"]


def test_chunks_of_a_document_are_numbered_from_zero(tree: Tree) -> None:
    folder = tree({"a.md": "A sentence of words. " * 300, "b.md": "short"})
    found = cut(scan([folder], Reading()), chunking=Chunking(tokens=100, overlap=10))
    assert [piece.chunk for piece in found] == [*range(len(found) - 1), 0]
    assert len(found) > 10


def test_a_text_file_larger_than_memory_allows_is_cut_part_by_part(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpusmill.intake.cutting._PART_CHARACTERS", 2_000)
    monkeypatch.setattr("corpusmill.intake.clean._READ_BYTES", 700)
    body = "".join(f"Sentence number {number} stands here.{chr(10) * (number % 3)} " for number in range(2_000))
    found = cut(scan([tree({"a.md": body})], Reading()), chunking=Chunking(tokens=60, overlap=12))
    assert all(body[piece.start : piece.end] == piece.text for piece in found)
    assert [piece.chunk for piece in found] == list(range(len(found)))
    assert all(later.start <= earlier.end < later.end for earlier, later in pairwise(found))
    assert (found[0].start, found[-1].end) == (0, len(body))


def test_without_chunking_a_text_stays_whole(tree: Tree) -> None:
    folder = tree({"a.md": "word " * 5_000, "white.md": " \n"})
    (piece,) = cut(scan([folder], Reading()), chunking=Chunking(whole=True))
    assert (piece.start, piece.end, piece.chunk) == (0, 25_000, 0)


def test_a_piece_over_the_limit_of_the_model_is_split_truncated_or_failed(tree: Tree) -> None:
    found = scan([tree({"a.md": "word " * 500})], Reading())
    split = cut(found, chunking=Chunking(whole=True, limit_tokens=100))
    assert len(split) >= 5
    assert max(piece.tokens for piece in split) <= 100
    assert "".join(piece.text for piece in split) == "word " * 500
    (short,) = cut(found, chunking=Chunking(whole=True, limit_tokens=100, too_long="truncate"))
    assert short.tokens <= 100
    assert short.text == ("word " * 500)[: short.end]
    (failed,) = cut(found, chunking=Chunking(whole=True, limit_tokens=100, too_long="fail"))
    assert failed.problem is not None
    assert failed.problem[0] == "too_long"
    assert "a.md, chunk 0" in failed.problem[1]
    assert failed.text == ""
    capped = cut(found, chunking=Chunking(tokens=800, overlap=80, limit_tokens=100))
    assert max(piece.tokens for piece in capped) <= 100


@pytest.mark.parametrize(("tokens", "overlap"), [(7, 0), (100, 51), (100, -1)])
def test_sizes_that_cannot_be_are_refused_with_the_flag(tokens: int, overlap: int) -> None:
    with pytest.raises(UsageError, match="--chunk-"):
        Chunking(tokens=tokens, overlap=overlap)


def test_a_pattern_that_is_none_is_refused_with_the_flag(tree: Tree) -> None:
    with pytest.raises(UsageError, match="--exclude"):
        scan([tree({"a.md": "x"})], Reading(exclude=("!",)))


def test_the_key_of_the_sources_follows_names_bytes_and_order(tree: Tree, tmp_path: Path) -> None:
    folder = tree({"a.md": "1", "b.md": "2"})
    key = digests_key(scan([folder], Reading()))
    assert key == digests_key(scan([folder], Reading()))
    os.utime(folder / "a.md", (1, 1))
    assert key == digests_key(scan([folder], Reading()))
    folder.rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    assert key == digests_key(scan([moved], Reading()))
    files = [moved / "a.md", moved / "b.md"]
    assert digests_key(scan(files, Reading())) != digests_key(scan(files[::-1], Reading()))
    (moved / "b.md").write_text("3")
    assert key != digests_key(scan([moved], Reading()))


def test_a_file_that_changes_after_the_scan_is_refused(tree: Tree) -> None:
    folder = tree({"a.md": "one"})
    found = scan([folder], Reading())
    (folder / "a.md").write_text("another")
    with pytest.raises(SourceError, match="changed"):
        cut(found)
    (folder / "a.md").unlink()
    with pytest.raises(SourceError, match="went while"):
        cut(found)


def test_a_record_and_a_file_cannot_share_an_id(tree: Tree) -> None:
    folder = tree({"a.md": "x", "r.jsonl": '{"id":"a.md","text":"y"}\n'})
    with pytest.raises(SourceError, match="there twice"):
        validate(scan([folder], Reading()), Reading())


def test_compressed_text_is_no_text(tree: Tree) -> None:
    folder = tree({"a.md": "x", "b.md.gz": gzip.compress(b"x")})
    assert sources_of(scan([folder], Reading())) == ["a.md"]


def test_an_include_that_matches_nothing_is_told_by_name(tree: Tree) -> None:
    folder = tree({"a.md": "x", ".hidden.foo": "x"})
    with pytest.raises(SourceError, match=r"no file of the folder matches --include '\*.foo'") as refused:
        scan([folder], Reading(include=("*.foo",)))
    assert "patterns are those of .gitignore" in refused.value.next_step


def test_a_source_that_cannot_be_read_is_named_in_the_first_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as refused:
        scan([tmp_path / "no.md"], Reading())
    assert refused.value.what == f"{tmp_path}/no.md cannot be read: No such file or directory"
