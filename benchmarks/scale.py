"""Scale on paper: what a large fleet needs of its servers, from what a small one is measured to need.

The limit that is reckoned with is 30,000 RPM and 180,000,000 TPM, and 100 workers on it. `docs/scale.md` has the
reasoning; this part has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks import scale_fleet, scale_ledger, scale_redis, servers
from benchmarks.machine import cores
from benchmarks.report import Section, Table, figure
from benchmarks.scale_fleet import Need, Needs
from benchmarks.scale_redis import Load

RPM, TPM, WORKERS = 30_000, 180_000_000, 100
# A token is about four characters of English; an answer as long as the simulator's own.
CHARACTERS_A_TOKEN, ANSWER_BYTES = 4, 1_000
DAY_S = 86_400
# How full a server's core may be: beyond it waits grow faster than work.
FULL = 0.7
GB, MBIT = 1e9, 1e6 / 8


@dataclass(frozen=True, slots=True)
class Sizes:
    """Seconds of each script, of the hundred limiters and of the fleet; rows of the ledger."""

    script_s: float
    hundred_s: float
    fleet_s: float
    rows: int


def measure(sizes: Sizes) -> Section:
    """Limiter, ledger and four workers; then the calculation."""
    on = cores()
    with scale_redis.each_server(on.rest) as found:
        scripts = {name: scale_redis.scripts(server, sizes.script_s, on) for name, server in found.items()}
        hundred = {
            name: scale_redis.hundred_workers(server, RPM, TPM, sizes.hundred_s, on) for name, server in found.items()
        }
    with servers.postgres(on.rest) as server:
        rates = scale_ledger.measured(server, sizes.rows, on)
    needs = scale_fleet.measured(RPM, TPM, WORKERS, sizes.fleet_s, on)
    fleet = _fleet(needs)
    return Section(
        "Scale on paper: what is reckoned with",
        f"What {WORKERS} workers on a limit of {RPM:,} RPM and {TPM:,} TPM ({RPM / 60:.0f} requests a second of "
        f"{TPM // RPM:,} tokens) need, reckoned from what is measured here; [Scale](scale.md) has the reasoning. "
        "CPU is that of the server alone, in microseconds or milliseconds of one core.",
        [
            _scripts(scripts),
            _hundred(hundred),
            _ledger(rates.steps),
            _one(needs),
            _reckoned(fleet, rates.bytes_an_item),
            _breaks(fleet, rates.steps),
        ],
        notes=[
            f"An item takes {rates.bytes_an_item:,.0f} bytes of PostgreSQL beyond its text and its answer, indexes "
            "and the row of its cost included.",
        ],
    )


def _fleet(needs: Needs) -> Need:
    """The scheduler, all workers idle, and all requests on top."""
    a_second = RPM / 60
    each = zip(needs.scheduler.values(), needs.idle_worker.values(), needs.request.values(), strict=True)
    return Need(*(alone + WORKERS * idle + a_second * one for alone, idle, one in each))


def _scripts(found: Mapping[str, Mapping[str, Load]]) -> Table:
    rows = [
        [
            f"{script}, {name}", f"{load.done / load.calls:.0f}", f"{load.cpu_s / load.calls * 1e6:.0f}",
            f"{load.cpu_us:.1f}", f"{1e6 / load.cpu_us:,.0f}", f"{load.wire_bytes:,.0f}",
        ]
        for name, loads in found.items()
        for script, load in loads.items()
    ]  # fmt: skip
    head = ("script, server", "grants a call", "CPU a call, µs", "CPU a grant, µs", "grants a CPU-s", "bytes a grant")
    return Table("The limiter's scripts", head, rows)


def _hundred(found: Mapping[str, Load]) -> Table:
    rows = [
        [
            name, f"{load.done / load.seconds:,.0f}", f"{load.done / load.seconds / (RPM / 60):.3f}",
            f"{load.calls / load.seconds:,.0f}", f"{load.cpu_s / load.seconds:.1%}",
            f"{(load.bytes_in + load.bytes_out) / load.seconds / 1e3:,.0f}",
        ]
        for name, load in found.items()
    ]  # fmt: skip
    head = ("server", "grants/s", "share of the limit", "scripts/s", "of the server's core", "KB/s")
    return Table(f"{WORKERS} limiters, {scale_redis.WAITERS} requests waiting in each, one bucket", head, rows)


def _ledger(steps: Sequence[scale_ledger.Step]) -> Table:
    rows = [
        [
            step.name, f"{step.rows / step.seconds:,.0f}", f"{step.server_cpu_s / step.rows * 1000:.3f}",
            f"{step.rows / step.server_cpu_s:,.0f}", f"{step.seconds / step.commits * 1000:.1f}",
            f"{step.wal / step.rows:,.0f}",
        ]
        for step in steps
    ]  # fmt: skip
    head = (
        "step",
        "items/s, one client",
        "server CPU an item, ms",
        "items a CPU-s",
        "ms a commit",
        "log bytes an item",
    )
    return Table("The ledger on PostgreSQL", head, rows)


def _one(needs: Needs) -> Table:
    rows = [
        [
            name, f"{need.redis_cpu * 1000:.2f}", f"{need.scripts:.1f}", f"{need.wire / 1000:.1f}",
            f"{need.sql_cpu * 1000:.2f}", f"{need.writes:.2f}", f"{need.worker_cpu * 1000:.1f}",
        ]
        for name, need in (
            ("the scheduler alone, a second", needs.scheduler),
            ("an idle worker more, a second", needs.idle_worker),
            ("a request more", needs.request),
        )
    ]  # fmt: skip
    head = (
        "", "Redis, CPU ms", "scripts", "KB to and from Redis", "PostgreSQL, CPU ms", "writing transactions",
        "worker, CPU ms",
    )  # fmt: skip
    about = f"{scale_fleet.WORKERS} real workers at a hundredth of the limit each, everything on"
    return Table(about, head, rows)


def _reckoned(fleet: Need, overhead: float) -> Table:
    a_second, text = RPM / 60, TPM // RPM * CHARACTERS_A_TOKEN
    stored = a_second * (text + ANSWER_BYTES + overhead)
    rows = [
        ["Redis", f"{fleet.redis_cpu:.2f} of a core", f"{fleet.scripts:,.0f} scripts/s", _wire(fleet.wire), ""],
        [
            "PostgreSQL", f"{fleet.sql_cpu:.2f} cores", f"{fleet.writes:,.0f} writing transactions/s",
            _wire(a_second * (2 * text + 2 * ANSWER_BYTES + overhead)), f"{stored * DAY_S / GB:,.0f} GB a day",
        ],
        [
            "all workers", f"{fleet.worker_cpu:.1f} cores", f"{a_second:,.0f} requests/s",
            _wire(a_second * (text + ANSWER_BYTES)) + " to the endpoint", "",
        ],
    ]  # fmt: skip
    return Table(f"Reckoned: {WORKERS} workers, {RPM:,} RPM, {TPM:,} TPM", ("", "CPU", "work", "network", "disk"), rows)


def _wire(bytes_a_second: float) -> str:
    return f"{bytes_a_second / MBIT:,.0f} Mbit/s"


def _breaks(fleet: Need, steps: Sequence[scale_ledger.Step]) -> Table:
    """How far each server is from its end: times the limit that is reckoned with."""
    together = next(step for step in steps if "clients" in step.name)
    texts = RPM / 60 * 2 * TPM // RPM * CHARACTERS_A_TOKEN
    rows = [
        ["Redis: one core, 70 % of it", _times(FULL / fleet.redis_cpu)],
        ["PostgreSQL: one core, 70 % of it", _times(FULL / fleet.sql_cpu)],
        ["PostgreSQL: eight cores, 70 % of them", _times(8 * FULL / fleet.sql_cpu)],
        [
            f"PostgreSQL: commits of one answer, {together.commits / together.seconds:,.0f} a second on this disk and "
            "two cores",
            _times(together.commits / together.seconds / fleet.writes),
        ],
        ["network of PostgreSQL: 1 Gbit/s", _times(1_000 * MBIT / texts)],
        ["network of PostgreSQL: 10 Gbit/s", _times(10_000 * MBIT / texts)],
    ]
    return Table("Reckoned: where it breaks", ("what is full", "at how many times that limit"), rows)


def _times(value: float) -> str:
    return f"{figure(value)} x"
