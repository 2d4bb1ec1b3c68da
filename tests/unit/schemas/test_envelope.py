"""Laws of the envelope: an event that was written is read, by us and by the official CloudEvents
package, and other bytes are refused.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar

import msgspec
import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent as OfficialEvent
from hypothesis import given
from hypothesis.strategies import (
    binary,
    builds,
    characters,
    dictionaries,
    integers,
    lists,
    none,
    sampled_from,
    text,
    tuples,
)

from schemas import structs
from schemas.envelope import (
    Input,
    NotAnEvent,
    Output,
    Snapshot,
    _is_binary_mode,
    header,
    read_event,
)
from schemas.structs import UnknownEnumValue

TIME = "2026-11-20T15:28:09Z"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BIGINT_MAX = 2**63 - 1


class Mood(StrEnum):
    CALM = "calm"
    WILD = "wild"


class Weather(Snapshot, frozen=True, kw_only=True):
    topic: ClassVar[str] = "weather.v1"
    event_type: ClassVar[str] = "stubline.weather.v1"

    mood: Mood
    winds: dict[str, int]
    words: list[str]


storable = characters(exclude_characters="\0", exclude_categories=["Cs"])
words = text(storable, max_size=40)
keys = text(storable, min_size=1, max_size=40)
writers = sampled_from(["ingest", "issuer", "ingest.verdicts"])
weathers = builds(
    Weather,
    writer=writers,
    key=keys,
    generation=integers(0, BIGINT_MAX),
    sequence=integers(1, BIGINT_MAX),
    mood=sampled_from(Mood),
    winds=dictionaries(words, integers(-(2**53), 2**53), max_size=3),
    words=lists(words, max_size=3),
)


def weather(**changed: object) -> Weather:
    fields: dict[str, object] = {
        "writer": "ingest",
        "key": "shop-1:727",
        "generation": 1,
        "sequence": 5,
    }
    fields |= {"mood": "calm", "winds": {}, "words": []}
    return structs.convert(Weather, fields | changed)


def message(output: Output) -> kafka.KafkaMessage:
    headers = {name: content or b"" for name, content in output.headers if name != "traceparent"}
    return kafka.KafkaMessage(headers=headers, key=None, value=output.value or b"")


@given(weathers)
def test_a_snapshot_is_read_as_it_was_written(snapshot: Weather) -> None:
    output = snapshot.encode(time=TIME, traceparent=TRACEPARENT)
    assert Weather.read(output.headers, output.value) == snapshot
    assert (output.topic, output.key) == ("weather.v1", snapshot.key.encode())


@given(weathers)
def test_the_value_alone_is_the_full_snapshot(snapshot: Weather) -> None:
    assert structs.decode(Weather, snapshot.encode(time=TIME).value or b"") == snapshot


@given(weathers)
def test_the_official_package_reads_a_snapshot(snapshot: Weather) -> None:
    event = kafka.from_kafka_event(message(snapshot.encode(time=TIME, traceparent=TRACEPARENT)))
    assert isinstance(event, OfficialEvent)
    assert event.get_id() == str(snapshot.event_id)
    assert event.get_source() == f"/stubline/{snapshot.writer}"
    assert event.get_type() == "stubline.weather.v1"
    assert event.get_subject() == snapshot.key
    assert event.get_time() == datetime(2026, 11, 20, 15, 28, 9, tzinfo=UTC)
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == msgspec.to_builtins(snapshot)


@given(
    tuples(integers(0, BIGINT_MAX), integers(1, BIGINT_MAX)),
    tuples(integers(0, BIGINT_MAX), integers(1, BIGINT_MAX)),
)
def test_ids_and_sequence_texts_distinguish_positions_and_keep_their_order(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    first, second = (
        weather(generation=generation, sequence=sequence) for generation, sequence in (one, other)
    )
    assert (first.event_id == second.event_id) == (one == other)
    texts = [
        header(snapshot.encode(time=TIME).headers, "ce_sequence") or ""
        for snapshot in (first, second)
    ]
    assert (texts[0] < texts[1]) == (first.position < second.position)


@given(keys, keys, writers, writers)
def test_two_keys_or_writers_never_share_an_id(
    one: str, other: str, writer: str, another: str
) -> None:
    first, second = weather(key=one, writer=writer), weather(key=other, writer=another)
    assert (first.event_id == second.event_id) == ((one, writer) == (other, another))


def test_the_id_of_a_snapshot_never_changes_between_releases() -> None:
    assert str(weather().event_id) == "0896b310-765d-51aa-84e1-7a33213ed49a"


def test_a_digest_covers_the_content_and_not_its_position() -> None:
    digest = weather(sequence=5).digest()
    assert digest == weather(sequence=6, generation=2).digest()
    assert digest != weather(mood="wild").digest()


def test_the_trace_is_of_this_hop_and_no_part_of_the_event() -> None:
    plain, traced = (
        weather().encode(time=TIME),
        weather().encode(time=TIME, traceparent=TRACEPARENT),
    )
    assert header(traced.headers, "traceparent") == TRACEPARENT
    assert header(plain.headers, "traceparent") is None
    assert read_event(plain.headers, plain.value) == read_event(traced.headers, traced.value)


@given(
    lists(
        tuples(
            sampled_from(["ce_id", "ce_type", "ce_specversion", "content-type", "x"]),
            none() | binary(max_size=30),
        )
    ),
    none() | binary(max_size=60),
)
def test_no_bytes_do_worse_than_be_no_event(
    headers: list[tuple[str, bytes | None]], value: bytes | None
) -> None:
    with pytest.raises(NotAnEvent):
        Weather.read(headers, value)


@given(binary(max_size=200))
def test_no_structured_bytes_do_worse_than_be_no_event(value: bytes) -> None:
    with pytest.raises(NotAnEvent):
        read_event([("content-type", b"Application/CloudEvents+json; charset=UTF-8")], value)


def test_a_field_of_a_newer_release_is_ignored() -> None:
    output = weather().encode(time=TIME)
    value = json.dumps(json.loads(output.value or b"") | {"new": {"a": 1}}).encode()
    assert Weather.read(output.headers, value) == weather()


def test_a_word_of_a_newer_release_stops_and_is_never_poison() -> None:
    output = weather().encode(time=TIME)
    with pytest.raises(UnknownEnumValue, match="mood"):
        Weather.read(output.headers, (output.value or b"").replace(b'"calm"', b'"sulky"'))


def test_an_unknown_word_beside_a_missing_field_is_poison() -> None:
    with pytest.raises(NotAnEvent, match="writer"):
        Weather.read(
            weather().encode(time=TIME).headers,
            b'{"mood":"sulky","winds":{},"words":[],"key":"a","generation":1,"sequence":1}',
        )


def test_an_error_never_quotes_the_record() -> None:
    value = (
        b'{"mood":"calm","winds":{},"words":[],"key":"a","generation":1,'
        b'"sequence":"ada@example.com","writer":"A secret"}'
    )
    with pytest.raises(NotAnEvent) as raised:
        Weather.read(weather().encode(time=TIME).headers, value)
    assert "example" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_another_type_in_a_topic_is_refused() -> None:
    output = weather().encode(time=TIME)
    headers = [*output.headers, ("ce_type", b"stubline.other.v1")]  # the last value wins
    with pytest.raises(NotAnEvent, match=r"stubline\.other\.v1"):
        Weather.read(headers, output.value)


@pytest.mark.parametrize("missing", ["ce_specversion", "ce_id", "ce_source", "ce_type"])
def test_an_event_without_a_required_attribute_is_refused(missing: str) -> None:
    output = weather().encode(time=TIME)
    with pytest.raises(NotAnEvent, match=missing.removeprefix("ce_")):
        read_event([pair for pair in output.headers if pair[0] != missing], output.value)


@given(keys, binary(min_size=1, max_size=80))
def test_an_input_keeps_its_bytes_and_its_own_id(key: str, data: bytes) -> None:
    callback = Input(
        topic="callbacks.received.v1",
        key=key,
        type="stubline.callback.v1",
        source="/sources/shop-1",
        id="delivery-9",
        data=data,
        content_type="application/octet-stream",
        extensions={"shopid": "1"},
    )
    output = callback.encode(time=TIME, traceparent=TRACEPARENT)
    event = read_event(output.headers, output.value)
    assert (event.id, event.source, event.type, event.data) == (
        "delivery-9",
        "/sources/shop-1",
        "stubline.callback.v1",
        data,
    )
    official = kafka.from_kafka_event(message(output))
    assert (official.get_id(), official.get_subject(), official.get_extension("shopid")) == (
        "delivery-9",
        key,
        "1",
    )


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("application/json", {"a": [1, "ü"]}),
        ("text/plain", "text"),
        ("application/octet-stream", b"\x00\xff"),
        ("application/json", None),
    ],
)
def test_a_structured_event_of_the_official_package_is_read_as_its_binary_twin(
    content_type: str, data: Any
) -> None:
    attributes = {
        "id": "1",
        "source": "/shops/1",
        "type": "a.b",
        "specversion": "1.0",
        "datacontenttype": content_type,
    }
    event = OfficialEvent(attributes=attributes, data=data)
    sent = (kafka.to_structured_event(event), kafka.to_binary_event(event))
    structured, plain = (read_event(one.headers.items(), one.value) for one in sent)
    assert structured.attributes == plain.attributes
    if isinstance(data, dict):
        assert json.loads(structured.data or b"") == json.loads(plain.data or b"") == data
    else:
        assert (structured.data or b"") == (plain.data or b"")


def test_structured_base64_that_is_none_is_refused() -> None:
    event = {"id": "1", "source": "/a", "type": "t", "specversion": "1.0", "data_base64": "!!!"}
    with pytest.raises(NotAnEvent):
        read_event([("content-type", b"application/cloudevents+json")], json.dumps(event).encode())
    event["data_base64"] = base64.b64encode(b"hello").decode()
    assert (
        read_event(
            [("content-type", b"application/cloudevents+json")], json.dumps(event).encode()
        ).data
        == b"hello"
    )


TYPE = Weather.event_type.encode()
NAMES = sampled_from(
    ["ce_type", "ce_specversion", "ce_id", "ce_source", "content-type", "ce_time", "other"]
)
CONTENTS = none() | sampled_from(
    [
        TYPE,
        b"1.0",
        b"",
        b"7",
        b"/x",
        b"application/json",
        b"application/json; charset=utf-8",
        b"application/cloudevents",
    ]
)
COMPLETE: list[tuple[str, bytes | None]] = [
    ("ce_type", TYPE),
    ("ce_specversion", b"1.0"),
    ("ce_id", b"7"),
    ("ce_source", b"/x"),
    ("content-type", b"application/json"),
]


@given(
    lists(tuples(NAMES, CONTENTS), max_size=4),
    lists(tuples(NAMES, CONTENTS), max_size=4),
    integers(0, 5),
)
def test_the_quick_check_of_headers_agrees_with_the_full_one(
    before: list[tuple[str, bytes | None]], after: list[tuple[str, bytes | None]], kept: int
) -> None:
    headers = [*before, *COMPLETE[:kept], *COMPLETE[kept + 1 :], *after]
    if _is_binary_mode(Weather.event_type, headers):
        event = read_event(headers, b"{}")
        assert (event.type, event.data) == (Weather.event_type, b"{}")


@pytest.mark.parametrize(
    ("name", "is_refused"), [("\0", True), ("a\0b", True), ("\\u0000", False), ("\\\0", True)]
)
def test_a_text_with_a_nul_is_no_event_and_one_that_spells_it_is(
    name: str, is_refused: bool
) -> None:
    snapshot = Weather(
        writer="w", key="k", generation=0, sequence=1, mood=Mood.CALM, winds={}, words=[]
    )
    value = structs.encode(snapshot).decode()[:-1] + f',"place":{json.dumps(name)}}}'
    headers = snapshot.encode(time=TIME).headers
    if is_refused:
        with pytest.raises(NotAnEvent, match="NUL"):
            Weather.read(headers, value.encode())
    else:
        Weather.read(headers, value.encode())
