"""Collections by their commands: only what is new is paid for, and readers see one whole state after another."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpusmill.ledger import Ledger
from tests.acceptance.corpora import language_reference, prose
from tests.acceptance.machinery import fresh_home, kill
from tests.fixtures.shell import Shell, until
from tests.fixtures.simulator import Simulator, StartSimulator

# Many commands, each a process of its own.
pytestmark = pytest.mark.timeout(180)

MODEL = ("--model", "text-embedding-3-small", "--dimensions", 8)
CHUNKS = ("--chunk-tokens", 120, "--chunk-overlap", 20)
# More than 2,000 chunks of Python's language reference.
SMALL = ("--chunk-tokens", 64, "--chunk-overlap", 8)
DOCUMENTS = 40


def sync(name: str, chunks: tuple[object, ...] = CHUNKS) -> tuple[object, ...]:
    """The command; tests share a ledger, so each has a collection of its own."""
    return "sync", name, "docs", *MODEL, *chunks


@pytest.fixture
def endpoint(shell: Shell, simulator: StartSimulator) -> Simulator:
    return shell.connect(simulator())


def write_tree(shell: Shell) -> Path:
    for number in range(DOCUMENTS):
        shell.write(f"docs/part{number % 3}/page{number:02}.md", f"# Page {number}\n\n{prose(number, 500)}\n")
    return shell.folder / "docs"


def change_tree(shell: Shell, pages: list[Path]) -> None:
    """Edit the first line of 10 documents, delete 5, rename 20, add 3."""
    for page in pages[:10]:
        page.write_text(f"Edited. {page.read_text()}")
    for page in pages[10:15]:
        page.unlink()
    for page in pages[15:35]:
        page.rename(page.with_name(f"renamed-{page.name}"))
    for number in range(3):
        shell.write(f"docs/new{number}.md", f"# New {number}\n\n{prose(200 + number, 500)}\n")


def rows_of(shell: Shell, name: str) -> tuple[list[dict[str, Any]], np.ndarray[Any, Any]]:
    """The index without `cached`, which tells of a job, and the vectors."""
    rows = [{key: value for key, value in row.items() if key != "cached"} for row in shell.lines(f"{name}.jsonl")]
    return rows, np.load(shell.folder / f"{name}.npy")


def assert_same(shell: Shell, one: str, other: str) -> int:
    (rows, vectors), (expected, array) = rows_of(shell, one), rows_of(shell, other)
    assert rows == expected
    np.testing.assert_array_equal(vectors, array)
    return len(rows)


def test_a_sync_embeds_what_is_new_and_its_export_is_that_of_a_fresh_collection(
    shell: Shell, endpoint: Simulator
) -> None:
    pages = sorted(language_reference(shell).rglob("*.rst"))
    rehearsed = shell.ok(*sync("reference", SMALL), "--dry-run")
    assert endpoint.stats()["requests"] == 0
    first = shell.ok(*sync("reference", SMALL))
    assert (first["added"], first["failed"], first["state"]) == (len(pages), 0, "complete")
    assert first["embedded"] == rehearsed["embedded"] == endpoint.stats()["paid_inputs"] >= 2_000

    sent = endpoint.stats()["requests"]
    again = shell.ok(*sync("reference", SMALL))
    assert (again["unchanged"], again["embedded"], again["requests"], again["usd"]) == (len(pages), 0, 0, 0.0)
    assert endpoint.stats()["requests"] == sent

    change_tree(shell, pages)
    rehearsed = shell.ok(*sync("reference", SMALL), "--dry-run")
    changed = shell.ok(*sync("reference", SMALL))
    counts = {name: changed[name] for name in ("added", "changed", "moved", "unchanged", "deleted")}
    assert counts == {"added": 3, "changed": 10, "moved": 20, "unchanged": len(pages) - 35, "deleted": 5}
    assert counts == {name: rehearsed[name] for name in counts}
    assert changed["embedded"] == rehearsed["embedded"] == endpoint.stats()["paid_inputs"] - first["embedded"]
    assert endpoint.stats()["duplicates_paid"] == 0

    made = shell.ok(*sync("fresh", SMALL))
    assert (made["added"], made["requests"]) == (len(pages) - 2, 0)
    shell.ok("export", "fresh", "--out", "fresh.npy")
    shell.ok("embed", "docs", *MODEL, *SMALL, "--out", "plain.npy")
    shell.ok("export", "reference", "--out", "synced.npy")
    assert assert_same(shell, "synced", "fresh") == made["reused"]
    assert_same(shell, "synced", "plain")
    new = sum(row["source"].startswith("new") for row in rows_of(shell, "synced")[0])
    assert changed["embedded"] <= 3 * 10 + new


def test_records_are_known_again_by_id_and_by_content_and_metadata_costs_no_call(
    shell: Shell, endpoint: Simulator
) -> None:
    lines = [f'{{"id": "r{n}", "text": "{prose(n, 30).replace(chr(10), " ")}", "tag": 1}}\n' for n in range(8)]
    shell.write("records.jsonl", "".join(lines))
    command = ("sync", "records", "records.jsonl", *MODEL)
    assert shell.ok(*command)["added"] == 8
    sent = endpoint.stats()["requests"]

    lines[1] = lines[1].replace('"tag": 1', '"tag": 2')
    shell.write("records.jsonl", "".join(reversed(lines[:6])))
    found = shell.ok(*command)

    assert (found["changed"], found["unchanged"], found["deleted"], found["embedded"]) == (1, 5, 2, 0)
    assert endpoint.stats()["requests"] == sent
    shell.ok("export", "records", "--out", "r.jsonl")
    assert [(row["id"], row["metadata"]["tag"]) for row in shell.lines("r.jsonl")] == [
        ("r5", 1), ("r4", 1), ("r3", 1), ("r2", 1), ("r1", 2), ("r0", 1),
    ]  # fmt: skip


def test_times_that_were_put_back_hide_no_edit(shell: Shell, endpoint: Simulator) -> None:
    page = shell.write("docs/a.md", "The first words of it.")
    shell.write("docs/b.md", "Something else.")
    shell.ok(*sync("times"))
    until(lambda: shell.ok(*sync("times"))["taken_as_unchanged"] == 2)
    times = page.stat()
    page.write_text("The other words of it.")
    os.utime(page, ns=(times.st_atime_ns, times.st_mtime_ns))

    found = shell.ok(*sync("times"))

    assert (found["changed"], found["embedded"], found["taken_as_unchanged"]) == (1, 1, 1)
    assert shell.ok(*sync("times"), "--checksum")["taken_as_unchanged"] == 0


def test_what_would_lose_or_cost_by_mistake_is_refused_with_the_way_out(shell: Shell, endpoint: Simulator) -> None:
    docs = write_tree(shell)
    first = shell.ok(*sync("strict"))
    sent = endpoint.stats()["requests"]
    pages = sorted(docs.rglob("*.md"))
    texts = {page: page.read_bytes() for page in pages}
    for page in pages[:30]:
        page.unlink()

    refused = shell.run(*sync("strict"))
    assert (refused.code, "30 of the 40 documents" in refused.err) == (2, True)
    assert "--allow-mass-delete" in refused.err
    for page in pages[30:]:
        page.unlink()
    assert shell.run(*sync("strict")).code == 2, "the folder is empty"
    assert shell.run("sync", "strict", "gone", *MODEL, *CHUNKS).code == 2
    for page, text in texts.items():
        page.write_bytes(text)

    refused = shell.run("sync", "strict", "docs", "--model", "text-embedding-3-small", "--dimensions", 16, *CHUNKS)
    assert (refused.code, "dimensions 8, not 16" in refused.err, "reembed strict" in refused.err) == (2, True, True)
    refused = shell.run("sync", "strict", "docs", "--chunk-tokens", 100)
    assert (refused.code, "chunk_tokens 120, now 100" in refused.err, "--recut" in refused.err) == (2, True, True)
    refused = shell.run("collection", "activate", "strict@other")
    assert (refused.code, "there are text-embedding-3-small-8" in refused.err) == (2, True)
    refused = shell.run("embed", "docs", *MODEL, *CHUNKS, "--name", "strict")
    assert (refused.code, "the name of a collection" in refused.err) == (2, True)
    shell.ok("embed", "docs", *MODEL, *CHUNKS, "--name", "jobbed")
    refused = shell.run("sync", "jobbed", "docs", *MODEL)
    assert (refused.code, "job j_" in refused.err) == (2, True)

    again = shell.ok(*sync("strict"))
    assert (again["unchanged"], again["version"], endpoint.stats()["requests"]) == (40, first["version"] + 1, sent)
    for page in pages[:30]:
        page.unlink()
    assert shell.ok(*sync("strict"), "--allow-mass-delete")["deleted"] == 30


def test_a_chunk_that_failed_is_listed_and_tried_again_only_when_asked(shell: Shell, simulator: StartSimulator) -> None:
    endpoint = shell.connect(simulator(fault=["content_policy@1-2"]))
    shell.write("docs/a.md", "One text.")
    shell.write("docs/b.md", "Another text.")
    done = shell.run(*sync("failing"), "--json")
    assert (done.code, done.object["failed"]) == (3, 1), str(done)
    assert shell.ok("failures", "failing")["failed"] == 1
    endpoint.set_faults()
    assert shell.ok(*sync("failing"))["embedded"] == 0
    assert shell.ok(*sync("failing"), "--retry-failed")["embedded"] == 1
    assert shell.ok("failures", "failing")["failed"] == 0


@pytest.fixture
def own_shell(tmp_path: Path) -> Iterator[Shell]:
    """A HOME of the test's own, whose processes may be killed."""
    with fresh_home(tmp_path, lease_s=2) as shell:
        yield shell


