"""A batch that lasts longer than a transaction may is neither poison nor an outage: it is worked in
smaller parts. On the real database.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest

from schemas.envelope import Output
from services.runtime.failures import classification
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.worker import Worker
from services.runtime.observability.telemetry import Telemetry
from services.runtime.postgres import connection
from services.runtime.postgres.lane_store import PostgresLaneStore, Session
from services.runtime.records import Effect, Outcome, Record
from services.runtime.service import Service
from services.runtime.settings import LaneSettings
from services.runtime.testing.broker import FakeBroker, FakeBrokerClient
from services.runtime.testing.clock import FakeClock

RECORDS, SECONDS_EACH = 80, 0.025
TIMES = LaneSettings(
    batch_linger_ms=0,
    batch_records_max=RECORDS,
    transaction_timeout_ms=1_000,
    bisect_deadline_ms=800,
    idle_in_transaction_ms=900,
    lock_timeout_ms=900,
)


@pytest.mark.parametrize("poisoned", [0, 1])
def test_a_batch_that_lasts_too_long_is_worked_in_smaller_ones(
    database_url: str, poisoned: int
) -> None:
    """Also while it is searched for the record that raises."""
    sizes: list[int] = []

    def handle(events: Sequence[Record], session: Session) -> list[Outcome]:
        sizes.append(len(events))
        if poisoned and any(event.value == b"0" for event in events):
            raise ValueError("whatever it is")
        session.execute("select pg_sleep(%s)", [SECONDS_EACH * len(events)])
        return [Effect() for _ in events]

    broker = FakeBroker(FakeClock())
    service: Service[Record, Session] = Service(
        "slow", ("slow.in.v1",), parse=lambda record: record, handle=handle
    )
    for topic in (*service.input_topics, service.dead_topic):
        broker.create_topic(topic, 1)
    for number in range(RECORDS):
        broker.append(Output("slow.in.v1", b"key", b"%d" % number, []))
    lane_store = PostgresLaneStore(
        service.group,
        "owner",
        "test",
        lambda: connection.connect(database_url, name="slow", transaction_timeout_ms=1_000),
    )
    log = FakeBrokerClient(broker, service.group)
    worker = Worker(
        WorkerContext(
            service,
            log,
            lane_store,
            TIMES,
            Telemetry(),
            classification.classify_error,
            time.monotonic,
            time.time,
            random.random,
        )
    )
    end = time.monotonic() + 30
    statement = (
        "select next_offset, effects, dead, conservation_gap from runtime.lanes where topic = "
        "'slow.in.v1'"
    )
    try:
        while (
            not (rows := lane_store.session.execute(statement.encode()).fetchall())
            or rows[0][0] < RECORDS
        ):
            assert time.monotonic() < end, (rows, sizes)
            worker.step()
    finally:
        worker.stop()
    assert rows == [(RECORDS, RECORDS - poisoned, poisoned, 0)]
    if not poisoned:
        assert sizes[:3] == [80, 40, 20]
        assert max(sizes[2:]) == 20  # later batches are as small
