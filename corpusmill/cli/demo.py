"""`corpusmill demo`: the whole job against the bundled endpoint, with limits on, and nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from corpusmill import _entry
from corpusmill.cli.output import out
from corpusmill.errors import CorpusmillError

PROMPT = "Summarise in one sentence: {text}"
COMPLETION_MODEL, EMBEDDING_MODEL = "gpt-6-luna", "text-embedding-3-small"
# As a real endpoint would have them, so that the limiter has something to do; and quick, so that nobody has to wait.
ENDPOINT = ["--port", "0", "--rpm", "3000", "--tpm", "2000000", "--latency-ms", "150:0.4"]
SHOWN = 3


def demo(
    *,
    home: Annotated[
        Path | None, typer.Option(help="Keep ledger and outputs in this folder; a temporary one unless said.")
    ] = None,
) -> int:
    """Run the whole job on sample documents against the bundled endpoint, without a key and without a cent.

    Completes and embeds every chunk under rate limits, shows results and usage, and stops all that it started. Looks
    at no settings: neither your key nor your fleet is used.
    """
    with ExitStack() as stack:
        folder = home.resolve() if home else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cm-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        base_url = stack.enter_context(_endpoint())
        commands = Commands(folder, base_url)
        stack.callback(commands.run, "down", quiet=True)
        return _tour(commands, kept=home is not None)


def _tour(commands: Commands, *, kept: bool) -> int:
    documents = [str(path) for path in sample()]
    out.note(f"An OpenAI-compatible endpoint runs at {commands.base_url}: 3,000 requests a minute, 150 ms a reply.")
    summaries, vectors = commands.folder / "summaries.jsonl", commands.folder / "vectors.npy"
    chunking = ["--chunk-tokens", "200", "--chunk-overlap", "20"]
    done = {
        "complete": commands.run(
            "complete", *documents, "--prompt", PROMPT, "--model", COMPLETION_MODEL, *chunking, "--out", str(summaries)
        ),
        "embed": commands.run("embed", *documents, "--model", EMBEDDING_MODEL, *chunking, "--out", str(vectors)),
    }
    _show_results(summaries)
    done["usage"] = commands.run("usage", "--by", "model")
    _show_next(commands.folder if kept else None)
    out.result(done)
    return 0


class Commands:
    """Runs our commands as a user would, in a folder of their own, on the bundled endpoint alone."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder, self.base_url = folder, base_url
        self._env = {
            **_entry.bare_env(),
            "CORPUSMILL_HOME": str(folder / "home"),
            "CORPUSMILL_PROVIDERS__SIMULATOR__BASE_URL": base_url,
            "CORPUSMILL_PROVIDERS__SIMULATOR__API_KEY": "sk-simulated",
        }

    def run(self, *arguments: str, quiet: bool = False) -> Any:
        """Run one command; return its object with `--json`, else let it draw.

        Raises:
            CorpusmillError: it failed; it has said why.
        """
        if not quiet and not out.json:
            out.line(f"\n$ corpusmill {' '.join(map(_quoted, arguments))}")
        flags = ["--json"] if out.json else ["-q"] if quiet else []
        sys.stdout.flush()  # what we have said stands before what it says, in a pipe as well
        done = subprocess.run(
            [*_entry.child_command("corpusmill"), *arguments, *flags],
            env=self._env,
            cwd=self.folder,
            stdout=subprocess.PIPE if out.json or quiet else None,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CorpusmillError(f"corpusmill {arguments[0]} ended with {done.returncode}", where="in the demo")
        return json.loads(done.stdout.splitlines()[-1]) if out.json else None


def _quoted(word: str) -> str:
    return f"'{word}'" if " " in word or "{" in word else word


@contextmanager
def _endpoint() -> Iterator[str]:
    """The bundled endpoint, for as long as we live: it ends when its standard input closes."""
    with subprocess.Popen(
        [*_entry.child_command("corpusmill"), "simulate", *ENDPOINT],
        env={**_entry.bare_env(), _entry.CHILD_MARK: "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout  # noqa: S101 - narrows the type
        base_url = process.stdout.readline().strip()
        if not base_url.startswith("http"):
            raise CorpusmillError("the bundled endpoint does not start", where=base_url)
        try:
            yield base_url
        finally:
            process.terminate()


def sample() -> list[Path]:
    """The repository's own documents in a checkout, the packaged ones elsewhere."""
    checkout = _entry.PACKAGE_FOLDER.parent
    own = [checkout / "docs", checkout / "README.md"]
    if (checkout / "pyproject.toml").is_file() and all(path.exists() for path in own):
        return own
    return [_entry.PACKAGE_FOLDER / "sample"]


def _show_results(summaries: Path) -> None:
    if out.json:
        return
    out.line(f"\n$ head -n {SHOWN} {summaries.name}")
    with summaries.open(encoding="utf-8") as lines:
        for line, _ in zip(lines, range(SHOWN), strict=False):
            result = json.loads(line)
            out.line(f"{result['source']} [{result['start']}:{result['end']}]  {result['output'][:90]}")


def _show_next(folder: Path | None) -> None:
    out.summary("")
    if folder:
        out.summary(f"Ledger and outputs are in {folder}.")
    out.summary("Next, on documents of your own, with a key of your own:")
    out.summary("  export OPENAI_API_KEY=sk-…")
    for verb in ("plan complete", "complete"):
        more = "" if verb.startswith("plan") else " --out summaries.jsonl"
        out.summary(f"  corpusmill {verb} {os.curdir}/docs --prompt '{PROMPT}' --model {COMPLETION_MODEL}{more}")
