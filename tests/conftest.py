"""Fixtures that every tier shares; each lives beside what it starts, in `tests/fixtures`."""

import gc
import signal

from hypothesis import HealthCheck, settings

# What is imported and collected stays: looking for garbage in it took a fifth of the unit tests' CPU.
gc.set_threshold(50_000)

pytest_plugins = [
    "tests.fixtures.databases", "tests.fixtures.valkey", "tests.fixtures.simulator", "tests.fixtures.shell",
    "tests.fixtures.fleet", "tests.fixtures.bench", "tests.fixtures.postgres", "tests.fixtures.disk",
]  # fmt: skip


# A busy machine is no fault of what is tested: how long an example takes says nothing.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands that tests start, also where the test run itself was started in the background.

    A shell without job control has background processes ignore SIGINT, and their children inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave all that was loaded and collected alone from now on."""
    gc.freeze()
