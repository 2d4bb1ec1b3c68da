"""Database connections whose waits are all bounded.

All bounds are below the time in which another owner of a lane must be able to start (see
docs/explanation/lanes.md). The server ends the session of a process that is idle inside its
transaction, and the kernel closes a connection whose network does not respond.
"""

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from services.runtime.postgres import session

MIN_VERSION = 180_000  # uuidv7() and `returning old`


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
    """Open a connection in UTC, named `name` in pg_stat_activity. Zero removes a bound, for
    migrations.
    """
    url_options = conninfo_to_dict(url).get("options") or ""
    bounds = {
        "transaction_timeout": transaction_timeout_ms,
        "idle_in_transaction_session_timeout": idle_ms,
        "lock_timeout": lock_ms,
    }
    settings = bounds | {"timezone": "UTC", "client_min_messages": "warning"}
    conninfo = make_conninfo(
        url,
        options=" ".join(
            [str(url_options), *(f"-c {key}={value}" for key, value in settings.items())]
        ).strip(),
        application_name=name,
        client_encoding="UTF8",
        # libpq counts in seconds, and takes less than 2 for 2.
        connect_timeout=max(2, -(-tcp_user_timeout_ms // 1_000)),
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
