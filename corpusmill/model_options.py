"""The model options that carry LightRAG's eleven names, as flags and as `OPENAI_LLM_<FIELD>`.

An option that is not set never reaches the wire: there are no defaults here, only types.
"""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _words(value: Any) -> Any:
    """A JSON list, or one plain word: `OPENAI_LLM_STOP=END` means that one."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        return orjson.loads(value)
    return [value] if isinstance(value, str) else value


def _json_object(value: Any) -> Any:
    return orjson.loads(value) if isinstance(value, str) else value


class ModelOptions(BaseModel):
    """What may be set for every completion; see the endpoint's own reference for what each does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frequency_penalty: float | None = Field(default=None, description="Penalty on tokens by how often they appeared.")
    max_completion_tokens: int | None = Field(default=None, gt=0, description="Cap on the output, reasoning included.")
    presence_penalty: float | None = Field(default=None, description="Penalty on tokens that appeared at all.")
    reasoning_effort: str | None = Field(default=None, description="none, minimal, low, medium, high, xhigh or max.")
    safety_identifier: str | None = Field(default=None, description="A stable name for the end user.")
    service_tier: str | None = Field(default=None, description="auto, default, flex, scale, priority or fast.")
    stop: Annotated[list[str], BeforeValidator(_words)] | None = Field(
        default=None, description="Sequences that end the output; a JSON list, or one word."
    )
    temperature: float | None = Field(default=None, description="Sampling temperature.")
    top_p: float | None = Field(default=None, description="Nucleus sampling.")
    max_tokens: int | None = Field(default=None, gt=0, description="The older cap on the output.")
    extra_body: Annotated[dict[str, Any], BeforeValidator(_json_object)] | None = Field(
        default=None, description="A JSON object that is merged into every request's body."
    )

    def as_dict(self) -> dict[str, Any]:
        """The options that are set."""
        return self.model_dump(exclude_none=True)
