"""The ACLs that each process needs, and no more: what `stubline topics acls` prints.

Kafka's authorizer infers Describe from Read, Write and Alter, and DescribeConfigs from
AlterConfigs.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas.topics import GROUPS, Group, all_topics, dead_topic, replay_topic
from services.runtime.kafka.cluster import KafkaCluster

WEBHOOKS, COMMANDS, MIGRATE = "webhooks", "commands", "migrate"
WEBHOOK_TOPIC = "callbacks.received.v1"
OF_ALL_TOPICS = {
    COMMANDS: ("Describe", "DescribeConfigs"),
    MIGRATE: ("Create", "Alter", "AlterConfigs"),
}
PROCESSES = {
    WEBHOOKS: "services.ingest.webhooks",
    **{group.service: f"services.{group.service}" for group in GROUPS},
    COMMANDS: "stubline, but not migrate",
    MIGRATE: "stubline migrate",
}


class Acl(NamedTuple):
    """One right: the names are those on the brokers, and always whole."""

    process: str
    user: str
    resource: str  # topic or group
    name: str
    operation: str

    @property
    def command(self) -> str:
        """The line of kafka-acls.sh, without its connection."""
        return shlex.join(
            [
                "kafka-acls.sh",
                "--add",
                "--allow-principal",
                f"User:{self.user}",
                f"--{self.resource}",
                self.name,
                "--operation",
                self.operation,
            ]
        )


def required_acls(cluster: KafkaCluster, users: Mapping[str, str]) -> list[Acl]:
    """`users`: the Kafka user of each process; `stubline-PROCESS` where it names none."""
    return [
        Acl(
            process,
            users.get(process, f"stubline-{process}"),
            resource,
            cluster.with_prefix(name),
            operation,
        )
        for process in PROCESSES
        for resource, name, operation in _rights(process)
    ]


def _rights(process: str) -> Iterable[tuple[str, str, str]]:
    if process == WEBHOOKS:
        return [("topic", WEBHOOK_TOPIC, "Write")]
    if process in OF_ALL_TOPICS:
        return [
            ("topic", topic.name, operation)
            for topic in all_topics()
            for operation in OF_ALL_TOPICS[process]
        ]
    return _of_group(next(group for group in GROUPS if group.service == process))


def _of_group(group: Group) -> list[tuple[str, str, str]]:
    own = (replay_topic(group.name).name, dead_topic(group.name).name)
    return [
        ("group", group.name, "Read"),
        *(("topic", name, "Read") for name in (*group.topics, own[0])),
        *(("topic", name, "Write") for name in (*group.outputs, *own)),
    ]
