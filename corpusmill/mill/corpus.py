"""What a job works on: the sources as they were found, the spec over them, and their items."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path

from corpusmill import intake
from corpusmill.errors import UsageError
from corpusmill.ledger.records import Mark, NewItem
from corpusmill.mill import loading, specs
from corpusmill.mill.ask import Ask
from corpusmill.mill.placeholders import slips
from corpusmill.settings import Settings
from corpusmill.spec import JobSpec, key_of_body

_BATCH_PREFIX = "/v1"


class Corpus:
    """The sources of one ask. Reading them again gives the same items in the same order."""

    def __init__(self, ask: Ask, settings: Settings, provider: str) -> None:
        self._ask, self._settings, self._provider = ask, settings, provider
        if not ask.sources:
            raise UsageError("no source is given", next_step="name a folder or a file")
        self._reading = loading.reading_of(ask.shape)
        self._findings: intake.Findings | None = None

    @cached_property
    def scan(self) -> intake.Scan:
        """The files in order, with the digest of each."""
        if self._ask.kind == "request":
            return intake.scan_requests(self._only_source())
        return intake.scan(self._ask.sources, self._reading)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell a person about the prompt and the sources."""
        slip = slips(self._ask.prompt or "")
        return (slip, *self.scan.notes) if slip else self.scan.notes

    @property
    def files(self) -> list[Path]:
        """The files that are read."""
        return [file.path for file in self.scan.files]

    @property
    def digest(self) -> bytes:
        """Over all files, by name and bytes: what the job key needs."""
        return intake.digests_key(self.scan)

    @cached_property
    def spec(self) -> JobSpec:
        """What the requests say.

        Raises:
            UsageError: an empty prompt, an impossible option, a request file without a request.
        """
        match self._ask.kind:
            case "completion":
                return specs.completion_spec(self._ask, self._settings, self._provider)
            case "embedding":
                return specs.embedding_spec(self._ask, self._settings, self._provider)
            case "request":
                return self._request_spec()

    def _request_spec(self) -> JobSpec:
        # The first line alone says enough; the whole file is validated before a job is made of it.
        first = intake.first_request(self.scan, skip_invalid=self._reading.skip_invalid)
        path = first.url.removeprefix(_BATCH_PREFIX)
        return JobSpec("request", path, first.body["model"], self._settings.endpoint(self._provider))

    @property
    def models(self) -> frozenset[str]:
        """The models that are asked for; of a request file, once it is validated."""
        return (self._findings.models if self._findings else None) or frozenset({self.spec.model})

    def validate(self) -> tuple[str, ...]:
        """Read every line file to its end; gives notes on lines that are left out.

        Raises:
            SourceError: a broken line, a duplicate id: with its line.
        """
        if self._ask.kind == "request":
            self._findings = intake.validate_requests(self.scan, skip_invalid=self._reading.skip_invalid)
        else:
            self._findings = intake.validate(self.scan, self._reading)
        return tuple(self._findings.notes)

    def items(self, after: Mark | None = None) -> Iterator[NewItem]:
        """Every item in order, with its content key; those after what a job of these very sources holds alone."""
        if self._ask.kind == "request":
            return loading.request_items(self._requests(after), self.scan.files[0].source)
        return loading.chunk_items(self.scan, self._ask.shape, self.spec, self._findings, after)

    def private_items(self, job_key: bytes, after: Mark | None = None) -> Iterator[NewItem]:
        """The same items under content keys that nothing else has."""
        return loading.privately(self.items(after), job_key, after.items if after else 0)

    def _requests(self, after: Mark | None) -> Iterator[intake.RequestLine]:
        findings, skip_invalid = self._findings, self._reading.skip_invalid
        if after is not None and not skip_invalid:
            # Every line was found in order before the job was made.
            findings = findings or intake.Findings()
        key_of = partial(key_of_body, self.spec.endpoint, self.spec.path)
        line = (after.line or 0) if after else 0
        return intake.requests(self.scan, skip_invalid, findings, key_of, after_line=line)

    def _only_source(self) -> str | Path:
        if len(self._ask.sources) != 1:
            raise UsageError("a request file comes alone", next_step="run one REQUESTS.jsonl at a time")
        return self._ask.sources[0]
