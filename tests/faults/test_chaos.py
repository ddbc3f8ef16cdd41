"""Seeds of chaos with a thousand items each and a lease of three seconds; `make chaos` runs any number."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.chaos import Ground, ground, run
from tests.faults.plans import plan

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(300)]

# Between them: kills, a suspension longer than the lease, restarts, flushes and pauses of both servers, the provider.
# Two are part of `make test`; the others, and any more, of `make faults` and `make chaos`.
SEEDS = (5, 6, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (7, 3, 4)))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One ground for all: what is left of a seed is the next one's start."""
    with ground(tmp_path_factory.mktemp("chaos"), lease_s=3.0) as made:
        yield made


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_or_doubled_and_no_more_is_paid_twice_than_was_in_flight(seed: int, here: Ground) -> None:
    outcome = run(here, seed, items=1_000)
    print(f"\n{outcome}")
    assert not outcome.wrong, f"{outcome}\n{outcome.events}\n{here.fleet.log()[-6000:]}"


def test_a_seed_says_everything() -> None:
    assert plan(7, lease_s=3.0) == plan(7, lease_s=3.0)
    assert plan(7, lease_s=3.0) != plan(8, lease_s=3.0)
