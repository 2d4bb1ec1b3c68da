"""Classifies exceptions: the kind of a failure decides what the loop does about it."""

from enum import Enum, auto

import psycopg

from services.runtime.errors import DatabaseRefused, DatabaseUnavailable, LoopFailed, StublineError


class FailureKind(Enum):
    """What an exception means for the batch, and what the loop does."""

    UNAVAILABLE = auto()  # a dependency is: back off, be not ready, dead-letter nothing
    TRANSIENT = auto()  # a lock or a deadlock: roll back and decide again; repeated: back off
    TOO_SLOW = auto()  # roll back and decide half of the batch; a single record: as TRANSIENT
    RECORD = auto()  # bisect, and dead-letter the poison record
    DEFECT = auto()  # of the release or the installation: back off; never a dead letter


UNAVAILABLE_CLASSES = frozenset({"08", "53", "57", "58", "XX"})
TRANSIENT_STATES = frozenset({"55P03", "25P03"})  # lock timeout; idle in transaction
TRANSACTION_TIMEOUT = "25P04"
READ_ONLY = "25006"  # we are connected to a standby: a failover is under way
RECORD_CLASSES = frozenset({"22", "23"})


def classify_error(error: BaseException) -> FailureKind:
    """Classify an exception by its SQLSTATE, or by its type if it has none."""
    if isinstance(error, psycopg.Error):
        return _by_state(error.sqlstate) if error.sqlstate else _by_type(error)
    if isinstance(error, ConnectionError | TimeoutError):
        return FailureKind.UNAVAILABLE
    return FailureKind.RECORD if isinstance(error, Exception) else FailureKind.DEFECT


def code_of(error: BaseException) -> str:
    """Return the code by which /readyz and the log name a failure."""
    if isinstance(error, StublineError):
        return error.code
    if isinstance(error, psycopg.Error):
        return as_stubline_error(error).code
    kind = classify_error(error)
    return DatabaseUnavailable.code if kind is FailureKind.UNAVAILABLE else LoopFailed.code


def as_stubline_error(error: psycopg.Error) -> DatabaseUnavailable | DatabaseRefused:
    """Return a database error as one of the tree, without the row contents that DETAIL quotes."""
    cause = (error.diag.message_primary or str(error).strip().partition("\n")[0]).rstrip(".")
    is_temporary = classify_error(error) in {
        FailureKind.UNAVAILABLE,
        FailureKind.TRANSIENT,
        FailureKind.TOO_SLOW,
    }
    return DatabaseUnavailable(cause) if is_temporary else DatabaseRefused(cause)


def _by_state(state: str) -> FailureKind:
    sql_class = state[:2]
    if sql_class in UNAVAILABLE_CLASSES or state == READ_ONLY:
        return FailureKind.UNAVAILABLE
    if state == TRANSACTION_TIMEOUT:
        return FailureKind.TOO_SLOW
    if sql_class == "40" or state in TRANSIENT_STATES:
        return FailureKind.TRANSIENT
    return FailureKind.RECORD if sql_class in RECORD_CLASSES else FailureKind.DEFECT


def _by_type(error: psycopg.Error) -> FailureKind:
    if isinstance(error, psycopg.DataError):
        # psycopg refuses it before it is sent: a NUL in a text, a date out of range.
        return FailureKind.RECORD
    return (
        FailureKind.UNAVAILABLE
        if isinstance(error, psycopg.OperationalError)
        else FailureKind.DEFECT
    )
