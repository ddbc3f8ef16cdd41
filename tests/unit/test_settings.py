from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corpusmill.endpoint import Formula
from corpusmill.errors import SettingsError
from corpusmill.settings import Provider, Settings, fingerprint
from corpusmill.urls import without_password

ENVIRONMENT_OF_OURS = ("CORPUSMILL_", "OPENAI_")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in os.environ:
        if name.startswith(ENVIRONMENT_OF_OURS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CORPUSMILL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield


def message(**overrides: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.load(**overrides)
    return str(caught.value)


def test_with_nothing_set_it_is_embedded_and_knows_no_provider() -> None:
    settings = Settings.load()
    assert settings.embedded
    assert settings.providers == {}
    assert settings.redis_url is None


def test_flags_beat_environment_beats_dotenv_beats_toml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "corpusmill.toml").write_text("window = 1\nlease_s = 1\ngrace_s = 1\ntimeout_s = 1\n")
    (tmp_path / ".env").write_text("CORPUSMILL_WINDOW=2\nCORPUSMILL_LEASE_S=2\nCORPUSMILL_GRACE_S=2\n")
    monkeypatch.setenv("CORPUSMILL_WINDOW", "3")
    monkeypatch.setenv("CORPUSMILL_LEASE_S", "3")
    settings = Settings.load(window=4)
    assert (settings.window, settings.lease_s, settings.grace_s, settings.timeout_s) == (4, 3, 2, 1)


def test_the_file_in_home_counts_only_where_the_current_folder_has_none(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "corpusmill.toml").write_text("window = 7\n")
    assert Settings.load().window == 7
    (tmp_path / "corpusmill.toml").write_text("lease_s = 5\n")
    assert (Settings.load().window, Settings.load().lease_s) == (1000, 5)


def test_home_is_absolute_however_it_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Settings(home=Path("here")).home == tmp_path / "here"
    monkeypatch.setenv("CORPUSMILL_HOME", "there")
    assert Settings.load().home == tmp_path / "there"


def test_an_empty_environment_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORPUSMILL_LIMITS__RPM", "")
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    assert Settings.load().limits.rpm is None
    assert Settings.load().providers == {}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("CORPUSMILL_LIMITS__TPMM", "CORPUSMILL_LIMITS__TPM"),
        ("CORPUSMILL_BROKER", "CORPUSMILL_BROKER_URL"),
        ("CORPUSMILL_PROVIDERS__MAIN__APIKEY", "CORPUSMILL_PROVIDERS__MAIN__API_KEY"),
        ("OPENAI_LLM_TEMPRATURE", "OPENAI_LLM_TEMPERATURE"),
        ("CORPUSMILL_RETRY__ATTEMPT", "CORPUSMILL_RETRY__ATTEMPTS"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(
    monkeypatch: pytest.MonkeyPatch, name: str, near: str
) -> None:
    monkeypatch.setenv(name, "1")
    assert message().splitlines()[:2] == [f"unknown setting {name}, did you mean {near}?", "environment"]


def test_an_unknown_name_in_a_file_is_refused_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "corpusmill.toml").write_text("[limits]\nrmp = 5\n")
    assert message().splitlines()[:2] == [
        "unknown setting limits.rmp, did you mean limits.rpm?",
        str(tmp_path / "corpusmill.toml"),
    ]


def test_another_programs_openai_llm_name_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_LLM_WEBHOOK_HOST", "x")
    assert Settings.load().model_options == {}


def test_a_wrong_value_is_told_by_name_and_place_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORPUSMILL_WINDOW", "many")
    assert message().startswith("CORPUSMILL_WINDOW: ")
    monkeypatch.delenv("CORPUSMILL_WINDOW")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARY with space")
    text = message()
    assert text.startswith("OPENAI_API_KEY: it holds a space")
    assert "CANARY" not in text


def test_a_file_that_is_no_toml_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "corpusmill.toml").write_text("window = \n")
    assert str(tmp_path / "corpusmill.toml") in message()
    assert "move it away" in message()


@pytest.mark.parametrize(
    ("there", "url", "missing"),
    [("BROKER", "redis://h", "DATABASE"), ("DATABASE", "sqlite:///x", "BROKER")],
)
def test_one_of_broker_and_database_alone_is_refused_naming_the_other(
    monkeypatch: pytest.MonkeyPatch, there: str, url: str, missing: str
) -> None:
    monkeypatch.setenv(f"CORPUSMILL_{there}_URL", url)
    assert f"CORPUSMILL_{missing}_URL is not" in message()


