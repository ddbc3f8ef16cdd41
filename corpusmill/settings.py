"""Everything that can be set, checked when it is made.

`corpusmill.toml` in the current folder, else in HOME < `.env` < environment < flags. An unknown name is refused
with the nearest known one. Exactly one of broker and database set is refused: neither means embedded, both a fleet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from corpusmill import secrecy
from corpusmill import settings_loading as loading
from corpusmill import settings_sources as sources
from corpusmill.endpoint import OPENAI_BASE_URL, Endpoint, Limits, fingerprint
from corpusmill.errors import SettingsError
from corpusmill.model_options import ModelOptions
from corpusmill.provider import Provider
from corpusmill.spec import endpoint_of
from corpusmill.urls import checked_broker, checked_database, redis_url_of, without_password

__all__ = ["OPENAI_BASE_URL", "Endpoint", "Limits", "Provider", "Retry", "Settings", "fingerprint"]


class Retry(BaseModel):
    """How often and how patiently a failed call is made again; waits for a limit do not count as attempts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: PositiveInt = Field(default=6, description="Calls for one item at most; rate-limit answers do not count.")
    min_s: PositiveFloat = Field(default=0.5, description="Seconds before the second attempt, doubled from there.")
    max_s: PositiveFloat = Field(default=60.0, description="Seconds between two attempts at most.")


