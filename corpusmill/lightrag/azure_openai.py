"""LightRAG's functions for Azure: the same calls, with Azure's environment variables."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpusmill.lightrag.completions import openai_complete_if_cache
from corpusmill.lightrag.embedding_func import wrap_embedding_func_with_attrs
from corpusmill.lightrag.embeddings import openai_embed

_API_VERSION = "2024-08-01-preview"


async def azure_openai_complete_if_cache(
    model: str,
    prompt: str,
    system_prompt: str | None = None,
    history_messages: list[dict[str, Any]] | None = None,
    enable_cot: bool = False,
    base_url: str | None = None,
    api_key: str | None = None,
    token_tracker: Any | None = None,
    stream: bool | None = None,
    timeout: int | None = None,
    api_version: str | None = None,
    keyword_extraction: bool = False,
    **kwargs: Any,
) -> str | AsyncIterator[str]:
    """Complete at an Azure deployment; AZURE_OPENAI_DEPLOYMENT goes before `model`, what is given before the rest."""
    deployment = os.environ.get("AZURE_OPENAI_DEPLOYMENT") or model or os.environ.get("LLM_MODEL", "")
    return await openai_complete_if_cache(
        deployment,
        prompt,
        system_prompt=system_prompt,
        history_messages=history_messages,
        enable_cot=enable_cot,
        base_url=base_url or _first("AZURE_OPENAI_ENDPOINT", "LLM_BINDING_HOST"),
        api_key=api_key or _first("AZURE_OPENAI_API_KEY", "LLM_BINDING_API_KEY"),
        token_tracker=token_tracker,
        stream=stream,
        timeout=timeout,
        use_azure=True,
        azure_deployment=deployment,
        api_version=api_version or _first("AZURE_OPENAI_API_VERSION", "OPENAI_API_VERSION") or _API_VERSION,
        keyword_extraction=keyword_extraction,
        **kwargs,
    )


async def azure_openai_complete(
    prompt: str,
    system_prompt: str | None = None,
    history_messages: list[dict[str, Any]] | None = None,
    keyword_extraction: bool = False,
    entity_extraction: bool = False,
    **kwargs: Any,
) -> str | AsyncIterator[str]:
    """Complete with the model or deployment in LLM_MODEL."""
    return await azure_openai_complete_if_cache(
        os.environ.get("LLM_MODEL", "gpt-4o-mini"),
        prompt,
        system_prompt=system_prompt,
        history_messages=history_messages,
        keyword_extraction=keyword_extraction,
        **{"entity_extraction": entity_extraction, **kwargs},
    )


@wrap_embedding_func_with_attrs(
    embedding_dim=1536,
    max_token_size=8192,
    model_name="my-text-embedding-3-large-deployment",
    supports_asymmetric=True,
)
async def azure_openai_embed(
    texts: list[str],
    model: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    embedding_dim: int | None = None,
    token_tracker: Any | None = None,
    client_configs: dict[str, Any] | None = None,
    api_version: str | None = None,
    context: str = "document",
    query_prefix: str | None = None,
    document_prefix: str | None = None,
    use_cache: bool = True,
) -> NDArray[np.float32]:
    """Embed at an Azure deployment; AZURE_EMBEDDING_DEPLOYMENT goes before `model`, what is given before the rest."""
    deployment = _first("AZURE_EMBEDDING_DEPLOYMENT") or model or _first("EMBEDDING_MODEL") or "text-embedding-3-small"
    versions = ("AZURE_EMBEDDING_API_VERSION", "AZURE_OPENAI_API_VERSION", "OPENAI_API_VERSION")
    return await openai_embed.func(
        texts,
        model=deployment,
        base_url=base_url or _first("AZURE_EMBEDDING_ENDPOINT", "EMBEDDING_BINDING_HOST"),
        api_key=api_key or _first("AZURE_EMBEDDING_API_KEY", "EMBEDDING_BINDING_API_KEY"),
        embedding_dim=embedding_dim,
        token_tracker=token_tracker,
        client_configs=client_configs,
        use_azure=True,
        azure_deployment=deployment,
        api_version=api_version or _first(*versions) or _API_VERSION,
        context=context,
        query_prefix=query_prefix,
        document_prefix=document_prefix,
        use_cache=use_cache,
    )


def _first(*names: str) -> str | None:
    """The first of these environment variables that holds something."""
    return next((value for name in names if (value := os.environ.get(name))), None)
