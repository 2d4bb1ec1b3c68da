"""What the demonstration reads of the pipeline. It writes nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from services.runtime.kafka.cluster import KafkaCluster
from services.runtime.kafka.topics import BrokerAdmin
from services.runtime.postgres import statements
from services.runtime.records import LaneKey

SQL = statements.load(__package__)


@dataclass(slots=True)
class Stage:
    """The sums over a group's lanes, without the timer's ticks."""

    effects: int = 0
    duplicates: int = 0
    superseded: int = 0
    dead: int = 0
    lag: int = 0
    gap: int = 0
    gaps: int = 0  # offset gaps of the log, which were skipped; nothing here makes any
    stopped: list[str] = field(default_factory=list)

    @property
    def records(self) -> int:
        return self.effects + self.duplicates + self.superseded + self.dead


@dataclass(frozen=True, slots=True)
class Store:
    connection: Connection[TupleRow]
    cluster: KafkaCluster

    @property
    def bootstrap_servers(self) -> str:
        return self.cluster.bootstrap_servers

    def stages(self) -> dict[str, Stage]:
        rows = self.connection.execute(SQL["stages"]).fetchall()
        ends = BrokerAdmin(self.cluster).ends(
            {LaneKey(row[1], row[2]) for row in rows if row[1] != "@timer"}
        )
        stages: dict[str, Stage] = defaultdict(Stage)
        for (
            group,
            topic,
            partition,
            offset,
            effects,
            duplicates,
            superseded,
            dead,
            gaps,
            gap,
            stopped,
        ) in rows:
            stage = stages[group]
            stage.gap += abs(gap)
            stage.gaps += gaps
            if stopped is not None:
                stage.stopped.append(f"{topic}/{partition}: {stopped}")
            if topic == "@timer":
                continue
            stage.effects += effects
            stage.duplicates += duplicates
            stage.superseded += superseded
            stage.dead += dead
            if (end := ends.get(LaneKey(topic, partition))) is not None:
                stage.lag += max(0, end.end_offset - offset)
        return dict(stages)

    def orders_by_state(self) -> Counter[str]:
        return Counter(dict(self.connection.execute(SQL["orders_by_state"]).fetchall()))

    def tickets_by_order(self) -> dict[str, tuple[int, int]]:
        """Order -> (active, ever numbered)."""
        return {
            order: (active, numbered)
            for order, active, numbered in self.connection.execute(SQL["tickets_by_order"])
        }

    def numbers(self) -> list[tuple[str, int, int, int]]:
        return [
            (name, given, different, places)
            for name, given, different, places in self.connection.execute(SQL["numbers"])
        ]

    def deliveries(self) -> list[tuple[str, str, float | None]]:
        return [
            (order, state, sent_at)
            for order, state, sent_at in self.connection.execute(SQL["deliveries"])
        ]

    def unsent_tickets(self) -> int:
        (count,) = self.connection.execute(SQL["unsent_tickets"]).fetchone() or (0,)
        return int(count)

    def dead_letters(self) -> list[tuple[str, str, int]]:
        return [
            (group, code, count)
            for group, code, count in self.connection.execute(SQL["dead_letters"])
        ]


def open_store(database_url: str, cluster: KafkaCluster | str) -> Store:
    return Store(psycopg.connect(database_url, autocommit=True), KafkaCluster.of(cluster))
