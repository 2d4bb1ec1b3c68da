"""The tree of errors. Its branch decides what happens; its code is permanent and names its section
in deploy/runbooks/errors.md.

StublineError
  Poison      a record that can never succeed: it becomes a dead letter
  Transient   a dependency failed: wait and try again, nothing is dead-lettered
  Fenced      another owner has the lane: drop the batch, acquire again if it is still assigned
  Stop        the lane must not go on until an operator decides; the other lanes go on
  Fatal       the process must not go on: it exits with a non-zero code
"""

from __future__ import annotations

from typing import ClassVar

_CATALOGUE: dict[str, type[StublineError]] = {}


class StublineError(Exception):
    """An error with a permanent `code`, the `cause` of this case, and the operator's `next_step`.

    A released `code` is never renamed: dead letters, dashboards and runbooks refer to it.
    """

    code: ClassVar[str] = ""
    next_step: ClassVar[str] = ""

    def __init__(self, cause: str = "") -> None:
        self.cause = cause
        super().__init__(
            f"{self.code}: {cause}. {self.next_step}" if cause else f"{self.code}. {self.next_step}"
        )

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cls.__dict__.get("code"):
            return  # a branch of the tree
        if cls.code in _CATALOGUE and _CATALOGUE[cls.code].__qualname__ != cls.__qualname__:
            raise ValueError(
                f"the error code {cls.code} belongs to {_CATALOGUE[cls.code].__qualname__} already"
            )
        if not cls.next_step:
            raise ValueError(f"{cls.__name__} has no next_step: give it one")
        _CATALOGUE[cls.code] = cls


def catalogue() -> dict[str, type[StublineError]]:
    """Return every error class with a code that has been imported, by code."""
    return dict(sorted(_CATALOGUE.items()))


class Poison(StublineError):
    """The record can never succeed: it becomes a dead letter."""


class Transient(StublineError):
    """A dependency failed: the loop waits and tries again, and dead-letters nothing."""


class Fenced(StublineError):
    """Another process may own the lane: drop batch, position and outputs, and acquire it again."""


class Stop(StublineError):
    """The lane stops until a command resolves it. The other lanes of the process go on."""


class Fatal(StublineError):
    """The process exits with a non-zero code, since going on could only make it worse."""


class UnexpectedError(Poison):
    """Parsing or handling the record raised an unexpected exception. The records around it went
    on.
    """

    code = "record-unexpected-error"
    next_step = (
        "`stubline dead show ID` prints the record and the exception. It is a defect of the "
        "release: fix and deploy it, then `stubline dead replay ID`. If the record is not needed: "
        "`stubline dead discard ID --reason ...`."
    )


class NotAnEventError(Poison):
    """The record is not the event that its topic carries: bytes that can never be read."""

    code = "record-not-an-event"
    next_step = (
        "`stubline dead show ID` prints its bytes; find its producer. If a newer release can read "
        "it: deploy that, then `stubline dead replay ID`. If it is not needed: "
        "`stubline dead discard ID --reason ...`."
    )


class RecordTooLarge(Poison):
    """The record's key, value and headers together are larger than a record may be. It was not
    parsed.
    """

    code = "record-too-large"
    next_step = (
        "`stubline dead show ID` prints the length, the SHA-256 and the first part of its value. "
        "The whole record is in the topic until retention deletes it, and cannot be replayed. Have "
        "its source send it smaller, then `stubline dead discard ID --reason ...`."
    )


class OutputTooLarge(Poison):
    """The record's outputs are larger than a topic takes, so they could never be published."""

    code = "record-output-too-large"
    next_step = (
        "`stubline dead show ID` prints the record; the text names the topic and the limit. Make "
        "it smaller at its source, since a replay alone cannot help. If it is not needed: "
        "`stubline dead discard ID --reason ...`."
    )


class ReplayUnknown(Poison):
    """The record in a replay topic names no dead letter. Only the runtime may write there."""

    code = "replay-without-dead-letter"
    next_step = (
        "Find who writes to the replay topic, and revoke the right: only `stubline dead replay` "
        "may put records there."
    )


class DatabaseUnavailable(Transient):
    """PostgreSQL does not respond, or ends our sessions."""

    code = "database-unavailable"
    next_step = (
        "Check that PostgreSQL runs and responds at DATABASE_URL. The service goes on by itself; "
        "nothing is lost."
    )


class DatabaseRefused(Transient):
    """PostgreSQL refuses the statement: a table or a right is missing, or the password is wrong."""

    code = "database-refuses"
    next_step = (
        "Run `stubline migrate`, and compare the release with the schema. The service tries again "
        "by itself."
    )


class BrokerUnavailable(Transient):
    """Kafka does not respond."""

    code = "broker-unavailable"
    next_step = (
        "See whether Kafka runs and answers at KAFKA_BOOTSTRAP_SERVERS, and whether its listener "
        "there has STUBLINE_KAFKA_SECURITY_PROTOCOL. The service goes on by itself."
    )


class InputRefused(Transient):
    """Kafka refuses us the records of an input, or the membership in the group: most often a right
    is missing.
    """

    code = "input-refused"
    next_step = (
        "Give our user the rights that `stubline topics acls` prints for the process. The service "
        "goes on by itself."
    )


class InputMissing(Transient):
    """A topic that the service reads does not exist, or we may not see it. Its other topics are
    worked.
    """

    code = "input-missing"
    next_step = (
        "`stubline topics check` names it; `stubline migrate` creates it. The service then reads "
        "it by itself."
    )


