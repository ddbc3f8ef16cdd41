"""The journal on disk: kept while it is needed, adopted when its process is gone."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from corpusmill.errors import DiskFull
from corpusmill.ledger.records import Answer, Batch, ItemResult, ShardRef, Usage
from workers.journal import Journal, Reply, Sent, adopt

REPOSITORY = Path(__file__).parents[2]
REF = ShardRef(1, 0)


def attempt() -> bytes:
    return secrets.token_bytes(16)


def usage(attempt_id: bytes, outcome: str = "paid") -> list[Usage]:
    return [Usage(attempt_id, REF, "p", "m", None, 1, 10, 0, 5, 0, Decimal("0.01"), outcome)]  # type: ignore[arg-type]


def answers(attempt_id: bytes, size: int = 10) -> list[Answer]:
    return [Answer(attempt_id * 2, b"x" * size, "m", None, "stop", 10, 5)]


def results(attempt_id: bytes) -> list[ItemResult]:
    return [ItemResult(REF, 0, attempt_id * 2)]


def send(journal: Journal) -> bytes:
    """A call that begins."""
    attempt_id = attempt()
    journal.sent(Sent(attempt_id, usage(attempt_id, "unknown")))
    return attempt_id


def receive(journal: Journal, attempt_id: bytes, size: int = 10) -> bytes:
    """Its reply."""
    journal.reply(Reply(attempt_id, answers(attempt_id, size), results(attempt_id), usage(attempt_id)))
    return attempt_id


def adopted(folder: Path) -> list[Usage]:
    """The usage rows that adopting brings to light."""
    return [row for batch in adopt(folder) for row in batch.usage]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.log"))


def test_a_journal_with_everything_committed_leaves_nothing_behind(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal")
    journal.committed([receive(journal, send(journal))])
    journal.close()
    assert list((tmp_path / "journal").iterdir()) == []


def test_turned_over_it_keeps_nothing_that_sql_has_and_all_that_it_has_not(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.turn_over()
    assert files(tmp_path) == ["00000001.log"]
    done, open_ = receive(journal, send(journal)), send(journal)
    journal.committed([done])
    journal.turn_over()
    assert files(tmp_path) == ["00000001.log", "00000002.log"]

    receive(journal, open_)
    journal.committed([open_])
    journal.turn_over()

    assert [path.stat().st_size for path in tmp_path.rglob("*.log")] == [0]
    journal.close()


def test_it_lies_in_a_folder_that_only_its_owner_can_read(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "home" / "journal")
    send(journal)
    made = [tmp_path / "home", *(tmp_path / "home").rglob("*")]
    assert len(made) >= 4
    assert {path.stat().st_mode & 0o077 for path in made} == {0}
    journal.close()


def test_a_held_journal_is_not_adopted(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    receive(journal, send(journal))
    assert list(adopt(tmp_path)) == []
    journal.close()


def test_a_reply_that_sql_does_not_have_is_adopted_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    attempt_id = receive(journal, send(journal))
    journal.close()
    assert list(adopt(tmp_path)) == [
        Batch(answers=answers(attempt_id), results=results(attempt_id), usage=usage(attempt_id))
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_call_without_a_reply_becomes_usage_of_unknown_outcome(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    attempt_id = send(journal)
    journal.close()
    assert list(adopt(tmp_path)) == [Batch(usage=usage(attempt_id, "unknown"))]


def test_a_call_that_was_not_paid_leaves_no_trace(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.void(send(journal))
    kept = send(journal)
    journal.close()
    assert [row.attempt_id for row in adopted(tmp_path)] == [kept]


def test_what_sql_has_is_not_committed_again(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    done, open_ = receive(journal, send(journal)), receive(journal, send(journal))
    journal.committed([done])
    journal.close()
    assert [row.attempt_id for row in adopted(tmp_path)] == [open_]


def test_adopting_that_fails_halfway_leaves_the_journal_to_the_next_one(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    attempt_id = receive(journal, send(journal))
    journal.close()
    batches = adopt(tmp_path)
    next(batches)
    assert list(adopt(tmp_path)) == [], "one who adopts holds it"
    batches.close()
    assert [row.attempt_id for row in adopted(tmp_path)] == [attempt_id]


def test_large_journals_are_adopted_in_batches(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    sent = [receive(journal, send(journal), size=1_000_000) for _ in range(12)]
    journal.close()
    batches = list(adopt(tmp_path))
    assert len(batches) == 3
    assert [row.attempt_id for batch in batches for row in batch.usage] == sent


def test_segments_that_nobody_needs_any_more_are_removed(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, segment_bytes=2000)
    for _ in range(100):
        journal.committed([receive(journal, send(journal))])
    assert len(files(tmp_path)) <= 2
    journal.close()


def test_one_slow_call_does_not_keep_all_that_came_after_it(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, segment_bytes=2000)
    slow = send(journal)
    for _ in range(200):
        journal.committed([receive(journal, send(journal))])
    assert len(files(tmp_path)) <= 6
    journal.close()
    assert [row.attempt_id for row in adopted(tmp_path)] == [slow]


def test_a_slow_call_that_was_not_paid_in_the_end_stays_without_trace(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, segment_bytes=2000)
    slow = send(journal)
    for _ in range(200):
        journal.committed([receive(journal, send(journal))])
    journal.void(slow)
    kept = send(journal)
    journal.close()
    assert [row.attempt_id for row in adopted(tmp_path)] == [kept]


def test_replies_that_sql_does_not_have_are_kept_however_many_segments_they_take(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, segment_bytes=2000)
    kept = [receive(journal, send(journal)) for _ in range(100)]
    for _ in range(100):
        journal.committed([receive(journal, send(journal))])
    journal.close()
    assert [row.attempt_id for row in adopted(tmp_path)] == kept


def test_a_record_torn_by_a_kill_is_dropped_and_the_rest_is_adopted(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    whole = receive(journal, send(journal))
    torn = receive(journal, send(journal), size=1000)
    journal.close()
    (segment,) = tmp_path.rglob("*.log")
    segment.write_bytes(segment.read_bytes()[:-200])
    assert {row.attempt_id: row.outcome for row in adopted(tmp_path)} == {whole: "paid", torn: "unknown"}
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_journal_is_read_as_far_as_it_goes_and_kept_for_a_look(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    lost, saved = receive(journal, send(journal)), receive(journal, send(journal))
    journal.close()
    (segment,) = tmp_path.rglob("*.log")
    data = bytearray(segment.read_bytes())
    data[30] ^= 0xFF
    segment.write_bytes(data)
    # Of the first call the `sent` is damaged, its reply is not.
    assert [row.attempt_id for row in adopted(tmp_path)] == [lost, saved]
    assert [path.suffix for path in tmp_path.iterdir()] == [".damaged"]
    assert adopted(tmp_path) == []


KILLED = """
import secrets, sys
from pathlib import Path
from tests.integration.test_journal import Journal, receive, send
journal = Journal.open(Path(sys.argv[1]), segment_bytes=4000)
while True:
    attempt = receive(journal, send(journal), size=300)
    print(attempt.hex(), flush=True)
