"""LightRAG's own functions, called as LightRAG calls them: a client is built and closed on every call."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

from lightrag.llm.openai import openai_complete_if_cache, openai_embed

from benchmarks.peers.work import KEY, Work, each_of, main


async def run(work: Work, texts: Sequence[str]) -> int:
    """Answer all texts."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)

    async def chat(text: Any) -> int:
        return int(bool(await openai_complete_if_cache(work.model, text, base_url=work.base_url, api_key=KEY)))

    async def embed(pack: Any) -> int:
        return len(await openai_embed.func(pack, model=work.model, base_url=work.base_url, api_key=KEY))

    if work.kind == "chat":
        return await each_of(texts, work.in_flight, chat)
    return await each_of(list(work.packs(texts)), work.in_flight, embed)


if __name__ == "__main__":
    main(run)
