"""Installed as users install it, among their own modules of our names: from a wheel and from an editable install.

The virtual environments are bare but for a path to the test run's own dependencies; corpusmill itself comes from the
wheel, or from the checkout, alone.
"""

from __future__ import annotations

import json
import site
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Literal

import pytest

from corpusmill import _entry
from tests.fixtures.shell import PATIENCE_S
from tests.fixtures.simulator import StartSimulator

pytestmark = pytest.mark.xdist_group("install")
ROOT = Path(__file__).parents[2]
NAMES = ("tasks", "workers", "scheduler", "migrations")
Kind = Literal["wheel", "editable"]


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**_entry.bare_env(), **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


class Installed:
    """A virtual environment with corpusmill, foreign packages of our names beside it, and a hostile folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / "venv"
        self.hostile = folder / "project"
        self.imported = folder / "imported"
        run(sys.executable, "-m", "venv", "--without-pip", self.venv, cwd=folder)
        self.packages = Path(sysconfig.get_path("purelib", vars={"base": str(self.venv), "platbase": str(self.venv)}))
        # Read after the environment's own packages; nested .pth files, such as an editable corpusmill's, are not.
        (self.packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")

    def install(self, *what: str | Path) -> None:
        python = self.venv / "bin" / "python"
        pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
        run(*pip, "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", *what, cwd=self.folder)

    def surround(self) -> None:
        """Put modules of our names where Python looks first: each leaves a mark when it is imported."""
        mark = f"from pathlib import Path\nPath({str(self.imported)!r}).open('a').write(__file__ + '\\n')\n"
        self.hostile.mkdir()
        for name in (*NAMES, "celeryconfig", "flowerconfig"):
            (self.hostile / f"{name}.py").write_text(mark)
        (self.hostile / "scheduler.py").unlink()
        for package in [self.hostile / "scheduler", *(self.packages / name for name in NAMES)]:
            package.mkdir()
            (package / "__init__.py").write_text(mark)

    def corpusmill(self, *arguments: str, **environment: str) -> str:
        command = self.venv / "bin" / "corpusmill"
        return run(command, *arguments, cwd=self.hostile, PYTHONPATH=".", **environment).stdout


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    made = Installed(tmp_path_factory.mktemp(request.param))
    if request.param == "wheel":
        made.install(request.getfixturevalue("wheel"))
    else:
        made.install("--editable", ROOT)
    made.surround()
    return made


def test_the_wheel_brings_one_top_level_name_and_all_that_it_needs_but_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"corpusmill"}
    for needed in ("_fleet/workers/__main__.py", "_fleet/scheduler/__main__.py", "_fleet/tasks/completion.py"):
        assert f"corpusmill/{needed}" in names
    assert [name for name in names if name.startswith("corpusmill/_fleet/migrations/versions/0001")]
    assert "corpusmill/sample/limits.md" in names
    assert [name for name in names if "test" in name] == []


@pytest.mark.timeout(170)
def test_a_whole_job_runs_among_foreign_modules_of_our_names(
    installed: Installed, simulator: StartSimulator, tmp_path: Path
) -> None:
    endpoint = simulator()
    (installed.hostile / "notes.md").write_text("The first thing to know.\n\nThe second thing to know.\n")
    environment = {
        "CORPUSMILL_HOME": str(tmp_path / "home"),
        "CORPUSMILL_LINGER_S": "1",
        "OPENAI_BASE_URL": endpoint.base_url,
        "OPENAI_API_KEY": "sk-any",
    }
    try:
        arguments = (
            "complete",
            "notes.md",
            "--prompt",
            "Sum up: {text}",
            "--model",
            "gpt-6-luna",
            "--out",
            "out.jsonl",
        )
        said = installed.corpusmill(*arguments, "--json", **environment)
    finally:
        installed.corpusmill("down", **environment)
    summary = json.loads(said.splitlines()[-1])
    assert (summary["state"], summary["succeeded"], summary["failed"]) == ("finished", 1, 0)
    assert len((installed.hostile / "out.jsonl").read_text().splitlines()) == 1
    assert not installed.imported.exists(), installed.imported.read_text()


def test_the_foreign_modules_would_have_been_found_first(installed: Installed) -> None:
    python = installed.venv / "bin" / "python"
    run(python, "-c", "import tasks, workers, scheduler, migrations", cwd=installed.hostile)
    assert len(installed.imported.read_text().splitlines()) == len(NAMES)
    installed.imported.unlink()
    run(python, "-P", "-c", "import tasks, workers, scheduler, migrations", cwd=installed.folder)
    assert {Path(line).parents[1] for line in installed.imported.read_text().splitlines()} == {installed.packages}
    installed.imported.unlink()


@pytest.mark.parametrize("installed", ["wheel"], indirect=True)
def test_a_fleets_processes_come_up_among_them(
    installed: Installed, valkey_url: str, simulator: StartSimulator, tmp_path: Path
) -> None:
    environment = {
        "CORPUSMILL_HOME": str(tmp_path / "home"),
        "CORPUSMILL_BROKER_URL": valkey_url,
        "CORPUSMILL_DATABASE_URL": f"sqlite:///{tmp_path}/ledger.db",
        "OPENAI_BASE_URL": simulator().base_url,
        "OPENAI_API_KEY": "sk-any",
        "CORPUSMILL_GRACE_S": "1",
    }
    installed.corpusmill("migrate", **environment)
    command = installed.venv / "bin" / "corpusmill"
    started = [
        subprocess.Popen(
            [command, process],
            cwd=installed.hostile,
            env={**_entry.bare_env(), **environment, "PYTHONPATH": "."},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for process in ("worker", "scheduler")
    ]
    try:
        (installed.hostile / "notes.md").write_text("The one thing to know.\n")
        arguments = ("embed", "notes.md", "--model", "text-embedding-3-small", "--out", "vectors.jsonl", "--json")
        said = installed.corpusmill(*arguments, **environment)
    finally:
        for process in started:
            process.terminate()
        codes = [process.wait(PATIENCE_S) for process in started]
    assert json.loads(said.splitlines()[-1])["succeeded"] == 1
    assert codes == [0, 0]
    assert not installed.imported.exists(), installed.imported.read_text()
