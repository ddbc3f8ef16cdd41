"""The limiter's Lua, each script joined from its files in `lua/`, and how a round of them goes to Redis."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

# Redis runs one text a script and has no imports: these parts go in front of each script, in this order.
PARTS = {
    "configure": ("clock", "bucket"),
    "reserve": ("clock", "bucket", "calls"),
    "settle": ("clock", "bucket", "calls"),
    "cool": ("clock", "bucket"),
    "presence": ("clock",),
    "look": ("clock", "bucket"),
}


@dataclass(frozen=True, slots=True)
class Call:
    """One script with its keys and arguments."""

    script: str
    keys: Sequence[str]
    args: Sequence[str | int | float]


@cache
def part(name: str) -> str:
    """The text of one file in `lua/`, without its `.lua`."""
    return resources.files("corpusmill.limits").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


@cache
def source(script: str) -> str:
    """The whole text of a script."""
    return "\n".join(part(name) for name in (*PARTS[script], script))


@cache
def digest(script: str) -> str:
    """What Redis knows the script by."""
    return hashlib.sha1(source(script).encode(), usedforsecurity=False).hexdigest()


async def run(redis: Redis, calls: Sequence[Call]) -> list[Any]:
    """Carry out `calls` in one round trip and return their replies.

    When Redis has lost the scripts they are loaded and all calls are sent again, so scripts must bear that: those
    that change levels know a call they have seen by its number.

    Raises:
        RedisError, OSError: Redis did not answer or refused a call; any of them may have been carried out.
    """
    try:
        return await _send(redis, calls)
    except NoScriptError:
        await _load(redis, {call.script for call in calls})
        return await _send(redis, calls)


async def _send(redis: Redis, calls: Sequence[Call]) -> list[Any]:
    async with redis.pipeline(transaction=False) as pipeline:
        for call in calls:
            pipeline.evalsha(digest(call.script), len(call.keys), *call.keys, *call.args)
        return await pipeline.execute()


async def _load(redis: Redis, names: set[str]) -> None:
    async with redis.pipeline(transaction=False) as pipeline:
        for name in sorted(names):
            pipeline.script_load(source(name))
        await pipeline.execute()
