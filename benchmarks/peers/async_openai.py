"""`AsyncOpenAI` as its readme shows it: `create` for every request, so many tasks at once, its own two retries."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import openai

from benchmarks.peers.work import KEY, Work, each_of, main, message

TRANSPORT: dict[str, Any] = {"aiohttp": openai.DefaultAioHttpClient, "httpx2": openai.DefaultAsyncHttpx2Client}


async def run(work: Work, texts: Sequence[str]) -> int:
    """Answer all texts."""
    http_client = TRANSPORT[sys.argv[2]]()
    async with openai.AsyncOpenAI(base_url=work.base_url, api_key=KEY, http_client=http_client) as client:

        async def chat(text: Any) -> int:
            reply = await client.chat.completions.create(model=work.model, messages=message(text))  # type: ignore[arg-type]
            return int(bool(reply.choices[0].message.content))

        async def embed(pack: Any) -> int:
            return len((await client.embeddings.create(model=work.model, input=pack)).data)

        if work.kind == "chat":
            return await each_of(texts, work.in_flight, chat)
        return await each_of(list(work.packs(texts)), work.in_flight, embed)


if __name__ == "__main__":
    main(run)
