"""Laws of the migrations: one order, numbers without a gap, and no change of an applied file."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis.strategies import booleans, integers, permutations, sets

from schemas import migrations
from schemas.migrations import (
    ChangedMigrationError,
    Migration,
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
def test_files_have_one_order_in_whatever_order_the_folder_lists_them(names: list[str]) -> None:
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
def test_a_folder_that_is_no_list_of_migrations_is_refused(names: tuple[str, ...]) -> None:
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


def test_an_older_release_accepts_files_of_a_newer_one() -> None:
    listing = arrange(TEXTS)
    applied = {migration.name: migration.sha256 for migration in listing} | {
        "0004_new.pre.sql": "0" * 64
    }
    assert pending(listing, applied, post=True) == []


LISTING = migrations.listing()
BASELINE = ["runtime", "ingest", "approval", "issuer", "delivery"]


def test_the_baseline_is_one_file_a_schema_and_comes_first() -> None:
    """From the first release on no file is removed, so these five stay for ever."""
    names = [migration.name for migration in LISTING if migration.phase is Phase.PRE]
    assert names[: len(BASELINE)] == [
        f"{number:04}_{schema}.pre.sql" for number, schema in enumerate(BASELINE, 1)
    ]


@pytest.mark.parametrize("migration", LISTING[: len(BASELINE)], ids=BASELINE)
def test_a_baseline_creates_its_schema_only_and_describes_each_table(migration: Migration) -> None:
    """It is read as the data model's documentation: its head lists the tables in their order."""
    schema = migration.name.split("_")[1].removesuffix(".pre.sql")
    assert re.findall(r"^create schema (\w+);", migration.text, re.MULTILINE) == [schema]
    created = re.findall(r"^create table (\w+)\.(\w+) \($", migration.text, re.MULTILINE)
    assert {owner for owner, _ in created} == {schema}
    head = migration.text.partition("create schema")[0]
    listed = re.findall(r"^--   (\w+) +\w.*", head, re.MULTILINE)
    assert listed == [table for _, table in created]
    for _, table in created:
        before = migration.text.partition(f"create table {schema}.{table} (")[0].splitlines()
        assert before[-1].startswith("-- "), f"{table} has no sentence"


def test_the_rights_are_granted_apart_from_the_migrations_and_to_a_role_a_service() -> None:
    assert migrations.ROLES not in {migration.name for migration in LISTING}
    services = re.search(r"services constant text\[\] := array\[(.*)\];", migrations.roles())
    assert services is not None
    assert sorted(re.findall(r"'(\w+)'", services[1])) == sorted(set(BASELINE) - {"runtime"})
    assert not [migration for migration in LISTING if re.search(r"\bgrant\b", migration.text)]
