"""Does a Redis answer, and what does it say of itself: asked once, with no retry, before anything relies on it."""

from __future__ import annotations

from typing import Any

from corpusmill.errors import Unavailable
from corpusmill.urls import redis_url_of, without_password

WITHIN_S = 5.0


def redis_info(url: str, *, setting: str) -> dict[str, Any]:
    """What `INFO` says; `url` in Celery's spelling or redis-py's, `setting` the name that the advice is to give.

    Raises:
        Unavailable: it refuses the password, or it does not answer within 5 s.
    """
    # Here, because commands that ask no Redis must not pay for its import.
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    try:
        with redis.Redis.from_url(redis_url_of(url), socket_timeout=WITHIN_S, retry=Retry(NoBackoff(), 0)) as client:
            info: dict[str, Any] = client.info()
            return info
    except redis.AuthenticationError:
        # It is an error of the connection too: told apart first. Its text is the server's own, so not shown.
        what, next_step = "the password is refused", f"correct the name and password in {setting}"
    except (redis.RedisError, OSError, ValueError) as error:
        what, next_step = f"it does not answer: {type(error).__name__}", f"start it, or correct {setting}"
    raise Unavailable(f"{_named(setting)}: {what}", where=without_password(url), next_step=next_step)


def _named(setting: str) -> str:
    return "the message broker" if setting == "CORPUSMILL_BROKER_URL" else "the limiter's Redis"
