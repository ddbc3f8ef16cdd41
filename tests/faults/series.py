"""`make chaos`: seeds one after the other; what came of each is appended to a file, and done seeds are skipped.

A series that was stopped goes on where it was when it is started again with the same file. A seed that broke a promise
is done too, and its log is kept beside the file; run it again with `--seed N --results elsewhere`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults.chaos import Outcome, ground, run

# New servers now and then: a ledger that has seen fifty jobs is another test than a fresh one, and both are wanted.
SEEDS_A_GROUND = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the series; 1 when a promise was broken."""
    options = _options(arguments)
    results: Path = options.results
    results.parent.mkdir(parents=True, exist_ok=True)
    wanted = range(options.seed, options.seed + options.seeds)
    done = {each["seed"] for each in _read(results, options)}
    left = [seed for seed in wanted if seed not in done]
    print(f"seeds {wanted.start} to {wanted.stop - 1}: {len(wanted) - len(left)} done, {len(left)} to do: {results}")
    while left:
        left = _some(left, options)
    return _summary([each for each in _read(results, options) if each["seed"] in wanted])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--lease-s", type=float, default=3.0)
    parser.add_argument("--redis", help="the server to use instead of Valkey, such as /usr/bin/redis-server")
    parser.add_argument("--results", type=Path, default=Path(".chaos") / "results.jsonl")
    return parser.parse_args(arguments)


def _read(results: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """What is in the file of runs like these."""
    if not results.exists():
        return []
    found: list[dict[str, Any]] = [json.loads(line) for line in results.read_text().splitlines()]
    return [each for each in found if (each["items"], each["lease_s"]) == (options.items, options.lease_s)]


def _some(seeds: list[int], options: argparse.Namespace) -> list[int]:
    """Run seeds on one ground, until one goes wrong; returns those that are left."""
    with (
        tempfile.TemporaryDirectory(prefix="cm-chaos-") as folder,
        ground(Path(folder), lease_s=options.lease_s, redis=options.redis) as here,
    ):
        for count, seed in enumerate(seeds[:SEEDS_A_GROUND], 1):
            outcome = run(here, seed, items=options.items)
            _keep(outcome, options.results, here.fleet.log())
            if outcome.wrong:
                return seeds[count:]
    return seeds[SEEDS_A_GROUND:]


def _keep(outcome: Outcome, results: Path, log: str) -> None:
    print(outcome, flush=True)
    with results.open("a") as file:
        file.write(outcome.line() + "\n")
    if outcome.wrong:
        print("\n".join(f"  {event}" for event in outcome.events))
        results.with_name(f"seed-{outcome.seed}.log").write_text(log)


def _summary(found: Sequence[dict[str, Any]]) -> int:
    broken = [each for each in found if each["wrong"]]
    total: Counter[str] = Counter()
    for each in found:
        total.update({name: value for name, value in each.items() if isinstance(value, int)})
    print(
        f"{len(found)} seeds, {total['items']:,} items: {total['succeeded']:,} succeeded, {total['failed']:,} failed; "
        f"paid twice {total['paid_twice']:,} (in flight at kills {total['in_flight_at_kills']:,}, unsettled at "
        f"suspensions {total['unsettled_at_suspensions']:,}, spoilt {total['spoilt_but_paid']:,}); "
        f"promises broken in {len(broken)} seeds {[each['seed'] for each in broken]}"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
