"""Small corpora that are awkward in the ways real ones are."""

from __future__ import annotations

from pathlib import Path

from tests.fixtures.shell import Shell

_SENTENCE = "the mill turns grain into flour while the river pushes its wheel and nobody counts sacks"


def prose(seed: int, words: int) -> str:
    """Deterministic text in sentences and paragraphs, different for each seed."""
    text, known = [], _SENTENCE.split()
    for number in range(words):
        word = known[(number * (seed + 3) + number // 7 + seed) % len(known)]
        ends = number % 11 == 10
        text.append(f"{word.capitalize() if number % 11 == 0 else word}{'.' if ends else ''}")
        text.append("\n\n" if number % 66 == 65 else " ")
    return f"Document {seed}. " + "".join(text)


def documents(shell: Shell, count: int = 6, words: int = 400) -> Path:
    """A folder `docs` with nested Markdown, a byte order mark, CRLF, emoji, and files that are to be left out."""
    for number in range(count):
        shell.write(f"docs/part{number % 2}/chapter{number:02}.md", f"# Chapter {number}\n\n{prose(number, words)}\n")
    shell.write("docs/bom.txt", b"\xef\xbb\xbfA file with a byte order mark. " + prose(90, 120).encode())
    shell.write("docs/crlf.rst", prose(91, 150).replace("\n", "\r\n").encode())
    shell.write("docs/emoji.md", "🌾 " + prose(92, 120).replace("mill", "Mühle 🏭"))
    shell.write("docs/empty.md", "")
    shell.write("docs/.hidden.md", "nobody reads this")
    shell.write("docs/picture.png", b"\x89PNG\r\n\x1a\n" + bytes(64))
    return shell.folder / "docs"


def chunk_of(folder: Path, line: dict[str, object]) -> str:
    """The text that a result names by source, start and end, read as the contract says."""
    with (folder / str(line["source"])).open(encoding="utf-8-sig", newline="") as file:
        text = file.read()
    start, end = line["start"], line["end"]
    assert isinstance(start, int)
    assert isinstance(end, int)
    return text[start:end]


def language_reference(shell: Shell) -> Path:
    """Python's language reference, which every Python brings, as a folder `docs` with a page a topic: 0.7 MB."""
    from pydoc_data.topics import topics

    for name, text in topics.items():
        shell.write(f"docs/{'a-m' if name.lower() < 'n' else 'n-z'}/{name}.rst", text)
    return shell.folder / "docs"
