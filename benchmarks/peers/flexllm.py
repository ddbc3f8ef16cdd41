"""flexllm: `chat_batch` with its checkpoint file. It has no embeddings, and a limit on requests alone."""

from __future__ import annotations

from collections.abc import Sequence

from flexllm import LLMClient

from benchmarks.peers.work import KEY, Work, main, message

NO_LIMIT_QPS = 1_000_000


async def run(work: Work, texts: Sequence[str]) -> int:
    """Answer all texts."""
    async with LLMClient(
        provider="openai",
        base_url=work.base_url,
        api_key=KEY,
        model=work.model,
        concurrency_limit=work.in_flight,
        max_qps=work.rpm / 60 if work.rpm else NO_LIMIT_QPS,
    ) as client:
        out = work.fresh_folder() / "out.jsonl"
        results = await client.chat_batch([message(text) for text in texts], output_jsonl=str(out), show_progress=False)
        return sum(1 for result in results if result.ok)


if __name__ == "__main__":
    main(run)
