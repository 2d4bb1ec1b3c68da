"""What kind of failure an exception is, and so what the loop does about it."""

from enum import Enum, auto

import psycopg

from services.runtime.errors import DatabaseRefused, DatabaseUnavailable, LoopFailed, StublineError


class FailureKind(Enum):
    """Whose fault a failure is, and so what the loop does about it."""

    UNAVAILABLE = auto()  # stop consuming, back off, not ready; nothing is dead-lettered
    TRANSIENT = auto()  # roll back and decide anew, then the world's
    TOO_SLOW = auto()  # it lasted too long: roll back, and decide half of it; alone, the moment's
    RECORD = auto()  # bisect, and dead-letter the record that cannot be worked
    DEFECT = (
        auto()
    )  # a defect of ours or of the installation: back off like the world's; never a dead letter


UNAVAILABLE_CLASSES = frozenset({"08", "53", "57", "58", "XX"})
TRANSIENT_STATES = frozenset({"55P03", "25P03"})  # lock timeout; idle in transaction
TRANSACTION_TIMEOUT = "25P04"
READ_ONLY = "25006"  # we reached a standby: a failover is under way
RECORD_CLASSES = frozenset({"22", "23"})


def classify(error: BaseException) -> FailureKind:
    """By SQLSTATE where there is one; without one, by what psycopg and the network say."""
    if isinstance(error, psycopg.Error):
        return _by_state(error.sqlstate) if error.sqlstate else _by_type(error)
    if isinstance(error, ConnectionError | TimeoutError):
        return FailureKind.UNAVAILABLE
    return FailureKind.RECORD if isinstance(error, Exception) else FailureKind.DEFECT


def code_of(error: BaseException) -> str:
    """The permanent code by which /readyz and the log name what the loop waits for."""
    if isinstance(error, StublineError):
        return error.code
    if isinstance(error, psycopg.Error):
        return as_stubline_error(error).code
    fault = classify(error)
    return DatabaseUnavailable.code if fault is FailureKind.UNAVAILABLE else LoopFailed.code


def as_stubline_error(error: psycopg.Error) -> DatabaseUnavailable | DatabaseRefused:
    """A database's error as one of the tree, without the rows that its DETAIL quotes."""
    cause = (error.diag.message_primary or str(error).strip().partition("\n")[0]).rstrip(".")
    is_away = classify(error) in {
        FailureKind.UNAVAILABLE,
        FailureKind.TRANSIENT,
        FailureKind.TOO_SLOW,
    }
    return DatabaseUnavailable(cause) if is_away else DatabaseRefused(cause)


def _by_state(state: str) -> FailureKind:
    kind = state[:2]
    if kind in UNAVAILABLE_CLASSES or state == READ_ONLY:
        return FailureKind.UNAVAILABLE
    if state == TRANSACTION_TIMEOUT:
        return FailureKind.TOO_SLOW
    if kind == "40" or state in TRANSIENT_STATES:
        return FailureKind.TRANSIENT
    return FailureKind.RECORD if kind in RECORD_CLASSES else FailureKind.DEFECT


def _by_type(error: psycopg.Error) -> FailureKind:
    if isinstance(error, psycopg.DataError):
        return (
            FailureKind.RECORD
        )  # psycopg refuses it before it is sent: a NUL in a text, a date out of range
    return (
        FailureKind.UNAVAILABLE
        if isinstance(error, psycopg.OperationalError)
        else FailureKind.DEFECT
    )
