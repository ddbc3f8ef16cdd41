"""The fleet's compose file says what the documentation promises of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("corpusmill:")]


def test_nothing_is_published_beyond_this_host() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:5555:5555"]


def test_the_queue_keeps_what_it_holds_and_asks_for_a_password() -> None:
    command = SERVICES["redis"]["command"]
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert "--requirepass" in command


@pytest.mark.parametrize("name", ["redis", "postgres", "worker", "scheduler", "flower", "simulator"])
def test_every_lasting_service_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", ["worker", "scheduler"])
def test_a_process_of_the_fleet_is_asked_for_its_health_where_it_answers(name: str) -> None:
    port = SERVICES[name]["command"][-1]
    assert SERVICES[name]["command"] == [name, "--metrics", port]
    assert f"http://127.0.0.1:{port}/healthz" in SERVICES[name]["healthcheck"]["test"][-1]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_run_without_privileges(name: str) -> None:
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


def test_the_image_runs_as_a_user_of_its_own() -> None:
    assert re.search(r"^USER corpusmill$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_a_worker_is_given_longer_to_stop_than_it_needs_to_drain() -> None:
    grace_s = 60
    assert int(SERVICES["worker"]["stop_grace_period"].removesuffix("s")) > grace_s


def test_a_journal_outlives_its_container() -> None:
    for name in ("worker", "scheduler"):
        assert any(volume.startswith("journal:") for volume in SERVICES[name]["volumes"])


def test_the_scheduler_sees_the_corpus_of_the_commands_and_cannot_change_it() -> None:
    corpus = next(volume for volume in SERVICES["cli"]["volumes"] if volume.endswith(":/corpus"))
    assert f"{corpus}:ro" in SERVICES["scheduler"]["volumes"]


def test_no_password_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert set(re.findall(r"\$\{\w*(?:PASSWORD|AUTH)\w*(:.)", text)) == {":?"}
