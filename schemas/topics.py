"""Every topic, and the groups that read it. Data only: `stubline migrate` creates the topics, and
docs/reference/topics.md is generated from them.

A topic is keyed by what its events are about, so all events of a key stand in one partition in
their order.
"""

from dataclasses import dataclass

DAY_MS = 24 * 60 * 60 * 1_000
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic with its configuration. Names end in the version of their format: another format is
    another topic.
    """

    name: str
    key: str
    written_by: str
    partitions: int = 8
    # Personal data is found and shredded in the database, so the stream must not keep it.
    retention_ms: int = 7 * DAY_MS
    max_message_bytes: int = 8 * MIB
    cleanup: str = "delete"
    # Records carry the time at which the broker appended them (LogAppendTime).
    is_stamped_by_broker: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """The consumer group of a service. It reads its topics and its own replays."""

    name: str
    # The owner of partition 0 of the first topic runs the timer: never reorder them.
    topics: tuple[str, ...]

    @property
    def service(self) -> str:
        return self.name.rpartition(".")[2]


TOPICS = (
    Topic(
        "callbacks.received.v1",
        "source:external order",
        "ingest's webhook endpoint; storefronts directly",
        max_message_bytes=MIB,
        is_stamped_by_broker=True,  # facts are ordered by it, so all endpoints need one clock
    ),
    Topic("orders.observed.v1", "order id", "ingest"),
    Topic("fraud.signals.v1", "order id", "ingest"),
    Topic("orders.commands.v1", "order id", "console, command line", max_message_bytes=MIB),
    Topic("orders.decided.v1", "order id", "approval"),
    Topic("tickets.changed.v1", "order id", "issuer"),
    Topic("deliveries.changed.v1", "order id", "delivery"),
)

GROUPS = (
    Group("stubline.ingest", ("callbacks.received.v1",)),
    Group("stubline.approval", ("orders.observed.v1",)),
    Group("stubline.issuer", ("orders.decided.v1",)),
    Group("stubline.delivery", ("tickets.changed.v1", "orders.decided.v1")),
)


def dead_topic(group: str) -> Topic:
    """Return the topic of a group's dead letters. It is for people and tools: replays are made from
    the rows of runtime.dead_letters.
    """
    return Topic(f"{group}.dead.v1", "original key", "runtime")


def replay_topic(group: str) -> Topic:
    """Return the topic of a group's replays. Only that group reads it."""
    return Topic(f"{group}.replay.v1", "original key", "runtime")


def all_topics() -> tuple[Topic, ...]:
    """Return the topics of an installation: the stream, and for each group its dead letters and its
    replays.
    """
    return TOPICS + tuple(
        topic for group in GROUPS for topic in (dead_topic(group.name), replay_topic(group.name))
    )