class Flower(BaseModel):
    """The monitoring page: read-only, behind a password, on this host alone unless said otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    basic_auth: SecretStr | None = Field(
        default=None, description="NAME:PASSWORD; unset on 127.0.0.1: made up and printed."
    )
    address: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=5555, ge=0, le=65535, description="Port to listen on.")


class Settings(BaseSettings):
    """The settings of one process, made by `Settings.load()`; plain construction reads no file and no environment."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    # Absolute, because the supervisor and its children stand elsewhere than the command.
    home: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] = Field(
        default_factory=loading.default_home,
        description="Folder of the ledger and the journal; the default is the platform's user state folder.",
    )
    broker_url: Annotated[str, BeforeValidator(checked_broker)] | None = Field(
        default=None, description="Celery's queue: redis://…"
    )
    database_url: Annotated[str, BeforeValidator(checked_database)] | None = Field(
        default=None, description="The ledger: postgresql://… or sqlite:///…"
    )
    redis_url: str | None = Field(default=None, description="The limiter's Redis; unset: the broker's.")
    limits: Limits = Field(default=Limits(), description="What the endpoint allows the whole fleet.")
    window: PositiveInt = Field(default=1000, description="Requests in flight a worker process at most.")
    lease_s: PositiveFloat = Field(
        default=30.0, description="Seconds after which a silent worker's shards are others'."
    )
    grace_s: NonNegativeFloat = Field(default=60.0, description="Seconds that a worker may finish in after SIGTERM.")
    timeout_s: PositiveFloat = Field(default=300.0, description="Seconds one call may take in all.")
    retry: Retry = Field(default=Retry(), description="Retries of failed calls.")
    cache: bool = Field(default=True, description="Whether an answer paid for earlier is used again.")
    providers: dict[str, Provider] = Field(default_factory=dict, description="Endpoints by name, and pools of them.")
    prices: Path | None = Field(default=None, description="File with prices that override the shipped ones.")
    openai_llm: ModelOptions = Field(default=ModelOptions(), description="Options for every completion: OPENAI_LLM_….")
    flower: Flower = Field(default=Flower(), description="The monitoring page.")
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="Port of 127.0.0.1 for a process's /metrics and /healthz; 0: none."
    )
    max_rss_mb: NonNegativeInt = Field(
        default=2048, description="Memory in MB above which a worker drains and leaves, to be started anew; 0: never."
    )
    linger_s: NonNegativeFloat = Field(
        default=60.0, description="Seconds that the embedded supervisor stays after the last client and detached job."
    )
    viewer_s: NonNegativeFloat = Field(
        default=15.0, description="Seconds after which a job whose last viewer was killed is paused (embedded)."
    )

    _given: tuple[sources.Given, ...] = PrivateAttr(())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed in: `load` reads files and environment itself, to know each value's origin."""
        return (init_settings,)

    @classmethod
    def load(cls, cwd: Path | None = None, **overrides: Any) -> Self:
        """The settings as files, environment and `overrides` (fields; None: not said) give them.

        Raises:
            SettingsError: an unknown name, a value that cannot be, or only one of broker and database.
        """
        given = loading.gather(cwd or Path.cwd(), overrides)
        sources.refuse_unknown(given, KNOWN)
        try:
            settings = cls(**sources.nested(given))
        except ValidationError as error:
            raise loading.wrong(error, given) from None
        settings._given = tuple(given)
        return settings

    @model_validator(mode="after")
    def _pools_have_members(self) -> Self:
        for name, provider in self.providers.items():
            for member in provider.members:
                if member not in self.providers or self.providers[member].members:
                    raise ValueError(f"pool {name} has the member {member}, which is no single provider here")
        return self

    @model_validator(mode="after")
    def _broker_and_database_go_together(self) -> Self:
        if bool(self.broker_url) != bool(self.database_url):
            there, missing = ("BROKER", "DATABASE") if self.broker_url else ("DATABASE", "BROKER")
            raise SettingsError(
                f"CORPUSMILL_{there}_URL is set but CORPUSMILL_{missing}_URL is not",
                where="a fleet needs both; the embedded default needs neither",
                next_step=f"set CORPUSMILL_{missing}_URL, or unset CORPUSMILL_{there}_URL",
            )
        if self.broker_url and not self.redis_url:
            # Frozen for callers; the default of one field is another field, known only here.
            object.__setattr__(self, "redis_url", redis_url_of(self.broker_url))
        return self

    @model_validator(mode="after")
    def _kept_secret(self) -> Self:
        for url in (self.broker_url, self.database_url, self.redis_url):
            secrecy.learn_from_url(url)
        if self.flower.basic_auth is not None:
            secrecy.learn(self.flower.basic_auth.get_secret_value().partition(":")[2])
        return self

    @property
    def model_options(self) -> dict[str, Any]:
        """The options for completions that are set, by their names on the wire; flags go over them."""
        return self.openai_llm.as_dict()

    @property
    def embedded(self) -> bool:
        """Neither broker nor database is set: this machine's own supervisor serves."""
        return self.broker_url is None

    def provider(self, name: str | None = None) -> tuple[str, Provider]:
        """The provider by that name, or the one that is meant when none is named.

        Raises:
            SettingsError: there is none, or several and none is named.
        """
        if name is None:
            name = self._default_provider()
        name = name.lower()
        if name not in self.providers:
            known = ", ".join(sorted(self.providers)) or "none"
            raise SettingsError(
                f"there is no provider {name}",
                where=f"configured providers: {known}",
                next_step=f"set CORPUSMILL_PROVIDERS__{name.upper()}__BASE_URL and __API_KEY_FILE",
            )
        return name, self.providers[name]

    def _default_provider(self) -> str:
        if "openai" in self.providers:
            return "openai"
        inside = {member for provider in self.providers.values() for member in provider.members}
        outside = [name for name in self.providers if name not in inside]
        if len(outside) == 1:
            return outside[0]
        if not outside:
            raise no_key()
        raise SettingsError(
            f"several providers are configured: {', '.join(sorted(outside))}",
            next_step="say which one with --provider NAME",
        )

    def limits_for(self, name: str) -> Limits:
        """The limits of a provider: its own where set, the general ones elsewhere."""
        own = self.providers[name].limits
        return self.limits.model_copy(update=own.model_dump(exclude_unset=True)) if own else self.limits

    def endpoint(self, name: str) -> str:
        """What names a provider's endpoint in jobs and content keys: its address, or `pool:NAME`."""
        provider = self.providers[name]
        return endpoint_of(provider.address, pool=name if provider.members else None)

    def endpoints(self, name: str) -> tuple[Endpoint, ...]:
        """Where calls for this provider may go: one, or a pool's members; keys as they are now."""
        return tuple(self._endpoint(member) for member in self.providers[name].members or (name,))

    def _endpoint(self, name: str) -> Endpoint:
        provider = self.providers[name]
        return Endpoint(
            name=name,
            base_url=provider.url,
            api_key=provider.key(),
            kind=provider.kind,
            api_version=provider.api_version,
            deployment=provider.deployment,
            max_tokens_name=provider.max_tokens_name,
            headers=tuple((header, value.get_secret_value()) for header, value in provider.headers.items()),
            proxy=provider.proxy,
            timeout_s=self.timeout_s,
            charge=provider.charge,
            settle=provider.settle,
            limits=self.limits_for(name),
        )

    def lane(self, name: str, salt: bytes) -> tuple[str, str]:
        """The (endpoint, key fingerprint) that a job of this provider is bound to and a worker must hold.

        A pool is one lane whatever its members' keys are: a worker needs one member, and a rotated key changes nothing.
        """
        provider = self.providers[name]
        return self.endpoint(name), "pool" if provider.members else fingerprint(provider.key() or "", salt)

    def with_providers(self, providers: Mapping[str, Provider]) -> Self:
        """These settings with more providers, as a worker gets them from its supervisor."""
        return self.model_copy(update={"providers": {**self.providers, **providers}})

    def messages(self, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Providers as they are handed to a worker: pool members first, limits resolved, keys in clear."""
        wanted = list(self.providers) if names is None else list(names)
        wanted += [member for name in wanted for member in self.providers[name].members]
        ordered = sorted(dict.fromkeys(wanted), key=lambda name: bool(self.providers[name].members))
        return [self._message(name) for name in ordered]

    def _message(self, name: str) -> dict[str, Any]:
        return {
            "provider": name,
            **self.providers[name].as_message(),
            "limits": self.limits_for(name).model_dump(mode="json"),
        }

    def as_environment(self) -> dict[str, str]:
        """These settings as a child process reads them, without providers: those, with their keys, come by its pipe."""
        public = [path for path in KNOWN if "*" not in path and path[0] not in ("flower", "openai_llm")]
        values = {sources.name_of(path): _at(self, path) for path in public}
        return {name: str(value) for name, value in values.items() if value is not None}

    def origins(self) -> list[tuple[str, str, str]]:
        """Name, value and origin of every setting, secrets masked."""
        given = {one.path: one for one in self._given}
        return [
            (sources.name_of(path), shown(path, value), given[path].origin if path in given else "default")
            for path, value in _values(self, given)
        ]

    def called(self, *paths: tuple[str, ...]) -> str:
        """What to change for another value: the name of the first of `paths` that is set, as it was written.

        With the file when it stands in one; the usual name of the first path when none is set.
        """
        given = {one.path: one for one in self._given}
        one = next((given[path] for path in paths if path in given), None)
        if one is None:
            return sources.usual_name(paths[0])
        return one.name if one.place == "environment" else one.origin


def no_key() -> SettingsError:
    """What a new user sees first: no provider is configured."""
    return SettingsError(
        "no API key is set",
        where="looked for OPENAI_API_KEY, OPENAI_BASE_URL and CORPUSMILL_PROVIDERS__<NAME>__API_KEY",
        next_step="export OPENAI_API_KEY=sk-…  (or try it all without a key: corpusmill demo)",
    )


def shown(path: tuple[str, ...], value: Any) -> str:
    """A value as `corpusmill config` prints it; what could be a secret is masked."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, SecretStr) or "headers" in path or path[-1] == "extra_body":
        return "***"
    if path[-1].endswith("_url") or path[-1] == "proxy":
        return without_password(str(value))
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _values(settings: Settings, given: Mapping[tuple[str, ...], Any]) -> list[tuple[tuple[str, ...], Any]]:
    paths = [path for path in KNOWN if "*" not in path]
    return [(path, _at(settings, path)) for path in paths + [path for path in given if path not in paths]]


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        if value is None:
            return None
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part)
    return value


KNOWN = sources.known_paths(Settings)
