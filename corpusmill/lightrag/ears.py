"""Hears by Redis pub/sub which jobs have just had something written; hears nothing while Redis is away."""

from __future__ import annotations

import time
from contextlib import suppress

import redis
from redis.client import PubSub

from corpusmill.app import WRITTEN_CHANNEL


class Ears:
    """Used by one thread at a time."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.Redis.from_url(redis_url, socket_connect_timeout=1.0)
        self._heard: PubSub = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._subscribed = False

    def listen(self, within_s: float) -> frozenset[int]:
        """The numbers of jobs that were announced next; none if nothing was within that time."""
        try:
            if not self._subscribed:
                self._heard.subscribe(WRITTEN_CHANNEL)
                self._subscribed = True
            message = self._heard.get_message(timeout=within_s)
        except redis.RedisError:
            self._subscribed = False
            time.sleep(within_s)
            return frozenset()
        data = message["data"] if message else b""
        return frozenset(int(number) for number in data.split()) if isinstance(data, bytes) else frozenset()

    def close(self) -> None:
        """Let go of the connection."""
        with suppress(redis.RedisError):
            self._heard.close()
        self._redis.close()
