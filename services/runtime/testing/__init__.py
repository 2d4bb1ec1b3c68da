"""Log and ledger in memory, with a clock that only moves when somebody waits.

Everything that Kafka and PostgreSQL do to a worker can be done here between two steps, in any
sequence, a thousand times a second: members that expire while they rest, outputs that land late or
twice, answers that are lost. One suite of laws runs over this and over the real ones
(tests/protocol/laws); what the fake cannot do is rest inside a transaction.
"""

from services.runtime.testing.broker import FakeBroker, FakeBrokerClient
from services.runtime.testing.clock import FakeClock
from services.runtime.testing.ledger import (
    DatabaseLostError,
    FakeDatabase,
    FakeLedger,
    FakeSession,
    classify,
)

__all__ = [
    "DatabaseLostError",
    "FakeBroker",
    "FakeBrokerClient",
    "FakeClock",
    "FakeDatabase",
    "FakeLedger",
    "FakeSession",
    "classify",
]
