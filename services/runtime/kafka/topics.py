"""What tools ask of the broker: topics made and compared, and where a topic begins and ends. Not
for lanes: see kafka.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
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
from services.runtime.records import LaneKey

TIMEOUT_S = 10.0
REPLICAS_MAX = 3
TIMESTAMP_TYPE, LOG_APPEND_TIME = "message.timestamp.type", "LogAppendTime"
AWAY = frozenset(
    {"_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_RESOLVE"}
)  # as librdkafka names what it found out itself

# Of a partition whose leader is just coming, going, or back with an epoch that the client or the
# broker has not heard of yet.
MOVING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
)


class PartitionExtent(NamedTuple):
    """Where a partition begins, and the offset of the record that comes next.

    `stable`: up to where it may be read. Below `high` while a transaction is open: its producer has
    neither committed nor aborted it, and the broker ends it after the producer's
    `transaction.timeout.ms`. None: it was not asked for.
    """

    low: int
    high: int
    stable: int | None = None

    @property
    def readable(self) -> int:
        """The end for readers."""
        return self.high if self.stable is None else self.stable


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic as the broker has it."""

    topic_id: str
    partitions: int


class TopicDifference(NamedTuple):
    """One difference between what a topic should be and what it is."""

    topic: str
    what: str
    should: str
    found: str


class BrokerRefused(StublineError):
    """Kafka answers, and does not do it: a right that is missing, a policy, a number that it does
    not take.
    """

    code = "broker-refuses"
    next_step = (
        "The text names what it refused. Give our user the right (`kafka-acls.sh`), or "
        "have an administrator do it."
    )


