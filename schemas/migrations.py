"""The migrations as they stand in schemas/migrations/: read, checked and put in order. Applying
them is the runtime's work.

`NNNN_name.pre.sql` runs before the new code, and the last release works on it. `NNNN_name.post.sql`
runs after the old code is gone. `roles.sql` runs at the end of every migration: one role a service,
with the rights that it needs and no more.
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
    """When a file runs, seen from the new code."""

    PRE = 0
    POST = 1


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. What was applied is known by name, and its text by its hash: an applied file never
    changes.
    """

    name: str
    number: int
    phase: Phase
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


class MigrationsUnreadableError(ValueError):
    """The folder does not hold what it should: a gap in the numbers, a name of another form."""


def arrange(texts: Mapping[str, str]) -> list[Migration]:
    """All `pre` files by number, then all `post` files by number: on a new database too, so there
    is one order to test.
    """
    found = []
    for name, text in texts.items():
        if not (match := NAME.fullmatch(name)):
            raise MigrationsUnreadableError(
                f"{name} is no migration: call it NNNN_name.pre.sql or NNNN_name.post.sql"
            )
        found.append(Migration(name, int(match[1]), Phase[match[2].upper()], text))
    numbers = sorted({migration.number for migration in found})
    if numbers != list(range(1, len(numbers) + 1)):
        raise MigrationsUnreadableError(f"the numbers of the migrations have a gap: {numbers}")
    placed = sorted(
        found, key=lambda migration: (migration.phase, migration.number, migration.name)
    )
    for one, other in pairwise(placed):
        if (one.phase, one.number) == (other.phase, other.number):
            raise MigrationsUnreadableError(f"{one.name} and {other.name} have one number")
    return placed


def pending(
    migrations: Iterable[Migration], applied: Mapping[str, str], *, post: bool
) -> list[Migration]:
    """What is still to be run. A file that was applied with another text is refused: nobody knows
    what stands there.
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
    """An applied file has another text than it had."""


def listing() -> list[Migration]:
    """The project's own."""
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
