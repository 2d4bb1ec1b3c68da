"""Converts the Kafka client's messages into records, and its errors into what they mean.

The client reports the end of a partition as an error, which it is not. Errors are of five kinds:

- fatal: the client never fetches again and reports it once, so the process ends. It has the code
  _FATAL, although its `fatal()` is False;
- an offset out of range: it stops its lane;
- a batch that the client cannot unpack: it stops its lane. The client requests the same batch twice
  a second, for ever;
- a refusal of the broker, which lasts until a right is granted: the process is not ready;
- all others pass by themselves and are logged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError

from services.runtime.errors import ConsumerFailed
from services.runtime.observability import logs
from services.runtime.ports import FetchResult
from services.runtime.records import UNREADABLE_HEADERS, LaneKey, Record

LOGGER = logging.getLogger(logs.KAFKA_LOGGER)
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

# Errors of a batch that fetching it again does not end: of compression, checksum, format or size.
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


def fetch_result(messages: Sequence[Any], prefix_chars: int = 0) -> FetchResult:
    """Sort messages into records and reports. `prefix_chars` is how much of each topic's name on
    the brokers is the cluster's prefix.

    Messages are typed Any: confluent-kafka types each field as optional, and checks would slow a
    hot loop down. If the name of a header is not UTF-8, the client raises SystemError, and
    `headers()` must not be called again: the list from the first call holds a null pointer (seen
    with confluent-kafka 2.16.1).
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
        lane_records = records.get((topic, partition))
        if lane_records is None:
            lane_records = records[topic, partition] = []
        try:
            headers = message.headers() or ()
        except SystemError:
            headers = UNREADABLE_HEADERS
        key, value = message.key(), message.value()
        stamped_by, at_ms = message.timestamp()
        if stamped_by != TIMESTAMP_LOG_APPEND_TIME:
            fetch.producer_stamped.add(topic)
        # Equal to Record(...), at half its cost.
        lane_records.append(
            new(Record, (topic, partition, message.offset(), at_ms, key, value, headers, None))
        )
    fetch.records = {LaneKey(*lane): lane_records for lane, lane_records in records.items()}
    return fetch


def _sort_error(
    fetch: FetchResult, topic: str | None, partition: int | None, error: KafkaError
) -> None:
    """Raises ConsumerFailed. An error without a topic concerns the whole membership."""
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
