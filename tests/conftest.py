"""Fixtures that every tier shares; each lives beside what it starts, in `tests/fixtures`."""

pytest_plugins = [
    "tests.fixtures.databases", "tests.fixtures.valkey", "tests.fixtures.simulator", "tests.fixtures.shell",
    "tests.fixtures.fleet", "tests.fixtures.bench",
]  # fmt: skip