class BrokerAdmin:
    """Raises BrokerUnavailable when nobody answers in time, and BrokerRefused."""

    def __init__(self, servers: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._servers = servers
        self._timeout_s = timeout_s
        self._admin = AdminClient(
            {"bootstrap.servers": servers, "client.id": "stubline-tools", "log_level": 0}
        )

    def brokers(self) -> int:
        try:
            return len(self._admin.list_topics(timeout=self._timeout_s).brokers)
        except KafkaException as error:
            raise self._trouble(error) from None

    def standing(self, names: Iterable[str]) -> dict[str, TopicDescription]:
        """Topics as they are. Those that do not exist are left out."""
        answers = self._admin.describe_topics(
            TopicCollection(list(names)), request_timeout=self._timeout_s
        )
        found = {
            name: self._answer(answer, KafkaError.UNKNOWN_TOPIC_OR_PART)
            for name, answer in answers.items()
        }
        return {
            name: TopicDescription(str(it.topic_id), len(it.partitions))
            for name, it in found.items()
            if it is not None
        }

    def extents(self, topic: str) -> dict[int, PartitionExtent]:
        """Of every partition of a topic; empty when there is no such topic."""
        if (standing := self.standing([topic]).get(topic)) is None:
            return {}
        partitions = [TopicPartition(topic, number) for number in range(standing.partitions)]
        low, high = (
            self._offsets(partitions, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        )
        stable = self._offsets(partitions, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)
        return {
            number: PartitionExtent(low[number], high[number], stable[number])
            for number in range(standing.partitions)
        }

    def ends(self, lanes: Collection[LaneKey]) -> dict[LaneKey, PartitionExtent]:
        """Of these partitions, at once and without their begins; those that do not exist are left
        out.
        """
        standing = self.standing({lane.topic for lane in lanes}) if lanes else {}
        there = [
            it
            for it in lanes
            if it.topic in standing and it.partition < standing[it.topic].partitions
        ]
        if not there:
            return {}
        partitions = [TopicPartition(*lane) for lane in there]
        high = self._offsets_of(partitions, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)
        stable = self._offsets_of(partitions, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)
        return {lane: PartitionExtent(0, high[lane], stable[lane]) for lane in there}

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
            found = {
                LaneKey(at.topic, at.partition): self._answer(answer, *MOVING)
                for at, answer in answers.items()
            }
            if all(found.values()):
                return {lane: answer.offset for lane, answer in found.items()}
            if monotonic() > until:
                raise BrokerUnavailable(
                    f"{self._servers}: partitions of {partitions[0].topic} have no leader"
                )
            sleep(0.1)

    def compare(self, topics: Sequence[Topic]) -> list[TopicDifference]:
        """What differs in a way that could lose, refuse or keep too long. What is roomier than
        asked for is no finding.
        """
        replicas = min(REPLICAS_MAX, self.brokers())
        standing = self.standing(topic.name for topic in topics)
        settings = self._settings(list(standing))
        findings = []
        for topic in topics:
            if topic.name not in standing or topic.name not in settings:
                findings.append(TopicDifference(topic.name, "topic", "exists", "missing"))
                continue
            if (has := standing[topic.name].partitions) < topic.partitions:
                findings.append(
                    TopicDifference(topic.name, "partitions", str(topic.partitions), str(has))
                )
            findings += differences(topic, settings[topic.name], replicas)
        return findings

    def repair(self, topics: Sequence[Topic]) -> list[TopicDifference]:
        """Makes what is missing, sets what differs, and answers what it did once the brokers show
        it.
        """
        findings = self.compare(topics)
        self._mend({topic.name: topic for topic in topics}, findings)
        until = monotonic() + self._timeout_s
        while left := self.compare(topics) if findings else []:
            if monotonic() > until:
                raise BrokerRefused(f"{self._servers}: {left[0]} after it was set")
            sleep(0.1)  # a change is shown everywhere a moment after it was answered
        return findings

    def _mend(self, wanted: Mapping[str, Topic], findings: Sequence[TopicDifference]) -> None:
        replicas = min(REPLICAS_MAX, self.brokers())
        missing = [wanted[finding.topic] for finding in findings if finding.what == "topic"]
        new = [
            NewTopic(it.name, it.partitions, replicas, config=should_be(it, replicas))
            for it in missing
        ]
        # Keys move to other partitions. Readers keep the last snapshot by key and not by lane, so
        # that is safe.
        grown = [
            NewPartitions(f.topic, wanted[f.topic].partitions)
            for f in findings
            if f.what == "partitions"
        ]
        changed: dict[str, list[ConfigEntry]] = {}
        for finding in findings:
            if finding.what not in ("topic", "partitions"):
                entry = ConfigEntry(
                    finding.what, finding.should, incremental_operation=AlterConfigOpType.SET
                )
                changed.setdefault(finding.topic, []).append(entry)
        resources = [
            ConfigResource(ResourceType.TOPIC, name, incremental_configs=it)
            for name, it in changed.items()
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
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        answers = self._admin.describe_configs(resources, request_timeout=self._timeout_s)
        known = {
            resource.name: self._answer(answer, *MOVING) for resource, answer in answers.items()
        }
        return {
            topic: {name: entry.value for name, entry in it.items()}
            for topic, it in known.items()
            if it is not None
        }

    def _answer(self, answer: Future[Any], *harmless: int) -> Any:
        try:
            return answer.result(self._timeout_s + 5)
        except KafkaException as error:
            if error.args[0].code() in harmless:
                return None
            raise self._trouble(error) from None

    def _trouble(self, error: KafkaException) -> StublineError:
        fault = error.args[0]
        text = f"{self._servers}: {fault.str()}"
        return (
            BrokerUnavailable(text)
            if fault.retriable() or fault.name() in AWAY
            else BrokerRefused(text)
        )


def should_be(topic: Topic, replicas: int) -> dict[str, str]:
    """With three replicas an acknowledged record is on two, so that one broker may die at any
    time.
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


def differences(topic: Topic, found: Mapping[str, str], replicas: int) -> list[TopicDifference]:
    """Larger messages and more replicas are the installation's right; another retention or cleanup
    is not.
    """
    findings = []
    for setting, should in should_be(topic, replicas).items():
        has = found[setting]
        enough = (
            int(has) >= int(should)
            if setting in ("max.message.bytes", "min.insync.replicas")
            else has == should
        )
        if not enough:
            findings.append(TopicDifference(topic.name, setting, should, has))
    return findings
