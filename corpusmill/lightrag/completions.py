"""LightRAG's completion functions."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from corpusmill.lightrag.asking import ask, messages_of, with_json_shims
from corpusmill.lightrag.choosing import mode
from corpusmill.lightrag.places import Where
from corpusmill.lightrag.usage import Meter

_NVIDIA_URL = "https://integrate.api.nvidia.com/v1"
_NVIDIA_MODEL = "nvidia/llama-3.1-nemotron-70b-instruct"
_SHUT_DOWN = "2027-01-14"

Messages = Sequence[Mapping[str, Any]]


async def openai_complete_if_cache(
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
    keyword_extraction: bool = False,
    use_azure: bool = False,
    azure_deployment: str | None = None,
    api_version: str | None = None,
    image_inputs: list[Any] | None = None,
    **kwargs: Any,
) -> str | AsyncIterator[str]:
    """Complete a prompt, unless the answer is known already.

    Args:
        model: the model; with `use_azure` the deployment goes before it.
        prompt: the user's message; `messages=…` replaces the whole conversation.
        system_prompt: comes first, if there is one.
        history_messages: come between the two.
        enable_cot: reasoning of a model that answers nothing else comes as `<think>…</think>`.
        base_url: None: OPENAI_API_BASE, OPENAI_BASE_URL, or OpenAI.
        api_key: None: OPENAI_API_KEY.
        token_tracker: counts what is paid; open `with TokenTracker()` blocks count without being passed.
        stream: True: an async iterator of text.
        timeout: seconds for the whole call; of a stream, for each wait.
        keyword_extraction: deprecated: asks for a JSON object.
        use_azure: Azure's addresses, keys and names.
        azure_deployment: the deployment.
        api_version: Azure's API version.
        image_inputs: base64, data URLs, or dictionaries with `base64` and `mime_type`.
        kwargs: what the SDK's `chat.completions.create` takes, and `openai_client_configs`, `hashing_kv` (unused),
            `entity_extraction` (deprecated), `messages`, and `use_cache=False` to pay for a fresh answer.

    Returns:
        The answer; a `TruncatedResponse`, which is a string, where the output limit cut it; an iterator if streamed.

    Raises:
        tenacity.RetryError: three calls failed in a way that may pass; `last_attempt` holds the last error.
        openai.APIStatusError: the endpoint refuses, and will again.
        EmptyTruncatedResponseError: the output limit was used up before any text came.
        TypeError: an option that does not exist, or a `response_format` that is no dict.
    """
    kwargs.pop("hashing_kv", None)
    configs = kwargs.pop("openai_client_configs", None) or {}
    use_cache = kwargs.pop("use_cache", True)
    entity_extraction = kwargs.pop("entity_extraction", False)
    options = with_json_shims(kwargs, entity_extraction=entity_extraction, keyword_extraction=keyword_extraction)
    messages: Messages = options.pop("messages", None) or messages_of(
        prompt, system_prompt, history_messages, image_inputs
    )
    asked = ask(
        azure_deployment if use_azure and azure_deployment else model,
        messages,
        enable_cot=enable_cot,
        stream=stream,
        timeout_s=timeout,
        use_cache=use_cache,
        options=options,
    )
    where = Where(api_key, base_url, use_azure, azure_deployment, api_version, timeout, configs)
    return await mode().complete(asked, where, Meter.of(token_tracker))


async def openai_complete(
    prompt: str,
    system_prompt: str | None = None,
    history_messages: list[dict[str, Any]] | None = None,
    keyword_extraction: bool = False,
    entity_extraction: bool = False,
    **kwargs: Any,
) -> str | AsyncIterator[str]:
    """Complete with the model that the LightRAG instance is set to (`llm_model_name`)."""
    model = kwargs["hashing_kv"].global_config["llm_model_name"]
    flags = (keyword_extraction, entity_extraction)
    return await _complete(model, prompt, system_prompt, history_messages, flags, kwargs)


async def gpt_4o_complete(
    prompt: str,
    system_prompt: str | None = None,
    history_messages: list[dict[str, Any]] | None = None,
    enable_cot: bool = False,
    keyword_extraction: bool = False,
    entity_extraction: bool = False,
    **kwargs: Any,
) -> str | AsyncIterator[str]:
    """Complete with gpt-4o, or the `model=…` that is given: OpenAI shuts gpt-4o down."""
    model = _or_another("gpt-4o", kwargs)
    kwargs["enable_cot"] = enable_cot
    flags = (keyword_extraction, entity_extraction)
    return await _complete(model, prompt, system_prompt, history_messages, flags, kwargs)


async def gpt_4o_mini_complete(
    prompt: str,
    system_prompt: str | None = None,
    history_messages: list[dict[str, Any]] | None = None,
    enable_cot: bool = False,
    keyword_extraction: bool = False,
    entity_extraction: bool = False,
    **kwargs: Any,
) -> str | AsyncIterator[str]:
    """Complete with gpt-4o-mini, or the `model=…` that is given: OpenAI shuts gpt-4o-mini down."""
    model = _or_another("gpt-4o-mini", kwargs)
    kwargs["enable_cot"] = enable_cot
    flags = (keyword_extraction, entity_extraction)
    return await _complete(model, prompt, system_prompt, history_messages, flags, kwargs)


async def nvidia_openai_complete(
    prompt: str,
    system_prompt: str | None = None,
    history_messages: list[dict[str, Any]] | None = None,
    enable_cot: bool = False,
    keyword_extraction: bool = False,
    entity_extraction: bool = False,
    **kwargs: Any,
) -> str | AsyncIterator[str]:
    """Complete at NVIDIA's endpoint with its Nemotron model."""
    kwargs |= {"enable_cot": enable_cot, "base_url": _NVIDIA_URL}
    flags = (keyword_extraction, entity_extraction)
    return await _complete(_NVIDIA_MODEL, prompt, system_prompt, history_messages, flags, kwargs)


async def _complete(
    model: str,
    prompt: str,
    system_prompt: str | None,
    history: list[dict[str, Any]] | None,
    flags: tuple[bool, bool],
    kwargs: dict[str, Any],
) -> str | AsyncIterator[str]:
    keyword_extraction, entity_extraction = flags
    return await openai_complete_if_cache(
        model,
        prompt,
        system_prompt=system_prompt,
        history_messages=history,
        keyword_extraction=keyword_extraction,
        **{"entity_extraction": entity_extraction, **kwargs},
    )


def _or_another(name: str, kwargs: dict[str, Any]) -> str:
    """The model that a function is named after, with a warning, or the one that the caller prefers."""
    model: str | None = kwargs.pop("model", None)
    if model is None:
        # No DeprecationWarning: these are hidden outside __main__, and this one costs documents.
        warnings.warn(
            f"OpenAI shuts {name} down on {_SHUT_DOWN}; pass model='gpt-6-luna' (llm_model_kwargs in LightRAG) "
            "or use openai_complete with llm_model_name",
            FutureWarning,
            stacklevel=3,
        )
    return model or name
