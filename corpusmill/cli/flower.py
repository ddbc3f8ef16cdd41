"""`corpusmill flower`: Flower over our queues, read-only and behind a password.

Flower runs in this process, so that neither a `flowerconfig.py` of the current folder (it would be executed) nor
FLOWER_ variables open what is closed here.
"""

from __future__ import annotations

import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corpusmill.cli.output import out
from corpusmill.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from corpusmill.settings import Settings

MOST_TASKS = 10_000
KEEP_EVERY_MS = 1000


def flower(
    *,
    address: Annotated[str | None, typer.Option(help="Address to listen on; default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default 5555, 0 for any free one.")] = None,
) -> None:
    """Watch queues, shards and workers in Flower, in a browser.

    Read-only, and only with name and password: CORPUSMILL_FLOWER__BASIC_AUTH=NAME:PASSWORD, or one that is made up
    and printed. On another address than this host's own it has to be set.
    """
    from corpusmill.settings import Settings

    settings = Settings.load(flower={"address": address, "port": port})
    credentials, made_up = _credentials(settings)
    with _fleet(settings) as (fleet, alive):
        _serve(fleet, credentials, alive, shown=credentials if made_up else None)


def _credentials(settings: Settings) -> tuple[str, bool]:
    """NAME:PASSWORD, and whether it was made up here."""
    configured = settings.flower.basic_auth
    if configured is not None:
        name, mark, password = configured.get_secret_value().partition(":")
        if not (name and mark and password):
            raise SettingsError("CORPUSMILL_FLOWER__BASIC_AUTH is not NAME:PASSWORD", next_step=_SET_IT)
        return configured.get_secret_value(), False
    if not is_loopback(settings.flower.address):
        raise SettingsError(
            f"Flower would listen on {settings.flower.address} with no password set",
            where="what it shows is for nobody's eyes but the operator's",
            next_step=_SET_IT,
        )
    return f"corpusmill:{secrets.token_urlsafe(12)}", True


_SET_IT = "export CORPUSMILL_FLOWER__BASIC_AUTH=NAME:PASSWORD"


def is_loopback(address: str) -> bool:
    """Whether only this host reaches the address."""
    try:
        return address == "localhost" or ip_address(address).is_loopback
    except ValueError:
        return False


@contextmanager
def _fleet(settings: Settings) -> Iterator[tuple[Settings, Callable[[], bool]]]:
    """A fleet's settings: the configured one's, or this machine's supervisor, which stays while we look."""
    if not settings.embedded:
        yield settings, lambda: True
        return
    from corpusmill.embedded.client import join

    with join(settings) as session:
        queue = session.settings.broker_url
        # A supervisor that had to be started again has its sockets elsewhere.
        yield session.settings, lambda: session.keep() and session.settings.broker_url == queue


def _serve(fleet: Settings, credentials: str, alive: Callable[[], bool], *, shown: str | None) -> None:
    from tornado.ioloop import IOLoop, PeriodicCallback

    from corpusmill.cli.flower_pages import application

    app = application(fleet, credentials, max_tasks=MOST_TASKS)
    _check_broker(app.capp)
    url = f"http://{fleet.flower.address}:{_listening(app, fleet)}"
    out.line(f"Flower: {url}")
    if shown:
        out.line(f"log in as {shown.replace(':', ' with password ', 1)}")
    # The one place where a password that was made up here can be learnt.
    out.result({"url": url, "basic_auth": shown})
    sys.stdout.flush()
    loop = IOLoop.current()
    PeriodicCallback(lambda: None if alive() else loop.stop(), KEEP_EVERY_MS).start()
    signal.signal(signal.SIGTERM, lambda *_: loop.add_callback_from_signal(loop.stop))
    try:
        app.start()
    finally:
        app.stop()


def _check_broker(celery: Any) -> None:
    """Flower itself would wait for a broker for ever, with nothing but log lines."""
    from corpusmill.app import broker_unavailable

    with celery.connection_for_read() as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=5)
        except Exception as error:
            raise broker_unavailable(celery) from error


def _listening(app: Any, fleet: Settings) -> int:
    try:
        port: int = app.start_http_server()
    except OSError as error:
        raise UsageError(
            f"Flower cannot listen on {fleet.flower.address}:{fleet.flower.port}: {error.strerror}",
            next_step="choose another --port",
        ) from error
    return port
