"""LightRAG over a few documents, through corpusmill: insert, then ask in every mode.

    python examples/lightrag_openai_demo.py                     # no key: against corpusmill's own simulator
    OPENAI_API_KEY=sk-… python examples/lightrag_openai_demo.py # against OpenAI, or what OPENAI_API_BASE names

The one difference from a program of LightRAG's own: the two functions come from `corpusmill.lightrag.openai`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightrag import LightRAG, QueryParam

from corpusmill.lightrag.offline import tiktoken_offline
from corpusmill.lightrag.openai import gpt_4o_mini_complete, openai_embed
from corpusmill.lightrag.utils import TokenTracker

MODES = ("naive", "local", "global", "hybrid", "mix", "bypass")
QUESTION = "How does the Lamplighter Guild keep the harbour of Orlen safe?"
DOCUMENTS = Path(__file__).with_name("lightrag_documents")


async def initialize_rag(working_dir: str) -> LightRAG:
    """A LightRAG instance, ready for use."""
    rag = LightRAG(
        working_dir=working_dir,
        llm_model_func=gpt_4o_mini_complete,
        # OpenAI shuts gpt-4o-mini down; the function keeps its name and takes another model.
        llm_model_kwargs={"model": os.environ.get("LLM_MODEL", "gpt-6-luna")},
        embedding_func=openai_embed,
    )
    await rag.initialize_storages()
    return rag


async def insert(rag: LightRAG) -> None:
    """Insert every document in the folder beside this file."""
    paths = sorted(DOCUMENTS.glob("*.md"))
    await rag.ainsert([path.read_text() for path in paths], file_paths=[str(path) for path in paths])


async def ask(rag: LightRAG, mode: str) -> None:
    """Ask in one mode and print the answer."""
    print(f"\n=== {mode} ===\n{await rag.aquery(QUESTION, param=QueryParam(mode=mode))}")


async def ask_streaming(rag: LightRAG) -> None:
    """Ask again, and print the answer as it comes."""
    print("\n=== hybrid, streamed ===")
    answer = await rag.aquery(QUESTION + " In one sentence.", param=QueryParam(mode="hybrid", stream=True))
    if isinstance(answer, str):
        print(answer)
        return
    async for text in answer:
        print(text, end="", flush=True)
    print()


async def main() -> None:
    """Insert the documents and ask."""
    tiktoken_offline()
    with tempfile.TemporaryDirectory() as working_dir, TokenTracker() as tracker:
        rag = await initialize_rag(working_dir)
        try:
            await insert(rag)
            for mode in MODES:
                await ask(rag, mode)
            await ask_streaming(rag)
        finally:
            await rag.finalize_storages()
        cost = "nobody knows what" if tracker.usd is None else f"${tracker.usd:.4f}"
        print(f"\n{tracker.cached_count} answers came from the cache; the rest cost {cost}")


@contextmanager
def simulator_unless_there_is_a_key() -> Iterator[None]:
    """Without a key, run the bundled endpoint for as long as the block lasts."""
    if os.environ.get("OPENAI_API_KEY"):
        yield
        return
    command = [sys.executable, "-m", "corpusmill.simulator", "--port", "0", "--dimensions", "1536"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            os.environ["OPENAI_API_BASE"] = process.stdout.readline().strip() if process.stdout else ""
            os.environ["OPENAI_API_KEY"] = "no key is needed"
            yield
        finally:
            process.terminate()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    warnings.simplefilter("ignore", DeprecationWarning)
    with simulator_unless_there_is_a_key():
        asyncio.run(main())
