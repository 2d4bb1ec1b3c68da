"""One tree of errors. Whose fault it is decides what happens; the code is permanent and names its
runbook section.

Poison      can never succeed: the record becomes a dead letter
Transient   the world's fault: wait and try again, nothing is dead-lettered
Fenced      another owner has the lane: drop the batch, acquire again if it is still assigned
Stop        this lane must not go on until somebody decides: it stops, the others go on
Fatal       this process must not go on: exit non-zero
"""

from __future__ import annotations

from typing import ClassVar

_CATALOGUE: dict[str, type[StublineError]] = {}


class StublineError(Exception):
    """Has a permanent `code`, a `cause` of this case and the `next_step` that an operator takes.

    `code` is never renamed: dead letters, dashboards and runbooks go by it.
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
            raise ValueError(f"{cls.__name__} does not say what to do: give it a next_step")
        _CATALOGUE[cls.code] = cls


def catalogue() -> dict[str, type[StublineError]]:
    """Every error with a code that has been imported, by code."""
    return dict(sorted(_CATALOGUE.items()))


class Poison(StublineError):
    """Can never succeed: its record becomes a dead letter."""


class Transient(StublineError):
    """The world's fault: wait, try again, dead-letter nothing."""


class Fenced(StublineError):
    """Another owner holds the lane, or nobody knows: forget batch, position and outputs, and
    acquire again.
    """


class Stop(StublineError):
    """The lane stops, and says which command resolves it. The process's other lanes go on."""


class Fatal(StublineError):
    """The process ends with a non-zero code: going on could only make it worse."""


class UnexpectedError(Poison):
    """Parsing or handling a record raised what nobody foresaw. Bisecting found the record; its
    neighbours went on.
    """

    code = "record-unexpected-error"
    next_step = (
        "`stubline dead show ID` prints the record and the exception. It is a defect of the "
        "release: mend it, deploy, then "
        "`stubline dead replay ID`. Useless: `stubline dead discard ID --reason ...`."
    )


class NotAnEventError(Poison):
    """The record is not the event that its topic carries: bytes that can never be read."""

    code = "record-not-an-event"
    next_step = (
        "`stubline dead show ID` prints its bytes. Find its producer; useless: `stubline dead "
        "discard ID --reason ...`. Readable "
        "by a newer release: deploy it, then `stubline dead replay ID`."
    )


class RecordTooLarge(Poison):
    """The record's key, value and headers pass what can be worked, published and replayed. It was
    not parsed.
    """

    code = "record-too-large"
    next_step = (
        "`stubline dead show ID` prints the length, the SHA-256 and the first part of its value; "
        "the rest is in the topic "
        "until retention takes it, and a replay is not possible. Have its source send it smaller, "
        "then `stubline dead "
        "discard ID --reason ...`."
    )


class OutputTooLarge(Poison):
    """The record's outputs pass the size that a topic takes, so they could never be published."""

    code = "record-output-too-large"
    next_step = (
        "`stubline dead show ID` prints the record; the text names the topic and the limit. Make "
        "it smaller at its source: a "
        "replay alone cannot help. Useless: `stubline dead discard ID --reason ...`."
    )


class ReplayUnknown(Poison):
    """A record of a replay topic that names no letter. Only the runtime writes there."""

    code = "replay-without-letter"
    next_step = (
        "Find who writes to the replay topic, and take the right away: `stubline dead "
        "replay` is the only way in."
    )


class DatabaseUnavailable(Transient):
    """PostgreSQL does not answer, or ends our sessions."""

    code = "database-away"
    next_step = (
        "See whether PostgreSQL runs and answers at DATABASE_URL. The service goes on by "
        "itself; nothing is lost."
    )


class DatabaseRefused(Transient):
    """PostgreSQL answers, and refuses the statement itself: a missing table or right, a wrong
    password.
    """

    code = "database-refuses"
    next_step = (
        "Run `stubline migrate`, and compare the release with the schema. The service "
        "tries again by itself."
    )


class BrokerUnavailable(Transient):
    """Kafka does not answer."""

    code = "broker-away"
    next_step = (
        "See whether Kafka runs and answers at KAFKA_BOOTSTRAP_SERVERS, and whether its listener "
        "there has STUBLINE_KAFKA_SECURITY_PROTOCOL. The service goes on by itself."
    )


class InputRefused(Transient):
    """Kafka answers, and gives us no records of an input or no place in the group: most often a
    right is missing.
    """

    code = "input-refused"
    next_step = (
        "Give our user the rights that `stubline topics acls` prints for the process. The service "
        "goes on by itself."
    )


class InputMissing(Transient):
    """A topic that the service reads is not there, or may not be seen by us. Its other topics are
    worked.
    """

    code = "input-missing"
    next_step = (
        "`stubline topics check` says which; `stubline migrate` makes it. The service "
        "takes it up by itself."
    )


class ProducerTimestamps(Transient):
    """Records carry their producers' times where the broker should have stamped them, so the clocks
    of several machines decide what is newer.
    """

    code = "topic-stamped-by-producers"
    next_step = (
        "`stubline topics check` shows it, `stubline migrate` sets message.timestamp.type to "
        "LogAppendTime. Records from before "
        "keep their times: the warning ends once they are read."
    )


