"""Who makes the calls of LightRAG's functions: what the settings say, wherever they stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from corpusmill.lightrag.choosing import Said

BROKER, DATABASE = "redis://127.0.0.1:1/0", "sqlite:///ledger.db"
FLEET = {"CORPUSMILL_BROKER_URL": BROKER, "CORPUSMILL_DATABASE_URL": DATABASE}
NAMED = Said(BROKER, DATABASE, cache=True)
# What is loaded once the mode of the first call is known: without a fleet, and with one.
PROGRAM = f"""
import os, sys
from corpusmill.lightrag import choosing, openai

def say():
    print(type(choosing.mode()).__name__, *(name for name in ("celery", "sqlalchemy", "redis") if name in sys.modules))

say()
choosing._use(None)
os.environ |= {FLEET!r}
say()
"""


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without files, an environment without settings."""
    for name in [name for name in os.environ if name.startswith("CORPUSMILL")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CORPUSMILL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_calls_are_made_here_with_nothing_heavy_loaded_unless_a_fleet_is_named() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["Local", "Fleet celery sqlalchemy redis"]


def test_without_settings_nothing_is_said() -> None:
    assert Said.read() == Said(None, None, cache=True)


def test_the_environment_names_a_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FLEET.items():
        monkeypatch.setenv(name, value)
    assert Said.read() == NAMED


def test_a_dotenv_file_names_a_fleet(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in FLEET.items()))
    assert Said.read() == NAMED


@pytest.mark.parametrize("folder", [".", "home"])
def test_a_settings_file_names_a_fleet(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "corpusmill.toml").write_text(f'broker_url = "{BROKER}"\ndatabase_url = "{DATABASE}"\n')
    assert Said.read() == NAMED


def test_the_cache_is_switched_off_in_a_file_as_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corpusmill.toml").write_text("cache = false\n")
    assert not Said.read().cache
    monkeypatch.setenv("CORPUSMILL_CACHE", "on")
    assert Said.read().cache
