"""What happens inside a process, or between it and its servers, at the worst moment: to all four
services in one evening.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Producer

from deploy.local.programs import STAGES, Program
from deploy.local.stack import Stack
from services.runtime.kafka.client import producer_settings
from tests.acceptance.evening import STORIES, Wanted, evening, expect, more
from tests.acceptance.laws import NAMES
from tests.support.deliveries import issued
from tests.support.stages import TIME, decided, observed
from tests.support.stubline import Stubline
from tests.support.trapped import QUICK_DELIVERY_MS, Trapped, trapped, until

IN_TRANSACTIONS = """
    select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%%'
        and xact_start < now() - interval '1 second'
"""
OWNERS = (
    "select distinct owner from runtime.lanes where consumer_group = %(group)s and topic <> "
    "'@timer'"
)
READ = ("callbacks.received.v1", "orders.observed.v1", "orders.decided.v1", "tickets.changed.v1")
# What each passes often enough while orders flow. No outputs leave delivery but with its timer, and
# nobody else's always.
POINTS = (
    "transaction_begun",
    "handle",
    "committing",
    "committed",
    "produced",
    "published",
    "delivered",
)


BURIED = """
    select id::text, consumer_group, state from runtime.dead_letters
    where text like '%%as the test asked%%' order by id
"""
LANES = """
    select consumer_group, topic, partition, next_offset, duplicates + superseded + dead as nothing_new from runtime.lanes
"""
LONGEST = f"""
    select distinct on (consumer_group, topic) * from ({LANES}) as lanes
    where topic <> '@timer' and next_offset > 0 order by consumer_group, topic, next_offset desc
