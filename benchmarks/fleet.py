"""Real worker and scheduler processes on a broker and a ledger, and jobs put before them."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import psutil
from pydantic import SecretStr

from benchmarks.loads import Load
from benchmarks.machine import Cores, pinned
from corpusmill._entry import bare_env, child_command
from corpusmill.app import App, make_app
from corpusmill.endpoint import Limits
from corpusmill.feed import feed
from corpusmill.ledger import Ledger
from corpusmill.ledger.records import JobView, NewJob
from corpusmill.price_book import card_for
from corpusmill.settings import Provider, Settings

KEY, PROVIDER = "sk-bench", "simulator"
READY_S, POLL_S, LONGEST_S = 120.0, 0.05, 1_800.0
LOADED_AT_ONCE = 5_000


class Fleet:
    """A home, the settings of its processes, and an open ledger. `limits` are told as a user would tell them."""

    def __init__(
        self, home: Path, broker: str, database: str, base_url: str, cores: Cores, **limits: float | None
    ) -> None:
        self.home, self._base_url, self._cores = home, base_url, cores
        self.settings = Settings(
            home=home,
            broker_url=broker,
            database_url=database,
            limits=Limits.model_validate(limits),
            providers={PROVIDER: Provider(base_url=base_url, api_key=SecretStr(KEY))},
        )
        self.ledger = Ledger.open(database)
        self._app: App = make_app(self.settings)

    @property
    def environment(self) -> dict[str, str]:
        """What a process is told by, as a user would."""
        provider = f"CORPUSMILL_PROVIDERS__{PROVIDER.upper()}__"
        told = {f"{provider}BASE_URL": self._base_url, f"{provider}API_KEY": KEY}
        return {**bare_env(os.environ), **self.settings.as_environment(), **told}

    @contextmanager
    def worker(self, core: int | None) -> Iterator[psutil.Process]:
        """A worker process on a core, ready for work; stopped as `corpusmill down` does at the end."""
        before = {each.id for each in self.ledger.workers(READY_S)}
        with self._process("workers", core) as process:
            self._until(lambda: bool({each.id for each in self.ledger.workers(READY_S)} - before), READY_S)
            yield process

    @contextmanager
    def scheduler(self) -> Iterator[psutil.Process]:
        """A scheduler beside the other servers."""
        with self._process("scheduler", self._cores.rest) as process:
            yield process

    def submit(self, load: Load, count: int, series: str) -> JobView:
        """A job of `count` chunks, loaded and ready to be fed."""
        endpoint, fingerprint = self.settings.lane(PROVIDER, self.ledger.salt())
        card = card_for(load.model, self._base_url)
        spec = load.spec(endpoint)
        prices = card.as_json() if card else None
        new = NewJob(secrets.token_bytes(32), spec, PROVIDER, fingerprint, load.shard, price_card=prices)
        job, _ = self.ledger.submit(new)
        items, loaded = load.items(spec, count, series), 0
        while rows := list(islice(items, LOADED_AT_ONCE)):
            loaded = self.ledger.load(job.id, rows, after=loaded)
        return self.ledger.commit_job(job.id)

    def run(self, job: JobView) -> None:
        """Feed the job as its producer does, and wait until it is finished."""
        self.feed()
        self.wait(job)

    def wait(self, job: JobView) -> None:
        """Wait until the job is finished."""
        self._until(lambda: self.ledger.job(job.id).state not in ("queued", "running"), LONGEST_S)
        state = self.ledger.job(job.id).state
        if state != "finished":
            raise RuntimeError(f"the job is {state}: {self.log()[-2000:]}")

    def feed(self) -> None:
        """Send the first shards, as a producer does."""
        feed(self.ledger, self._app)

    def log(self) -> str:
        """What the processes said."""
        return (self.home / "log").read_text()

    def close(self) -> None:
        """Let go of ledger and broker."""
        self.ledger.close()
        self._app.close()

    @contextmanager
    def _process(self, name: str, core: int | None) -> Iterator[psutil.Process]:
        with (self.home / "log").open("ab") as log, pinned(core):
            process = subprocess.Popen(
                child_command(name),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, cwd=self.home,
            )  # fmt: skip
        try:
            yield psutil.Process(process.pid)
            process.terminate()
            process.wait(READY_S)
        finally:
            process.kill()
            process.wait()

    def _until(self, happened: Callable[[], bool], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not happened():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {within_s:.0f} s: {self.log()[-2000:]}")
            time.sleep(POLL_S)
