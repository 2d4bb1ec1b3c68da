"""The contract between a service and the runtime: how to read a record, and what to do with a batch
of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeAlias, TypeVar

from services.runtime.records import Dead, Event, Outcome, Record

E = TypeVar("E")  # what parse returns
S = TypeVar("S")  # what handle works with: a database connection inside the lanes' transaction
Tick: TypeAlias = Callable[[datetime, S], Sequence[Event]]


@dataclass(frozen=True)
class Service(Generic[E, S]):
    """One consumer group.

    `parse` reads one record, outside any transaction. If it raises, that record becomes a dead
    letter (a `Stop` stops the lane instead).

    `handle` gets the events of all lanes of a batch, once per transaction, and returns one outcome
    for each, in order.

    `tick` works without input, about once per tick interval, in one process of the group. It takes
    a transaction, unless `has_tick_work` says that it would find nothing: a query of one round
    trip, which may be wrong in favour of the tick.

    `backlog` returns why the service should not read now, or None. It is called about once a
    second.

    `subject` returns the key of the subject whose data a record contains, if it can be read. Its
    dead letter is found by that key, so `subject` must not fail, whatever the bytes are.

    `broker_stamped` are topics whose records must carry the broker's timestamps, since `parse` goes
    by them.

    Crash: whatever `handle` and `tick` wrote through the session commits together with the lanes'
    positions and their outputs, or not at all. After a rollback they are called again for the same
    records, so they must do nothing that the session cannot undo.
    """

    group: str
    # The owner of partition 0 of the first topic owns the timer, so never reorder them.
    topics: tuple[str, ...]
    parse: Callable[[Record], E | Dead]
    handle: Callable[[Sequence[E], S], list[Outcome]]
    tick: Tick[S] | None = None
    has_tick_work: Callable[[S], bool] | None = None
    backlog: Callable[[S], str | None] | None = None
    subject: Callable[[Record], str | None] = lambda _record: None
    broker_stamped: tuple[str, ...] = ()

    @property
    def replay_topic(self) -> str:
        return f"{self.group}.replay.v1"

    @property
    def dead_topic(self) -> str:
        return f"{self.group}.dead.v1"

    @property
    def input_topics(self) -> tuple[str, ...]:
        """What the group subscribes to: its topics, and its own replay topic."""
        return (*self.topics, self.replay_topic)
