"""What programs take from `lightrag.llm.openai` and `lightrag.llm.azure_openai`."""

from __future__ import annotations

from corpusmill.lightrag.azure_openai import azure_openai_complete, azure_openai_complete_if_cache, azure_openai_embed
from corpusmill.lightrag.clients import create_openai_async_client
from corpusmill.lightrag.completions import (
    gpt_4o_complete,
    gpt_4o_mini_complete,
    nvidia_openai_complete,
    openai_complete,
    openai_complete_if_cache,
)
from corpusmill.lightrag.embeddings import openai_embed
from corpusmill.lightrag.failures import EmptyTruncatedResponseError, InvalidResponseError, TransientBadRequestError

__all__ = [
    "EmptyTruncatedResponseError",
    "InvalidResponseError",
    "TransientBadRequestError",
    "azure_openai_complete",
    "azure_openai_complete_if_cache",
    "azure_openai_embed",
    "create_openai_async_client",
    "gpt_4o_complete",
    "gpt_4o_mini_complete",
    "nvidia_openai_complete",
    "openai_complete",
    "openai_complete_if_cache",
    "openai_embed",
]
