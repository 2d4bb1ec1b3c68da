"""Finds the end of a batch that the client cannot unpack, with a consumer that joins no group."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from services.runtime.kafka.cluster import KafkaCluster
from services.runtime.kafka.messages import UNREADABLE
from services.runtime.records import LaneKey
from services.runtime.settings import ConfigurationError

DEADLINE_S = 5.0
LOGGER = logging.getLogger("kafka")


def unreadable_batch_end(
    cluster: KafkaCluster,
    group: str,
    lane: LaneKey,
    offset: int,
    deadline_s: float = DEADLINE_S,
) -> int | None:
    """Return the first offset after the batch that holds `offset`, or None if it was not found in
    time.

    A fetch from any offset of a batch returns the whole batch, and the client's error then carries
    the batch's first offset. So a binary search finds the batch's end, in some twenty fetches at
    most.
    """
    own: dict[str, object] = {
        "group.id": cluster.with_prefix(group),  # that of the lane, whose rights the process has
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "check.crcs": True,
        "fetch.wait.max.ms": 10,
    }
    try:
        consumer = Consumer(cluster.client_settings(own), logger=LOGGER)
    except (ConfigurationError, KafkaException):  # a secret is just being replaced
        return None
    until = time.monotonic() + deadline_s
    try:
        prefixed = lane._replace(topic=cluster.with_prefix(lane.topic))
        return _first_outside(lambda at: _batch_at(consumer, prefixed, at, until), offset)
    except (KafkaException, TimeoutError):
        return None
    finally:
        with suppress(KafkaException):
            consumer.close()


def _first_outside(batch_at: Callable[[int], int | None], offset: int) -> int | None:
    """Return the first offset after the batch that holds `offset`. `batch_at` returns the first
    offset of the unreadable batch that holds an offset, or None if the offset can be read.
    """
    begin = batch_at(offset)
    if begin is None:
        return None
    inside, step = offset, 1
    while batch_at(inside + step) == begin:
        inside, step = inside + step, 2 * step
    outside = inside + step
    while outside - inside > 1:
        middle = (inside + outside) // 2
        if batch_at(middle) == begin:
            inside = middle
        else:
            outside = middle
    return outside


def _batch_at(consumer: Consumer, lane: LaneKey, offset: int, until: float) -> int | None:
    """Return the first offset of the unreadable batch that holds the offset, or None if it can be
    read. Raises TimeoutError.
    """
    consumer.assign([TopicPartition(lane.topic, lane.partition, offset)])
    while (left := until - time.monotonic()) > 0:
        message: Message | None = consumer.poll(left)
        error = None if message is None else message.error()
        if message is None or (error is not None and error.code() not in _CONCLUSIVE):
            continue
        return message.offset() if error is not None and error.code() in UNREADABLE else None
    raise TimeoutError


_CONCLUSIVE = UNREADABLE | {KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET}  # noqa: SLF001 - public names
