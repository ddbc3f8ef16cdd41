"""The processes of one HOME, found as an operator would find them, and a HOME that may be broken on purpose."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.fixtures.shell import Shell, shell_in, until

# What a process says of itself on its command line, by the name that tests use. The guard before Valkey: it has
# Valkey's command line behind its own.
_KNOWN = {
    "worker": "_entry.py workers",
    "scheduler": "_entry.py scheduler",
    "supervisor": "_entry.py corpusmill.embedded",
    "guard": "embedded/guard.py",
    "valkey": "valkey-server",
    "flower": "corpusmill flower",
    "command": "/bin/corpusmill",
}


def processes(home: Path) -> list[psutil.Process]:
    """Every process of this HOME, however it is called; those that have ended but for their exit code not."""
    return [process for process in psutil.process_iter() if _is_of(process, home)]


def _is_of(process: psutil.Process, home: Path) -> bool:
    """Valkey writes its title over its environment, but it works in a folder of HOME."""
    with suppress(psutil.Error):
        told = process.environ().get("CORPUSMILL_HOME") == str(home) or home in Path(process.cwd()).parents
        return told and process.status() != psutil.STATUS_ZOMBIE
    return False


def named(home: Path, name: str) -> list[psutil.Process]:
    """The processes of this HOME that are a `worker`, the `supervisor`, …"""
    return [process for process in processes(home) if name_of(process) == name]


def name_of(process: psutil.Process) -> str:
    """What a process is."""
    with suppress(psutil.Error):
        line = " ".join(process.cmdline())
        return next((name for name, mark in _KNOWN.items() if mark in line), "unknown")
    return "gone"


def kill(home: Path, *names: str) -> None:
    """SIGKILL, at one moment, each process of these names; there is at least one of each."""
    victims = [process for name in names for process in named(home, name)]
    assert {name_of(process) for process in victims} == set(names), processes(home)
    for process in victims:
        process.suspend()
    for process in victims:
        process.kill()


@contextmanager
def fresh_home(folder: Path, **settings: object) -> Iterator[Shell]:
    """A shell with a HOME and a folder for temporary files of its own; whatever runs there at the end is killed."""
    work, home = folder / "work", folder / "home"
    work.mkdir()
    # Short: the path of a Unix socket below it may have 103 bytes at most.
    with tempfile.TemporaryDirectory(prefix="t-") as temporary, shell_in(work, home) as shell:
        shell.environment |= {"TMPDIR": temporary, **{f"CORPUSMILL_{k.upper()}": str(v) for k, v in settings.items()}}
        try:
            yield shell
        finally:
            for process in processes(home):
                with suppress(psutil.Error):
                    process.kill()
            until(lambda: not processes(home))


def assert_down_leaves_nothing(shell: Shell) -> None:
    """`corpusmill down` ends every process, and no socket or temporary file is left."""
    down = shell.run("down")
    assert down.code == 0, str(down)
    until(lambda: not processes(shell.home))
    left = [path for path in Path(shell.environment["TMPDIR"]).rglob("*") if not path.is_dir()]
    assert left == []
    assert list((shell.home / "journal").iterdir()) == [], "a journal that nobody adopted"
