"""Filling a set: every chunk of a version gets its content key, and those without an answer become items of a job."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from corpusmill import intake
from corpusmill.ledger import Ledger
from corpusmill.ledger.collection_records import Aim, LackingChunk, NewVector, SetView
from corpusmill.ledger.records import NewJob
from corpusmill.ledger.stretches import START, Mark
from corpusmill.spec import JobSpec
from corpusmill.tokens import encoding_for


def vectors(chunks: Iterable[LackingChunk], spec: JobSpec, encoding: str) -> list[NewVector]:
    """What a set of this spec is to hold of these chunks, whose tokens were counted in `encoding`."""
    own = encoding_for(spec.model)
    return [_vector(chunk, spec, chunk.tokens if own.name == encoding else None) for chunk in chunks]


def _vector(chunk: LackingChunk, spec: JobSpec, tokens: int | None) -> NewVector:
    if chunk.problem is not None:
        return NewVector(chunk.chunk_no, None, 0, chunk.problem)
    tokens = encoding_for(spec.model).count(chunk.text) if tokens is None else tokens
    if tokens > intake.EMBEDDING_LIMIT_TOKENS:
        told = f"the chunk has {tokens:,} tokens; the model takes {intake.EMBEDDING_LIMIT_TOKENS:,}"
        return NewVector(chunk.chunk_no, None, 0, ("too_long", told))
    return NewVector(chunk.chunk_no, spec.content_key(chunk.text, ""), tokens)


@dataclass(frozen=True, slots=True)
class Filling:
    """One set on its way to one version; `encoding` is the one in which its chunks were counted."""

    ledger: Ledger
    set: SetView
    aim: Aim
    encoding: str
    new_job: NewJob

    def fill(
        self,
        job_id: int | None,
        mark: Mark = START,
        *,
        loading: Callable[[int], None] = lambda _: None,
        until_s: float = math.inf,
    ) -> tuple[int | None, Mark | None]:
        """Let the set know what it lacks; what has no answer becomes items of a job, which is not committed yet.

        Args:
            job_id: the job of an earlier filling that was cut short.
            mark: chunks before it are known to the set.
            loading: told how many items are loaded.
            until_s: stop then, by the monotonic clock; another filling goes on. Some hundred chunks are looked at
                whatever the time is, so that many fillings come to the end.

        Returns:
            The job's number, None when nothing has to be embedded; and from where on another filling has to look,
            None when the set lacks nothing more.
        """
        known, items = self.ledger.collections, 0
        for chunks, behind in known.lacking(self.set, self.aim.version_no, mark):
            if chunks:
                count, made = known.fill(self.aim, vectors(chunks, self.set.spec, self.encoding), self.new_job)
                job_id = job_id if made is None else made.id
                items += count
                loading(items)
            if time.monotonic() > until_s:
                return job_id, behind
        return job_id, None


def job_key(aim: Aim) -> bytes:
    """The key of the job that fills a set for a version: whoever fills it finds the same job."""
    told = f"collection {aim.collection_id} version {aim.version_no} set {aim.set_id}"
    return hashlib.sha256(told.encode()).digest()
