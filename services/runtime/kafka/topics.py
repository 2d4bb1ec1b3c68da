"""Topics for tools: created, compared and repaired, and the offsets of their partitions. Workers
use kafka/client.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from time import monotonic, sleep
from typing import Any, NamedTuple

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from schemas.topics import Topic
from services.runtime.errors import BrokerUnavailable, StublineError
from services.runtime.kafka.cluster import KafkaCluster
from services.runtime.kafka.connections import ConnectionErrors
from services.runtime.records import LaneKey

TIMEOUT_S = 10.0
REPLICAS_MAX = 3
TIMESTAMP_TYPE, LOG_APPEND_TIME = "message.timestamp.type", "LogAppendTime"
# Errors of librdkafka's own, by its names.
UNAVAILABLE = frozenset(
    {"_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_RESOLVE", "_AUTHENTICATION", "_SSL"}
)
# Errors of a partition whose leader is just changing, or has an epoch that the client or the broker
# does not know yet.
MOVING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
)


class PartitionOffsets(NamedTuple):
    """The offsets between which a partition holds records, as Kafka names them.

    The last stable offset is below the high watermark while a transaction is open: its producer has
    neither committed nor aborted it, and the broker ends it after the producer's
    `transaction.timeout.ms`. None: it was not requested.
    """

    low_watermark: int
    high_watermark: int
    last_stable_offset: int | None = None

    @property
    def end_offset(self) -> int:
        """The end of what consumers of committed records may read: the last stable offset, or the
        high watermark if it was not requested.
        """
        if self.last_stable_offset is None:
            return self.high_watermark
        return self.last_stable_offset


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic as the broker has it."""

    topic_id: str
    partitions: int


class TopicDifference(NamedTuple):
    """One difference between what a topic should be and what it is."""

    topic: str
    what: str
    expected: str
    actual: str


class BrokerRefused(StublineError):
    """Kafka answers and refuses: a right is missing, a policy forbids it, or a number is out of
    bounds.
    """

    code = "broker-refuses"
    next_step = (
        "The text names what was refused. `stubline topics acls` prints the rights that each "
        "process needs; or have an administrator do it."
    )


