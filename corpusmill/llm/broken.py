"""Calls that got no reply: which failure the transport's exception stands for, and what is safe to tell of it.

Never the exception's own text: it may show a proxy's password.
"""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Callable

import aiohttp

CONNECT_S = 10.0

Read = Callable[[BaseException], tuple[str, str | None]]


def failure_of(cause: BaseException) -> tuple[str, str | None]:
    """The failure class, and a detail for its message."""
    for kind, read in _READINGS:
        if isinstance(cause, kind):
            return read(cause)
    return "connection_lost", None


def _certificate(cause: BaseException) -> tuple[str, str | None]:
    refused = getattr(cause, "certificate_error", None)
    return "tls", f"certificate not trusted: {getattr(refused, 'verify_message', 'no reason given')}"


def _proxy_status(cause: BaseException) -> tuple[str, str | None]:
    status = getattr(cause, "status", 0)
    # Only these are the proxy's own decision; any other may pass.
    return ("proxy" if status in (401, 403, 407) else "connection"), f"the proxy answers {status}"


def _os_error(cause: BaseException) -> tuple[str, str | None]:
    number: int = getattr(cause, "errno", None) or 0
    return "connection", os.strerror(number).lower() if number in errno.errorcode else None


def _always(failure: str, detail: str | None = None) -> Read:
    return lambda _cause: (failure, detail)


# The first that fits: special ones stand before those they derive from.
_READINGS: tuple[tuple[type[BaseException], Read], ...] = (
    (aiohttp.ClientConnectorCertificateError, _certificate),
    (aiohttp.ClientSSLError, _always("tls", "the TLS handshake failed")),
    (ssl.SSLError, _always("tls", "the TLS handshake failed")),
    (aiohttp.ClientHttpProxyError, _proxy_status),
    (aiohttp.ClientConnectorDNSError, _always("connection", "host name not known")),
    (aiohttp.ClientConnectorError, _os_error),
    (aiohttp.ConnectionTimeoutError, _always("connection", f"no connection within {CONNECT_S:.0f} s")),
    (TimeoutError, _always("timeout")),
    (aiohttp.InvalidURL, _always("not_found", "not a URL")),
)
