"""The door into worker and scheduler processes: only our own `tasks`, `workers` and `scheduler` come in.

Users have a `tasks.py` of their own (Celery's tutorial tells them to), and Celery puts the current folder before
everything. So the folder with our packages goes first on `sys.path`, the current folder and PYTHONPATH's entries go
off it, and our packages are imported before Celery's loader runs. Runnable as a script (`child_command`), so that
it does not depend on anything found on the path.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corpusmill.settings import Settings

PACKAGES = ("migrations", "workers", "tasks", "scheduler")
PACKAGE_FOLDER = Path(__file__).resolve().parent
CHILD_MARK = "CORPUSMILL_CHILD"
# What a child does not inherit: our own settings, which it is told, keys, which come by pipe, and Python's detours.
_NOT_INHERITED = ("CORPUSMILL_", "OPENAI_", "AZURE_OPENAI_", "CELERY_", "PYTHONPATH")
# What a start makes, some hundred thousand objects, stays: at Python's own threshold of 700 the search for garbage in
# it takes a fifth of the start and finds nothing. A worker sets what suits its work once it is up.
OBJECTS_BETWEEN_COLLECTIONS = 50_000


def start_lightly() -> None:
    """What a process of ours does before it loads anything big."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    # Pydantic would read the metadata of every installed package, to find plugins of its own.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def fleet_folder() -> Path:
    """The folder that holds our top-level packages: `_fleet` in a wheel, else the checkout."""
    packed = PACKAGE_FOLDER / "_fleet"
    return packed if (packed / "workers").is_dir() else PACKAGE_FOLDER.parent


def isolate() -> None:
    """Make `tasks`, `workers`, `scheduler` and `migrations` ours in this process; calling it twice changes nothing.

    Raises:
        CorpusmillError: one of them was imported from elsewhere before.
    """
    ours, unwanted = str(fleet_folder()), _unwanted()
    kept = [entry for entry in sys.path if entry and entry != ours and _real(entry) not in unwanted]
    sys.path[:] = [ours, *kept]
    root = str(PACKAGE_FOLDER.parent)
    if root not in sys.path:
        # corpusmill itself may have been found by the path that has just gone.
        sys.path.append(root)
    for package in PACKAGES:
        _pin(package)


def _unwanted() -> set[Path]:
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {_real(entry or ".") for entry in ("", *named)} - {_real(str(fleet_folder()))}


def _real(entry: str) -> Path:
    return Path(entry).resolve()


def _pin(package: str) -> None:
    """Import it now, so that no later change of the path can bring in another."""
    module = importlib.import_module(package)
    expected, found = fleet_folder() / package / "__init__.py", getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != expected.resolve():
        from corpusmill.errors import CorpusmillError

        raise CorpusmillError(
            f"the module {package} is not corpusmill's",
            where=f"found {found or 'a folder without __init__.py'}, expected {expected}",
            next_step="start it by `corpusmill worker` or `corpusmill scheduler`",
        )


def child_command(name: str) -> list[str]:
    """The command line of a process of ours: `workers`, `scheduler`, or `corpusmill.embedded`."""
    return [sys.executable, "-P", str(Path(__file__).resolve()), name]


def bare_env(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment without any setting, key or way to foreign modules."""
    inherited = os.environ if environ is None else environ
    return {name: value for name, value in inherited.items() if not name.upper().startswith(_NOT_INHERITED)}


def child_env(settings: Settings, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a supervised child: the settings without any secret."""
    return {**bare_env(environ), **settings.as_environment(), CHILD_MARK: "1", "PYTHONUNBUFFERED": "1"}


def clean_env(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a process that reads settings by itself: everything but the way to foreign modules."""
    inherited = os.environ if environ is None else environ
    return {name: value for name, value in inherited.items() if name != "PYTHONPATH"}


def main(name: str) -> None:
    """Run one of our processes in this interpreter."""
    start_lightly()
    import runpy

    # Run as a script, this file's folder is no package; the package must be there before anything is imported.
    if str(PACKAGE_FOLDER.parent) not in sys.path:
        sys.path.append(str(PACKAGE_FOLDER.parent))
    isolate()
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv.pop(1))