class BrokerAdmin:
    """Raises BrokerUnavailable if no broker answers in time, and BrokerRefused. Topics have the
    names of schemas/topics.py, without the cluster's prefix.
    """

    def __init__(self, cluster: KafkaCluster | str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._cluster = KafkaCluster.of(cluster)
        self._timeout_s = timeout_s
        self._connections = ConnectionErrors(self._cluster)
        own = {"client.id": "stubline-tools", "log_level": 0}
        self._admin = self._cluster.make(
            AdminClient, self._cluster.client_settings(own) | {"error_cb": self._connections.report}
        )

    def brokers(self) -> int:
        try:
            return len(self._admin.list_topics(timeout=self._timeout_s).brokers)
        except KafkaException as error:
            raise self._error(error) from None

    def existing(self, names: Iterable[str]) -> dict[str, TopicDescription]:
        """Return the topics that exist; others are left out."""
        answers = self._admin.describe_topics(
            TopicCollection(self._cluster.all_with_prefix(names)), request_timeout=self._timeout_s
        )
        descriptions = {
            name: self._answer(answer, KafkaError.UNKNOWN_TOPIC_OR_PART)
            for name, answer in answers.items()
        }
        return {
            self._cluster.without_prefix(name): TopicDescription(
                str(description.topic_id), len(description.partitions)
            )
            for name, description in descriptions.items()
            if description is not None
        }

    def partition_offsets(self, topic: str) -> dict[int, PartitionOffsets]:
        """Return the offsets by partition of a topic; empty if there is no such topic."""
        if (existing := self.existing([topic]).get(topic)) is None:
            return {}
        lanes = [LaneKey(topic, number) for number in range(existing.partitions)]
        partitions = self._partitions(lanes)
        low, high = (
            self._offsets(partitions, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        )
        stable = self._offsets(partitions, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)
        return {
            number: PartitionOffsets(low[number], high[number], stable[number])
            for number in range(existing.partitions)
        }

    def ends(self, lanes: Collection[LaneKey]) -> dict[LaneKey, PartitionOffsets]:
        """Return the offsets of these partitions without their low watermarks, in one request for
        all. Partitions that do not exist are left out.
        """
        existing = self.existing({lane.topic for lane in lanes}) if lanes else {}
        known = [
            lane
            for lane in lanes
            if lane.topic in existing and lane.partition < existing[lane.topic].partitions
        ]
        if not known:
            return {}
        partitions = self._partitions(known)
        high = self._offsets_of(partitions, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)
        stable = self._offsets_of(partitions, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)
        return {lane: PartitionOffsets(0, high[lane], stable[lane]) for lane in known}

    def _partitions(self, lanes: Collection[LaneKey]) -> list[TopicPartition]:
        return [
            TopicPartition(self._cluster.with_prefix(lane.topic), lane.partition) for lane in lanes
        ]

    def _offsets(
        self,
        partitions: list[TopicPartition],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[int, int]:
        return {
            lane.partition: offset
            for lane, offset in self._offsets_of(partitions, spec, isolation).items()
        }

    def _offsets_of(
        self, partitions: list[TopicPartition], spec: OffsetSpec, isolation: IsolationLevel
    ) -> dict[LaneKey, int]:
        until = monotonic() + self._timeout_s
        while True:
            answers = self._admin.list_offsets(
                dict.fromkeys(partitions, spec),
                isolation_level=isolation,
                request_timeout=self._timeout_s,
            )
            results = {
                LaneKey(self._cluster.without_prefix(at.topic), at.partition): self._answer(
                    answer, *MOVING
                )
                for at, answer in answers.items()
            }
            if all(results.values()):
                return {lane: result.offset for lane, result in results.items()}
            if monotonic() > until:
                raise BrokerUnavailable(
                    f"{self._cluster.bootstrap_servers}: partitions of {partitions[0].topic} have "
                    "no leader"
                )
            sleep(0.1)

    def compare(self, topics: Sequence[Topic]) -> list[TopicDifference]:
        """Return the differences by which records could be lost, refused or kept for too long. More
        partitions, larger records and more replicas than required are no difference.
        """
        topics = [self._required(topic) for topic in topics]
        replicas = self._replicas()
        existing = self.existing(topic.name for topic in topics)
        settings = self._settings(list(existing))
        findings = []
        for topic in topics:
            if topic.name not in existing or topic.name not in settings:
                findings.append(TopicDifference(topic.name, "topic", "exists", "missing"))
                continue
            if (has := existing[topic.name].partitions) < topic.partitions:
                findings.append(
                    TopicDifference(topic.name, "partitions", str(topic.partitions), str(has))
                )
            findings += differences(topic, settings[topic.name], replicas)
        return findings

    def repair(self, topics: Sequence[Topic]) -> list[TopicDifference]:
        """Create topics that are missing and set what differs. Returns what was done once the
        brokers show it.
        """
        findings = self.compare(topics)
        self._apply({topic.name: self._required(topic) for topic in topics}, findings)
        until = monotonic() + self._timeout_s
        while left := self.compare(topics) if findings else []:
            if monotonic() > until:
                raise BrokerRefused(
                    f"{self._cluster.bootstrap_servers}: {left[0]} after it was set"
                )
            sleep(0.1)  # brokers show a change some moments after they acknowledged it
        return findings

    def _required(self, topic: Topic) -> Topic:
        partitions = self._cluster.settings.partitions
        return topic if partitions is None else replace(topic, partitions=partitions)

    def _replicas(self) -> int:
        return self._cluster.settings.replication or min(REPLICAS_MAX, self.brokers())

    def _apply(self, required: Mapping[str, Topic], findings: Sequence[TopicDifference]) -> None:
        replicas = self._replicas()
        with_prefix = self._cluster.with_prefix
        missing = [required[finding.topic] for finding in findings if finding.what == "topic"]
        new = [
            NewTopic(
                with_prefix(topic.name),
                topic.partitions,
                replicas,
                config=should_be(topic, replicas),
            )
            for topic in missing
        ]
        # Keys move to other partitions. Readers keep the last snapshot by key and not by lane, so
        # that is safe.
        grown = [
            NewPartitions(with_prefix(finding.topic), required[finding.topic].partitions)
            for finding in findings
            if finding.what == "partitions"
        ]
        changed: dict[str, list[ConfigEntry]] = {}
        for finding in findings:
            if finding.what not in ("topic", "partitions"):
                entry = ConfigEntry(
                    finding.what, finding.expected, incremental_operation=AlterConfigOpType.SET
                )
                changed.setdefault(finding.topic, []).append(entry)
        resources = [
            ConfigResource(ResourceType.TOPIC, with_prefix(name), incremental_configs=entries)
            for name, entries in changed.items()
        ]
        answers: list[Future[Any]] = []
        answers += (
            self._admin.create_topics(new, request_timeout=self._timeout_s).values() if new else []
        )
        answers += self._admin.create_partitions(grown).values() if grown else []
        answers += self._admin.incremental_alter_configs(resources).values() if resources else []
        for answer in answers:
            self._answer(answer, KafkaError.TOPIC_ALREADY_EXISTS)  # another migration was faster

    def _settings(self, names: list[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        resources = [
            ConfigResource(ResourceType.TOPIC, name)
            for name in self._cluster.all_with_prefix(names)
        ]
        answers = self._admin.describe_configs(resources, request_timeout=self._timeout_s)
        known = {
            self._cluster.without_prefix(resource.name): self._answer(answer, *MOVING)
            for resource, answer in answers.items()
        }
        return {
            topic: {name: entry.value for name, entry in entries.items()}
            for topic, entries in known.items()
            if entries is not None
        }

    def _answer(self, answer: Future[Any], *harmless: int) -> Any:
        try:
            return answer.result(self._timeout_s + 5)
        except KafkaException as error:
            if error.args[0].code() in harmless:
                return None
            raise self._error(error) from None
        except TimeoutError:
            raise self._unavailable("no answer") from None

    def _error(self, error: KafkaException) -> StublineError:
        fault = error.args[0]
        if not fault.retriable() and fault.name() not in UNAVAILABLE:
            return BrokerRefused(f"{self._cluster.bootstrap_servers}: {fault.str()}")
        return self._unavailable(fault.str())

    def _unavailable(self, cause: str) -> BrokerUnavailable:
        self._admin.poll(0)  # serves what the client reported of its connections
        return self._connections.unavailable(f"{self._cluster.bootstrap_servers}: {cause}")


def should_be(topic: Topic, replicas: int) -> dict[str, str]:
    """Settings of a topic. With three replicas an acknowledged record is on two brokers, so that
    one may die at any time.
    """
    settings = {
        "cleanup.policy": topic.cleanup,
        "retention.ms": str(topic.retention_ms),
        "max.message.bytes": str(topic.max_message_bytes),
        "min.insync.replicas": "2" if replicas >= REPLICAS_MAX else "1",
    }
    if topic.is_stamped_by_broker:
        settings[TIMESTAMP_TYPE] = LOG_APPEND_TIME
    return settings


def differences(topic: Topic, actual: Mapping[str, str], replicas: int) -> list[TopicDifference]:
    """An installation may allow larger records and have more replicas, but no other retention or
    cleanup.
    """
    findings = []
    for setting, expected in should_be(topic, replicas).items():
        has = actual[setting]
        enough = (
            int(has) >= int(expected)
            if setting in ("max.message.bytes", "min.insync.replicas")
            else has == expected
        )
        if not enough:
            findings.append(TopicDifference(topic.name, setting, expected, has))
    return findings
