"""An environment for each client that is not among our own dependencies, made once under `.bench/`."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from benchmarks.peers.catalogue import Peer
from corpusmill._entry import bare_env

ROOT = Path(__file__).parents[2]
BENCH = ROOT / ".bench"
INSTALL_S = 900.0
# Where tiktoken would download its tables from; a table is kept under the digest of this.
_RANKS_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
# Nothing here speaks to anybody but the simulator.
QUIET = {
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "CURATOR_VIEWER": "0",
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "ERROR",
    "LITELLM_TELEMETRY": "False",
    "POSTHOG_DISABLED": "1",
    "TELEMETRY_ENABLED": "false",
}


class NotToBeHad(Exception):
    """A client cannot be installed here; the text says why."""


def python_of(peer: Peer) -> Path:
    """The Python that `peer` lives in, installed if it is not there yet.

    Raises:
        NotToBeHad: it cannot be installed.
    """
    if not peer.environment:
        return Path(sys.executable)
    folder = BENCH / peer.environment
    python, wanted = folder / "bin" / "python", "\n".join([*peer.packages, peer.unresolved])
    done = folder / "installed"
    if not done.exists() or done.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"installing {peer.name} into {folder}", file=sys.stderr, flush=True)
        _run(*_making(folder))
        _run(*_installing(python), *peer.packages)
        if peer.unresolved:
            _run(*_installing(python), "--no-deps", peer.unresolved)
        done.write_text(wanted)
    return python


def version_of(peer: Peer, python: Path) -> str:
    """Its version, as its environment has it."""
    if not peer.environment:
        return version(peer.distribution)
    code = f"from importlib.metadata import version; print(version({peer.distribution!r}))"
    return _run(str(python), "-c", code).strip()


def environment(folder: Path) -> dict[str, str]:
    """What a client's program is started with: no settings and keys of ours, nothing sent home."""
    return {
        **bare_env(os.environ),
        **QUIET,
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "CURATOR_CACHE_DIR": str(folder / "curator"),
        "HF_HOME": str(folder / "huggingface"),
        "OPENAI_API_KEY": "sk-bench",
        "TIKTOKEN_CACHE_DIR": str(_token_ranks()),
    }


def _token_ranks() -> Path:
    """tiktoken's tables from our own copy, as it keeps them: it would download them otherwise."""
    folder = BENCH / "tiktoken"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("o200k_base", "cl100k_base"):
        kept = folder / hashlib.sha1(_RANKS_URL.format(name).encode(), usedforsecurity=False).hexdigest()
        if not kept.exists():
            packed = files("corpusmill") / "ranks" / f"{name}.tiktoken.gz"
            kept.write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


def _making(folder: Path) -> list[str]:
    if uv := shutil.which("uv"):
        return [uv, "venv", "--quiet", "--python", sys.executable, str(folder)]
    return [sys.executable, "-m", "venv", str(folder)]


def _installing(python: Path) -> list[str]:
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--python", str(python)]
    return [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=INSTALL_S).stdout
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if line.strip()]
        raise NotToBeHad(said[-1][:200] if said else f"exit code {error.returncode}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotToBeHad(str(error)[:200]) from None
