"""Rule 9 (one lock order): joint transactions lock lanes in one order, so two never deadlock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError

import psycopg
import pytest

from services.runtime.ports import ExpectedLane
from services.runtime.postgres import connection
from services.runtime.postgres.lane_store import PostgresLaneStore, PostgresTransaction
from services.runtime.records import LaneKey

GROUP = "locks"
LANES = [LaneKey("t", number) for number in range(12)]
ROUNDS = 120
Lock = Callable[[PostgresTransaction, Sequence[ExpectedLane]], object]


def contend(url: str, lock: Lock, rounds: int) -> int:
    """Let two owners lock the same lanes in opposite order. Returns the number of deadlocks."""

    def own(expected: Sequence[ExpectedLane]) -> int:
        deadlocks = 0
        lane_store = PostgresLaneStore(
            GROUP, "owner", "test", lambda: connection.connect(url, name=GROUP)
        )
        for _ in range(rounds):
            try:
                with lane_store.transaction() as transaction:
                    lock(transaction, expected)
                    transaction.commit()
            # Detected by the server as a deadlock, or ended by a time limit before that.
            except psycopg.Error:
                deadlocks += 1
        lane_store.close()
        return deadlocks

    expected = [ExpectedLane(lane, 0, 0) for lane in LANES]
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(own, [expected, expected[::-1]]))


def as_they_come() -> Lock:
    """Take the rule out. Both owners wait after their first lane, so that it shows on any
    machine.
    """
    first_lanes = Barrier(2)

    def lock(transaction: PostgresTransaction, expected: Sequence[ExpectedLane]) -> None:
        for index, each in enumerate(expected):
            transaction.lock([each])
            if index == 0:
                with suppress(BrokenBarrierError):
                    first_lanes.wait(5)

    return lock


@pytest.fixture
def rows(database_url: str) -> str:
    lane_store = PostgresLaneStore(
        GROUP, "owner", "test", lambda: connection.connect(database_url, name=GROUP)
    )
    lane_store.add_lanes(dict.fromkeys(LANES, ("id", 0)))
    lane_store.close()
    return database_url


def test_two_owners_that_lock_the_same_lanes_never_deadlock(rows: str) -> None:
    assert contend(rows, lambda transaction, expected: transaction.lock(expected), ROUNDS) == 0


def test_without_that_order_they_do(rows: str) -> None:
    assert contend(rows, as_they_come(), 1) > 0
