"""curator: an `LLM` over a data set, told requests and tokens a minute. It has no embeddings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from bespokelabs import curator

from benchmarks.peers.work import Work, main, message

NO_LIMIT_RPM, NO_LIMIT_TPM = 100_000_000, 100_000_000_000


class _Asker(curator.LLM):  # type: ignore[misc]
    def prompt(self, row: dict[str, Any]) -> list[dict[str, str]]:
        return message(row["text"])

    def parse(self, row: dict[str, Any], reply: str) -> dict[str, Any]:
        return {"answer": reply}


def ask(work: Work, texts: Sequence[str]) -> int:
    """Answer all texts."""
    asker = _Asker(
        model_name=work.model,
        backend="openai",
        backend_params={
            "base_url": work.base_url,
            "max_requests_per_minute": work.rpm or NO_LIMIT_RPM,
            "max_tokens_per_minute": work.tpm or NO_LIMIT_TPM,
            "max_concurrent_requests": work.in_flight,
            "require_all_responses": False,
        },
    )
    response = asker([{"text": text} for text in texts], working_dir=str(work.fresh_folder()))
    return sum(1 for row in response.dataset if row["answer"])


async def run(work: Work, texts: Sequence[str]) -> int:
    """Answer all texts; curator makes an event loop of its own."""
    return await asyncio.to_thread(ask, work, texts)


if __name__ == "__main__":
    main(run)
