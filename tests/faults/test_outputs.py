"""Output that cannot be written: one clear message, nothing lost, nothing half-written, nothing paid for again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.disk import StartDisk
from tests.fixtures.shell import COMMAND, PATIENCE_S, Shell
from tests.fixtures.simulator import StartSimulator

ITEMS = 60


@pytest.mark.fault(40)
def test_an_export_to_a_full_disk_is_told_leaves_nothing_behind_and_costs_nothing_again(
    shell: Shell, simulator: StartSimulator, small_disk: StartDisk
) -> None:
    endpoint, disk = shell.connect(simulator()), small_disk("1m")
    shell.write("items.jsonl", "".join(f'{{"id": "i{number}", "text": "Sack {number}"}}\n' for number in range(ITEMS)))
    disk.fill(leave_bytes=4_096)
    out = disk.path / "x.jsonl"

    done = shell.run("complete", "items.jsonl", "--prompt", "Say", "--model", "gpt-6-luna", "--out", out, "--json")

    assert (done.code, done.object["exit_code"]) == (74, 74), str(done)
    assert "no room left to write x.jsonl; the results are safe in the ledger" in done.err
    assert "make room, then" in done.err
    assert "Traceback" not in done.err
    assert [path.name for path in disk.path.iterdir()] == [".ballast"]
    paid = endpoint.stats()["requests"]
    assert paid == ITEMS

    disk.make_room()
    assert shell.ok("export", "last", "--out", out)["items"] == ITEMS
    assert len(out.read_text().splitlines()) == ITEMS
    assert endpoint.stats()["requests"] == paid


def test_an_export_to_a_disk_that_is_read_only_is_refused_before_anything_is_sent(
    shell: Shell, simulator: StartSimulator, small_disk: StartDisk
) -> None:
    endpoint, disk = shell.connect(simulator()), small_disk("1m")
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
    shell.write("docs/a.md", "Words.")
    done = shell.run("complete", "docs", "--prompt", "Say", "--model", "m", "--out", disk.path / "x.jsonl")
    assert done.code == 2, str(done)
    assert "cannot be written to" in done.err
    assert "choose another --out" in done.err
    assert endpoint.stats()["requests"] == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
@pytest.mark.fault(40)
@pytest.mark.parametrize("arguments", [("config",), ("config", "--json"), ("--help",)])
def test_a_stdout_on_a_full_disk_is_told_in_words(arguments: tuple[str, ...], shell: Shell) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [COMMAND, *arguments], cwd=shell.folder, env=shell.variables(), stdout=full, stderr=subprocess.PIPE,
            text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert done.returncode == 74
    assert "No space left on device" in done.stderr
    assert "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr


def test_closed_outputs_are_no_reason_to_fail(shell: Shell) -> None:
    command = f"{COMMAND} config --json >&- && {COMMAND} config --json 2>&-"
    done = subprocess.run(
        ["sh", "-c", command], cwd=shell.folder, env=shell.variables(), capture_output=True,
        text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.count("\n") == 1


def test_a_reader_that_has_left_is_no_error(shell: Shell) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nobody:
        done = subprocess.run(
            [COMMAND, "config", "--json"], cwd=shell.folder, env=shell.variables(), stdout=nobody,
            stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")
