"""The broker client of a worker: one member of a KIP-848 group and one idempotent producer, both
of confluent-kafka.

Two habits of librdkafka are guarded against here. An exception in `on_assign` makes it go on at the
group's own offset, so the callback never raises and does nothing but assign, paused. An offset out
of range is reported once, as the error of a message, and never again.
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
from services.runtime.errors import (
    BrokerUnavailable,
    Fatal,
    OutputRefused,
    OutputUnauthorized,
    ProducerFailed,
    StublineError,
)
from services.runtime.kafka import batch_probe
from services.runtime.kafka.cluster import KafkaCluster
from services.runtime.kafka.connections import ConnectionErrors
from services.runtime.kafka.credentials import CredentialsWatch
from services.runtime.kafka.messages import fetch_result
from services.runtime.observability import logs
from services.runtime.ports import DeliveryCallback, FetchResult, RebalanceListener
from services.runtime.records import LaneKey

REQUEST_TIMEOUT_S = 5.0
LOGGER = logging.getLogger(logs.KAFKA_LOGGER)  # librdkafka's own lines go where ours go
CLOSE_MIN_S = 0.5  # to leave the group, so that the next owner need not wait for a session to end
RESTART_CLOSE_S = 5.0  # to publish what is pending, before the process ends for a new certificate
REFUSED_FOR_GOOD = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_REQUIRED_ACKS,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.POLICY_VIOLATION,
    }
)
UNAUTHORIZED = frozenset(
    {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}
)
NOT_SHOWN = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED})


def consumer_settings(cluster: KafkaCluster | str, group: str, client_id: str) -> dict[str, object]:
    cluster = KafkaCluster.of(cluster)
    own: dict[str, object] = {
        "group.id": cluster.with_prefix(group),
        "group.protocol": "consumer",
        "client.id": client_id,
        "auto.offset.reset": "error",  # a lane never jumps silently
        # `commit_group_offsets` stores offsets; they are committed once a second, and never read.
        "enable.auto.commit": True,
        "auto.commit.interval.ms": 1_000,
        "enable.auto.offset.store": False,
        "fetch.wait.max.ms": 50,  # an assignment in the loop then waits 12 ms instead of 400
        "queued.max.messages.kbytes": 4_096,  # what keeps a process at 80 MB
        # One response, which stays in memory until its last record is taken. The default is 50 MiB.
        "fetch.max.bytes": 2 * 2**20,
        # A partition may end in offsets without records, so the client has to report its end.
        "enable.partition.eof": True,
        "check.crcs": True,  # a damaged batch is reported, and never parsed
        "fetch.queue.backoff.ms": 5,  # the default waits a second whenever that queue is full
        "topic.metadata.refresh.interval.ms": 10_000,
    }
    return cluster.client_settings(own)


def producer_settings(
    cluster: KafkaCluster | str, client_id: str, delivery_timeout_ms: int
) -> dict[str, object]:
    own: dict[str, object] = {
        "client.id": client_id,
        "enable.idempotence": True,
        "acks": "all",
        # The default of Java's producers, so that a key has one partition by any producer.
        "partitioner": "murmur2_random",
        "linger.ms": 2,
        "delivery.timeout.ms": delivery_timeout_ms,
        # New partitions are used within seconds.
        "topic.metadata.refresh.interval.ms": 10_000,
        "message.max.bytes": 8 * 2**20,
        "queue.buffering.max.messages": 100_000,
        "queue.buffering.max.kbytes": 65_536,
    }
    return KafkaCluster.of(cluster).client_settings(own)


class KafkaClient:
    """See ports.BrokerClient. Used by one thread."""

    def __init__(
        self,
        cluster: KafkaCluster | str,
        group: str,
        client_id: str,
        *,
        delivery_timeout_ms: int,
    ) -> None:
        self._cluster, self._group = KafkaCluster.of(cluster), group
        self._prefix = self._cluster.prefix
        self._connections = ConnectionErrors(self._cluster)
        self._consumer = self._cluster.make(
            Consumer,
            consumer_settings(self._cluster, group, client_id)
            | {"error_cb": self._connections.report},
            logger=LOGGER,
        )
        self._client_id, self._delivery_timeout_ms = client_id, delivery_timeout_ms
        self._producer = self._new_producer()
        self._admin = self._cluster.make(
            AdminClient,
            self._cluster.client_settings({"client.id": client_id})
            | {"error_cb": self._connections.report},
            logger=LOGGER,
        )
        self._credentials = CredentialsWatch(
            self._cluster.settings, self._consumer, self._producer, self._admin
        )
        self._buffer_wait_s = delivery_timeout_ms / 1_000
        self._fatal: KafkaError | None = None  # why the producer will never send again
        self._callback_error: Exception | None = None
        self._partitions: dict[str, int] = {}

    def _new_producer(self) -> Producer:
        """Its settings are read again: a secret may have changed since the last one was made."""
        own = producer_settings(self._cluster, self._client_id, self._delivery_timeout_ms)
        own["error_cb"] = self._connections.report
        return self._cluster.make(Producer, own, logger=LOGGER)

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        def assigned(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            # Paused, and at a number: the broker may look up END or the group's offset until after
            # `start_at`, and the client then jumps there (seen under load: lanes began after
            # records that they had never read).
            waiting = [TopicPartition(p.topic, p.partition, 0) for p in partitions]
            consumer.incremental_assign(waiting)
            consumer.pause(waiting)
            self._notify(listener.assigned, partitions)

        def revoked(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            self._notify(listener.revoked, partitions)
            consumer.incremental_unassign(partitions)

        def lost(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            self._notify(listener.lost, partitions)
            consumer.incremental_unassign(partitions)

        self._consumer.subscribe(
            self._cluster.all_with_prefix(topics),
            on_assign=assigned,
            on_revoke=revoked,
            on_lost=lost,
        )

    def _notify(
        self, listener: Callable[[Collection[LaneKey]], None], partitions: list[TopicPartition]
    ) -> None:
        """Keeps an exception for `fetch`: one that left the callback would make the client go on
        at the group's offset.
        """
        try:
            listener(self._lanes(partitions))
        except Exception as error:  # noqa: BLE001 - nothing may leave a callback
            self._callback_error = error

    def fetch(self, records_max: int, timeout_s: float) -> FetchResult:
        try:
            # With a timeout below zero the client would wait for ever.
            messages = self._consumer.consume(records_max, max(timeout_s, 0.0))
        except (KafkaException, RuntimeError) as error:
            raise BrokerUnavailable(f"consume: {error}") from error
        self._admin.poll(0)  # serves its log lines, which would be kept in memory until then
        raised, self._callback_error = self._callback_error, None
        if raised is not None:
            raise raised
        self._renew_credentials()
        return fetch_result(messages, len(self._prefix))

    def _renew_credentials(self) -> None:
        """Raises CredentialsChanged, after leaving the group so that others take the lanes now."""
        try:
            self._credentials.refresh()
        except Fatal:
            self.close(RESTART_CLOSE_S)
            raise

    def assigned(self) -> frozenset[LaneKey]:
        try:
            return frozenset(self._lanes(self._consumer.assignment()))
        except KafkaException as error:
            raise BrokerUnavailable(f"assignment: {error}") from error

    def start_at(self, lane: LaneKey, offset: int) -> None:
        """Assigns instead of seeking, which drops whatever the client had fetched for the lane."""
        partitions = [self._partition(lane, offset)]
        try:
            self._consumer.incremental_unassign(partitions)
            self._consumer.incremental_assign(partitions)
            self._consumer.resume(partitions)
        except KafkaException as error:
            raise BrokerUnavailable(f"assign {lane}: {error}") from error

    def pause(self, lanes: Collection[LaneKey]) -> None:
        with suppress(KafkaException):  # a lane that is no longer assigned brings nothing anyhow
            self._consumer.pause([self._partition(lane) for lane in lanes])

    def resume(self, lanes: Collection[LaneKey]) -> None:
        with suppress(KafkaException):
            self._consumer.resume([self._partition(lane) for lane in lanes])

    def produce(self, output: Output, on_delivery: DeliveryCallback) -> None:
        def delivered(error: KafkaError | None, _message: Message) -> None:
            on_delivery(None if error is None else _delivery_error(output.topic, error))

        headers = output.headers if type(output.headers) is list else list(output.headers)
        topic = self._prefix + output.topic
        deadline = 0.0
        while True:
            try:
                self._producer.produce(
                    topic,
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
                on_delivery(_delivery_error(output.topic, error.args[0]))
                return
            else:
                return

    def poll_deliveries(self, timeout_s: float) -> None:
        self._poll_producer(timeout_s)
        if (fatal := self._fatal) is None:
            return
        if fatal.code() not in UNAUTHORIZED:
            raise ProducerFailed(str(fatal))
        # Without any right to write the broker gives it no producer id, for good. The next one gets
        # its id once a right is granted; until then the loop backs off.
        ended, self._producer, self._fatal = self._producer, self._new_producer(), None
        self._credentials.replace(ended, self._producer)
        raise OutputUnauthorized(fatal.str())

    def _poll_producer(self, timeout_s: float) -> None:
        """Keeps a fatal error, which the client raises and never hands to `error_cb`."""
        try:
            self._producer.poll(timeout_s)
        except KafkaException as error:
            self._fatal = error.args[0]

    def ends(self, lane: LaneKey) -> tuple[int, int] | None:
        try:
            low, high = self._consumer.get_watermark_offsets(self._partition(lane), cached=True)
        except (KafkaException, TypeError):
            return None
        return (max(low, 0), high) if high >= 0 else None

    def bounds(self, lane: LaneKey) -> tuple[int, int]:
        try:
            low, high = self._consumer.get_watermark_offsets(
                self._partition(lane), timeout=REQUEST_TIMEOUT_S
            )
        except (KafkaException, TypeError) as error:
            raise self._unavailable(f"ends of {lane}: {error}") from error
        return low, high

    def request_ends(self, lanes: Collection[LaneKey]) -> Callable[[], Mapping[LaneKey, int]]:
        wanted = {self._partition(lane): OffsetSpec.latest() for lane in lanes}
        try:
            requested = (
                self._admin.list_offsets(
                    wanted,
                    isolation_level=IsolationLevel.READ_COMMITTED,
                    request_timeout=REQUEST_TIMEOUT_S,
                )
                if wanted
                else {}
            )
        except KafkaException as error:
            raise BrokerUnavailable(f"list offsets: {error}") from error

        def answers() -> Mapping[LaneKey, int]:
            known = (
                (at, future)
                for at, future in requested.items()
                if future.done() and future.exception() is None
            )
            return {self._lane(at): future.result().offset for at, future in known}

        return answers

    def unreadable_to(self, lane: LaneKey, offset: int) -> int | None:
        return batch_probe.unreadable_batch_end(self._cluster, self._group, lane, offset)

    def topic_ids(self, topics: Collection[str]) -> Callable[[], Mapping[str, str]]:
        names = self._cluster.all_with_prefix(sorted(topics))
        try:
            requested = self._admin.describe_topics(
                TopicCollection(names), request_timeout=REQUEST_TIMEOUT_S
            )
        except KafkaException as error:
            raise self._unavailable(f"describe topics: {error}") from error

        def answers() -> Mapping[str, str]:
            topic_ids = {}
            for name, future in requested.items():
                topic = self._cluster.without_prefix(name)
                try:
                    description = future.result(REQUEST_TIMEOUT_S)
                except KafkaException as error:
                    if error.args[0].code() in NOT_SHOWN:
                        continue  # it is missing from the answer
                    raise self._unavailable(f"describe {topic}: {error}") from error
                except TimeoutError as error:
                    raise self._unavailable(f"describe {topic}: no answer") from error
                topic_ids[topic] = str(description.topic_id)
                self._partitions[topic] = len(description.partitions)
            self._connections.clear()
            return topic_ids

        return answers

    def lanes_total(self) -> int:
        return sum(self._partitions.values())

    def commit_group_offsets(self, positions: Mapping[LaneKey, int]) -> None:
        try:
            self._consumer.store_offsets(
                offsets=[self._partition(lane, offset) for lane, offset in positions.items()]
            )
        except KafkaException:
            return  # it is no longer assigned: its next owner stores its own offset

    def close(self, timeout_s: float) -> None:
        """Returns in time even if no broker answers: closing a consumer has no timeout, so a
        thread waits for it.
        """
        end = time.monotonic() + timeout_s
        with suppress(KafkaException):  # fatal: the next owner publishes what is in the rows
            self._producer.flush(timeout_s)
        closing = threading.Thread(target=self._consumer.close, name="consumer close", daemon=True)
        closing.start()
        closing.join(max(end - time.monotonic(), CLOSE_MIN_S))

    def _unavailable(self, cause: str) -> BrokerUnavailable:
        """Return the error with the reason that the clients reported."""
        with suppress(KafkaException):
            self._admin.poll(0)
        self._poll_producer(0)
        return self._connections.unavailable(cause)

    def _partition(self, lane: LaneKey, offset: int | None = None) -> TopicPartition:
        topic = self._cluster.with_prefix(lane.topic)
        if offset is None:
            return TopicPartition(topic, lane.partition)
        return TopicPartition(topic, lane.partition, offset)

    def _lane(self, partition: TopicPartition) -> LaneKey:
        return LaneKey(self._cluster.without_prefix(partition.topic), partition.partition)

    def _lanes(self, partitions: Collection[TopicPartition]) -> list[LaneKey]:
        return [self._lane(partition) for partition in partitions]


def _delivery_error(topic: str, error: KafkaError) -> StublineError:
    if error.code() in UNAUTHORIZED:
        return OutputUnauthorized(f"{topic}: {error.str()}")
    if error.code() in REFUSED_FOR_GOOD:
        return OutputRefused(error.str())
    return BrokerUnavailable(f"delivery failed: {error.str()}")
