"""Where a call goes, in the words of LightRAG's functions and environment variables."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from corpusmill.endpoint import OPENAI_BASE_URL, Endpoint
from corpusmill.lightrag.failures import MissingKeyError
from corpusmill.spec import normalised

TIMEOUT_S = 600.0
_PLAIN_CONFIGS = frozenset({"base_url", "default_headers", "organization", "project", "timeout", "azure_endpoint"})
# Read by the SDK when a client is made; a client is kept, so they belong to what it is known by.
_READ_BY_THE_SDK = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
_READ_BY_AZURE = ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_AD_TOKEN", "OPENAI_API_VERSION")


@dataclass(frozen=True, slots=True)
class Where:
    """Where a call goes, in the words of LightRAG's functions; None: as the environment says."""

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    use_azure: bool = False
    azure_deployment: str | None = None
    api_version: str | None = None
    timeout: float | None = None
    client_configs: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def key(self) -> str | None:
        """The API key.

        Raises:
            MissingKeyError: neither given nor in the environment.
        """
        if self.use_azure:
            return self.api_key or os.environ.get("AZURE_OPENAI_API_KEY") or os.environ.get("LLM_BINDING_API_KEY")
        key = self.api_key or os.environ.get("OPENAI_API_KEY")
        if not key:
            raise MissingKeyError(
                "no API key is set",
                where="looked at the argument api_key and at OPENAI_API_KEY",
                next_step="pass api_key=… or set OPENAI_API_KEY (an endpoint without keys takes any word)",
            )
        return key

    def url(self) -> str:
        """The base URL; of an Azure resource the resource's."""
        if self.use_azure:
            configured = self.client_configs.get("azure_endpoint")
            return self.base_url or configured or os.environ.get("AZURE_OPENAI_ENDPOINT") or ""
        named = self.base_url or os.environ.get("OPENAI_API_BASE") or os.environ.get("OPENAI_BASE_URL")
        return named or OPENAI_BASE_URL

    def headers(self) -> dict[str, str]:
        """Headers that go with every call."""
        workspace = os.environ.get("DASHSCOPE_WORKSPACE_ID", "").strip()
        return {
            **(self.client_configs.get("default_headers") or {}),
            "Content-Type": "application/json",
            **({"X-DashScope-Workspace": workspace} if workspace else {}),
        }

    @property
    def named_timeout_s(self) -> float | None:
        """The deadline of one call that its caller named."""
        timeout = self.timeout if self.timeout is not None else self.client_configs.get("timeout")
        seconds = getattr(timeout, "read", timeout)
        return float(seconds) if isinstance(seconds, int | float) else None

    @property
    def timeout_s(self) -> float:
        """The total deadline of one call."""
        named = self.named_timeout_s
        return TIMEOUT_S if named is None else named

    @property
    def plain(self) -> bool:
        """Whether the pool can honour all of it."""
        configs = _PLAIN_CONFIGS - {"base_url"} if self.use_azure else _PLAIN_CONFIGS
        known = set(self.client_configs) <= configs
        return known and (not self.use_azure or bool(self.key() and self.url() and self.version()))

    def version(self) -> str | None:
        """Azure's API version."""
        return self.api_version or self.client_configs.get("api_version") or os.environ.get("OPENAI_API_VERSION")

    def endpoint(self) -> Endpoint:
        """The same for the pool; only where `plain`."""
        headers = self.headers() | {
            header: value
            for header, name in _READ_BY_THE_SDK.items()
            if (value := self.client_configs.get(header.removeprefix("OpenAI-").lower()) or os.environ.get(name))
        }
        return Endpoint(
            name="lightrag",
            base_url=normalised(self.url()),
            api_key=self.key(),
            kind="azure" if self.use_azure else "openai",
            api_version=self.version() if self.use_azure else None,
            deployment=self.azure_deployment if self.use_azure else None,
            headers=tuple(headers.items()),
            timeout_s=TIMEOUT_S,
        )

    @property
    def address(self) -> str:
        """What names the endpoint in content keys."""
        url = normalised(self.url() or "http://azure.invalid")
        return f"{url}/openai/deployments/{self.azure_deployment}" if self.use_azure and self.azure_deployment else url

    def known_by(self) -> Hashable:
        """Everything that shapes an SDK client."""
        environment = tuple(os.environ.get(name) for name in (*_READ_BY_THE_SDK.values(), *_READ_BY_AZURE))
        facts = (self.key(), self.url(), self.use_azure, self.azure_deployment, self.api_version, self.timeout)
        return (*facts, tuple(self.headers().items()), frozen(dict(self.client_configs)), environment)


def frozen(value: Any) -> Hashable:
    """`value` as part of a key; what cannot be compared is known by its identity."""
    if isinstance(value, Mapping):
        return tuple((name, frozen(each)) for name, each in sorted(value.items()))
    if isinstance(value, list | tuple):
        return tuple(frozen(each) for each in value)
    return value if isinstance(value, str | int | float | bool | None) else (type(value).__name__, id(value))
