"""Every topic and who reads it. Data only: `stubline migrate` makes them, docs/reference/topics.md
is written from them.

A topic is keyed by what its events are about, so that all of a key stand in one partition in their
order.
"""

from dataclasses import dataclass

DAY_MS = 24 * 60 * 60 * 1_000
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Topic:
    """What the broker must keep. Names end in their format's version: another format is another
    topic.
    """

    name: str
    key: str
    written_by: str
    partitions: int = 8
    retention_ms: int = (
        7 * DAY_MS
    )  # personal data is found and shredded in the database, so the stream forgets it
    max_message_bytes: int = 8 * MIB
    cleanup: str = "delete"
    is_stamped_by_broker: bool = (
        False  # its records carry the time at which the log took them, not their producers' time
    )


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group, and so a service: it reads its topics and its own replays."""

    name: str
    topics: tuple[
        str, ...
    ]  # whoever holds partition 0 of the first one owns the timer: never reorder

    @property
    def service(self) -> str:
        return self.name.rpartition(".")[2]


TOPICS = (
    Topic(
        "callbacks.received.v1",
        "source:external order",
        "ingest's door; storefronts directly",
        max_message_bytes=MIB,
        is_stamped_by_broker=True,  # facts are ordered by it: one clock for all endpoints
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
    """For people and tools. Replay goes by the letter's row, never by this."""
    return Topic(f"{group}.dead.v1", "original key", "runtime")


def replay_topic(group: str) -> Topic:
    """What an operator gives back. Only its own group reads it."""
    return Topic(f"{group}.replay.v1", "original key", "runtime")


def all_topics() -> tuple[Topic, ...]:
    """What an installation needs: the stream, and for each group its dead letters and its
    replays.
    """
    return TOPICS + tuple(
        topic for group in GROUPS for topic in (dead_topic(group.name), replay_topic(group.name))
    )
