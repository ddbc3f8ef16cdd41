"""The servers that tests run against do what tests count on."""

from __future__ import annotations

import redis

from tests.fixtures.valkey import Server


def test_each_test_gets_an_empty_server(bucket_url: str) -> None:
    with redis.Redis.from_url(bucket_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_a_killed_server_comes_back_on_the_same_url_without_its_data(valkey_server: Server) -> None:
    url = valkey_server.url
    with valkey_server.client() as client:
        client.set("a", "b")
    valkey_server.kill()
    valkey_server.start()
    with valkey_server.client() as client:
        assert (valkey_server.url, client.dbsize()) == (url, 0)


def test_the_server_listens_on_its_socket_too(valkey_server: Server) -> None:
    with redis.Redis(unix_socket_path=valkey_server.socket_path) as client:
        assert client.ping()