class OutputUnauthorized(Transient):
    """Kafka does not let us write an output: the right is missing. The output stays in its lane's
    row, and the other lanes go on.
    """

    code = "output-unauthorized"
    next_step = (
        "Give our user the right to write to the topic that the text names: `stubline topics acls` "
        "prints what the process needs. The service publishes the output by itself; nothing is "
        "lost."
    )


class ProducerTimestamps(Transient):
    """Records carry their producers' timestamps where the broker's are needed, so the clocks of
    several machines decide what is newer.
    """

    code = "topic-stamped-by-producers"
    next_step = (
        "`stubline topics check` shows it, `stubline migrate` sets message.timestamp.type to "
        "LogAppendTime. Older records keep their timestamps: the warning ends once they are read."
    )


class LoopFailed(Transient):
    """The loop of a service raised an unexpected exception. All its lanes are acquired again, and
    it goes on.
    """

    code = "loop-unexpected-error"
    next_step = (
        "Read the exception in the log: it is a defect of the release. The service tries again by "
        "itself; if the error stays, roll back."
    )


class PortUnavailable(Fatal):
    """The process cannot listen on its port: another process uses it, or our user may not."""

    code = "port-unavailable"
    next_step = (
        "The text names the address and the setting. `ss -ltnp` shows which process listens there: "
        "stop it, or set another port, and start this process again."
    )


class TickFailed(Transient):
    """The service's work without input failed. It is tried again; lanes with input go on."""

    code = "tick-failed"
    next_step = (
        "Read the exception in the log: it is a defect of the release, or a row that the release "
        "does not expect."
    )


class BatchUndecided(Transient):
    """A batch could not be decided in many attempts, so the loop backs off: deadlocks, or records
    that fail only together.
    """

    code = "batch-undecided"
    next_step = (
        "The service tries again by itself. If the error stays, the log names the exceptions, and "
        "`select * from pg_locks where not granted` shows which sessions wait."
    )


class LaneFenced(Fenced):
    """The row's epoch or next offset is not as expected: another process acquired the lane, or an
    operator moved it.
    """

    code = "lane-fenced"
    next_step = (
        "None: the owner acquires the lane again. If it happens often, check whether two "
        "installations share a consumer group and a database."
    )


class TopicRecreated(Stop):
    """The topic was deleted and created again: its offsets now mean other records."""

    code = "lane-topic-recreated"
    next_step = (
        "Find out who deleted it and what was lost. `stubline lanes accept-topic GROUP TOPIC` "
        "starts at its first record."
    )


class OffsetOutOfRange(Stop):
    """The partition does not hold the lane's next offset: retention deleted records, or the log was
    truncated.
    """

    code = "lane-offset-out-of-range"
    next_step = (
        "`stubline lanes list` shows the offset. If retention deleted records, have their source "
        "send them again, then `stubline lanes skip GROUP TOPIC PARTITION --reason ...`. If the "
        "offset is beyond the end: `stubline lanes rewind GROUP TOPIC PARTITION --to N`."
    )


class RecordUnreadable(Stop):
    """The client cannot unpack the batch at the lane's next offset: its compression, checksum,
    format or size is wrong.
    """

    code = "lane-record-unreadable"
    next_step = (
        "The text names the offset after the batch. Find its producer, and have it send the "
        "records again; then `stubline lanes skip GROUP TOPIC PARTITION --to N --reason ...` with "
        "that offset."
    )


class OutputRefused(Stop):
    """The broker will never take an output: it is too large, or not a valid record."""

    code = "lane-output-refused"
    next_step = (
        "Nothing is lost, the outputs are in the lane's row: `stubline lanes outputs GROUP TOPIC "
        "PARTITION` shows them. Fix what the text names (max.message.bytes or timestamp type of "
        "the topic), then `stubline lanes rewind GROUP TOPIC PARTITION --to NEXT_OFFSET` with the "
        "offset that the lane has: it starts again and publishes them first. If no topic can take "
        "one: `stubline lanes drop-output GROUP TOPIC PARTITION --number N --reason ...`."
    )


class NewerRelease(Stop):
    """An internal event uses a value that this release does not know: its writer is newer."""

    code = "lane-newer-release"
    next_step = (
        "Deploy the new release of this service: readers before writers. It takes the lane up "
        "again by itself."
    )


class OutboxUnreadable(Stop):
    """The outbox in the lane's row is damaged, or in a format that this release does not know."""

    code = "lane-outbox-unreadable"
    next_step = (
        "Deploy the release that wrote it, or a newer one, which takes the lane up again by itself."
    )


class FailureRateExceeded(Stop):
    """Too many of the last records failed unexpectedly, so the service paused itself before it
    dead-lettered its topics.
    """

    code = "failure-rate-exceeded"
    next_step = (
        "Read the exception in the log; most likely the last release is bad: roll back, or fix it. "
        "Then `stubline resume GROUP`."
    )


class OutcomesMismatch(Fatal):
    """A handler returned another number of outcomes than it got records, or something else than the
    four outcomes.
    """

    code = "handler-outcomes-mismatch"
    next_step = "A defect of the release: roll back. Nothing was committed."


class ConsumerFailed(Fatal):
    """The Kafka consumer failed fatally and will never fetch again. A new process has a new one."""

    code = "consumer-failed"
    next_step = (
        "None: the supervisor restarts the process. If the error stays, the log names what the "
        "broker refuses."
    )


class ProducerFailed(Fatal):
    """The Kafka producer failed fatally and will never send again. A new process has a new one."""

    code = "producer-failed"
    next_step = (
        "None: the supervisor restarts the process, and it publishes what its lanes' rows hold."
    )
