"""What a new database session must hold before anything is done with it: our time bounds, and the
role of our group.

Both checks exist because PostgreSQL and poolers say nothing themselves: a pooler in transaction
mode drops the bounds that are set at the start of a session, and row security shows a wrong login
empty tables instead of an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import Connection

from services.runtime.errors import Fatal
from services.runtime.postgres import statements

SQL = statements.load(__package__)
REFUSED_BY_POOLER = "unsupported startup parameter"  # as PgBouncer words it


class SessionBoundsIgnored(Fatal):
    """The session does not have the time bounds that were asked for: something between us and
    PostgreSQL drops them.
    """

    code = "database-bounds-ignored"
    next_step = (
        "Let DATABASE_URL name PostgreSQL itself, or a pooler in session mode that passes "
        "`options` on. PgBouncer is not "
        "supported: it drops the startup options that bound our transactions. See "
        "docs/how-to/connect-to-the-database.md."
    )


class DatabaseRoleMissing(Fatal):
    """The login has not the role of this consumer group, so row security hides all rows of the
    group from it.
    """

    code = "database-role-missing"
    next_step = (
        "Compare DATABASE_URL with the service: each service has a login of its own. Then grant "
        "that login the role of its "
        "service, for example `grant stubline_issuer to LOGIN`, and start the process again. "
        "See docs/how-to/connect-to-the-database.md."
    )


def check_bounds(connection: Connection[Any], wanted: Mapping[str, int]) -> None:
    """Raises SessionBoundsIgnored, and closes the connection, unless each setting has the value in
    milliseconds.
    """
    found = dict(connection.execute(SQL["show_bounds"], {"names": list(wanted)}).fetchall())
    wrong = [
        f"{name} is {found.get(name)} ms, not {value} ms"
        for name, value in wanted.items()
        if found.get(name) != str(value)
    ]
    if wrong:
        connection.close()
        raise SessionBoundsIgnored("; ".join(wrong))


def refused_by_pooler(error: psycopg.OperationalError) -> SessionBoundsIgnored | None:
    """The error of a pooler that refuses the session because it carries `options`."""
    text = str(error)
    return (
        SessionBoundsIgnored(text.strip().partition("\n")[0]) if REFUSED_BY_POOLER in text else None
    )


def check_role(connection: Connection[Any], group: str) -> None:
    """Raises DatabaseRoleMissing, and closes the connection, if row security hides the group's rows
    from the login.
    """
    role = group.replace(".", "_")
    row = connection.execute(SQL["sees_group"], {"role": role}).fetchone()
    if row is not None and not row[0]:
        connection.close()
        raise DatabaseRoleMissing(
            f"the login {row[1]} does not have the role {role}, so it sees no row of {group}"
        )
