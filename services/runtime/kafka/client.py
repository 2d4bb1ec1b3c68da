"""The log in Kafka: one member of a KIP-848 group and one idempotent producer, both of
confluent-kafka.

What was seen and is guarded against here (LANES section 3): an exception in on_assign makes the
client go on at the group's own offset, so the callback cannot raise and does nothing but assign,
paused; an offset out of range arrives once, as a message error, and then silence.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.envelope import Output
from services.runtime.errors import BrokerUnavailable, OutputRefused, ProducerFailed, StublineError
from services.runtime.kafka import batch_probe
from services.runtime.kafka.messages import fetch_result
from services.runtime.loop.ports import DeliveryCallback, FetchResult, RebalanceListener
from services.runtime.observability import logs
from services.runtime.records import LaneKey

ASK_TIMEOUT_S = 5.0
LOGGER = logging.getLogger(logs.KAFKA_LOGGER)  # librdkafka's own lines go where ours go
CLOSE_MIN_S = 0.5  # to leave the group, so that the next owner need not wait for a session to end
REFUSED_FOR_GOOD = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_REQUIRED_ACKS,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.POLICY_VIOLATION,
    }
)
NOT_SHOWN = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED})


def consumer_settings(servers: str, group: str, client_id: str) -> dict[str, object]:
    return {
        "bootstrap.servers": servers,
        "group.id": group,
        "group.protocol": "consumer",
        "client.id": client_id,
        "auto.offset.reset": "error",  # a lane never jumps in silence
        # of the hints that `hint` stores, once a second; nothing reads them back
        "enable.auto.commit": True,
        "auto.commit.interval.ms": 1_000,
        "enable.auto.offset.store": False,
        "fetch.wait.max.ms": 50,  # an assignment in the loop then rests 12 ms instead of 400
        "queued.max.messages.kbytes": 4_096,  # what keeps a process at 80 MB
        # One answer, which stays whole until its last record is taken. The default is 50 MiB.
        "fetch.max.bytes": 2 * 2**20,
        # a log may end in what is no record: the end is met, not guessed
        "enable.partition.eof": True,
        "check.crcs": True,  # a damaged batch is reported, and never parsed
        "fetch.queue.backoff.ms": 5,  # the default rests a whole second whenever that queue is full
        "topic.metadata.refresh.interval.ms": 10_000,
    }


def producer_settings(servers: str, client_id: str, delivery_timeout_ms: int) -> dict[str, object]:
    return {
        "bootstrap.servers": servers,
        "client.id": client_id,
        "enable.idempotence": True,
        "acks": "all",
        # Java producers' own, so that a key has one partition whoever writes it
        "partitioner": "murmur2_random",
        "linger.ms": 2,
        "delivery.timeout.ms": delivery_timeout_ms,
        # new partitions are used within seconds of being made
        "topic.metadata.refresh.interval.ms": 10_000,
        "message.max.bytes": 8 * 2**20,
        "queue.buffering.max.messages": 100_000,
        "queue.buffering.max.kbytes": 65_536,
    }


class KafkaClient:
    """See ports.Log. Used by one thread."""

    def __init__(
        self, servers: str, group: str, client_id: str, *, delivery_timeout_ms: int
    ) -> None:
        self._consumer = Consumer(consumer_settings(servers, group, client_id), logger=LOGGER)
        self._producer = Producer(
            producer_settings(servers, client_id, delivery_timeout_ms)
            | {"error_cb": self._producer_said},
            logger=LOGGER,
        )
        self._admin = AdminClient(
            {"bootstrap.servers": servers, "client.id": client_id}, logger=LOGGER
        )
        self._servers = servers
        self._buffer_wait_s = delivery_timeout_ms / 1_000
        self._fatal: str | None = None
        self._callback_error: Exception | None = None
        self._partitions: dict[str, int] = {}

    def _producer_said(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = str(error)

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        def assigned(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            # Paused, and at a plain number: the answer to a question for END or for the group's
            # offset may come after `start_at`, and the client then jumps there (seen under load:
            # lanes began behind records they never saw).
            waiting = [TopicPartition(p.topic, p.partition, 0) for p in partitions]
            consumer.incremental_assign(waiting)
            consumer.pause(waiting)
            self._tell(listener.assigned, partitions)

        def revoked(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            self._tell(listener.revoked, partitions)
            consumer.incremental_unassign(partitions)

        def lost(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            self._tell(listener.lost, partitions)
            consumer.incremental_unassign(partitions)

        self._consumer.subscribe(list(topics), on_assign=assigned, on_revoke=revoked, on_lost=lost)

    def _tell(
        self, listen: Callable[[Collection[LaneKey]], None], partitions: list[TopicPartition]
    ) -> None:
        """An exception that left a callback would make the client go on at the group's offset: it
        is kept for `fetch`.
        """
        try:
            listen(_lanes(partitions))
        except Exception as error:  # noqa: BLE001 - nothing may leave a callback
            self._callback_error = error

    def fetch(self, records_max: int, timeout_s: float) -> FetchResult:
        try:
            messages = self._consumer.consume(
                records_max, max(timeout_s, 0.0)
            )  # below zero it would wait for ever
        except (KafkaException, RuntimeError) as error:
            raise BrokerUnavailable(f"consume: {error}") from error
        self._admin.poll(0)  # hands on what it logs, which would be kept in memory until then
        raised, self._callback_error = self._callback_error, None
        if raised is not None:
            raise raised
        return fetch_result(messages)

    def assigned(self) -> frozenset[LaneKey]:
        try:
            return frozenset(_lanes(self._consumer.assignment()))
        except KafkaException as error:
            raise BrokerUnavailable(f"assignment: {error}") from error

    def start_at(self, lane: LaneKey, offset: int) -> None:
        """Assign, not seek: whatever the client had fetched for the lane before is of an older
        version and is dropped.
        """
        place = [TopicPartition(lane.topic, lane.partition, offset)]
        try:
            self._consumer.incremental_unassign(place)
            self._consumer.incremental_assign(place)
            self._consumer.resume(place)
        except KafkaException as error:
            raise BrokerUnavailable(f"assign {lane}: {error}") from error

    def pause(self, lanes: Collection[LaneKey]) -> None:
        with suppress(KafkaException):  # a lane that is gone by now is silent anyhow
            self._consumer.pause([TopicPartition(*lane) for lane in lanes])

    def resume(self, lanes: Collection[LaneKey]) -> None:
        with suppress(KafkaException):
            self._consumer.resume([TopicPartition(*lane) for lane in lanes])

    def produce(self, output: Output, on_delivery: DeliveryCallback) -> None:
        def delivered(error: KafkaError | None, _message: Message) -> None:
            on_delivery(None if error is None else _whose(error))

        headers = output.headers if type(output.headers) is list else list(output.headers)
        deadline = 0.0
        while True:
            try:
                self._producer.produce(
                    output.topic,
                    value=output.value,
                    key=output.key,
                    headers=headers,
                    on_delivery=delivered,
                )
            except BufferError:  # the queue is full: the broker is slower than we are
                deadline = deadline or time.monotonic() + self._buffer_wait_s
                if time.monotonic() > deadline:
                    on_delivery(BrokerUnavailable("the producer's queue stays full"))
                    return
                self.poll_deliveries(0.05)
            except KafkaException as error:
                on_delivery(_whose(error.args[0]))
                return
            else:
                return

    def poll_deliveries(self, timeout_s: float) -> None:
        self._producer.poll(timeout_s)
        if self._fatal:
            raise ProducerFailed(self._fatal)

    def ends(self, lane: LaneKey) -> tuple[int, int] | None:
        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(*lane), cached=True)
        except (KafkaException, TypeError):
            return None
        return (max(low, 0), high) if high >= 0 else None

    def bounds(self, lane: LaneKey) -> tuple[int, int]:
        try:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(*lane), timeout=ASK_TIMEOUT_S
            )
        except (KafkaException, TypeError) as error:
            raise BrokerUnavailable(f"ends of {lane}: {error}") from error
        return low, high

    def request_ends(self, lanes: Collection[LaneKey]) -> Callable[[], Mapping[LaneKey, int]]:
        wanted = {TopicPartition(*lane): OffsetSpec.latest() for lane in lanes}
        try:
            asked = (
                self._admin.list_offsets(
                    wanted,
                    isolation_level=IsolationLevel.READ_COMMITTED,
                    request_timeout=ASK_TIMEOUT_S,
                )
                if wanted
                else {}
            )
        except KafkaException as error:
            raise BrokerUnavailable(f"list offsets: {error}") from error

        def answers() -> Mapping[LaneKey, int]:
            known = (
                (at, future)
                for at, future in asked.items()
                if future.done() and future.exception() is None
            )
            return {LaneKey(at.topic, at.partition): future.result().offset for at, future in known}

        return answers

    def unreadable_to(self, lane: LaneKey, offset: int) -> int | None:
        return batch_probe.unreadable_batch_end(self._servers, lane, offset)

    def topic_ids(self, topics: Collection[str]) -> Callable[[], Mapping[str, str]]:
        try:
            asked = self._admin.describe_topics(
                TopicCollection(sorted(topics)), request_timeout=ASK_TIMEOUT_S
            )
        except KafkaException as error:
            raise BrokerUnavailable(f"describe topics: {error}") from error

        def answers() -> Mapping[str, str]:
            found = {}
            for topic, future in asked.items():
                try:
                    description = future.result(ASK_TIMEOUT_S)
                except KafkaException as error:
                    if error.args[0].code() in NOT_SHOWN:
                        continue  # it is missing from the answer
                    raise BrokerUnavailable(f"describe {topic}: {error}") from error
                except TimeoutError as error:
                    raise BrokerUnavailable(f"describe {topic}: no answer") from error
                found[topic] = str(description.topic_id)
                self._partitions[topic] = len(description.partitions)
            return found

        return answers

    def lanes_total(self) -> int:
        return sum(self._partitions.values())

    def hint(self, positions: Mapping[LaneKey, int]) -> None:
        try:
            self._consumer.store_offsets(
                offsets=[TopicPartition(*lane, offset) for lane, offset in positions.items()]
            )
        except KafkaException:
            return  # no longer assigned: its next owner gives its own

    def close(self, timeout_s: float) -> None:
        """In time, even if the broker does not answer: closing a consumer has no limit of its own,
        so it waits elsewhere.
        """
        end = time.monotonic() + timeout_s
        self._producer.flush(timeout_s)
        closing = threading.Thread(target=self._consumer.close, name="consumer close", daemon=True)
        closing.start()
        closing.join(max(end - time.monotonic(), CLOSE_MIN_S))


def _lanes(partitions: Collection[TopicPartition]) -> list[LaneKey]:
    return [LaneKey(p.topic, p.partition) for p in partitions]


def _whose(error: KafkaError) -> StublineError:
    if error.code() in REFUSED_FOR_GOOD:
        return OutputRefused(error.str())
    return BrokerUnavailable(f"delivery failed: {error.str()}")
