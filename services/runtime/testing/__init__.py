"""A broker and a lane store in memory, with a clock that moves only when a worker waits.

Everything that Kafka and PostgreSQL do to a worker can be done here between two steps, in any
order, a thousand times a second: members whose session expires, produce requests that arrive late
or twice, responses that are lost. One suite of laws runs over this and over the real servers
(tests/protocol/laws). Only one thing is not possible here: to stop a process inside a transaction.
"""

from services.runtime.testing.broker import FakeBroker, FakeBrokerClient
from services.runtime.testing.clock import FakeClock
from services.runtime.testing.lane_store import (
    DatabaseLostError,
    FakeDatabase,
    FakeLaneStore,
    FakeSession,
    classify_fake_error,
)

__all__ = [
    "DatabaseLostError",
    "FakeBroker",
    "FakeBrokerClient",
    "FakeClock",
    "FakeDatabase",
    "FakeLaneStore",
    "FakeSession",
    "classify_fake_error",
]
