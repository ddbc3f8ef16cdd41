"""Many documents into LightRAG at the speed of the limits instead of LightRAG's own small queues."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

log = logging.getLogger(__name__)

CALLS = 256
# LightRAG kills a call at twice these. The fleet's queue may be long, and what was paid for is kept anyway.
LLM_TIMEOUT_S = 1_800
EMBEDDING_TIMEOUT_S = 600
_CHUNKS_A_DOCUMENT = 4


def for_bulk(calls: int = CALLS) -> dict[str, Any]:
    """Arguments of `LightRAG(…)` that let `calls` completions be under way at once: its queues are sized when made."""
    return {
        "llm_model_max_async": calls,
        "embedding_func_max_async": max(8, calls // 4),
        "embedding_batch_num": 64,
        "max_parallel_insert": max(4, calls // _CHUNKS_A_DOCUMENT),
        "default_llm_timeout": LLM_TIMEOUT_S,
        "default_embedding_timeout": EMBEDDING_TIMEOUT_S,
    }


async def ingest(
    rag: Any,
    documents: str | Sequence[str],
    *,
    ids: Sequence[str] | None = None,
    file_paths: Sequence[str] | None = None,
    parallel: int | None = None,
) -> str:
    """LightRAG's own `ainsert`, with as many documents under way at once as its queues can use.

    Args:
        rag: a LightRAG instance, best made with `**for_bulk()`, whose functions are this package's.
        documents: their texts.
        ids: their ids; None: made by LightRAG of the texts.
        file_paths: where they are from, for citations.
        parallel: documents at once; None: a quarter of the completions that `rag` allows at once.

    Returns:
        LightRAG's id for the run; `rag.aget_docs_by_track_id` tells what became of each document.
    """
    calls = int(rag.llm_model_max_async)
    if calls < CALLS // 4:
        log.warning("this LightRAG makes %d calls at once; LightRAG(…, **for_bulk()) makes %d", calls, CALLS)
    before = rag.max_parallel_insert
    rag.max_parallel_insert = parallel or max(before, calls // _CHUNKS_A_DOCUMENT)
    try:
        texts = [documents] if isinstance(documents, str) else list(documents)
        track: str = await rag.ainsert(
            texts, ids=None if ids is None else list(ids), file_paths=None if file_paths is None else list(file_paths)
        )
        return track
    finally:
        rag.max_parallel_insert = before
