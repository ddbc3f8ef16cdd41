"""What a worker takes in memory for each request in flight, beyond its text and its answer.

The endpoint holds every reply back until the whole window is waiting. The worker's resident memory at that moment,
less what it was with nothing in flight, is what the requests take.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import orjson

from benchmarks import servers
from benchmarks.hot_path import RPM, TPM, open_fleet
from benchmarks.loads import CHAT
from benchmarks.machine import cores, rss_of
from benchmarks.report import Bar, Section, Table, megabytes
from benchmarks.simulator import simulator

IN_FLIGHT = 1_000
HELD_MS = 10_000
TRIED_FIRST = 100  # more than the handful that is sent before a job's first answer
WAIT_S = 60.0
AIM_KB = 32.0


def measure() -> Section:
    """Hold a full window and look."""
    on = cores()
    endpoint = ("--latency-ms", str(HELD_MS), "--rpm", str(1000 * RPM), "--tpm", str(1000 * TPM))
    with (
        simulator(on.rest, *endpoint) as (base_url, _),
        tempfile.TemporaryDirectory() as folder,
        servers.sqlite(Path(folder)) as database,
        open_fleet(base_url, Path(folder), database, on) as (fleet, worker),
    ):
        fleet.run(fleet.submit(CHAT, 5, "warm-up"))
        idle = rss_of(worker)
        job = fleet.submit(CHAT, IN_FLIGHT + TRIED_FIRST, "held")
        fleet.feed()
        _until_all_wait(base_url)
        held = rss_of(worker)
        fleet.wait(job)
    text = len(orjson.dumps(next(CHAT.texts(1, "held"))))
    each_kb = ((held - idle) / IN_FLIGHT - text) / 1024
    rows = [[megabytes(idle), megabytes(held), f"{text:,}", f"{each_kb:.1f}"]]
    head = ("nothing in flight, MB", f"{IN_FLIGHT:,} in flight, MB", "text of each, bytes", "each beyond it, KB")
    return Section(
        "Memory of a request in flight",
        f"Resident memory of one worker while the endpoint holds {IN_FLIGHT:,} completions of 300 tokens back.",
        [Table("One worker, ledger on SQLite", head, rows)],
        [Bar("memory of a request in flight beyond its text", AIM_KB, each_kb, " KB")],
    )


def _until_all_wait(base_url: str) -> None:
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + WAIT_S
    while True:
        with opener.open(base_url.removesuffix("/v1") + "/simulator/stats") as reply:
            if json.load(reply)["in_flight"] >= IN_FLIGHT:
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {IN_FLIGHT} requests in flight within {WAIT_S:.0f} s")
        time.sleep(0.05)