def test_a_fleets_limiter_lives_in_the_brokers_redis_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORPUSMILL_DATABASE_URL", "postgresql://u:p@h/db")
    monkeypatch.setenv("CORPUSMILL_BROKER_URL", "redis://h:1/2")
    settings = Settings.load()
    assert not settings.embedded
    assert settings.redis_url == "redis://h:1/2"
    assert settings.database_url == "postgresql+psycopg://u:p@h/db"
    monkeypatch.setenv("CORPUSMILL_BROKER_URL", "redis+socket:///run/v.sock?virtual_host=1")
    assert Settings.load().redis_url == "unix:///run/v.sock?db=1"


def test_the_sdks_own_names_make_the_provider_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_BASE", "http://older/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", "HTTP://Local:80/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", "  sk-1\n")
    settings = Settings.load()
    name, provider = settings.provider()
    assert (name, provider.url, provider.key()) == ("openai", "http://local/v1", "sk-1")
    assert settings.endpoint("openai") == "http://local/v1"


def test_without_a_provider_the_error_says_how_to_set_a_key_and_names_the_demo() -> None:
    with pytest.raises(SettingsError, match=r"export OPENAI_API_KEY=.*corpusmill demo"):
        Settings.load().provider()


def test_the_only_provider_is_meant_when_none_is_named_and_a_pool_hides_its_members() -> None:
    members = {"a": {"base_url": "http://a/v1"}, "b": {"base_url": "http://b/v1"}}
    assert Settings.load(providers={"a": members["a"]}).provider()[0] == "a"
    with pytest.raises(SettingsError, match="several providers are configured: a, b"):
        Settings.load(providers=members).provider()
    pooled = Settings.load(providers={**members, "both": {"members": "a,b"}})
    assert pooled.provider()[0] == "both"
    assert pooled.endpoint("both") == "pool:both"
    assert [endpoint.name for endpoint in pooled.endpoints("both")] == ["a", "b"]


def test_a_pool_of_unknown_members_is_refused() -> None:
    assert "pool both has the member c" in message(providers={"both": {"members": ["c"]}})


def test_a_key_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-one\n")
    provider = Settings.load(providers={"main": {"api_key_file": "key"}}).provider()[1]
    assert provider.key() == "sk-one"
    file.write_text("sk-other\n")
    assert provider.key() == "sk-other"
    file.unlink()
    with pytest.raises(SettingsError, match="the key file cannot be used"):
        provider.key()


def test_a_key_in_a_stronger_place_wins_over_a_key_file_in_a_weaker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "corpusmill.toml").write_text('[providers.openai]\napi_key_file = "key"\n')
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
    assert Settings.load().provider()[1].key() == "sk-env"


def test_two_keys_in_one_place_are_refused() -> None:
    assert "keep one" in message(providers={"m": {"api_key": "a", "api_key_file": "b"}})


def test_a_providers_limits_go_over_the_general_ones_field_by_field() -> None:
    settings = Settings.load(limits={"rpm": 5, "tpm": 6}, providers={"m": {"limits": {"tpm": 7}}})
    limits = settings.limits_for("m")
    assert (limits.rpm, limits.tpm) == (5, 7)


def test_a_provider_may_charge_by_figures_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORPUSMILL_PROVIDERS__X__BASE_URL", "http://x/v1")
    monkeypatch.setenv("CORPUSMILL_PROVIDERS__X__CHARGE", '{"characters": 0.3, "combine": "max"}')
    settings = Settings.load()
    assert settings.endpoints("x")[0].charge == Formula(characters=0.3, combine="max")
    assert Provider(**settings.providers["x"].as_message()) == settings.providers["x"]
    monkeypatch.setenv("CORPUSMILL_PROVIDERS__X__CHARGE", '{"letters": 0.3}')
    assert 'PROVIDERS__X__CHARGE: openai, azure, or figures such as {"max_output"' in message()


def test_the_model_options_that_are_set_and_no_others_come_out_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_LLM_TEMPERATURE", "0.5")
    monkeypatch.setenv("OPENAI_LLM_STOP", '["a", "b"]')
    monkeypatch.setenv("OPENAI_LLM_EXTRA_BODY", '{"store": false}')
    monkeypatch.setenv("OPENAI_LLM_MAX_TOKENS", "")
    assert Settings.load().model_options == {"temperature": 0.5, "stop": ["a", "b"], "extra_body": {"store": False}}


