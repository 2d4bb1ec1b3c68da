"""Messages of the client become records, and what the client says instead of a record is put where
it belongs.

An end of a partition is reported as an error, and is none. An error is one of five. A fatal one
ends the process: the client never fetches again, and says so once (it comes as code _FATAL, and
`fatal()` of that very error is False). An offset out of range is the lane's, and so is a batch that
the client cannot unpack: it asks for the same batch for ever, twice a second. What the broker
refuses lasts until somebody gives a right back: the process is not ready, and says why. Everything
else passes by itself and is narrated.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError

from services.runtime.errors import ConsumerFailed
from services.runtime.loop.ports import FetchResult
from services.runtime.observability import logs
from services.runtime.records import UNREADABLE_HEADERS, LaneKey, Record

LOGGER = logging.getLogger(logs.KAFKA)
REFUSED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - its public name
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_GROUP_ID,
        KafkaError.GROUP_MAX_SIZE_REACHED,
        KafkaError.INCONSISTENT_GROUP_PROTOCOL,
        KafkaError.UNSUPPORTED_ASSIGNOR,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._UNSUPPORTED_FEATURE,  # noqa: SLF001 - its public name
    }
)

# Of a batch: its compression, its checksum, its form, its size. Asking again changes nothing.
UNREADABLE = frozenset(
    {
        KafkaError._BAD_COMPRESSION,  # noqa: SLF001 - its public name
        KafkaError._BAD_MSG,  # noqa: SLF001 - its public name
        KafkaError._NOT_IMPLEMENTED,  # noqa: SLF001 - its public name
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.MSG_SIZE_TOO_LARGE,
    }
)


def sorted_out(messages: Sequence[Any], prefix_chars: int = 0) -> FetchResult:
    """Any, for confluent-kafka types each field as optional, and asking would cost a hot loop its
    speed.

    The name of a header that is not UTF-8 makes the client raise SystemError, and it must not be
    asked again: the list that it leaves behind holds a null pointer (seen with confluent-kafka
    2.16.1).

    `prefix_chars`: how much of a topic's name on the brokers is the cluster's prefix.
    """
    new: Any = tuple.__new__
    fetch, records = FetchResult(), dict[tuple[str, int], list[Record]]()
    for message in messages:
        topic, partition = message.topic(), message.partition()
        if prefix_chars and topic is not None:
            topic = topic[prefix_chars:]
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                fetch.ends[LaneKey(topic, partition)] = message.offset()
            else:
                _sort_error(fetch, topic, partition, error)
            continue
        found = records.get((topic, partition))
        if found is None:
            found = records[topic, partition] = []
        try:
            headers = message.headers() or ()
        except SystemError:
            headers = UNREADABLE_HEADERS
        key, value = message.key(), message.value()
        stamped_by, at_ms = message.timestamp()
        if stamped_by != TIMESTAMP_LOG_APPEND_TIME:
            fetch.stamped_by_producers.add(topic)
        # As Record(...), at half its cost.
        found.append(
            new(Record, (topic, partition, message.offset(), at_ms, key, value, headers, None))
        )
    fetch.records = {LaneKey(*lane): found for lane, found in records.items()}
    return fetch


def _sort_error(
    fetch: FetchResult, topic: str | None, partition: int | None, error: KafkaError
) -> None:
    """Raises ConsumerFailed. An error without a topic is the whole membership's."""
    lane = None if topic is None or partition is None else LaneKey(topic, partition)
    if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - its public name
        raise ConsumerFailed(error.str())
    if error.code() == KafkaError._AUTO_OFFSET_RESET and lane is not None:  # noqa: SLF001 - its public name
        fetch.out_of_range[lane] = error.str()
        return
    if error.code() in UNREADABLE and lane is not None:
        fetch.unreadable[lane] = error.str()
        return
    if error.code() in REFUSED:
        fetch.refused[lane] = error.str()
    LOGGER.warning("consumer: %s", error.str())
