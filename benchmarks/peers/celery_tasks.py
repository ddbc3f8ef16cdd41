"""A Celery task a chunk: each makes its request with the `OpenAI` client of its process and returns the answer."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import openai
from celery import Celery

from benchmarks.peers.work import KEY, message

app = Celery("chunks", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BROKER"])
app.conf.update(worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True)


@cache
def _client() -> openai.OpenAI:
    return openai.OpenAI(base_url=os.environ["BENCH_BASE_URL"], api_key=KEY)


@app.task(name="chunks.chat")  # type: ignore[untyped-decorator]
def chat(model: str, text: str) -> Any:
    """Answer one text."""
    return _client().chat.completions.create(model=model, messages=message(text)).choices[0].message.content  # type: ignore[arg-type]


@app.task(name="chunks.embed")  # type: ignore[untyped-decorator]
def embed(model: str, text: str) -> list[float]:
    """Embed one text."""
    return _client().embeddings.create(model=model, input=text).data[0].embedding