class LoopFailed(Transient):
    """The loop of a service raised what nobody foresaw. All its lanes are acquired again, and it
    goes on.
    """

    code = "loop-unexpected-error"
    next_step = (
        "Read the exception in the log: a defect of the release. The service tries again "
        "by itself; if it stays so, roll back."
    )


class PortUnavailable(Fatal):
    """The process cannot listen on its port: another process has it, or our user may not take
    it.
    """

    code = "port-unavailable"
    next_step = (
        "The text names the address and the setting. `ss -ltnp` shows who listens there: stop it, "
        "or give the setting "
        "another port, and start the process again."
    )


class TickFailed(Transient):
    """The service's work without input raised. It is tried again; lanes with input go on."""

    code = "tick-failed"
    next_step = (
        "Read the exception in the log: a defect of the release or a row that it does not expect."
    )


class BatchUndecided(Transient):
    """A batch was decided anew so often that the loop gives the world time: deadlocks, or records
    that fail only together.
    """

    code = "batch-undecided"
    next_step = (
        "The service tries again by itself. If it goes on: the log names the exceptions; `select "
        "* from pg_locks where not "
        "granted` shows who waits for whom."
    )


class LaneFenced(Fenced):
    """The row's epoch or next offset is not ours: another process took the lane, or an operator
    moved it.
    """

    code = "lane-fenced"
    next_step = (
        "None: the owner acquires again. Often: see whether two installations share a "
        "consumer group and a database."
    )


class TopicRecreated(Stop):
    """The topic was deleted and made again: its offsets mean other records now."""

    code = "lane-topic-recreated"
    next_step = (
        "Find out who deleted it and what was lost. `stubline lanes accept-topic GROUP "
        "TOPIC` starts at its first record."
    )


class OffsetOutOfRange(Stop):
    """The partition no longer holds, or does not yet hold, the lane's next offset: retention took
    records, or a log was cut.
    """

    code = "lane-offset-out-of-range"
    next_step = (
        "`stubline lanes list` shows the offset. Records lost to retention: have their source "
        "send them again, then "
        "`stubline lanes skip GROUP TOPIC PARTITION --reason ...`. Beyond the end: `stubline "
        "lanes rewind GROUP TOPIC PARTITION --to N`."
    )


class RecordUnreadable(Stop):
    """The client cannot unpack the batch at the lane's next offset: its compression, checksum, form
    or size.
    """

    code = "lane-record-unreadable"
    next_step = (
        "The text names the batch's last offset. Find its producer, and have it send the records "
        "again; then `stubline lanes "
        "skip GROUP TOPIC PARTITION --to N --reason ...` with the offset after the batch."
    )


class OutputRefused(Stop):
    """The broker refuses an output for good: no right to write, too large, not a valid record."""

    code = "lane-output-refused"
    next_step = (
        "Nothing is lost, the outputs are in the lane's row: `stubline lanes outputs GROUP TOPIC "
        "PARTITION` shows them. Fix "
        "what the text names (ACL, max.message.bytes, timestamp type of the topic), then "
        "`stubline lanes rewind GROUP TOPIC "
        "PARTITION --to NEXT_OFFSET` with the offset it has: the lane starts again and publishes "
        "them first. If no topic can "
        "take one: `stubline lanes drop-output GROUP TOPIC PARTITION --number N --reason ...`."
    )


class NewerRelease(Stop):
    """An internal event says what this release does not know: its writer is newer."""

    code = "lane-newer-release"
    next_step = (
        "Deploy the new release of this service: readers before writers. It takes the "
        "lane up again by itself."
    )


class OutboxUnreadable(Stop):
    """The outputs in the lane's row were written in a format that this release does not know."""

    code = "lane-unpublished-unreadable"
    next_step = (
        "Deploy the release that wrote it, or a newer one. It takes the lane up again by itself."
    )


class FailureRateExceeded(Stop):
    """Half of the last records failed unexpectedly: the service paused itself before it
    dead-lettered a topic.
    """

    code = "service-braked"
    next_step = (
        "Read the exception in the log; most likely the last release is bad: roll back, or mend "
        "it. Then "
        "`stubline resume GROUP`."
    )


class OutcomesMismatch(Fatal):
    """A handler answered with another number of outcomes than it got records, or with none of the
    four.
    """

    code = "handler-outcomes-mismatch"
    next_step = "A defect of the release: roll back. Nothing was committed."


class ConsumerFailed(Fatal):
    """The consumer reports a fatal error and will never fetch again; a new process starts with a
    new one.
    """

    code = "consumer-failed"
    next_step = (
        "None: the supervisor starts the process again. If it goes on, the log names what "
        "the broker refuses."
    )


class ProducerFailed(Fatal):
    """The producer reports a fatal error and will never send again; a new process starts with a new
    one.
    """

    code = "producer-failed"
    next_step = (
        "None: the supervisor starts the process again, and it publishes what its lanes' rows hold."
    )
