"""How events are written and read: one definition, its bounds, and words of a newer release."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID, uuid5

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as some

from schemas import structs
from schemas.envelope import SerializedSnapshot
from schemas.orders import (
    DecidedLine,
    JobSnapshot,
    Line,
    OrderDecided,
    OrderObserved,
    Person,
    Storefront,
)
from schemas.structs import OutOfContract, UnknownEnumValue
from schemas.uuids import uuid5_text

TEXTS = some.text(
    some.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30
)
TIME, TRACE = "2027-03-20T19:30:00Z", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HEAD = ("writer", "key", "generation", "sequence")
BUYER = Person(name="Ada", email="ada@example.org")


def decided(
    key: str = "shop:1", generation: int = 0, sequence: int = 1, number: str = "727"
) -> OrderDecided:
    return OrderDecided(
        key=key,
        generation=generation,
        sequence=sequence,
        source="shop",
        external_id="1",
        number=number,
        state="released",
        buyer=BUYER,
        lines=(DecidedLine(line_id="1", quantity=2, holder=BUYER),),
    )


@given(
    TEXTS | some.just(',"sequence":7,'), some.integers(0, 2**63 - 1), some.integers(1, 2**63 - 1)
)
def test_a_serialized_snapshot_has_its_record_and_its_content_from_the_same_bytes(
    text: str, generation: int, sequence: int
) -> None:
    event = decided(text, generation, sequence, number=text)
    serialized = SerializedSnapshot(event)
    record = serialized.encode(time=TIME, traceparent=TRACE)
    assert record == event.encode(time=TIME, traceparent=TRACE)
    assert OrderDecided.read(record.headers, record.value) == event
    content = orjson.loads(serialized.content)
    document = orjson.loads(record.value or b"")
    assert content == {name: value for name, value in document.items() if name not in HEAD}
    assert list(document)[:4] == list(HEAD)
    assert serialized.digest == sha256(serialized.content).digest() == event.digest()


@given(some.uuids(), TEXTS)
def test_an_id_is_the_uuid_that_the_standard_library_makes(namespace: UUID, name: str) -> None:
    assert uuid5_text(namespace.bytes, name) == str(uuid5(namespace, name))


def test_a_default_is_left_out_and_read_back() -> None:
    assert structs.encode(Person()) == b"{}"
    assert structs.decode(Person, b"{}") == Person()


def test_the_writer_is_always_written() -> None:
    assert orjson.loads(structs.encode(decided()))["writer"] == "approval"


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (Line(line_id="", quantity=1), "$.line_id"),
        (Line(line_id="1", quantity=-1), "$.quantity"),
        (Line(line_id="1", quantity=1, name="secret" * 100), "$.name"),
        (Line(line_id="1", quantity=1, recipient=Person(name="x" * 201)), "$.recipient.name"),
        (Line(line_id="1", quantity=1, numbers=("",)), "$.numbers[0]"),
    ],
)
def test_a_value_out_of_bounds_is_refused_when_it_is_written_checked(
    line: Line, place: str
) -> None:
    with pytest.raises(OutOfContract) as refusal:
        structs.encode_checked(line)
    assert str(refusal.value).endswith(f"at `{place}`")
    assert "secret" not in str(refusal.value)


def test_a_time_without_an_offset_is_refused() -> None:
    front = Storefront(
        status="completed",
        currency="EUR",
        total_minor=1,
        buyer=BUYER,
        lines=(),
        paid_at=datetime(2027, 3, 20),  # noqa: DTZ001 - that is the point
    )
    with pytest.raises(OutOfContract, match=r"timezone.*paid_at"):
        structs.encode_checked(front)


def test_json_that_exists_already_is_written_in_place_of_its_value() -> None:
    buyer = structs.raw(Person, b'{"name":"Bob"}')
    written = structs.encode(msgspec.structs.replace(decided(), buyer=buyer))
    assert structs.decode(OrderDecided, written).buyer == Person(name="Bob")


def test_only_an_unknown_word_shows_that_the_writer_is_newer() -> None:
    body = orjson.loads(structs.encode(decided()))
    newer = orjson.dumps(body | {"state": "embargoed", "since": 3})
    with pytest.raises(UnknownEnumValue) as refusal:
        structs.decode(OrderDecided, newer)
    assert "embargoed" not in str(refusal.value)
    malformed = orjson.dumps(body | {"state": "embargoed", "buyer": 3})
    with pytest.raises(OutOfContract) as fault:
        structs.decode(OrderDecided, malformed)
    assert not isinstance(fault.value, UnknownEnumValue)


def test_an_unknown_word_is_found_at_any_depth_behind_other_unknown_words() -> None:
    observed = {
        "writer": "ingest",
        "key": "shop:1",
        "generation": 0,
        "sequence": 1,
        "source": "shop",
        "external_id": "1",
        "movements": [
            {
                "gateway": "adyen",
                "kind": "levy",
                "reference": "1",
                "payment": "1",
                "state": "hovering",
                "at": TIME,
            }
        ],
    }
    with pytest.raises(UnknownEnumValue):
        structs.decode(OrderObserved, orjson.dumps(observed))


@pytest.mark.parametrize(
    "content", [b"", b"[" * 100_000, b"\xff", b'{"name":"\xff"}', b'{"name":"\\ud800"}', b"null"]
)
def test_what_is_no_json_object_is_refused_by_one_error(content: bytes) -> None:
    with pytest.raises(OutOfContract):
        structs.decode(Person, content)


def test_rows_of_a_database_become_parts_of_a_snapshot() -> None:
    row = {"job_id": UUID(int=1), "kind": "initial", "state": "sent", "attempts": 1}
    row |= {"ticket_ids": [UUID(int=2)], "sent_at": datetime(2027, 3, 20, tzinfo=UTC)}
    job = structs.convert(JobSnapshot, row)
    with pytest.raises(OutOfContract) as refusal:
        structs.convert(JobSnapshot, row | {"state": "secret"})
    assert "secret" not in str(refusal.value)
    assert (job.ticket_ids, job.sent_at) == ((UUID(int=2),), datetime(2027, 3, 20, tzinfo=UTC))
