"""`Mill`: the producer's API. The command line is a thin layer over it.

What reads sources (plan, submit) or asks the limiter is loaded when it is used: most commands only look at the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from corpusmill.ledger.records import LimitRule, UsageTotal
from corpusmill.mill import rules
from corpusmill.mill.ask import Ask
from corpusmill.mill.job import Job
from corpusmill.mill.listening import Listener, Silent
from corpusmill.mill.options import CompletionOptions, CorpusOptions, RunOptions, sorted_out
from corpusmill.mill.place import Place
from corpusmill.mill.pricing import card_for_model
from corpusmill.settings import Settings

if TYPE_CHECKING:
    from corpusmill.mill.limits import LimitRow
    from corpusmill.mill.plan import Plan

Source = str | Path
Text = str | Mapping[str, Any]


class Mill:
    """Submits jobs and finds them again.

    Close it, or use it as a context manager: without a fleet, a job that was not detached runs while its mill is open.
    With no settings given they are loaded as the command line does. Every error is a `CorpusmillError`.
    """

    def __init__(self, settings: Settings | None = None, *, listener: Listener | None = None) -> None:
        self._place = Place(settings or Settings.load())
        self._listener = listener or Silent()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave: detached jobs and those of a fleet go on, others pause once nobody watches them."""
        self._place.close()

    @property
    def place(self) -> Place:
        """Where its jobs live; what is built on jobs, such as collections, works there."""
        return self._place

    @property
    def listener(self) -> Listener:
        """Who is told on the way."""
        return self._listener

    @property
    def settings(self) -> Settings:
        """The settings in effect."""
        return self._place.settings

    def complete(
        self,
        sources: Source | Sequence[Source] = (),
        *,
        prompt: str,
        model: str,
        system: str | None = None,
        texts: Iterable[Text] | None = None,
        **options: Unpack[CompletionOptions],
    ) -> Job:
        """Run a prompt over every chunk of the sources, or over each of `texts`.

        Args:
            sources: files and folders.
            prompt: the user message; `{text}` and `{source}` are filled in, without `{text}` the chunk follows.
            model: as the endpoint knows it.
            system: the system message.
            texts: strings, or records with a text, an id and other fields that come back as metadata.
            options: see `CompletionOptions`.

        Returns:
            The job, running; the same ask gives the same job.
        """
        ask = self._ask("completion", sources, texts, options, model=model, prompt=prompt, system=system)
        return self.submit(ask)

    def embed(
        self,
        sources: Source | Sequence[Source] = (),
        *,
        model: str,
        dimensions: int | None = None,
        texts: Iterable[Text] | None = None,
        **options: Unpack[CorpusOptions],
    ) -> Job:
        """Embed every chunk of the sources, or each of `texts`.

        Args:
            sources: files and folders.
            model: as the endpoint knows it.
            dimensions: the vectors' length; None for the model's own.
            texts: as for `complete`.
            options: see `CorpusOptions`.
        """
        return self.submit(self._ask("embedding", sources, texts, options, model=model, dimensions=dimensions))

    def run(self, path: Source, **options: Unpack[RunOptions]) -> Job:
        """Run an OpenAI Batch request file live, at full price."""
        return self.submit(self._ask("request", path, None, options))

    def submit(self, ask: Ask) -> Job:
        """Submit a prepared ask: the job, sent on its way unless there is nothing left to do."""
        job = self.make(ask)
        job.start()
        return job

    def make(self, ask: Ask) -> Job:
        """The job of a prepared ask, whole in the ledger; `start` sends it on its way."""
        from corpusmill.mill.submit import submit

        submitted = submit(self._place, ask, self._listener)
        return Job(self._place, submitted.job, requests_before=submitted.requests_before)

    def plan(self, ask: Ask, models: Sequence[str] = ()) -> Plan:
        """What an ask would take at each of `models`; spends nothing and writes nothing."""
        from corpusmill.mill.plan import plan

        return plan(self._place, ask, models or (ask.model,), self._listener)

    def job(self, ref: str) -> Job:
        """The job of that id, unambiguous prefix or name; `last` is the newest."""
        return Job(self._place, self._place.ledger.job(ref))

    def jobs(self, limit: int = 100) -> list[Job]:
        """The newest jobs, newest first."""
        return [Job(self._place, view) for view in self._place.ledger.jobs(limit)]

    def waiting_for(self, provider: str) -> list[Job]:
        """The jobs of a provider that were paused by what its endpoint said, oldest first."""
        return [Job(self._place, view) for view in self._place.ledger.parked() if view.provider == provider]

    def usage(self, by: str = "job") -> list[UsageTotal]:
        """Tokens and USD by `job`, `model`, `day` or `label:KEY`."""
        return self._place.ledger.usage_by(by)

    def limits(self) -> list[LimitRow]:
        """What limits hold for each provider that is set here and each model that jobs have used."""
        from corpusmill.mill.limits import limits

        return limits(self._place)

    def set_limits(self, provider: str, model: str = "", **said: int | float | None) -> LimitRule:
        """Set `rpm`, `tpm`, `burst_s`, `rpd` or `tpd` for all workers, over the settings; followed within 2 s."""
        return rules.set_limits(self._place, provider, model, said)

    def unset_limits(self, provider: str, model: str = "") -> None:
        """Let the settings hold again."""
        rules.unset_limits(self._place, provider, model)

    def reprice(self) -> int:
        """Fill in what unpriced calls cost, where a price is known by now; gives the number of calls priced."""
        return self._place.ledger.reprice(lambda model, provider: card_for_model(self.settings, provider, model))

    def _ask(
        self, kind: Any, sources: Source | Sequence[Source], texts: Iterable[Text] | None, options: Any, **facts: Any
    ) -> Ask:
        if texts is not None:
            # A text from memory is one item unless it is asked to be cut.
            options = {"chunk": False, **options}
        shape, terms, chosen = sorted_out(options, model_options=kind == "completion")
        listed = (sources,) if isinstance(sources, str | Path) else tuple(sources)
        found = None if texts is None else list(texts)
        return Ask(kind=kind, sources=listed, texts=found, options=chosen, shape=shape, terms=terms, **facts)
