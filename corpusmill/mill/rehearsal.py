"""How long answers will be: the cap that is set, the mean of a first run, or an assumption that says so."""

from __future__ import annotations

from dataclasses import dataclass

from corpusmill import intake
from corpusmill.mill.ask import Ask
from corpusmill.mill.corpus import Corpus
from corpusmill.mill.key import job_key
from corpusmill.mill.place import Place
from corpusmill.mill.specs import output_cap

_ASSUMED_TOKENS = 500


@dataclass(frozen=True, slots=True)
class Output:
    """Output tokens of one answer, the cap if there is one, and a sentence on where the number comes from."""

    tokens: int
    cap: int | None
    said: str


def output_of(place: Place, ask: Ask, corpus: Corpus) -> Output:
    """The output to reckon with: a first run knows best, then the cap, then an assumption."""
    if corpus.spec.queue_kind == "embedding":
        return Output(0, None, "embeddings have no output tokens")
    cap = output_cap(corpus.spec)
    mean = _mean_of_earlier_run(place, ask, corpus)
    if mean is not None:
        return Output(mean, cap, f"output: {mean:,} tokens an answer, the mean of the job's answers so far")
    if cap is not None:
        return Output(cap, cap, f"output: {cap:,} tokens an answer, the cap; most answers are shorter")
    said = f"output: {_ASSUMED_TOKENS} tokens an answer is assumed; try --first 20 and plan again, or set a cap"
    return Output(_ASSUMED_TOKENS, None, said)


def _mean_of_earlier_run(place: Place, ask: Ask, corpus: Corpus) -> int | None:
    """The mean output of the job that this very ask has made already."""
    if not place.has_ledger:
        return None
    cache = place.settings.cache if ask.terms.cache is None else ask.terms.cache
    key = job_key(corpus.spec, ask.shape, cache=cache, sources=corpus.digest, chunker=intake.CHUNKER_VERSION)
    job = place.ledger.job_by_key(key)
    mean = place.ledger.mean_output_tokens(job.id) if job else None
    return None if mean is None else round(mean)
