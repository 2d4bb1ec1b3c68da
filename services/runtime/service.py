"""What a service gives to the runtime: how to read a record, and what a batch of them means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeAlias, TypeVar

from services.runtime.records import Dead, Event, Outcome, Record

E = TypeVar("E")  # what parse makes of a record
S = TypeVar(
    "S"
)  # the session in which handle works: a database connection inside the lane's transaction
Tick: TypeAlias = Callable[[datetime, S], Sequence[Event]]


@dataclass(frozen=True)
class Service(Generic[E, S]):
    """One consumer group.

    `parse` is called outside any transaction, for each record alone; what it raises makes that
    record a dead letter (`Stop` stops the lane instead). `handle` is called once a transaction with
    the events of all lanes, and answers one outcome for each, in order. `tick` works without input,
    about once a tick interval, in one process of the group. `backlog` says why the service should
    not read now (None: go on); it is asked about once a second. `subject` says whose data a record
    is, as far as it tells: its dead letter is found by that name, so it must have an answer for any
    bytes.

    Crash: whatever `handle` and `tick` wrote through the session commits together with the lanes'
    positions and their outputs, or not at all. They may be called again for the same records after
    a rollback, so they must do nothing that the session cannot undo.
    """

    group: str
    topics: tuple[
        str, ...
    ]  # whoever holds partition 0 of the first one owns the timer: never reorder
    parse: Callable[[Record], E | Dead]
    handle: Callable[[Sequence[E], S], list[Outcome]]
    tick: Tick[S] | None = None
    backlog: Callable[[S], str | None] | None = None
    subject: Callable[[Record], str | None] = lambda _record: None
    broker_stamped: tuple[
        str, ...
    ] = ()  # topics whose broker must stamp the records: `parse` goes by their time

    @property
    def replay_topic(self) -> str:
        return f"{self.group}.replay.v1"

    @property
    def dead_topic(self) -> str:
        return f"{self.group}.dead.v1"

    @property
    def input_topics(self) -> tuple[str, ...]:
        """What the group subscribes to: its topics, and what is replayed to it alone."""
        return (*self.topics, self.replay_topic)
