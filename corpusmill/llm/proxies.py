"""Which proxy a call goes through: the configured one, else the environment's, never one for this machine itself."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # no stub

from corpusmill.errors import SettingsError


def proxy_for(base_url: str, configured: str | None) -> str | None:
    """The proxy's URL for calls to `base_url`, or None for none.

    `configured` is the provider's setting; an empty one means no proxy whatever the environment says. Otherwise
    HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY count, in either case, and a loopback address is always direct.

    Raises:
        SettingsError: the proxy is of a kind that is not supported.
    """
    proxy = configured if configured is not None else _from_environment(base_url)
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise SettingsError(
            f"a {urlsplit(proxy).scheme} proxy is not supported",
            where=f"the proxy for {urlsplit(base_url).hostname}",
            next_step="name an http:// or https:// proxy, or set the provider's proxy to an empty value for none",
        )
    return proxy


def _from_environment(base_url: str) -> str | None:
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    proxies = getproxies_environment()
    address = host if parts.port is None else f"{host}:{parts.port}"
    if _is_this_machine(host) or proxy_bypass_environment(address, proxies):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.endswith(".localhost")
