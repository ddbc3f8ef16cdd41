"""LightRAG's embedding function."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpusmill.lightrag.choosing import mode
from corpusmill.lightrag.embedding_func import wrap_embedding_func_with_attrs
from corpusmill.lightrag.packing import Pack, cut, prefixed
from corpusmill.lightrag.places import Where
from corpusmill.lightrag.usage import Meter


@wrap_embedding_func_with_attrs(
    embedding_dim=1536, max_token_size=8192, model_name="text-embedding-3-small", supports_asymmetric=True
)
async def openai_embed(
    texts: list[str],
    model: str = "text-embedding-3-small",
    base_url: str | None = None,
    api_key: str | None = None,
    embedding_dim: int | None = None,
    max_token_size: int | None = None,
    client_configs: dict[str, Any] | None = None,
    token_tracker: Any | None = None,
    use_azure: bool = False,
    azure_deployment: str | None = None,
    api_version: str | None = None,
    context: str = "document",
    query_prefix: str | None = None,
    document_prefix: str | None = None,
    use_cache: bool = True,
) -> NDArray[np.float32]:
    """Embed texts in one request, those left out that were embedded before.

    Args:
        texts: any number; none, no request.
        model: the model; with `use_azure` the deployment goes before it.
        base_url: None: OPENAI_API_BASE, OPENAI_BASE_URL, or OpenAI.
        api_key: None: OPENAI_API_KEY.
        embedding_dim: the length to ask for; None: the model's own.
        max_token_size: longer texts are cut to so many tokens; None or 0: none is.
        client_configs: settings of the SDK's client.
        token_tracker: counts what is paid; open `with TokenTracker()` blocks count without being passed.
        use_azure: Azure's addresses, keys and names.
        azure_deployment: the deployment.
        api_version: Azure's API version.
        context: `query` or `document`: whose prefix goes before each text.
        query_prefix: the prefix of queries.
        document_prefix: the prefix of documents.
        use_cache: False: pay for every text.

    Returns:
        Array of shape (texts, dimensions), float32, row i for text i.

    Raises:
        tenacity.RetryError: three calls failed in a way that may pass; `last_attempt` holds the last error.
        openai.APIStatusError: the endpoint refuses, and will again.
    """
    texts_to_send = cut(prefixed(texts, context, query=query_prefix, document=document_prefix), model, max_token_size)
    pack = Pack(azure_deployment if use_azure and azure_deployment else model, texts_to_send, embedding_dim, use_cache)
    where = Where(api_key, base_url, use_azure, azure_deployment, api_version, None, client_configs or {})
    return await mode().embed(pack, where, Meter.of(token_tracker))