class Reader(threading.Thread):
    """Reads the collection again and again, and keeps what it saw: the model, and how many rows."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self._home, self._over = home, threading.Event()
        self.seen: set[tuple[str, int]] = set()
        self.trouble: BaseException | None = None

    def run(self) -> None:
        try:
            with Ledger.open(f"sqlite:///{self._home / 'ledger.db'}") as ledger:
                while not self._over.wait(0.02):
                    self._look(ledger)
        except BaseException as error:
            self.trouble = error

    def _look(self, ledger: Ledger) -> None:
        active = ledger.collections.find("manual").active
        rows = list(ledger.collections.rows(active, active.version or 0))
        (model,) = {row.model for row in rows}
        self.seen.add((str(model), len(rows)))

    def stop(self) -> set[tuple[str, int]]:
        self._over.set()
        self.join()
        assert self.trouble is None, self.trouble
        return self.seen


@pytest.mark.xdist_group("embedded-faults")
def test_a_migration_killed_three_times_completes_and_no_reader_sees_a_mixed_or_partial_set(
    own_shell: Shell, simulator: StartSimulator
) -> None:
    shell = own_shell
    endpoint = shell.connect(simulator())
    write_tree(shell)
    first = shell.ok(*sync("manual"))
    chunks = first["embedded"] + first["reused"]
    shell.connect(slow := simulator(latency_ms="1500:0"))
    # The endpoint is part of what a vector is: the second set is of the same model elsewhere, slower.
    reembed = ("reembed", "manual", "--model", "text-embedding-3-large", "--dimensions", 8, "--no-progress")
    reader = Reader(shell.home)
    reader.start()
    with Ledger.open(f"sqlite:///{shell.home / 'ledger.db'}") as ledger:
        process = shell.start(*reembed)
        until(lambda: ledger.jobs(1)[0].name == "reembed manual")
        kill(shell.home, "command")
        for victim in ("worker", "scheduler"):
            until(lambda process=process: process.poll() is not None)  # type: ignore[misc]
            before = slow.stats()["requests"]
            process = shell.start(*reembed)
            until(lambda before=before: slow.stats()["requests"] > before, within_s=60)  # type: ignore[misc]
            kill(shell.home, "command", victim)

        last = shell.finish(shell.start(*reembed, "--json"), timeout_s=90)

    assert last.code == 0, str(last)
    done = last.object
    assert (done["state"], done["vectors"], done["failed"]) == ("active", chunks, 0)
    shell.ok("collection", "rollback", "manual")
    until(lambda: ("text-embedding-3-small", chunks) in reader.seen)
    shell.ok("collection", "activate", "manual@text-embedding-3-large-8")
    assert reader.stop() <= {("text-embedding-3-small", chunks), ("text-embedding-3-large", chunks)}
    assert endpoint.stats()["duplicates_paid"] == 0
