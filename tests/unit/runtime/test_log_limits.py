"""Laws of limited logs: one line a minute per cause, and every suppressed line is counted."""

from __future__ import annotations

import io
import json
import logging
from itertools import pairwise

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import BrokerUnavailable, TickFailed
from services.runtime.failures import classification
from services.runtime.observability import logs
from services.runtime.observability.log_limits import CAUSES_MAX, RepeatLimiter, message_shape

FAIL = (
    "FAIL",
    "vm:1#consumer-1",
    "[thrd:127.0.0.1:9/bootstrap]: 127.0.0.1:9/bootstrap: Connect to ipv4#127.0.0.1:9 ",
)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 40)), max_size=60))
def test_each_cause_is_written_once_in_its_interval_and_every_other_line_is_counted(
    lines: list[tuple[str, float]],
) -> None:
    now = 0.0
    repeats = RepeatLimiter(60, clock=lambda: now)
    written: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    counted = dict.fromkeys("abc", 0)
    for cause, later in lines:
        now += later
        suppressed = repeats.due(cause)
        if suppressed is not None:
            written[cause].append(now)
            counted[cause] += 1 + suppressed
    for cause, at in written.items():
        assert all(after - before >= 60 for before, after in pairwise(at))
        count = [line for line, _ in lines].count(cause)
        assert counted[cause] <= count
        assert (count == 0) == (not at)


def test_what_is_remembered_is_bounded() -> None:
    repeats = RepeatLimiter(60, clock=lambda: 0.0)
    assert {repeats.due(number) for number in range(3 * CAUSES_MAX)} == {0}
    assert repeats.due(3 * CAUSES_MAX - 1) is None


def test_lines_that_differ_in_addresses_and_numbers_have_one_cause() -> None:
    one, other = "10.0.0.1:9092/1: took 12 ms (try 3)", "[::1]:9093/2: took 4 ms (try 4)"
    assert message_shape(one) == message_shape(other)
    assert message_shape(one) != message_shape("10.0.0.1:9092/1: the certificate has expired")


@pytest.fixture
def written() -> io.StringIO:
    stream = io.StringIO()
    logs.configure("stubline.test", stream=stream)
    return stream


def test_what_kafka_clients_write_is_json_with_the_brokers_code_and_once(
    written: io.StringIO,
) -> None:
    kafka = logging.getLogger(logs.KAFKA_LOGGER)
    for reason in (
        "failed: Connection refused",
        "failed: Operation timed out",
        "Disconnected",
        "Failed to resolve",
    ):
        for _ in range(50):
            kafka.error("%s [%s] %s", *FAIL[:2], FAIL[2] + reason)
    kafka.warning("consumer: %s", "1/1 brokers are down")
    for _ in range(50):
        kafka.error("%s [%s] %s", *FAIL[:2], "SASL authentication error: wrong password")
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(line["component"], line.get("code"), line["service"]) for line in lines] == [
        ("kafka", BrokerUnavailable.code, "stubline.test"),
        ("kafka", None, "stubline.test"),
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (psycopg.OperationalError("connection refused"), "database-unavailable"),
        (psycopg.errors.AdminShutdown("terminating connection"), "database-unavailable"),
        (psycopg.errors.UndefinedTable("no such table"), "database-refuses"),
        (psycopg.errors.InvalidPassword("no"), "database-refuses"),
        (BrokerUnavailable("no answer"), "broker-unavailable"),
        (TickFailed("x"), "tick-failed"),
        (ConnectionResetError(), "database-unavailable"),
        (KeyError("x"), "loop-unexpected-error"),
    ],
)
def test_whatever_a_loop_waits_for_has_one_code(error: BaseException, code: str) -> None:
    assert classification.code_of(error) == code
