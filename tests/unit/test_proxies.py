"""Proxies are used on purpose: the configured one, the environment's, never one for this machine itself."""

from __future__ import annotations

import pytest

from corpusmill.errors import SettingsError
from corpusmill.llm.proxies import proxy_for

OPENAI = "https://api.openai.com/v1"


@pytest.fixture(autouse=True)
def no_proxies_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_without_any_proxy_calls_go_straight() -> None:
    assert proxy_for(OPENAI, None) is None


def test_the_environments_proxy_is_that_of_the_urls_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://secure.example:3128")
    monkeypatch.setenv("http_proxy", "http://plain.example:3128")
    assert proxy_for(OPENAI, None) == "http://secure.example:3128"
    assert proxy_for("http://vllm.example/v1", None) == "http://plain.example:3128"


def test_all_proxy_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "proxy.example:3128")
    assert proxy_for(OPENAI, None) == "http://proxy.example:3128"


def test_no_proxy_names_hosts_to_reach_straight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "openai.com,other.example")
    assert proxy_for(OPENAI, None) is None
    assert proxy_for("https://api.mistral.ai/v1", None) is not None


@pytest.mark.parametrize("host", ["127.0.0.1:8901", "localhost:8901", "[::1]:8901", "demo.localhost"])
def test_this_machine_is_never_reached_through_the_environments_proxy(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    assert proxy_for(f"http://{host}/v1", None) is None


def test_the_configured_proxy_comes_first_and_an_empty_one_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert proxy_for(OPENAI, "http://mine.example:1") == "http://mine.example:1"
    assert proxy_for(OPENAI, "") is None


def test_a_socks_proxy_is_refused_with_the_way_out() -> None:
    with pytest.raises(SettingsError, match="socks5 proxy is not supported") as caught:
        proxy_for(OPENAI, "socks5://user:password@proxy.example:1080")
    assert "password" not in str(caught.value)
