"""The database's roles in the local stack, the tests and the demonstration: each process runs under
its own.

So a missing right is found here and not in an installation.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from deploy.local.process import StackError
from deploy.local.servers import DATABASE

OPERATOR = "operator"
OWNERS_COMMAND = "migrate"
MAY_SET = (
    b"select coalesce(bool_or(pg_has_role(current_user, oid, 'set')), false) from pg_roles "
    b"where rolname = %s"
)


def as_role(url: str, role: str) -> str:
    """Return the URL of the same database with the session's role set to `stubline_<role>`."""
    options = conninfo_to_dict(url).get("options") or ""
    return make_conninfo(url, options=f"{options} -c role=stubline_{role}".strip())


def environment_of(environment: Mapping[str, str], role: str | None) -> dict[str, str]:
    """Return the environment of a process with that role; with None, one without a database.

    A login that may not take the role is used as it is: it must have the rights itself.
    """
    others = {name: value for name, value in environment.items() if name != DATABASE}
    if role is None or DATABASE not in environment:
        return others
    url = environment[DATABASE]
    return others | {DATABASE: as_role(url, role) if may_set(url, role) else url}


def environment_of_command(environment: Mapping[str, str], command: str) -> dict[str, str]:
    """Return the environment of `stubline COMMAND`: only `migrate` runs as the tables' owner."""
    return dict(environment) if command == OWNERS_COMMAND else environment_of(environment, OPERATOR)


@cache
def may_set(url: str, role: str) -> bool:
    """Whether the login may take the role. Raises StackError if the database is unavailable."""
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            row = connection.execute(MAY_SET, [f"stubline_{role}"]).fetchone()
    except psycopg.OperationalError as error:
        raise StackError(
            f"the database does not answer: {str(error).partition(chr(10))[0]}"
        ) from None
    return bool(row and row[0])
