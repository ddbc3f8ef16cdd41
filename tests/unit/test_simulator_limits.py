"""The simulator's limits: what is let through, what is refused, and what the headers say of it."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmill.simulator.durations import go_duration
from corpusmill.simulator.errors import Refused
from corpusmill.simulator.limits import Limits
from corpusmill.simulator.options import Options


def headers_of(raw: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in raw.decode().splitlines())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "0s"),
        (0.086, "86ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (90, "1m30s"),
        (360, "6m0s"),
        (3723.5, "1h2m3.5s"),
    ],
)
def test_durations_are_spelt_as_go_spells_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_a_full_bucket_lets_through_its_depth_and_then_its_rate() -> None:
    lane = Limits(Options(rpm=600, depth_s=2)).lane("key", "model", 0.0)
    for _ in range(20):
        lane.admit(1, 0.0)
    with pytest.raises(Refused):
        lane.admit(1, 0.0)
    for tenth in range(1, 11):
        lane.admit(1, tenth / 10)
        with pytest.raises(Refused):
            lane.admit(1, tenth / 10)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 400)), max_size=200))
def test_no_stretch_of_time_gets_more_than_depth_and_refill(steps: list[tuple[float, int]]) -> None:
    options = Options(tpm=6000, depth_s=2)
    lane, now, taken = Limits(options).lane("key", "model", 0.0), 0.0, 0
    for pause_s, tokens in steps:
        now += pause_s
        try:
            lane.admit(tokens, now)
        except Refused:
            continue
        taken += tokens
    # One request larger than what the bucket holds goes into debt: at most that much more.
    assert taken <= 200 + 100 * now + 200 + 1e-3


def test_a_refusal_for_tokens_says_openai_s_words_and_has_used_up_a_request() -> None:
    lane = Limits(Options(rpm=600, tpm=6000, depth_s=1)).lane("key", "gpt-6-luna", 0.0)
    lane.admit(100, 0.0)
    with pytest.raises(Refused) as refused:
        lane.admit(50, 0.0)
    error = orjson.loads(refused.value.body)["error"]
    headers = headers_of(refused.value.headers)
    assert refused.value.status == 429
    assert (error["type"], error["code"]) == ("tokens", "rate_limit_exceeded")
    assert "tokens per min (TPM): Limit 6000, Used 6000, Requested 50. Please try again in 500ms." in error["message"]
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("1", "500")
    assert headers["x-ratelimit-remaining-requests"] == "8"


def test_a_request_over_a_whole_minute_is_refused_for_good() -> None:
    lane = Limits(Options(tpm=6000)).lane("key", "model", 0.0)
    with pytest.raises(Refused) as refused:
        lane.admit(6001, 0.0)
    assert b"Request too large" in refused.value.body
    assert b"retry-after" not in refused.value.headers


def test_a_request_over_the_bucket_goes_into_debt_when_the_bucket_is_full() -> None:
    lane = Limits(Options(tpm=6000, depth_s=1)).lane("key", "model", 0.0)
    lane.admit(300, 0.0)
    with pytest.raises(Refused):
        lane.admit(1, 1.9)
    lane.admit(1, 2.1)


def test_traffic_that_grows_too_fast_is_told_to_slow_down() -> None:
    lane = Limits(Options(growth=0.5)).lane("key", "model", 0.0)

    def let_through(second: int) -> int:
        for sent in range(100):
            try:
                lane.admit(1, second)
            except Refused as refused:
                assert orjson.loads(refused.body)["error"]["code"] == "slow_down"
                return sent
        return 100

    # A few are free, then each second brings half as many again; after a silent one it begins anew.
    assert [let_through(second) for second in (0, 1, 2, 4)] == [20, 30, 45, 20]


def test_headers_tell_limit_remaining_and_the_time_until_full() -> None:
    lane = Limits(Options(rpm=600, tpm=6000, depth_s=10)).lane("key", "model", 0.0)
    lane.admit(250, 0.0)
    assert headers_of(lane.headers()) == {
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "99",
        "x-ratelimit-reset-requests": "100ms",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "750",
        "x-ratelimit-reset-tokens": "2.5s",
    }


def test_without_limits_there_are_no_headers_of_them() -> None:
    lane = Limits(Options()).lane("key", "model", 0.0)
    for _ in range(10_000):
        lane.admit(1_000_000, 0.0)
    assert lane.headers() == b""


def test_keys_and_models_have_limits_of_their_own() -> None:
    limits = Limits(Options(rpm=60, depth_s=1))
    for key, model in (("a", "m"), ("a", "n"), ("b", "m")):
        limits.lane(key, model, 0.0).admit(1, 0.0)
    with pytest.raises(Refused):
        limits.lane("a", "m", 0.0).admit(1, 0.0)


def test_limits_can_be_changed_while_it_runs() -> None:
    limits = Limits(Options(rpm=600, depth_s=1))
    lane = limits.lane("key", "model", 0.0)
    limits.change(60, 6000, 0.0)
    lane.admit(50, 0.0)
    with pytest.raises(Refused):
        lane.admit(50, 0.5)
    assert headers_of(lane.headers())["x-ratelimit-limit-tokens"] == "6000"
    limits.change(None, None, 1.0)
    for _ in range(100):
        lane.admit(1_000_000, 1.0)
