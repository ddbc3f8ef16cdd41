"""SDK clients with LightRAG's ideas of keys, addresses and precedence."""

from __future__ import annotations

from typing import Any

from openai import AsyncAzureOpenAI, AsyncOpenAI

from corpusmill.lightrag.places import Where


def create_openai_async_client(
    api_key: str | None = None,
    base_url: str | None = None,
    use_azure: bool = False,
    azure_deployment: str | None = None,
    api_version: str | None = None,
    timeout: int | None = None,
    client_configs: dict[str, Any] | None = None,
) -> AsyncOpenAI:
    """A client that is its caller's own to use and close; the functions of this package do not need one.

    Arguments go over `client_configs`, these over the defaults: no retries of the SDK's own, the key in
    OPENAI_API_KEY (Azure: AZURE_OPENAI_API_KEY, LLM_BINDING_API_KEY), the address in OPENAI_API_BASE or
    OPENAI_BASE_URL. `timeout` is in seconds.

    Raises:
        MissingKeyError: no key anywhere.
    """
    where = Where(api_key, base_url, use_azure, azure_deployment, api_version, timeout, client_configs or {})
    return sdk_client(where)


def sdk_client(where: Where, **defaults: Any) -> AsyncOpenAI:
    """The SDK's client for a place; `defaults` count where its configuration says nothing."""
    configs: dict[str, Any] = {"max_retries": 0, **defaults, **where.client_configs, "api_key": where.key()}
    if where.timeout is not None:
        configs["timeout"] = where.timeout
    if where.use_azure:
        return _azure(where, configs)
    configs["default_headers"] = where.headers()
    configs["base_url"] = where.url()
    return AsyncOpenAI(**configs)


def _azure(where: Where, configs: dict[str, Any]) -> AsyncOpenAI:
    named: dict[str, Any] = {
        "azure_endpoint": where.base_url,
        "azure_deployment": where.azure_deployment,
        "api_version": where.api_version,
    }
    configs |= {name: value for name, value in named.items() if value is not None}
    return AsyncAzureOpenAI(**configs)
