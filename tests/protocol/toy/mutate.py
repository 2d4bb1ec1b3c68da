"""Takes one rule of the protocol out of this process, so that a law can be seen to fail.

A test names the rule in the environment. These rules need a real client or a real server; the
others are taken out in memory, which is faster (tests/protocol/laws/mutations.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import OFFSET_STORED, KafkaException, TopicPartition

from services.runtime.errors import BrokerUnavailable
from services.runtime.kafka.client import KafkaClient
from services.runtime.postgres import connection
from services.runtime.records import LaneKey


def replace(owner: object, rule: Callable[..., Any], by: object) -> None:
    """Replace a class's method or a module's function for the rest of this process."""
    setattr(owner, rule.__name__, by)


def transactions_may_idle() -> None:
    """Without rule 11 (time limits): neither the idle time inside a transaction nor the transaction
    is limited.
    """
    connect = connection.connect

    def patient(url: str, **bounds: Any) -> Any:
        return connect(url, **{**bounds, "idle_ms": 0, "transaction_timeout_ms": 0})

    replace(connection, connect, patient)


def the_groups_offset_is_believed() -> None:
    """Without rule 12 (acquire in the loop): a lane starts at the offset that the broker keeps, and
    not at its row's.
    """
    start_at = KafkaClient.start_at

    def start(self: KafkaClient, lane: LaneKey, offset: int) -> None:
        place = TopicPartition(*lane)
        try:
            known = self._consumer.committed([place], timeout=5)[0].offset
        except KafkaException as error:
            raise BrokerUnavailable(str(error)) from error
        start_at(self, lane, offset if known < 0 else OFFSET_STORED)

    replace(KafkaClient, start_at, start)


def disable_rule(name: str) -> None:
    """Disable the rule of that name; an empty name disables none."""
    if name:
        MUTATIONS[name]()


MUTATIONS: dict[str, Callable[[], None]] = {
    rule.__name__: rule
    for rule in (
        transactions_may_idle,
        the_groups_offset_is_believed,
    )
}
