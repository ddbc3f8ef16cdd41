"""The job key: two commands that ask for the same work get the same job."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import orjson

from corpusmill.mill.ask import Shape
from corpusmill.spec import JobSpec

# These decide which files are read; what they found is in the digests.
_SEEN_IN_SOURCES = ("include", "exclude", "skip_invalid")
_CHUNKING = ("chunk_tokens", "chunk_overlap")


def job_key(spec: JobSpec, shape: Shape, *, cache: bool, sources: bytes, chunker: str | int) -> bytes:
    """32 bytes over everything that makes the items what they are.

    Args:
        spec: what the requests say, with the endpoint.
        shape: how sources become items; what has no effect on them does not enter.
        cache: without it a job shares no answer, so it is another job.
        sources: the digest of the ordered sources, by relative path and bytes.
        chunker: the version of the chunking rule.
    """
    facts: dict[str, Any] = {"spec": spec.as_json(), "cache": cache, "sources": sources.hex(), "v": 1}
    if spec.kind != "request":
        facts.update(chunker=chunker, shape=_effective(shape))
    return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).digest()


def _effective(shape: Shape) -> dict[str, Any]:
    left_out = _SEEN_IN_SOURCES if shape.chunk else (*_SEEN_IN_SOURCES, *_CHUNKING)
    facts = {**asdict(shape), "chunk_overlap": shape.overlap, "id_field": shape.id_name}
    return {name: value for name, value in facts.items() if name not in left_out}
