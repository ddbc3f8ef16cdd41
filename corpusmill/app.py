"""The Celery app: configuration only, the same in producers, workers and schedulers.

Messages are wake-ups that carry ids; SQL is the truth, so a message that is lost or doubled does no harm.
A shard waits in one of six queues (`completion.high` … `embedding.low`), a tick in `control`. On Redis the key
of a queue is its name after `corpusmill:`, so that a Redis shared with somebody else's Celery stays in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError, OperationalError

from corpusmill.errors import SettingsError, Unavailable
from corpusmill.ledger.records import Priority, ShardRef

if TYPE_CHECKING:
    from corpusmill.settings import Settings

QueueKind = Literal["completion", "embedding"]
KINDS: tuple[QueueKind, ...] = get_args(QueueKind)
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
CONTROL = "control"
MESSAGE_VERSION = 1
KEY_PREFIX = "corpusmill:"
# Where workers say, by number, which jobs have just had something written.
WRITTEN_CHANNEL = "corpusmill:written"

# Longer than any shard should take. A second delivery is harmless (its claim finds the lease taken), so this
# only bounds how long the message of a killed worker stays in Redis.
VISIBILITY_TIMEOUT_S = 3600
# Without it a publish to a Redis that hangs waits for ever: kombu's default is none.
SOCKET_TIMEOUT_S = 10.0
# A consumer asks once a second. When nothing has come for so much longer, its connection is half-open: kombu's 25 s
# would leave a worker without work for up to 51.
HEALTH_CHECK_S = 8
CONNECT_TIMEOUT_S = 5.0


def queue_name(kind: QueueKind, priority: Priority) -> str:
    """The queue that a shard of this kind and priority waits in."""
    return f"{kind}.{priority}"


def task_name(kind: QueueKind) -> str:
    """The task that runs a shard of this kind; stable, part of the contract with producers."""
    return f"{kind}.run_shard"


SHARD_QUEUES: tuple[str, ...] = tuple(queue_name(kind, priority) for priority in PRIORITIES for kind in KINDS)


class TakingTurns:
    """The order in which a worker looks into its queues: by priority, and in turn among those of the same one.

    Kombu's `priority` strategy alone would look into `completion.normal` first for ever, and a long completion
    job would starve every embedding job.
    """

    def __init__(self, it: list[str] | None = None) -> None:
        self.items = it if it is not None else []

    def update(self, it: Iterable[str]) -> None:
        """Take over the queues consumed from now on."""
        self.items[:] = sorted(it, key=_urgency)

    def consume(self, n: int) -> list[str]:
        """The first `n` queues, most urgent first."""
        return self.items[:n]

    def rotate(self, last_used: str) -> str:
        """Put the queue that had its turn behind its equals."""
        if last_used in self.items:
            self.items.remove(last_used)
            self.items.append(last_used)
            self.items.sort(key=_urgency)
        return last_used


def _urgency(queue: str) -> int:
    _, _, priority = queue.partition(".")
    return PRIORITIES.index(priority) if priority in PRIORITIES else -1


class App(Celery):  # type: ignore[misc]  # celery is untyped
    """Celery, deaf to CELERY_BROKER_URL and CELERY_RESULT_BACKEND: those belong to the user's own app."""

    # Results are rows in SQL; a result backend would keep a copy of every return value in Redis.
    backend_cls = "disabled://"

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url
        super().__init__("corpusmill", broker=broker_url, set_as_current=False, loader="celery.loaders.app:AppLoader")

    def connection_for_read(self, url: str | None = None, **kwargs: Any) -> Any:
        """A connection for consuming."""
        return super().connection_for_read(url or self._url, **kwargs)

    def connection_for_write(self, url: str | None = None, **kwargs: Any) -> Any:
        """A connection for publishing."""
        return super().connection_for_write(url or self._url, **kwargs)

    def connection(self, hostname: str | None = None, **kwargs: Any) -> Any:
        """A connection, as monitors ask for it."""
        return super().connection(hostname or self._url, **kwargs)


def make_app(settings: Settings) -> App:
    """The app for these settings. Nothing connects before the first message.

    Raises:
        SettingsError: no broker is configured (the embedded session has one of its own).
    """
    if settings.broker_url is None:
        raise SettingsError(
            "no message broker is configured",
            next_step="set CORPUSMILL_BROKER_URL and CORPUSMILL_DATABASE_URL, or run `corpusmill up`",
        )
    app = App(settings.broker_url)
    app.conf.update(_configuration())
    return app


def _configuration() -> dict[str, Any]:
    return {
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "task_ignore_result": True,
        "task_queues": [_queue(name) for name in (*SHARD_QUEUES, CONTROL)],
        "task_default_queue": CONTROL,
        "task_default_exchange": CONTROL,
        "task_default_routing_key": CONTROL,
        "task_create_missing_queues": False,
        # A killed worker's message comes back; the claim makes a second delivery free.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        # Calls that are paid for go on while Redis is away; their results go to SQL.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_enable_remote_control": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": CONNECT_TIMEOUT_S,
        "broker_transport_options": _transport_options(),
        "beat_max_loop_interval": 1,
        "enable_utc": True,
        "timezone": "UTC",
    }


def _transport_options() -> dict[str, Any]:
    return {
        "global_keyprefix": KEY_PREFIX,
        "queue_order_strategy": "corpusmill.app:TakingTurns",
        # One list a queue: priorities are queues of their own here, 0 being most urgent only on Redis.
        "priority_steps": [0],
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_S,
    }


def _queue(name: str) -> Queue:
    exchange = Exchange(name, type="direct")  # type: ignore[no-untyped-call]
    return Queue(name, exchange, routing_key=name)  # type: ignore[no-untyped-call]


def message(ref: ShardRef) -> dict[str, int]:
    """What a shard's message says: ids and the version of the message, never a text or a key."""
    return {"v": MESSAGE_VERSION, "job_id": ref.job_id, "shard_no": ref.shard_no}


def publish(app: Celery, shards: Mapping[QueueKind, Mapping[Priority, Iterable[ShardRef]]]) -> int:
    """Send a wake-up for each shard, in one round trip or a few.

    Returns:
        How many messages were sent.

    Raises:
        Unavailable: the broker cannot be reached; how many messages arrived is unknown, which does no harm.
    """
    sent = 0
    try:
        with app.producer_or_acquire() as producer, producer.batch():
            for kind, by_priority in shards.items():
                for priority, refs in by_priority.items():
                    for ref in refs:
                        _send(app, producer, kind, priority, ref)
                        sent += 1
    except (KombuError, OperationalError, OSError, *app.connection_for_write().connection_errors) as error:
        raise broker_unavailable(app) from error
    return sent


def _send(app: Celery, producer: Any, kind: QueueKind, priority: Priority, ref: ShardRef) -> None:
    kwargs, queue = message(ref), queue_name(kind, priority)
    app.send_task(
        # What monitors show for the arguments; events do not name the queue otherwise.
        task_name(kind), kwargs=kwargs, kwargsrepr=repr(kwargs), argsrepr=queue,
        queue=queue, producer=producer, ignore_result=True,
    )  # fmt: skip


def broker_unavailable(app: Celery) -> Unavailable:
    """The error for a broker that does not answer, with its address and without its password."""
    return Unavailable(
        "the message broker cannot be reached",
        where=app.connection_for_write().as_uri(),
        next_step="start it, or correct CORPUSMILL_BROKER_URL; the jobs are safe in the database",
    )