"""
# What a repeat may not touch of an order: what was said, decided, issued, filed and sent.
PICTURE = {
    "said by ingest": "select order_id, sequence, digest from ingest.orders",
    "said by approval": "select order_id, sequence, digest, state from approval.orders",
    "said by issuer": "select order_id, sequence, digest from issuer.orders",
    "said by delivery": "select order_id, sequence, digest from delivery.orders",
    "receipts": "select * from approval.receipts",
    "tickets": "select * from issuer.tickets",
    "audit": "select * from issuer.audit",
    "jobs": "select job_id, state, mails, attempts from delivery.jobs",
}


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


def letters(stubline: Stubline) -> int:
    return stubline.value("select count(*) from runtime.dead_letters")


def owned(stubline: Stubline, members: Mapping[str, set[Program]]) -> bool:
    """These and nobody else hold the lanes."""
    return all(
        owners(stubline, stage) == {it.pid for it in programs}
        for stage, programs in members.items()
    )


def test_a_commit_whose_response_is_lost_counts_once(world: Trapped) -> None:
    """Of every service and both senders, and commits that never arrive beside it."""
    wanted, before = Wanted(), letters(world.stubline)
    for turn in range(1, 4):
        lose(world, "answers", turn, wanted)
        lose(world, "commits", turn, wanted)
    expect(world.stubline, wanted)
    assert letters(world.stubline) == before, "nobody is blamed"


def lose(world: Trapped, what: str, turn: int, wanted: Wanted) -> None:
    """One more of each process."""
    proxies = world.proxies.values()
    for proxy in proxies:
        (proxy.lose_answer if what == "answers" else proxy.lose_commit)()
    wanted += evening(world.stubline, orders=4)
    until(
        f"{what} of each are lost, {turn} times",
        lambda: all(
            (it.answers_lost if what == "answers" else it.commits_lost) >= turn for it in proxies
        ),
        more(world.stubline, wanted),
    )


def test_an_exception_at_any_point_changes_nothing_and_nobody_is_blamed(world: Trapped) -> None:
    before = letters(world.stubline)
    world.set(",".join(f"{point}:raise:{place}" for place, point in enumerate(POINTS, 1)))
    world.traps["delivery"].set(
        ",".join(f"{point}:raise:{place}" for place, point in enumerate((*POINTS, "tick"), 1))
    )
    wanted = sprung(world, dict.fromkeys(STAGES, len(POINTS)) | {"delivery": len(POINTS) + 1})
    expect(world.stubline, wanted)
    assert letters(world.stubline) == before


def test_a_failed_delivery_is_repeated(world: Trapped, pipeline_stack: Stack) -> None:
    """The report is an error; then the broker rests for longer than the producers wait, with
    outputs of each in flight.
    """
    stubline, wanted, again = (
        world.stubline,
        Wanted(),
        {stage: published_again(world, stage) for stage in STAGES},
    )
    world.set(",".join(f"delivered:fail:{turn}" for turn in (1, 2, 4)))
    wanted += sprung(world, dict.fromkeys(STAGES, 3))
    until(
        "published again",
        lambda: all(published_again(world, stage) > again[stage] for stage in STAGES),
    )
    again = {stage: published_again(world, stage) for stage in STAGES}
    for stage in reversed(STAGES):
        stop_at(world, stage, "in_flight", wanted)
    (broker,) = pipeline_stack.kafka
    broker.pause()
    try:
        for stage in STAGES:
            world.program(stage).resume()
        time.sleep(2 * QUICK_DELIVERY_MS / 1_000)
    finally:
        broker.resume()
    until(
        "published again",
        lambda: all(published_again(world, stage) > again[stage] for stage in STAGES),
    )
    expect(stubline, wanted + evening(stubline, orders=4))


def published_again(world: Trapped, stage: str) -> int:
    """How often it took a lane whose row held outputs that nobody had acknowledged."""
    log = world.program(stage).log_file.read_text("utf-8", "replace")
    return len(re.findall(r'"republished": [1-9]', log))


def stop_at(world: Trapped, stage: str, point: str, wanted: Wanted) -> None:
    world.traps[stage].set(f"{point}:stop:1")
    until(f"{stage} stands still", lambda: world.is_stopped(stage), more(world.stubline, wanted))


def test_a_process_stopped_inside_its_transaction_blocks_no_other(world: Trapped) -> None:
    """It rests past all bounds, others take over; what it does when it wakes fails, and so does its
    callback `lost`.
    """
    stubline, wanted = world.stubline, Wanted()
    for stage in reversed(STAGES):  # the last first: who stands still feeds nobody
        stop_at(world, stage, "transaction_begun", wanted)
    with joined(stubline, "heir") as heirs:
        until(
            "the heirs hold all lanes",
            lambda: owned(stubline, {stage: set(it) for stage, it in heirs.items()}),
        )
        assert stubline.value(IN_TRANSACTIONS) == 0, "the rows are free"
        wanted += evening(stubline, orders=8)
        world.set("lost:raise:1")
        for stage in STAGES:
            world.program(stage).resume()
        wanted += evening(stubline, orders=8)
        until("all woke", lambda: all(trap.sprung() for trap in world.traps.values()))
        expect(stubline, wanted)
        assert all(world.program(stage).running for stage in STAGES)


# What an operator does.


def picture(stubline: Stubline, wanted: Wanted) -> dict[str, list[str]]:
    """All that is known of these orders."""
    names = [order.order_id for order, _ in wanted]
    found = {
        name: sorted(
            map(str, stubline.rows(f"{statement} where order_id = any(%(names)s)", names=names))
        )
        for name, statement in PICTURE.items()
    }
    sent = stubline.sent()
    return found | {"mails": sorted(str(sent.get(order.purchase.email)) for order, _ in wanted)}


def rewind(stubline: Stubline, lanes: list[dict[str, Any]]) -> None:
    """To their first record, several operators at once."""
    where = [(it["consumer_group"], it["topic"], it["partition"]) for it in lanes]
    with ThreadPoolExecutor(4) as pool:
        done = list(
            pool.map(lambda lane: stubline.command("lanes", "rewind", *lane, "--to", 0), where)
        )
    assert [it.returncode for it in done] == [0] * len(lanes), done


def repeated(stubline: Stubline, lanes: list[dict[str, Any]]) -> bool:
    """Each of these lanes has found nothing new in what it had worked before."""
    key = ("consumer_group", "topic", "partition")
    now = {tuple(it[name] for name in key): it["nothing_new"] for it in stubline.rows(LANES)}
    return all(
        now[tuple(it[name] for name in key)] >= it["nothing_new"] + it["next_offset"]
        for it in lanes
    )


def test_a_letter_of_each_service_replayed_twice_has_its_effect_once(world: Trapped) -> None:
    """Asked for by two operators at once, again when it is resolved, and its copy read again."""
    stubline, wanted = world.stubline, Wanted()
    world.set("parse:raise:2")
    until(
        "a letter each",
        lambda: all(it.sprung() for it in world.traps.values()),
        more(stubline, wanted),
    )
    stubline.settle()
    buried = [it for it in stubline.rows(BURIED) if it["state"] == "open"]
    assert sorted(it["consumer_group"] for it in buried) == sorted(NAMES.groups.values())
    ids = [it["id"] for it in buried]
    with ThreadPoolExecutor() as pool:
        codes = [
            it.returncode
            for it in pool.map(lambda _: stubline.command("dead", "replay", *ids), range(2))
        ]
    assert 0 in codes
    expect(stubline, wanted)
    assert {it["state"] for it in stubline.rows(BURIED) if it["id"] in ids} == {"resolved"}
    before = picture(stubline, wanted)
    again = stubline.command("dead", "replay", *ids)
    assert (again.returncode, "letter-state" in again.stderr) == (1, True), again.stderr
    replays = [it for it in stubline.rows(LONGEST) if it["topic"].endswith(".replay.v1")]
    assert len(replays) == len(STAGES)
    rewind(stubline, replays)
    expect(stubline, wanted)
    assert repeated(stubline, replays)
    assert picture(stubline, wanted) == before


def test_lanes_of_every_service_that_an_operator_rewinds_work_everything_again_and_double_nothing(
    stubline: Stubline,
) -> None:
    wanted = evening(stubline, orders=12)
    expect(stubline, wanted)
    before, lanes = picture(stubline, wanted), stubline.rows(LONGEST)
    assert {it["consumer_group"] for it in lanes} == set(NAMES.groups.values())
    rewind(stubline, lanes)
    others = evening(stubline, orders=8)  # while they work it again
    expect(stubline, wanted + others)
    assert repeated(stubline, lanes)
    assert picture(stubline, wanted) == before


# Storms.


def test_a_storm_of_duplicates_issues_and_mails_each_order_once(stubline: Stubline) -> None:
    """Each callback eight times at the same instant, over two members of every service."""
    before = stubline.store.stages()["stubline.ingest"].effects
    with joined(stubline, "twin") as twins:
        wanted = evening(stubline, orders=12, copies=8, share=1.0)
        until("both hold lanes", lambda: owned(stubline, members(stubline, twins)))
        expect(stubline, wanted + evening(stubline, orders=4, copies=8, share=1.0))
    told = 4 * sum(map(len, STORIES))
    assert stubline.store.stages()["stubline.ingest"].effects - before == told, "each is news once"


def test_a_storm_of_poison_harms_no_neighbour_and_is_kept_byte_for_byte(stubline: Stubline) -> None:
    """A tenth of what each service reads: bytes that nobody can read, nothing at all, and keys that
    no table takes.
    """
    before, wanted = letters(stubline), Wanted()
    for turn in range(6):
        wanted += evening(stubline, orders=4)
        stubline.post("shop", "order.updated", b'{"id": 1, "status": poison')
        poison(stubline, turn)
    expect(stubline, wanted)
    assert letters(stubline) - before == 6 * (3 + 3 + 2 * 3 + 3), (
        "three of each topic, in each group that reads it"
    )
    assert stubline.value("select count(*) from runtime.controls where paused") == 0, (
        "nobody pulled a brake"
    )


def poison(stubline: Stubline, turn: int) -> None:
    """Into each topic that a service reads; the handler's own is a snapshot like others, but for a
    NUL in its key.
    """
    producer = Producer(producer_settings(stubline.store.bootstrap_servers, "test", 10_000))
    name = f"poison-{turn}\0"
    for topic in READ:
        headers: list[tuple[str, str | bytes | None]] = [
            ("from", b"\x00\xff"),
            ("from", None),
            ("\u00fc", b"2"),
        ]
        producer.produce(topic, b"\xff\x00 poison", b"shop:%d" % turn, headers=headers)
        producer.produce(topic, None, None)
    for event in (
        observed(name, "completed"),
        decided(name, 2),
        issued(f"shop:{name}", 1, "Active"),
    ):
        output = event.encode(time=TIME)
        producer.produce(output.topic, output.value, output.key, headers=list(output.headers))
    assert producer.flush(10) == 0


def test_members_of_every_service_that_come_and_go_lose_and_double_nothing(world: Trapped) -> None:
    """One, three and one again, and the callbacks of the one that stays raise each time."""
    stubline, wanted = world.stubline, Wanted()
    world.set("revoked:raise:1,assigned:raise:1,revoked:raise:2")
    with joined(stubline, "second", "third") as others:
        until(
            "three hold lanes",
            lambda: owned(stubline, members(stubline, others)),
            more(stubline, wanted),
        )
        wanted += evening(stubline, orders=8)
    until(
        "one holds all lanes",
        lambda: owned(stubline, members(stubline, {})),
        more(stubline, wanted),
    )
    expect(stubline, wanted)
    assert all(
        {"revoked:raise", "assigned:raise"} <= set(trap.sprung()) for trap in world.traps.values()
    )


@contextmanager
def joined(stubline: Stubline, *names: str) -> Iterator[dict[str, list[Program]]]:
    """More members for each service, while it lasts; they end as a deployment ends them."""
    services = stubline.services
    others = {
        stage: [
            services.add(
                f"{stage}-{it}", f"services.{stage}", f"STUBLINE_{stage.upper()}_HEALTH_PORT", stage
            )
            for it in names
        ]
        for stage in STAGES
    }
    programs = [it for found in others.values() for it in found]
    try:
        for it in programs:
            it.start_soon()
        yield others
    finally:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Program.stop, programs))


def members(stubline: Stubline, others: Mapping[str, Sequence[Program]]) -> dict[str, set[Program]]:
    return {stage: {stubline.services.programs[stage], *others.get(stage, ())} for stage in STAGES}
