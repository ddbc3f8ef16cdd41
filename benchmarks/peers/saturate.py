"""saturate: `pump` with its adaptive window and Parquet output. It cannot be told a limit."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

from saturate import Auto, pump

from benchmarks.peers.work import KEY, Work, main, message

FLUSH_EVERY = 1_000


def chat(work: Work, texts: Sequence[str]) -> int:
    """One row a text."""
    return _pump(
        work,
        [(str(number), {"text": text}) for number, text in enumerate(texts)],
        lambda row: {"model": work.model, "messages": message(row["text"])},
        lambda _, reply: {"answer": reply["choices"][0]["message"]["content"], "count": 1},
        "/chat/completions",
    )


def embeddings(work: Work, texts: Sequence[str]) -> int:
    """One row a pack of texts, the vectors as they come over the wire, in bytes."""
    packs = list(work.packs(texts))
    done = _pump(
        work,
        [(str(number), {"texts": pack}) for number, pack in enumerate(packs)],
        lambda row: {"model": work.model, "input": row["texts"], "encoding_format": "base64"},
        lambda _, reply: {"vectors": [base64.b64decode(each["embedding"]) for each in reply["data"]]},
        "/embeddings",
    )
    return sum(map(len, packs[:done]))


def _pump(work: Work, rows: list[Any], to_request: Any, parse: Any, route: str) -> int:
    stats = pump(
        rows,
        to_request,
        parse,
        work.base_url,
        str(work.fresh_folder()),
        window=Auto(max_limit=work.in_flight),
        flush_every=FLUSH_EVERY,
        route=route,
        headers={"Authorization": f"Bearer {KEY}"},
    )
    return int(stats.rows_processed)


async def run(work: Work, texts: Sequence[str]) -> int:
    """Answer all texts; `pump` makes an event loop of its own."""
    return await asyncio.to_thread(chat if work.kind == "chat" else embeddings, work, texts)


if __name__ == "__main__":
    main(run)
