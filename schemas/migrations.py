"""Reads, checks and sorts the migrations of schemas/migrations/. The runtime applies them.

`NNNN_name.pre.sql` runs before the new code, and the last release works on its result.
`NNNN_name.post.sql` runs after the old code is stopped everywhere. `roles.sql` runs at the end of
every migration: one role per service, with the rights that it needs and no more.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from importlib.resources import files
from itertools import pairwise

NAME = re.compile(r"(\d{4})_[a-z0-9]+(?:_[a-z0-9]+)*\.(pre|post)\.sql")
ROLES = "roles.sql"


class Phase(IntEnum):
    """Whether a file runs before the new code or after the old."""

    PRE = 0
    POST = 1


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. An applied file is identified by its name, and its hash shows whether its text has
    changed.
    """

    name: str
    number: int
    phase: Phase
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


class MigrationsUnreadableError(ValueError):
    """The folder is not a list of migrations: a gap in the numbers, or a name of another form."""


def arrange(texts: Mapping[str, str]) -> list[Migration]:
    """Return all `pre` files by number, then all `post` files by number.

    A new database is migrated in the same order as an old one, so there is one order to test.
    """
    migrations = []
    for name, text in texts.items():
        if not (match := NAME.fullmatch(name)):
            raise MigrationsUnreadableError(
                f"{name} is no migration: call it NNNN_name.pre.sql or NNNN_name.post.sql"
            )
        migrations.append(Migration(name, int(match[1]), Phase[match[2].upper()], text))
    numbers = sorted({migration.number for migration in migrations})
    if numbers != list(range(1, len(numbers) + 1)):
        raise MigrationsUnreadableError(f"the numbers of the migrations have a gap: {numbers}")
    migrations.sort(key=lambda migration: (migration.phase, migration.number, migration.name))
    for one, other in pairwise(migrations):
        if (one.phase, one.number) == (other.phase, other.number):
            raise MigrationsUnreadableError(f"{one.name} and {other.name} have one number")
    return migrations


def pending(
    migrations: Iterable[Migration], applied: Mapping[str, str], *, post: bool
) -> list[Migration]:
    """Return the migrations that are still to be run. `post`: also those of the phase POST.

    Raises ChangedMigrationError for a file that was applied with another text, because the state of
    the database is then unknown.
    """
    to_run = []
    for migration in migrations:
        if migration.name not in applied:
            if post or migration.phase is Phase.PRE:
                to_run.append(migration)
        elif applied[migration.name] != migration.sha256:
            raise ChangedMigrationError(migration.name)
    return to_run


class ChangedMigrationError(ValueError):
    """An applied file has another text than when it was applied."""


def listing() -> list[Migration]:
    """Return the project's own migrations."""
    folder = files("schemas").joinpath("migrations")
    texts = {
        entry.name: entry.read_text("utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    }
    texts.pop(ROLES, None)
    return arrange(texts)


def roles() -> str:
    return files("schemas").joinpath("migrations", ROLES).read_text("utf-8")
