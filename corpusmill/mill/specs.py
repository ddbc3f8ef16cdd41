"""The spec of a job: what its requests say, from what was asked and what is set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from corpusmill.errors import UsageError
from corpusmill.mill.ask import Ask
from corpusmill.settings import Settings
from corpusmill.spec import COMPLETIONS_PATH, EMBEDDINGS_PATH, JobSpec

# What a body holds anyway: `extra_body` must not talk past the job.
_OURS = ("model", "messages", "stream")


def completion_spec(ask: Ask, settings: Settings, provider: str) -> JobSpec:
    """The spec of a completion job; options that are asked for go over those that are set.

    Raises:
        UsageError: there is no prompt, what no request can carry, or an extra body that would contradict the job.
    """
    refuse_unsendable(model=ask.model, prompt=ask.prompt, system=ask.system, options=ask.options)
    if not (ask.prompt or "").strip():
        raise UsageError(
            "the prompt is empty", next_step="say what to do with each chunk: --prompt 'Summarise: {text}'"
        )
    options = wire_options({**settings.model_options, **ask.options}, _cap_name(settings, provider))
    return JobSpec(
        kind="completion",
        path=COMPLETIONS_PATH,
        model=ask.model,
        endpoint=settings.endpoint(provider),
        prompt=ask.prompt,
        system=ask.system,
        options=options,
    )


def embedding_spec(ask: Ask, settings: Settings, provider: str) -> JobSpec:
    """The spec of an embedding job.

    Raises:
        UsageError: the model's name is one that no request can carry.
    """
    refuse_unsendable(model=ask.model)
    return JobSpec(
        kind="embedding",
        path=EMBEDDINGS_PATH,
        model=ask.model,
        endpoint=settings.endpoint(provider),
        dimensions=ask.dimensions,
    )


def wire_options(options: Mapping[str, Any], cap_name: str) -> dict[str, Any]:
    """Options as they stand in the body: the extra body merged in, the output cap under the provider's own name.

    Raises:
        UsageError: the extra body holds what is the job's to say.
    """
    given = {name: value for name, value in options.items() if value is not None}
    extra = given.pop("extra_body", {})
    for name in _OURS:
        if name in extra:
            raise UsageError(
                f"the extra body must not hold `{name}`", next_step="give it by its own flag, or leave it out"
            )
    if cap_name not in given and "max_completion_tokens" in given:
        given[cap_name] = given.pop("max_completion_tokens")
    return {**given, **extra}


def refuse_unsendable(**said: Any) -> None:
    """Refuse what cannot be JSON: values of foreign types, and strings with half a character (a lone surrogate).

    Raises:
        UsageError: it names the first of `said` that cannot be sent.
    """
    for name, value in said.items():
        try:
            orjson.dumps(value)
        except TypeError as error:
            raise UsageError(
                f"the {name} cannot be sent: {error}", next_step="give text that is valid Unicode, and plain values"
            ) from None


def output_cap(spec: JobSpec) -> int | None:
    """The most tokens that one answer of the job may have, or None where nothing says it."""
    caps = [spec.options.get(name) for name in ("max_completion_tokens", "max_tokens")]
    return next((cap for cap in caps if isinstance(cap, int)), None)


def _cap_name(settings: Settings, provider: str) -> str:
    chosen = settings.providers.get(provider)
    first = settings.providers[chosen.members[0]] if chosen and chosen.members else chosen
    return first.max_tokens_name if first else "max_completion_tokens"
