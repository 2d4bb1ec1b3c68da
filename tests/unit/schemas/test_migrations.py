"""Laws of the migrations: one order, whole numbers, and no file that changes after it was
applied.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis.strategies import booleans, integers, permutations, sets

from schemas import migrations
from schemas.migrations import (
    ChangedMigrationError,
    MigrationsUnreadableError,
    Phase,
    arrange,
    pending,
)

TEXTS = {
    "0001_a.pre.sql": "1",
    "0002_b.pre.sql": "2",
    "0002_b.post.sql": "2 post",
    "0003_c.post.sql": "3 post",
}
IN_ORDER = ["0001_a.pre.sql", "0002_b.pre.sql", "0002_b.post.sql", "0003_c.post.sql"]


@given(permutations(list(TEXTS)))
def test_files_have_one_order_however_they_are_found(names: list[str]) -> None:
    assert [
        migration.name for migration in arrange({name: TEXTS[name] for name in names})
    ] == IN_ORDER


@pytest.mark.parametrize(
    "names",
    [
        ("0001_a.sql",),
        ("1_a.pre.sql",),
        ("0001_A.pre.sql",),
        ("0002_a.pre.sql",),
        ("0001_a.pre.sql", "0003_b.pre.sql"),
        ("0001_a.pre.sql", "0001_b.pre.sql"),
    ],
)
def test_a_folder_that_does_not_hold_together_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(MigrationsUnreadableError):
        arrange(dict.fromkeys(names, ""))


@given(sets(integers(0, 3)), booleans())
def test_what_was_applied_and_what_is_pending_are_all_there_is(done: set[int], post: bool) -> None:
    listing = arrange(TEXTS)
    applied = {listing[at].name: listing[at].sha256 for at in done}
    waiting = pending(listing, applied, post=post)
    wanted = [m for m in listing if post or m.phase is Phase.PRE]
    assert [m for m in wanted if m.name not in applied] == waiting
    assert pending(listing, applied | {m.name: m.sha256 for m in waiting}, post=post) == []


def test_an_applied_file_never_changes() -> None:
    listing = arrange(TEXTS)
    applied = {
        migration.name: migration.sha256
        for migration in arrange(TEXTS | {"0001_a.pre.sql": "another"})
    }
    with pytest.raises(ChangedMigrationError, match=r"0001_a\.pre\.sql"):
        pending(listing, applied, post=True)


def test_an_older_release_lives_with_files_of_a_newer_one() -> None:
    listing = arrange(TEXTS)
    applied = {migration.name: migration.sha256 for migration in listing} | {
        "0004_new.pre.sql": "0" * 64
    }
    assert pending(listing, applied, post=True) == []


def test_the_projects_own_files_hold_together() -> None:
    assert migrations.listing()[0].name == "0001_runtime.pre.sql"
    assert "create role" in migrations.roles()