"""


@pytest.mark.fault(2)
def test_every_reply_that_was_saved_outlives_a_kill_9(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        told = [bytes.fromhex(process.stdout.readline()) for _ in range(50)]
        assert list(adopt(tmp_path)) == [], "it is alive"
        process.send_signal(signal.SIGKILL)
        told += [bytes.fromhex(line) for line in process.stdout if len(line) == 33]
    outcomes = {row.attempt_id: row.outcome for row in adopted(tmp_path)}
    assert all(outcomes[attempt_id] == "paid" for attempt_id in told)
    assert len(outcomes) - len(told) <= 2


def test_a_journal_that_is_being_made_is_not_taken_for_an_orphan(tmp_path: Path) -> None:
    stop = threading.Event()
    broken: list[BaseException] = []

    def adopting() -> None:
        try:
            while not stop.is_set():
                assert list(adopt(tmp_path)) == []
        except BaseException as error:
            broken.append(error)

    thread = threading.Thread(target=adopting)
    thread.start()
    for _ in range(50):
        journal = Journal.open(tmp_path)
        journal.committed([receive(journal, send(journal))])
        journal.close()
    stop.set()
    thread.join()
    assert broken == []


def test_what_a_dead_process_left_half_made_is_cleared_away_in_time(tmp_path: Path) -> None:
    half = tmp_path / ".new-123-abcd"
    half.mkdir()
    list(adopt(tmp_path))
    assert half.exists()
    os.utime(half, (1, 1))
    list(adopt(tmp_path))
    assert not half.exists()


@pytest.mark.fault(16)
def test_without_room_on_the_disk_nothing_more_is_sent(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, reserve_bytes=1 << 60)
    with pytest.raises(DiskFull, match="nothing more is sent"):
        send(journal)
    journal.close()


def test_a_reply_that_the_journal_cannot_take_raises_nothing_but_stops_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.open(tmp_path)
    attempt_id = send(journal)
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(journal, "_fd", full)
    receive(journal, attempt_id)
    with pytest.raises(DiskFull):
        send(journal)
    journal.committed([attempt_id])
    journal.close()
    assert adopted(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskFull, match="cannot be written"):
        Journal.open(tmp_path / "file" / "journal")


def test_threads_may_use_it_at_once(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, segment_bytes=5000)
    kept: list[bytes] = []

    def work(keep: Sequence[bool]) -> None:
        for keeps in keep:
            attempt_id = receive(journal, send(journal))
            if keeps:
                kept.append(attempt_id)
            else:
                journal.committed([attempt_id])

    threads = [threading.Thread(target=work, args=([True] + [False] * 20,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert {row.attempt_id for row in adopted(tmp_path)} == set(kept)
