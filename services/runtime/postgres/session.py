"""Checks a new database session: it must have our time bounds, and the role of our group.

PostgreSQL and poolers report neither: a pooler in transaction mode drops the bounds that are set at
the start of a session, and row security shows a wrong login empty tables instead of an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import Connection

from services.runtime.errors import Fatal
from services.runtime.postgres import statements

SQL = statements.load(__package__)
REFUSED_BY_POOLER = "unsupported startup parameter"  # the text of PgBouncer's error


class SessionBoundsIgnored(Fatal):
    """The session does not have the requested time bounds: something between us and PostgreSQL
    drops them.
    """

    code = "database-bounds-ignored"
    next_step = (
        "Let DATABASE_URL name PostgreSQL itself. PgBouncer drops or refuses the startup options "
        "that bound our transactions, in session mode too. See "
        "docs/how-to/connect-to-the-database.md."
    )


class DatabaseRoleMissing(Fatal):
    """The login does not have the role of this consumer group, so row security hides the group's
    rows from it.
    """

    code = "database-role-missing"
    next_step = (
        "Compare DATABASE_URL with the service: each service has a login of its own. Then grant "
        "that login the role of its service, for example `grant stubline_issuer to LOGIN`, and "
        "start the process again. See docs/how-to/connect-to-the-database.md."
    )


def check_bounds(connection: Connection[Any], wanted: Mapping[str, int]) -> None:
    """Compare the session's settings with the wanted values in milliseconds. If one differs, close
    the connection and raise SessionBoundsIgnored.
    """
    actual = dict(connection.execute(SQL["show_bounds"], {"names": list(wanted)}).fetchall())
    wrong = [
        f"{name} is {actual.get(name)} ms, not {value} ms"
        for name, value in wanted.items()
        if actual.get(name) != str(value)
    ]
    if wrong:
        connection.close()
        raise SessionBoundsIgnored("; ".join(wrong))


def refused_by_pooler(error: psycopg.OperationalError) -> SessionBoundsIgnored | None:
    """Return an error if a pooler refuses the session because of its `options`, else None."""
    text = str(error)
    return (
        SessionBoundsIgnored(text.strip().partition("\n")[0]) if REFUSED_BY_POOLER in text else None
    )


def check_role(connection: Connection[Any], group: str) -> None:
    """Check that row security shows the group's rows to the login. If not, close the connection and
    raise DatabaseRoleMissing.
    """
    role = group.replace(".", "_")
    row = connection.execute(SQL["sees_group"], {"role": role}).fetchone()
    if row is not None and not row[0]:
        connection.close()
        raise DatabaseRoleMissing(
            f"the login {row[1]} does not have the role {role}, so it sees no row of {group}"
        )
