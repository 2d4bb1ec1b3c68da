"""Records that no honest producer makes: each becomes a dead letter, and stops no lane."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import NotAnEvent, Output, read_event
from services.runtime.kafka.messages import fetch_result
from services.runtime.loop import outbox
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import Lane
from services.runtime.loop.parsing import RecordParser
from services.runtime.loop.worker import Worker
from services.runtime.observability.telemetry import Telemetry
from services.runtime.records import (
    Dead,
    Effect,
    LaneKey,
    Record,
    pack_headers,
    record_bytes,
    unpack_headers,
)
from services.runtime.service import Service
from services.runtime.settings import LaneSettings
from services.runtime.testing import (
    FakeBroker,
    FakeBrokerClient,
    FakeClock,
    FakeDatabase,
    FakeLaneStore,
    classify_fake_error,
)

MANY = [(f"h{number}", b"x") for number in range(70_000)]


def test_any_number_of_headers_and_any_length_of_a_name_is_kept() -> None:
    headers = [*MANY, ("n" * 100_000, None)]
    assert unpack_headers(pack_headers(headers)) == headers
    output = Output("t", b"k", b"v", headers)
    (decoded,) = outbox.decode(outbox.encode([output]))
    assert list(decoded.headers) == headers


def test_a_record_with_seventy_thousand_headers_is_a_dead_letter_and_its_neighbours_go_on() -> None:
    def parse(record: Any) -> Any:
        if record.value == b"bad":
            raise ValueError("bad")
        return record

    service: Service[Any, Any] = Service(
        "g", ("in",), parse, lambda events, _session: [Effect() for _ in events]
    )
    clock = FakeClock()
    broker, database = FakeBroker(clock), FakeDatabase()
    for topic in ("in", service.dead_topic, service.replay_topic):
        broker.create_topic(topic, 1)
    broker.append(Output("in", b"k", b"bad", MANY))
    broker.append(Output("in", b"k", b"good", []))
    log, lane_store = FakeBrokerClient(broker, "g"), FakeLaneStore(database, "g")
    worker = Worker(
        WorkerContext(
            service,
            log,
            lane_store,
            LaneSettings(),
            Telemetry(),
            classify_fake_error,
            clock,
            clock,
            random.random,
        )
    )
    for _ in range(20):
        worker.step()
    row = database.rows["g", LaneKey("in", 0)]
    assert (row.effects, row.dead, row.conservation_gap) == (1, 1, 0)


@given(
    key=st.none() | st.binary(max_size=20),
    value=st.none() | st.binary(max_size=20),
    headers=st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=6),
)
def test_a_records_bytes_are_those_of_its_dead_letters_row(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    """Exactly, where names are ASCII; names in other scripts are counted exactly once they might
    matter.
    """
    plain = [(name.encode("ascii", "ignore").decode(), content) for name, content in headers]
    record = Record("in", 0, 0, 0, key, value, plain)
    assert record_bytes(record) == len(key or b"") + len(value or b"") + len(pack_headers(plain))


def test_names_of_headers_are_counted_in_bytes_where_it_matters() -> None:
    record = Record("in", 0, 0, 0, None, None, [("é" * 2**21, b"")])
    assert record_bytes(record) == len(pack_headers(record.headers))


class Unreadable:
    """A message of confluent-kafka with a header name that is not UTF-8: it raises, once."""

    def __getattr__(self, name: str) -> Any:
        answers = {
            "topic": "in",
            "partition": 0,
            "offset": 0,
            "timestamp": (1, 5),
            "key": b"k",
            "value": b"v",
            "error": None,
        }
        return lambda: answers[name]

    def headers(self) -> Any:
        raise SystemError("returned a result with an exception set")


def test_headers_that_the_client_cannot_read_make_their_record_a_dead_letter() -> None:
    (records,) = fetch_result([Unreadable()]).records.values()
    lane = Lane(LaneKey("in", 0))
    lane.fetch_position = lane.next_offset = 0
    assert RecordParser(lambda record: record, "g.replay.v1", Telemetry()).prepare(lane, records)
    event = lane.prepared[0].event
    assert isinstance(event, Dead)
    assert not event.unexpected


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"data":' + b"[" * 100_000])
def test_deep_json_in_structured_mode_is_no_event_and_no_surprise(body: bytes) -> None:
    with pytest.raises(NotAnEvent):
        read_event([("content-type", b"application/cloudevents+json")], body)


def test_waits_grow_while_the_same_batch_fails_each_time() -> None:
    """An iteration that only acquires must not end the backoff."""
    clock = FakeClock()
    broker, database = FakeBroker(clock), FakeDatabase(commits_refused=10_000)
    service: Service[Any, Any] = Service(
        "g", ("in",), lambda record: record, lambda events, _session: [Effect() for _ in events]
    )
    for topic in ("in", service.dead_topic, service.replay_topic):
        broker.create_topic(topic, 1)
    broker.append(Output("in", b"k", b"v", []))
    waits: list[float] = []

    class OutcomeTelemetry(Telemetry):
        def backing_off(self, error: BaseException, attempt: int, wait_s: float) -> None:  # noqa: ARG002 - the hook's shape
            waits.append(wait_s)

    log, lane_store = FakeBrokerClient(broker, "g"), FakeLaneStore(database, "g")
    worker = Worker(
        WorkerContext(
            service,
            log,
            lane_store,
            LaneSettings(),
            OutcomeTelemetry(),
            classify_fake_error,
            clock,
            clock,
            random.random,
        )
    )
    until = clock() + 60
    while clock() < until:
        worker.step()
    assert max(waits) > 2.0
    assert len(waits) < 40
