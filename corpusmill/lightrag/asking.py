"""What a caller of the completion functions asks for, as the body of one request."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import orjson
from openai import NotGiven, Omit
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from corpusmill.lightrag.images import image_parts
from corpusmill.spec import COMPLETIONS_PATH, key_of_body

# What the SDK's `create` takes beside the fields of the body.
_OF_THE_CALL = ("extra_headers", "extra_query", "extra_body")
_JSON_OBJECT = {"type": "json_object"}
# These change how an answer travels, not what it says.
_OF_THE_DELIVERY = ("stream", "stream_options")


@dataclass(frozen=True, slots=True)
class Ask:
    """One completion: its body, and how its caller wants it.

    `timeout_s` None: the client's own. `headers` and `query` go with this call only.
    """

    body: Mapping[str, Any]
    enable_cot: bool = False
    timeout_s: float | None = None
    use_cache: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, object] = field(default_factory=dict)

    @property
    def stream(self) -> bool:
        """Whether the answer is to come in pieces."""
        return bool(self.body.get("stream"))

    @property
    def model(self) -> str:
        """The model as it goes over the wire."""
        return str(self.body["model"])

    def key(self, endpoint: str) -> bytes | None:
        """The content key at an endpoint; None for a body that has no canonical form."""
        body = {name: value for name, value in self.body.items() if name not in _OF_THE_DELIVERY}
        if self.query:
            body["extra_query"] = dict(self.query)
        try:
            return key_of_body(endpoint, COMPLETIONS_PATH, body)
        except TypeError:
            return None

    def not_streamed(self) -> Ask:
        """The same question, its answer to come in one piece."""
        body = {name: value for name, value in self.body.items() if name not in _OF_THE_DELIVERY}
        return replace(self, body=body)

    def wire(self) -> bytes:
        """The body as bytes."""
        try:
            return orjson.dumps(self.body)
        except TypeError:
            # Half a surrogate pair in a text, or a number beyond 64 bits: valid JSON all the same, escaped.
            return json.dumps(self.body, default=_as_plain).encode()


def ask(
    model: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    enable_cot: bool,
    stream: bool | None,
    timeout_s: float | None,
    use_cache: bool,
    options: Mapping[str, Any],
) -> Ask:
    """Put a request together; `options` are those of the SDK's `chat.completions.create`.

    Raises:
        TypeError: an option that it does not have, or a `response_format` that is no dict.
    """
    _refuse_unknown(options)
    form = options.get("response_format")
    if form is not None and not isinstance(form, dict):
        raise TypeError(
            "openai_complete_if_cache only supports dict response_format payloads; "
            "typed/Pydantic response_format values are not supported."
        )
    body: dict[str, Any] = {"model": model, "messages": messages}
    body |= {name: value for name, value in options.items() if name not in _OF_THE_CALL and not _is_unset(value)}
    if stream is not None:
        body["stream"] = stream
    if stream:
        # Without it no endpoint says what a stream cost.
        body.setdefault("stream_options", {"include_usage": True})
    body |= options.get("extra_body") or {}
    return Ask(
        body,
        enable_cot=enable_cot and form is None,
        timeout_s=timeout_s,
        use_cache=use_cache,
        headers=options.get("extra_headers") or {},
        query=options.get("extra_query") or {},
    )


def messages_of(
    prompt: str,
    system_prompt: str | None,
    history: Sequence[Mapping[str, Any]] | None,
    image_inputs: Sequence[Any] | None,
) -> list[Mapping[str, Any]]:
    """System prompt if there is one, history, and the prompt with its images."""
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    content: Any = [{"type": "text", "text": prompt}, *image_parts(image_inputs)] if image_inputs else prompt
    return [*system, *(history or ()), {"role": "user", "content": content}]


def with_json_shims(options: dict[str, Any], **flags: bool) -> dict[str, Any]:
    """`options`, where a deprecated flag that is set asks for a JSON object, unless a form is asked for already."""
    for name, is_set in flags.items():
        if is_set and options.get("response_format") is None:
            warnings.warn(
                f"openai_complete_if_cache({name}=True) is deprecated; "
                "pass response_format={'type': 'json_object'} instead.",
                DeprecationWarning,
                stacklevel=3,
            )
            options = {**options, "response_format": _JSON_OBJECT}
    return options


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    unknown = options.keys() - _known_options()
    if unknown:
        raise TypeError(f"AsyncCompletions.create() got an unexpected keyword argument {min(unknown)!r}")


@cache
def _known_options() -> frozenset[str]:
    return frozenset(CompletionCreateParamsBase.__annotations__) | frozenset(_OF_THE_CALL)


def _is_unset(value: Any) -> bool:
    return isinstance(value, NotGiven | Omit)


def _as_plain(value: Any) -> Any:
    """What the SDK sends for one of its own models, and for what else can say how it looks as JSON."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_unset=True)
    raise TypeError(f"{type(value).__name__} cannot be sent")
