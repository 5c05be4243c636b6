"""Limits that adapt, servers that rest, and answers that are read or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from laconic.backends.client.protocol import RefusedError, Stream, TroubleError, read_reply, said
from laconic.backends.client.servers import (
    BURST,
    HOLD,
    SMALL,
    START,
    ConcurrencyLimit,
    Server,
    Servers,
    back_off,
)
from laconic.registry import parse_spec


def feed(limit: ConcurrencyLimit, rounds: int, speed: float, now: float = 0.0) -> float:
    """Answers of one token each, as many per second as a server's speed at the limit allows."""
    for _ in range(rounds * 1000):
        now += 1 / min(limit.size * 10, speed)
        limit.answered(1, now, full=True)
    return now


def test_a_limit_grows_by_one_an_answer_and_after_trouble_by_one_a_round() -> None:
    limit = ConcurrencyLimit(100)
    for _ in range(8):
        limit.answered(5, 0.0, full=True)
    assert limit.size == START + 8
    limit.troubled(limit.era, loaded=True)
    assert limit.size == (START + 8) / 2
    for _ in range(8):
        limit.answered(5, 0.0, full=True)
    assert limit.size == pytest.approx((START + 8) / 2 + 1, abs=0.1)


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    limit = ConcurrencyLimit(100)
    limit.answered(5, 0.0, full=False)
    assert limit.size == START


def test_requests_of_one_era_halve_a_limit_once_and_never_below_one() -> None:
    limit = ConcurrencyLimit(100, size=64)
    era = limit.era
    for _ in range(40):
        limit.troubled(era, loaded=True)
    assert limit.size == 32
    for _ in range(40):
        limit.troubled(limit.era, loaded=True)
    assert limit.size == 1


def test_a_few_lost_connections_are_forgiven_and_many_are_not() -> None:
    limit = ConcurrencyLimit(100, size=64)
    for _ in range(50):
        limit.troubled(limit.era, loaded=False)
        for _ in range(12):
            limit.answered(1, 0.0, full=False)
    assert limit.size == 64
    for _ in range(BURST + 1):
        limit.troubled(limit.era, loaded=False)
    assert limit.size == 32


def test_a_limit_stops_growing_where_more_requests_bring_no_more_tokens() -> None:
    flat, free = ConcurrencyLimit(4096), ConcurrencyLimit(4096)
    feed(flat, 2, speed=500)
    feed(free, 2, speed=1e9)
    assert SMALL <= flat.size < 250
    assert free.size > 1000
    assert flat._hold <= HOLD


def test_servers_take_turns_and_the_emptier_or_the_one_not_avoided_goes_first() -> None:
    one, two = Server("1", ConcurrencyLimit(8)), Server("2", ConcurrencyLimit(8))
    servers = Servers([one, two])
    assert [servers.pick(0, None) for _ in range(4)] == [one, two, one, two]
    one.flying = 3
    assert [servers.pick(0, None) for _ in range(2)] == [two, two]
    one.flying = 0
    assert [servers.pick(0, two) for _ in range(2)] == [one, one]
    one.flying = two.flying = 8
    assert servers.pick(0, None) is None


def test_a_server_rests_as_long_as_it_asks_and_when_it_fails_again_and_again() -> None:
    one = Server("1", ConcurrencyLimit(64))
    servers = Servers([one])
    one.troubled(0, 10.0, 5.0, loaded=True)
    assert servers.pick(14.9, None) is None
    assert servers.next_awake(14.9) == 15.0
    assert servers.pick(15.0, None) is one
    for _ in range(20):
        one.troubled(one.limit.era, 20.0, None, loaded=False)
    assert one.room == 1
    assert 20.0 < one.rests_until <= 80.0
    one.answered(3, 90.0)
    assert one.room >= 1
    assert one.failures == 0


def test_waits_double_up_to_a_minute() -> None:
    waits = [max(back_off(tries) for _ in range(50)) for tries in range(1, 12)]
    assert all(0.25 * 2**i < wait <= 0.5 * 2**i for i, wait in enumerate(waits[:7]))
    assert waits[-1] <= 60


def reply(**parts: Any) -> bytes:
    choice = {"message": {"content": "x"}, "finish_reason": "stop"} | parts.pop("choice", {})
    return json.dumps({"choices": [choice], "usage": {"completion_tokens": 3}} | parts).encode()


@pytest.mark.parametrize("usage", [None, 3, [], {}, {"completion_tokens": True}])
def test_a_usage_that_says_nothing_is_no_length(usage: object) -> None:
    assert read_reply(reply(usage=usage), 10).length is None


def test_a_usage_too_small_for_the_text_is_no_length() -> None:
    long = {"message": {"content": "x" * 5000}}
    assert read_reply(reply(choice=long), 10).length is None
    assert read_reply(reply(choice=long, usage={"completion_tokens": 20}), 20).length == 20


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"[" * 10**6, "not JSON"),
        (b"3", "no JSON object"),
        (b"{}", "without choices"),
        (b'{"choices": [3]}', "without choices"),
        (b'{"choices": [{"finish_reason": "stop"}]}', "without text"),
        (reply(choice={"finish_reason": None}), "broken off"),
        (reply(error={"message": "no\n memory"}), "no memory"),
    ],
)
def test_what_is_no_answer_is_asked_for_again(body: bytes, message: str) -> None:
    with pytest.raises(TroubleError, match=message):
        read_reply(body, 10)


def test_an_end_that_is_neither_stop_nor_length_is_said() -> None:
    with pytest.raises(RefusedError, match="'tool_calls'"):
        read_reply(reply(choice={"finish_reason": "tool_calls"}), 10)


def test_a_stream_without_its_end_was_cut() -> None:
    stream = Stream()
    for line in (": a comment", "", 'data: {"choices": [{"delta": {"content": "x"}}]}'):
        stream.add(line)
    with pytest.raises(TroubleError, match="cut"):
        stream.reply(10)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "too  long"}}', "too long"),
        (b'{"detail": "no such model"}', "no such model"),
        (b'{"object": "error", "message": "m"}', "m"),
        (b"<HTML><body>Bad Gateway", ""),
        (b"plain", "plain"),
        (b"", ""),
    ],
)
def test_what_a_server_says_is_one_line(body: bytes, words: str) -> None:
    assert said(body) == words


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("openai:url=http://h:8000/v1", "openai", {"url": "http://h:8000/v1"}),
        ("openai:url=http://a:1/v1 http://b:2/v1,retries=3", "openai", None),
        ('openai:url=u,extra={"a": {"b": 1}, "c": [1, 2]}', "openai", None),
        ("lab:base", "lab:base", {}),
        ("lab:split=dev,size=3", "lab", {"split": "dev", "size": 3}),
        ("C:/models/x", "C:/models/x", {}),
    ],
)
def test_values_may_hold_colons_and_brackets(
    text: str, name: str, values: dict[str, Any] | None
) -> None:
    found, held = parse_spec(text)
    assert found == name
    if values is not None:
        assert held == values
    elif "extra" in text:
        assert held == {"url": "u", "extra": {"a": {"b": 1}, "c": [1, 2]}}
    else:
        assert held == {"url": "http://a:1/v1 http://b:2/v1", "retries": 3}
