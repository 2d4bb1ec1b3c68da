"""Reads the real servers for the laws: lanes' rows, dead letters, topics and their ends."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from psycopg.rows import dict_row

from services.runtime.kafka.topics import BrokerAdmin
from services.runtime.records import LaneKey, Record, unpack_headers
from tests.protocol.laws.system_state import DeadLetterFacts, LaneFacts
from tests.protocol.toy.names import Names
from tests.support.logs import read_logs

LANES = """
    select consumer_group as "group", topic, partition, epoch, first_offset, next_offset, gaps,
        rewound, effects, duplicates, superseded, dead, conservation_gap,
        outbox is not null as has_outbox, stopped_code, owner
    from runtime.lanes where consumer_group = any(%s) order by consumer_group, topic, partition
"""
DEAD_LETTERS = """
    select id, consumer_group as "group", topic, partition, "offset", key, value, headers,
        code, state, attempts
    from runtime.dead_letters where consumer_group = any(%s) order by id
"""


class KafkaReader:
    """A broker and a database, as the laws read them."""

    def __init__(self, bootstrap_servers: str, database_url: str, names: Names) -> None:
        self.names = names
        self.bootstrap_servers, self.database_url = bootstrap_servers, database_url
        self.broker = BrokerAdmin(bootstrap_servers)
        self.admin = self.new_admin()
        self._connection: psycopg.Connection[Any] | None = None

    def new_admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    @property
    def database(self) -> psycopg.Connection[Any]:
        """Return an open connection: servers are restarted in these tests."""
        if self._connection is not None:
            with suppress(psycopg.OperationalError):
                self._connection.execute("select 1")
                return self._connection
            self._connection.close()
        self._connection = psycopg.connect(self.database_url, autocommit=True, connect_timeout=5)
        return self._connection

    def rows(self, statement: str, *arguments: object) -> list[Any]:
        return self.database.execute(statement.encode(), arguments).fetchall()

    def ends(self) -> dict[LaneKey, tuple[int, int]]:
        """Return (low, high) of every partition, with three requests."""
        description = self.broker.existing(self.names.topics)
        lanes = [
            LaneKey(name, number)
            for name, topic in description.items()
            for number in range(topic.partitions)
        ]
        low, high = (
            self._offsets(lanes, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        )
        return {lane: (low[lane], high[lane]) for lane in lanes}

    def _offsets(self, lanes: Sequence[LaneKey], spec: OffsetSpec) -> dict[LaneKey, int]:
        requested = self.admin.list_offsets(
            {TopicPartition(*lane): spec for lane in lanes}, request_timeout=10
        )
        return {
            LaneKey(place.topic, place.partition): answer.result(60).offset
            for place, answer in requested.items()
        }

    def _lanes(self) -> list[LaneFacts]:
        cursor = self.database.cursor(row_factory=dict_row)
        rows = cursor.execute(LANES.encode(), [list(self.names.groups.values())]).fetchall()
        return [
            LaneFacts(lane=LaneKey(row.pop("topic"), row.pop("partition")), **row) for row in rows
        ]

    def lanes(self, stage: str) -> list[LaneFacts]:
        return [lane for lane in self._lanes() if lane.group == self.names.groups[stage]]

    def dead_letters(self, stage: str = "first") -> list[DeadLetterFacts]:
        return [
            dead_letter
            for dead_letter in self._dead_letters()
            if dead_letter.group == self.names.groups[stage]
        ]

    def _dead_letters(self) -> list[DeadLetterFacts]:
        cursor = self.database.cursor(row_factory=dict_row)
        rows = cursor.execute(DEAD_LETTERS.encode(), [list(self.names.groups.values())]).fetchall()
        return [
            DeadLetterFacts(**row | {"headers": unpack_headers(row["headers"])}) for row in rows
        ]

    def records(self, topic: str) -> list[Record]:
        """Return all records of a topic."""
        return [
            record for log in read_logs(self.bootstrap_servers, [topic]).values() for record in log
        ]
