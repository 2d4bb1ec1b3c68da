"""What happens inside a process, or between it and its servers, at the worst moment: in all four services in one evening."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.local.programs import STAGES, Program
from tests.acceptance.evening import Wanted, evening, expect, more
from tests.support.stubline import Stubline
from tests.support.trapped import Trapped, trapped, until

IN_TRANSACTIONS = """
    select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%%'
        and xact_start < now() - interval '1 second'
"""
OWNERS = "select distinct owner from runtime.lanes where consumer_group = %(group)s and topic <> '@timer'"
# What each passes often enough while orders flow. No outputs leave delivery but with its timer, and nobody else's always.
POINTS = ("transaction_begun", "handle", "committing", "committed", "produced", "published", "delivered")


@pytest.fixture(scope="module")
def fragile(stubline: Stubline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trapped]:
    with trapped(stubline, tmp_path_factory.mktemp("traps")) as found:
        yield found


@pytest.fixture
def world(fragile: Trapped) -> Iterator[Trapped]:
    yield fragile
    fragile.set("")


def sprung(world: Trapped, wanted: Mapping[str, int]) -> Wanted:
    """Orders, until each service has met its traps that often."""
    orders: Wanted = []
    until(
        f"{wanted} traps sprung",
        lambda: all(len(world.traps[stage].sprung()) >= count for stage, count in wanted.items()),
        more(world.stubline, orders),
    )
    return orders


def owners(stubline: Stubline, stage: str) -> set[int]:
    """Processes that hold lanes of a service."""
    rows = stubline.rows(OWNERS, group=f"stubline.{stage}")
    return {int(row["owner"].rpartition(":")[2]) for row in rows if row["owner"]}


def owned(stubline: Stubline, members: Mapping[str, set[Program]]) -> bool:
    """These and nobody else hold the lanes."""
    return all(owners(stubline, stage) == {it.pid for it in programs} for stage, programs in members.items())


def test_a_commit_whose_answer_is_lost_counts_once(world: Trapped) -> None:
    """Of every service and both senders, and commits that never arrive beside it."""
    wanted: Wanted = []
    for turn in range(1, 4):
        for proxy in world.proxies.values():
            proxy.lose_answer()
        wanted += evening(world.stubline, orders=4)
        until(
            f"answer {turn} of each lost",
            lambda: all(it.answers_lost >= turn for it in world.proxies.values()),  # noqa: B023 - asked at once
            more(world.stubline, wanted),
        )
        for proxy in world.proxies.values():
            proxy.lose_commit()
        wanted += evening(world.stubline, orders=4)
        until(
            f"commit {turn} of each lost",
            lambda: all(it.commits_lost >= turn for it in world.proxies.values()),  # noqa: B023 - asked at once
            more(world.stubline, wanted),
        )
    expect(world.stubline, wanted)
    assert not world.stubline.rows("select * from runtime.dead_letters where code = 'record-unexpected-error'")


def test_an_exception_at_any_point_changes_nothing_and_nobody_is_blamed(world: Trapped) -> None:
    letters = world.stubline.value("select count(*) from runtime.dead_letters")
    world.set(",".join(f"{point}:raise:{place}" for place, point in enumerate(POINTS, 1)))
    world.traps["delivery"].set(",".join(f"{point}:raise:{place}" for place, point in enumerate((*POINTS, "tick"), 1)))
    wanted = sprung(world, dict.fromkeys(STAGES, len(POINTS)) | {"delivery": len(POINTS) + 1})
    expect(world.stubline, wanted)
    assert world.stubline.value("select count(*) from runtime.dead_letters") == letters


def test_a_process_stopped_inside_its_transaction_holds_nobody_up(world: Trapped) -> None:
    """It rests past all bounds, others take over; what it does when it wakes fails, and so does its callback `lost`."""
    stubline, wanted = world.stubline, Wanted()
    for stage in reversed(STAGES):  # the last first: who stands still feeds nobody
        world.traps[stage].set("transaction_begun:stop:1")
        until(f"{stage} stands still", lambda: world.is_stopped(stage), more(stubline, wanted))  # noqa: B023 - asked at once
    with ThreadPoolExecutor() as pool:
        heirs = dict(zip(STAGES, pool.map(stubline.services.twin, STAGES), strict=True))
        list(pool.map(Program.start, heirs.values()))
    until("the heirs hold all lanes", lambda: owned(stubline, {stage: {it} for stage, it in heirs.items()}))
    assert stubline.value(IN_TRANSACTIONS) == 0, "the rows are free"
    wanted += evening(stubline, orders=8)
    world.set("lost:raise:1")
    for stage in STAGES:
        world.program(stage).resume()
    wanted += evening(stubline, orders=8)
    until("all woke", lambda: all(trap.sprung() for trap in world.traps.values()))
    expect(stubline, wanted)
    assert all(world.program(stage).running for stage in STAGES)
    with ThreadPoolExecutor() as pool:
        list(pool.map(Program.stop, heirs.values()))
