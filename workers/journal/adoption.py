"""Taking over the journals of processes that are gone."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from corpusmill.ledger.records import Batch, Usage
from workers.journal import folders
from workers.journal.entries import Done, Entry, Reply, Sent, Void, decoded
from workers.journal.frames import Gap, payloads

log = logging.getLogger(__name__)

BATCH_BYTES = 4 << 20
BATCH_ROWS = 1_000


def adopt(parent: Path) -> Generator[Batch, None, None]:
    """What the journals below `parent` that no process holds have to say, as batches without fences.

    Commit each batch before asking for the next: a journal is removed when the batch after its last is asked for. To
    stop early, or to fail, leaves it for the next one who adopts; committing a batch twice changes nothing.
    """
    folders.sweep(parent)
    for folder in folders.orphans(parent):
        with folders.held(folder) as ours:
            if ours:
                yield from _adopt_one(folder)


def _adopt_one(folder: Path) -> Iterator[Batch]:
    story = _survey(folder)
    log.info(
        "adopting journal=%s unfinished=%d replied=%d", folder.name, len(story.open), len(story.replied & story.open)
    )
    yield from _replies(folder, story)
    unknown = [row for attempt, rows in story.estimates.items() if attempt in story.unanswered for row in rows]
    for at in range(0, len(unknown), BATCH_ROWS):
        yield Batch(usage=unknown[at : at + BATCH_ROWS])
    if story.damaged:
        kept = folder.rename(folder.with_name(f"{folder.name}.damaged"))
        log.error("journal damaged, kept for a look; what could be read of it is saved path=%s", kept)
    else:
        folders.remove(folder)


@dataclass(slots=True)
class _Story:
    """What a first reading finds: the attempts by how far they came, and the estimates of all."""

    estimates: dict[bytes, list[Usage]] = field(default_factory=dict)
    replied: set[bytes] = field(default_factory=set)
    finished: set[bytes] = field(default_factory=set)
    damaged: bool = False

    @property
    def open(self) -> set[bytes]:
        return (self.estimates.keys() | self.replied) - self.finished

    @property
    def unanswered(self) -> set[bytes]:
        return self.estimates.keys() - self.replied - self.finished


def _survey(folder: Path) -> _Story:
    story = _Story()
    for entry in _entries(folder, story):
        match entry:
            case Sent():
                story.estimates[entry.attempt_id] = list(entry.estimates)
            case Reply():
                story.replied.add(entry.attempt_id)
            case Void():
                story.finished.add(entry.attempt_id)
            case Done():
                story.finished.update(entry.attempt_ids)
    return story


def _replies(folder: Path, story: _Story) -> Iterator[Batch]:
    """Batches of the replies that SQL may not have, each of a few megabytes."""
    gathered: list[Reply] = []
    size = rows = 0
    for entry in _entries(folder, _Story()):
        if isinstance(entry, Reply) and entry.attempt_id not in story.finished:
            gathered.append(entry)
            size += sum(len(answer.body) for answer in entry.answers)
            rows += len(entry.results)
            if size > BATCH_BYTES or rows > BATCH_ROWS:
                yield _batch(gathered)
                gathered, size, rows = [], 0, 0
    if gathered:
        yield _batch(gathered)


def _batch(replies: list[Reply]) -> Batch:
    return Batch(
        answers=[answer for reply in replies for answer in reply.answers],
        results=[result for reply in replies for result in reply.results],
        usage=[usage for reply in replies for usage in reply.usage],
    )


def _entries(folder: Path, story: _Story) -> Iterator[Entry]:
    """All records of a journal in order. What ends its last segment unfinished was never promised: it is dropped."""
    paths = folders.segments(folder)
    for path in paths:
        data = path.read_bytes()
        for found in payloads(data):
            if isinstance(found, Gap):
                story.damaged |= found.end < len(data) or path != paths[-1]
            else:
                try:
                    yield decoded(found)
                except (ValueError, KeyError, TypeError):
                    story.damaged = True  # whole, but of a version that we do not know
