"""Fixtures that every tier shares; each lives beside what it starts, in `tests/fixtures`."""

import signal

pytest_plugins = [
    "tests.fixtures.databases", "tests.fixtures.valkey", "tests.fixtures.simulator", "tests.fixtures.shell",
    "tests.fixtures.fleet", "tests.fixtures.bench",
]  # fmt: skip


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands that tests start, also where the test run itself was started in the background.

    A shell without job control has background processes ignore SIGINT, and their children inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
