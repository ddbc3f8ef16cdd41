from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from corpusmill import _entry
from corpusmill.settings import Settings
from tests.fixtures.shell import PATIENCE_S

ROOT = Path(__file__).parents[2]
SHOW = "import tasks, workers, scheduler, migrations, sys; print(*(m.__file__ for m in (tasks, workers, scheduler)))"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder as a Celery user has it: own tasks and workers modules, own scheduler package."""
    for file in ("tasks.py", "workers.py", "migrations.py"):
        (tmp_path / file).write_text("raise SystemExit('a foreign module was imported')")
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "__init__.py").write_text("raise SystemExit('a foreign package was imported')")
    return tmp_path


def python(code: str, folder: Path, *flags: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=folder,
        env={**_entry.bare_env(), **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.stdout.strip() + done.stderr.strip()


ISOLATED = f"import sys; sys.path.append({str(ROOT)!r}); from corpusmill import _entry; _entry.isolate()\n"


@pytest.mark.parametrize("pythonpath", ["", ".", ".:", os.pathsep.join([".", str(ROOT)])])
def test_our_packages_come_in_and_those_of_the_current_folder_stay_out(hostile: Path, pythonpath: str) -> None:
    found = python(ISOLATED + SHOW, hostile, PYTHONPATH=pythonpath)
    assert found.split() == [str(ROOT / name / "__init__.py") for name in ("tasks", "workers", "scheduler")]


def test_the_current_folder_stays_out_even_when_celery_puts_it_back_in_front(hostile: Path) -> None:
    code = ISOLATED + f"sys.path.insert(0, {str(hostile)!r})\n" + SHOW
    assert str(hostile) not in python(code, hostile)


def test_installed_packages_of_the_same_names_stay_out(hostile: Path, tmp_path: Path) -> None:
    # What site-packages holds stands before the checkout that an editable install adds to the path.
    code = f"import sys; sys.path.insert(0, {str(hostile)!r})\n" + ISOLATED + SHOW
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    found = python(code, elsewhere)
    assert found.split() == [str(ROOT / name / "__init__.py") for name in ("tasks", "workers", "scheduler")]


def test_a_foreign_module_that_is_in_already_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("")
    found = python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import tasks\n" + ISOLATED, tmp_path)
    assert f"the module tasks is not corpusmill's\nfound {tmp_path / 'tasks.py'}" in found


def test_isolating_twice_changes_nothing(tmp_path: Path) -> None:
    code = ISOLATED + "before = list(sys.path); _entry.isolate(); print(before == sys.path, sys.path[0])"
    assert python(code, tmp_path) == f"True {ROOT}"


def test_a_childs_environment_has_no_key_no_setting_of_others_and_no_way_to_foreign_modules() -> None:
    inherited = {
        "PATH": "/bin", "OPENAI_API_KEY": "CANARY", "CORPUSMILL_WINDOW": "1", "PYTHONPATH": ".",
        "CORPUSMILL_PROVIDERS__A__API_KEY": "CANARY", "CELERY_BROKER_URL": "redis://other",
    }  # fmt: skip
    env = _entry.child_env(Settings(window=7), inherited)
    assert "CANARY" not in str(env)
    assert (env["PATH"], env["CORPUSMILL_WINDOW"], env["CORPUSMILL_CHILD"]) == ("/bin", "7", "1")
    assert "PYTHONPATH" not in env
    assert "CELERY_BROKER_URL" not in env


def test_the_command_line_runs_by_the_entry_from_any_folder(hostile: Path) -> None:
    done = subprocess.run(
        [*_entry.child_command("corpusmill"), "config", "--json"],
        cwd=hostile,
        env={**_entry.bare_env(), "PYTHONPATH": ".", "CORPUSMILL_HOME": str(hostile / "home")},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert '"CORPUSMILL_WINDOW"' in done.stdout
