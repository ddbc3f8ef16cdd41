"""The other clients: which version, what each can do, and how much of the work it gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Peer:
    """One client.

    `program`: our module that drives it, and its arguments. `packages`: what is installed for it, pinned; none: it
    is among this project's own locked dependencies. `unresolved`: installed without its dependencies.
    `counts`: chunks of each kind of work in a turn, so that a turn takes seconds also with a slow client.
    `pack`: texts that share an embedding request. `limited`: measured under a limit as well.
    """

    name: str
    program: Sequence[str]
    distribution: str
    counts: dict[str, int]
    packages: Sequence[str] = ()
    unresolved: str = ""
    in_flight: dict[str, int] = field(default_factory=lambda: {"chat": 500, "embeddings": 8})
    pack: int = 1_500
    limited: bool = False

    @property
    def environment(self) -> str:
        """The name of its environment; empty: this one."""
        return self.distribution if self.packages else ""


# What litellm 1.109.1 asks for, less its `certifi>=2026.10.19`, a version that PyPI does not have. Two of its releases
# were taken over on PyPI (1.82.7 and 1.82.8), so it is pinned, and lives in an environment of its own.
_LITELLM_NEEDS = (
    "fastuuid>=0.14,<1", "filelock>=3.16,<5", "httpx[http2]>=0.28,<1", "openai==3.54.0", "python-dotenv>=1,<2",
    "pyyaml>=6,<7", "packaging>=24", "importlib-metadata>=8,<9", "tiktoken>=0.8,<1", "tokenizers>=0.21,<1",
    "huggingface-hub>=0.34,<2", "click>=8,<9", "jinja2>=3.1.6,<4", "aiohttp==3.14.5", "anyio>=4.14,<5",
    "pydantic>=2.11,<3", "pydantic-settings>=2.14,<3", "jsonschema>=4,<5", "boto3>=1.43,<2", "certifi",
    "typing-extensions>=4.13,<5",
)  # fmt: skip

PEERS = (
    Peer(
        "cookbook-style script",
        ("benchmarks.peers.cookbook",),
        "aiohttp",
        {"chat": 2_000, "embeddings": 15_000},
        limited=True,
    ),
    Peer(
        "flexllm",
        ("benchmarks.peers.flexllm",),
        "flexllm",
        {"chat": 3_000},
        packages=("flexllm==0.17.10",),
        limited=True,
    ),
    Peer(
        "saturate",
        ("benchmarks.peers.saturate",),
        "saturate",
        {"chat": 1_500, "embeddings": 15_000},
        packages=("saturate==0.2.0",),
        limited=True,
    ),
    Peer(
        "curator",
        ("benchmarks.peers.curator",),
        "bespokelabs-curator",
        {"chat": 1_500},
        packages=("bespokelabs-curator==0.1.31",),
        limited=True,
    ),
    Peer(
        "AsyncOpenAI.create, aiohttp transport",
        ("benchmarks.peers.async_openai", "aiohttp"),
        "openai",
        {"chat": 3_000, "embeddings": 15_000},
        limited=True,
    ),
    Peer(
        "AsyncOpenAI.create, httpx2",
        ("benchmarks.peers.async_openai", "httpx2"),
        "openai",
        {"chat": 1_500, "embeddings": 15_000},
    ),
    Peer(
        "LiteLLM Router",
        ("benchmarks.peers.litellm_router",),
        "litellm",
        {"chat": 600, "embeddings": 15_000},
        packages=_LITELLM_NEEDS,
        unresolved="litellm==1.109.1",
        limited=True,
    ),
    Peer(
        "LightRAG's functions",
        ("benchmarks.peers.lightrag_functions",),
        "lightrag-hku",
        {"chat": 200, "embeddings": 1_000},
        in_flight={"chat": 100, "embeddings": 16},
        pack=10,
    ),
    Peer(
        "a Celery task a chunk",
        ("benchmarks.peers.celery_worker",),
        "celery",
        {"chat": 400, "embeddings": 300},
        pack=1,
    ),
)