def test_config_names_every_origin_and_masks_every_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "corpusmill.toml").write_text('window = 5\n[providers.m.headers]\nX-Key = "CANARY"\n')
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARY")
    monkeypatch.setenv("CORPUSMILL_DATABASE_URL", "postgresql://u:CANARY@h/db")
    monkeypatch.setenv("CORPUSMILL_BROKER_URL", "redis://:CANARY@h/0")
    lines = {name: (value, origin) for name, value, origin in Settings.load().origins()}
    assert lines["CORPUSMILL_WINDOW"] == ("5", f"window ({tmp_path / 'corpusmill.toml'})")
    assert lines["CORPUSMILL_PROVIDERS__OPENAI__API_KEY"] == ("***", "OPENAI_API_KEY (environment)")
    assert lines["CORPUSMILL_LEASE_S"] == ("30.0", "default")
    assert lines["CORPUSMILL_CACHE"] == ("on", "default")
    assert "CANARY" not in str(lines)


def test_advice_names_a_setting_as_it_was_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "corpusmill.toml"
    file.write_text('[providers.m]\nbase_url = "http://127.0.0.1:9/v1"\n')
    monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("CORPUSMILL_PROVIDERS__OPENAI__API_KEY_FILE", "key")
    settings, openai, m = Settings.load(), ("providers", "openai"), ("providers", "m")
    said = {
        name: (settings.called((*at, "base_url")), settings.called((*at, "api_key"), (*at, "api_key_file")))
        for name, at in (("openai", openai), ("m", m))
    }
    assert said["openai"] == ("OPENAI_API_BASE", "CORPUSMILL_PROVIDERS__OPENAI__API_KEY_FILE")
    assert said["m"] == (f"providers.m.base_url ({file})", "CORPUSMILL_PROVIDERS__M__API_KEY")
    assert Settings().called((*openai, "api_key")) == "OPENAI_API_KEY"


def test_a_childs_environment_holds_every_setting_and_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARY")
    settings = Settings.load(limits={"rpm": 5}, window=9, home=tmp_path / "h")
    environment = settings.as_environment()
    assert "CANARY" not in str(environment)
    monkeypatch.delenv("OPENAI_API_KEY")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CORPUSMILL_CHILD", "1")
    (tmp_path / "corpusmill.toml").write_text("window = 1\ntimeout_s = 1\n")
    child = Settings.load()
    assert (child.limits.rpm, child.window, child.timeout_s, child.home) == (5, 9, 300, tmp_path / "h")


def test_a_provider_handed_over_by_message_is_the_same_provider() -> None:
    settings = Settings.load(
        limits={"rpm": 3},
        providers={
            "a": {"base_url": "http://a/v1", "api_key": "sk-a", "headers": {"X-A": "1"}},
            "pool": {"members": ["a"]},
        },
    )
    messages = settings.messages(["pool"])
    assert [one["provider"] for one in messages] == ["a", "pool"]
    handed = Provider(**{name: value for name, value in messages[0].items() if name != "provider"})
    assert (handed.key(), handed.url, handed.limits and handed.limits.rpm) == ("sk-a", "http://a/v1", 3)
    assert Settings.load().with_providers({"a": handed}).endpoints("a")[0].headers == (("X-A", "1"),)


def test_no_repr_shows_a_key() -> None:
    settings = Settings.load(providers={"a": {"api_key": "sk-CANARY", "headers": {"h": "CANARY"}}})
    assert "CANARY" not in repr(settings) + repr(settings.endpoints("a"))


def test_a_key_without_a_space_but_with_an_odd_character_is_refused() -> None:
    assert "outside ASCII" in message(providers={"a": {"api_key": "sk\u20131"}})


def test_fingerprints_depend_on_key_and_salt_and_tell_neither() -> None:
    assert fingerprint("k", b"s") == fingerprint("k", b"s") != fingerprint("k", b"t")
    assert len(fingerprint("k", b"s")) == 16


def test_a_lane_of_a_pool_does_not_change_with_its_members_keys() -> None:
    providers = {"a": {"api_key": "sk-1"}, "p": {"members": ["a"]}}
    assert Settings.load(providers=providers).lane("p", b"s") == ("pool:p", "pool")
    assert Settings.load(providers=providers).lane("a", b"s")[1] == fingerprint("sk-1", b"s")


def test_urls_are_shown_without_their_password() -> None:
    assert without_password("postgresql://u:secret@h:5/db") == "postgresql://u:***@h:5/db"
    assert without_password("postgresql:///db?host=/run&password=secret") == "postgresql:///db?host=/run&password=***"
    assert without_password("sqlite:////home/ledger.db") == "sqlite:////home/ledger.db"
