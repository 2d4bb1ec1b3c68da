"""A snapshot written by hand is the record that its model would write."""

from __future__ import annotations

from uuid import UUID, uuid5

import orjson
from hypothesis import given
from hypothesis import strategies as some

from schemas.orders import DeliveriesChanged
from schemas.serialized import SerializedSnapshot, uuid5_text

TEXTS = some.text(
    some.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30
)
TIME, TRACE = "2027-03-20T19:30:00Z", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@given(TEXTS, some.integers(0, 2**63 - 1), some.integers(1, 2**63 - 1))
def test_it_has_the_same_headers_key_and_content(key: str, generation: int, sequence: int) -> None:
    model = DeliveriesChanged(key=key, generation=generation, sequence=sequence)
    by_hand = SerializedSnapshot(
        DeliveriesChanged, "delivery", key, generation, sequence, b'{"jobs":[]}'
    )
    one, other = (snapshot.encode(time=TIME, traceparent=TRACE) for snapshot in (model, by_hand))
    assert (one.topic, one.key, one.headers) == (other.topic, other.key, other.headers)
    assert orjson.loads(one.value or b"") == orjson.loads(other.value or b"")
    assert DeliveriesChanged.read(other.headers, other.value) == model


@given(some.uuids(), TEXTS)
def test_an_id_is_the_uuid_that_the_standard_library_makes(namespace: UUID, name: str) -> None:
    assert uuid5_text(namespace.bytes, name) == str(uuid5(namespace, name))
