"""Connections whose every wait is bounded, and the answer to: whose fault is this error?

All bounds lie below the time in which another owner must be able to start (LANES section 5): a process that rests inside its
transaction is thrown out by the server, and one whose network is gone is noticed by the kernel.
"""

from enum import Enum, auto

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from services.runtime.errors import DatabaseRefused, DatabaseUnavailable, LoopFailed, StublineError
from services.runtime.postgres import session

MIN_VERSION = 180_000  # uuidv7() and `returning old`


class Fault(Enum):
    """Whose fault a failure is, and so what the loop does about it."""

    WORLD = auto()  # stop consuming, back off, not ready; nothing is dead-lettered
    MOMENT = auto()  # roll back and decide anew, then the world's
    SLOW = auto()  # it lasted too long: roll back, and decide half of it; alone, the moment's
    RECORD = auto()  # bisect, and dead-letter the record that cannot be worked
    OURS = auto()  # a defect of ours or of the installation: back off like the world's; never a dead letter


WORLD_CLASSES = frozenset({"08", "53", "57", "58", "XX"})
MOMENT_STATES = frozenset({"55P03", "25P03"})  # lock timeout; idle in transaction
TRANSACTION_TIMEOUT = "25P04"
READ_ONLY = "25006"  # we reached a standby: a failover is under way
RECORD_CLASSES = frozenset({"22", "23"})


def connect(
    url: str,
    *,
    name: str,
    autocommit: bool = True,
    transaction_timeout_ms: int = 3_000,
    idle_ms: int = 2_000,
    lock_ms: int = 1_500,
    tcp_user_timeout_ms: int = 4_000,
) -> Connection[TupleRow]:
    """A connection in UTC, called `name` in pg_stat_activity. Zero lifts a bound, for a migration."""
    given = conninfo_to_dict(url).get("options") or ""
    bounds = {
        "transaction_timeout": transaction_timeout_ms,
        "idle_in_transaction_session_timeout": idle_ms,
        "lock_timeout": lock_ms,
    }
    settings = bounds | {
        "timezone": "UTC",
        "client_min_messages": "warning",
    }
    conninfo = make_conninfo(
        url,
        options=" ".join([str(given), *(f"-c {key}={value}" for key, value in settings.items())]).strip(),
        application_name=name,
        client_encoding="UTF8",
        connect_timeout=max(
            2, -(-tcp_user_timeout_ms // 1_000)
        ),  # libpq counts in seconds, and takes less than 2 for 2
        tcp_user_timeout=tcp_user_timeout_ms,
        keepalives=1,
        keepalives_idle=2,
        keepalives_interval=1,
        keepalives_count=2,
    )
    connection = _opened(conninfo)
    session.check_bounds(connection, bounds)
    connection.autocommit = autocommit
    return connection


def _opened(conninfo: str) -> Connection[TupleRow]:
    try:
        return psycopg.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        if (refused := session.refused_by_pooler(error)) is not None:
            raise refused from error
        raise


def classify(error: BaseException) -> Fault:
    """By SQLSTATE where there is one; without one, by what psycopg and the network say."""
    if isinstance(error, psycopg.Error):
        return _by_state(error.sqlstate) if error.sqlstate else _by_type(error)
    if isinstance(error, ConnectionError | TimeoutError):
        return Fault.WORLD
    return Fault.RECORD if isinstance(error, Exception) else Fault.OURS


def code_of(error: BaseException) -> str:
    """The permanent code by which /readyz and the log name what the loop waits for."""
    if isinstance(error, StublineError):
        return error.code
    if isinstance(error, psycopg.Error):
        return explained(error).code
    fault = classify(error)
    return DatabaseUnavailable.code if fault is Fault.WORLD else LoopFailed.code


def explained(error: psycopg.Error) -> DatabaseUnavailable | DatabaseRefused:
    """A database's error as one of the tree, without the rows that its DETAIL quotes."""
    cause = (error.diag.message_primary or str(error).strip().partition("\n")[0]).rstrip(".")
    is_away = classify(error) in {Fault.WORLD, Fault.MOMENT, Fault.SLOW}
    return DatabaseUnavailable(cause) if is_away else DatabaseRefused(cause)


def _by_state(state: str) -> Fault:
    kind = state[:2]
    if kind in WORLD_CLASSES or state == READ_ONLY:
        return Fault.WORLD
    if state == TRANSACTION_TIMEOUT:
        return Fault.SLOW
    if kind == "40" or state in MOMENT_STATES:
        return Fault.MOMENT
    return Fault.RECORD if kind in RECORD_CLASSES else Fault.OURS


def _by_type(error: psycopg.Error) -> Fault:
    if isinstance(error, psycopg.DataError):
        return Fault.RECORD  # psycopg refuses it before it is sent: a NUL in a text, a date out of range
    return Fault.WORLD if isinstance(error, psycopg.OperationalError) else Fault.OURS
