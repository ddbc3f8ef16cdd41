"""One provider as it is set: where it is, how it is signed, what it allows."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from corpusmill import secrecy
from corpusmill.endpoint import OPENAI_BASE_URL, Charge, Formula, Limits, MaxTokensName, Settle
from corpusmill.errors import SettingsError
from corpusmill.spec import normalised


def _trimmed(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _usable_key(value: Any) -> Any:
    """Trim what copying adds; refuse what no header can carry, here rather than in the middle of a job."""
    raw = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(raw, str):
        return raw
    raw = raw.strip()
    if not re.fullmatch(r"[\x21-\x7e]*", raw):
        raise ValueError("it holds a space, a line break or a character outside ASCII")
    return SecretStr(raw)


def _names(value: Any) -> Any:
    """`a,b` from an environment variable, a list from TOML."""
    return [name.strip().lower() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def _json_object(value: Any) -> Any:
    return orjson.loads(value) if isinstance(value, str) else value


def _formula(value: Any) -> Any:
    """A name, or figures as JSON, in a file as in an environment variable."""
    try:
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = orjson.loads(value)
        return Formula.model_validate(value) if isinstance(value, dict) else value
    except ValueError:
        raise ValueError(
            'openai, azure, or figures such as {"max_output": 1, "characters": 0.25, "combine": "sum"}'
        ) from None


def _base_url(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not re.match(r"https?://[^/\s]", value.strip(), re.IGNORECASE):
        raise ValueError("a base URL starts with http:// or https:// and names a host")
    return normalised(value)


Key = Annotated[SecretStr, BeforeValidator(_usable_key)]


class Provider(BaseModel):
    """An endpoint that speaks OpenAI's dialect, or a pool of such (`members`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: Annotated[str, BeforeValidator(_base_url)] | None = Field(
        default=None, description=f"Where paths such as /chat/completions are appended; unset: {OPENAI_BASE_URL}."
    )
    api_key: Key | None = Field(default=None, description="The key; never written to disk, queue or log.")
    api_key_file: Path | None = Field(default=None, description="A file with the key; read again when it changes.")
    limits: Limits | None = Field(
        default=None, description="This provider's own limits; unset fields are the general ones."
    )
    members: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(
        default=(), description="Makes it a pool: the names of providers that serve the same models."
    )
    kind: Literal["openai", "azure"] = Field(default="openai", description="Azure signs and addresses differently.")
    api_version: str | None = Field(default=None, description="Azure's API version.")
    deployment: str | None = Field(default=None, description="Azure's deployment; unset: the model's name.")
    max_tokens_name: MaxTokensName = Field(
        default="max_completion_tokens", description="The name by which the endpoint knows an output cap."
    )
    headers: Annotated[dict[str, SecretStr], BeforeValidator(_json_object)] = Field(
        default_factory=dict, description="Sent with every call; as JSON in an environment variable."
    )
    proxy: Annotated[str, BeforeValidator(_trimmed)] | None = Field(
        default=None, description="HTTP proxy for this provider."
    )
    charge: Annotated[Charge, BeforeValidator(_formula)] = Field(
        default="openai",
        description="How a request is counted against the token limit: openai (the larger of output cap and characters "
        '/ 4), azure (their sum), or figures as JSON: {"max_output": 1, "characters": 0.25, "combine": "sum"}.',
    )
    settle: Settle = Field(
        default="estimate", description="Whether the endpoint gives back what was estimated too high."
    )

    @model_validator(mode="after")
    def _one_way_to_be(self) -> Provider:
        if self.api_key and self.api_key_file:
            raise ValueError("api_key and api_key_file are both set; keep one")
        if self.members and (self.base_url or self.api_key or self.api_key_file):
            raise ValueError("a pool has members only; base_url and key belong to them")
        if self.kind == "azure" and not self.members and not (self.base_url and self.api_version):
            raise ValueError("azure needs base_url and api_version")
        return self

    @model_validator(mode="after")
    def _kept_secret(self) -> Provider:
        headers = (value.get_secret_value() for value in self.headers.values())
        secrecy.learn(self.api_key.get_secret_value() if self.api_key else None, *headers)
        secrecy.learn_from_url(self.proxy)
        return self

    @property
    def url(self) -> str:
        """The base URL in effect, normalised."""
        return self.base_url or OPENAI_BASE_URL

    @property
    def address(self) -> str:
        """What names this endpoint in jobs and keys: the base URL, and Azure's deployment where one is set."""
        return f"{self.url}/openai/deployments/{self.deployment}" if self.deployment else self.url

    @property
    def has_credentials(self) -> bool:
        """Whether anything is set that may serve as a key: key, key file, headers; a pool's are its members' own."""
        return bool(self.members or self.headers or self.api_key_file or self.key())

    def key(self) -> str | None:
        """The key as it is now: a key file is read again when it has changed.

        Raises:
            SettingsError: the key file cannot be read, is empty, or holds no usable key.
        """
        if self.api_key_file is None:
            return (self.api_key.get_secret_value() or None) if self.api_key else None
        try:
            stat = self.api_key_file.stat()
            return _key_in(self.api_key_file, (stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise SettingsError(
                f"the key file cannot be used: {reason}",
                where=str(self.api_key_file),
                next_step="write the key, and nothing else, into that file",
            ) from error

    def as_message(self) -> dict[str, Any]:
        """Every field that is set, secrets in clear: for a socket or pipe to our own processes, never for a disk."""
        data = self.model_dump(mode="json", exclude_unset=True, exclude={"api_key", "headers"})
        if self.api_key:
            data["api_key"] = self.api_key.get_secret_value()
        if self.headers:
            data["headers"] = {name: value.get_secret_value() for name, value in self.headers.items()}
        return data


@lru_cache(maxsize=64)
def _key_in(path: Path, _version: tuple[int, int, int]) -> str:
    key: SecretStr = _usable_key(path.read_text(encoding="utf-8"))
    if not key.get_secret_value():
        raise ValueError("it is empty")
    secrecy.learn(key.get_secret_value())
    return key.get_secret_value()
