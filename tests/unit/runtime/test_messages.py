"""The errors that the client reports instead of records: five kinds, the fatal one in two forms."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError

from services.runtime.errors import ConsumerFailed
from services.runtime.kafka.messages import REFUSED, UNREADABLE, fetch_result
from services.runtime.records import LaneKey

LANE = LaneKey("in", 0)


class FakeMessage:
    """A message of the client that carries an error."""

    def __init__(
        self,
        error: KafkaError,
        topic: str | None = LANE.topic,
        partition: int | None = LANE.partition,
    ) -> None:
        self._error, self._topic, self._partition = error, topic, partition

    def topic(self) -> str | None:
        return self._topic

    def partition(self) -> int | None:
        return self._partition

    def error(self) -> KafkaError:
        return self._error

    def offset(self) -> int:
        return 7


@pytest.mark.parametrize(
    "error",
    [
        KafkaError(KafkaError._FATAL, "as 2.16.1 reports it"),
        KafkaError(KafkaError.FENCED_INSTANCE_ID, "of old", fatal=True),
    ],
)
def test_a_fatal_error_ends_the_process(error: KafkaError) -> None:
    with pytest.raises(ConsumerFailed):
        fetch_result([FakeMessage(error, None, 0)])


def test_an_offset_out_of_range_is_its_lanes() -> None:
    fetch = fetch_result([FakeMessage(KafkaError(KafkaError._AUTO_OFFSET_RESET, "deleted"))])
    assert (list(fetch.out_of_range), fetch.refused) == ([LANE], {})


@pytest.mark.parametrize("code", sorted(REFUSED))
@pytest.mark.parametrize("topic", ["in", None])
def test_what_only_an_operator_can_fix_is_refused(code: int, topic: str | None) -> None:
    """Without a topic it is the membership; the partition is then any number."""
    fetch = fetch_result([FakeMessage(KafkaError(code), topic)])
    assert list(fetch.refused) == [LANE if topic else None]


@pytest.mark.parametrize(
    "name",
    [
        "_TRANSPORT",
        "_ALL_BROKERS_DOWN",
        "_RESOLVE",
        "NOT_LEADER_FOR_PARTITION",
        "LEADER_NOT_AVAILABLE",
        "_MAX_POLL_EXCEEDED",
    ],
)
def test_what_passes_by_itself_is_only_narrated(name: str) -> None:
    error: Any = KafkaError(getattr(KafkaError, name))
    fetch = fetch_result([FakeMessage(error)])
    assert (fetch.records, fetch.refused, fetch.out_of_range) == ({}, {}, {})


@pytest.mark.parametrize("code", sorted(UNREADABLE))
def test_a_batch_that_cannot_be_unpacked_is_its_lanes(code: int) -> None:
    fetch = fetch_result([FakeMessage(KafkaError(code, "Decompression failed"))])
    assert (fetch.unreadable, fetch.refused) == ({LANE: "Decompression failed"}, {})


def test_the_end_of_a_partition_is_no_error_and_has_its_offset() -> None:
    fetch = fetch_result([FakeMessage(KafkaError(KafkaError._PARTITION_EOF))])
    assert (fetch.ends, fetch.refused, fetch.unreadable) == ({LANE: 7}, {}, {})
