"""Faults inside a process, or between it and its servers, at the worst moment: for all four
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
from tests.support.trapped import QUICK_DELIVERY_MS, TrappedPipeline, until, with_traps

IN_TRANSACTIONS = """
    select count(*) from pg_stat_activity
    where datname = current_database() and state like 'idle in transaction%%'
        and xact_start < now() - interval '1 second'
"""
OWNERS = (
    "select distinct owner from runtime.lanes "
    "where consumer_group = %(group)s and topic <> '@timer'"
)
READ = ("callbacks.received.v1", "orders.observed.v1", "orders.decided.v1", "tickets.changed.v1")
# Points that each service passes often enough while orders flow. Delivery publishes with its timer
# alone.
POINTS = (
    "transaction_begun",
    "handle",
    "committing",
    "committed",
    "produced",
    "published",
    "delivered",
)


DEAD_LETTERED = """
    select id::text, consumer_group, state from runtime.dead_letters
    where text like '%%as the test requested%%' order by id
"""
LANES = """
    select consumer_group, topic, partition, next_offset,
        duplicates + superseded + dead as nothing_new
    from runtime.lanes
"""
LONGEST = f"""
    select distinct on (consumer_group, topic) * from ({LANES}) as lanes
    where topic <> '@timer' and next_offset > 0 order by consumer_group, topic, next_offset desc
"""
# What a repeat may not change of an order: what was published, decided, issued and sent.
KNOWN = {
    "published by ingest": "select order_id, sequence, digest from ingest.orders",
    "published by approval": "select order_id, sequence, digest, state from approval.orders",
    "published by issuer": "select order_id, sequence, digest from issuer.orders",
    "published by delivery": "select order_id, sequence, digest from delivery.orders",
    "receipts": "select * from approval.receipts",
    "tickets": "select * from issuer.tickets",
    "audit": "select * from issuer.audit",
    "jobs": "select job_id, state, mails, attempts from delivery.jobs",
}


@pytest.fixture(scope="module")
def fragile(
    stubline: Stubline, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrappedPipeline]:
    with with_traps(stubline, tmp_path_factory.mktemp("traps")) as pipeline:
        yield pipeline


@pytest.fixture
def pipeline(fragile: TrappedPipeline) -> Iterator[TrappedPipeline]:
    yield fragile
    fragile.set("")


def sprung(pipeline: TrappedPipeline, wanted: Mapping[str, int]) -> Wanted:
    """Report orders until the traps of each service have acted that often."""
    orders: Wanted = []
    until(
        f"{wanted} traps sprung",
        lambda: all(
            len(pipeline.traps[stage].sprung()) >= count for stage, count in wanted.items()
        ),
        more(pipeline.stubline, orders),
    )
    return orders


def owners(stubline: Stubline, stage: str) -> set[int]:
    """The ids of the processes that own lanes of a service."""
    rows = stubline.rows(OWNERS, group=f"stubline.{stage}")
    return {int(row["owner"].rpartition(":")[2]) for row in rows if row["owner"]}


def dead_letters(stubline: Stubline) -> int:
    return stubline.value("select count(*) from runtime.dead_letters")


def owned(stubline: Stubline, members: Mapping[str, set[Program]]) -> bool:
    """Whether these processes, and no others, own the lanes."""
    return all(
        owners(stubline, stage) == {program.pid for program in programs}
        for stage, programs in members.items()
    )


def test_a_commit_whose_answer_is_lost_counts_once(pipeline: TrappedPipeline) -> None:
    """For every service and both senders, and the same for commits that never arrive."""
    wanted, before = Wanted(), dead_letters(pipeline.stubline)
    for times in range(1, 4):
        lose(pipeline, "answers", times, wanted)
        lose(pipeline, "commits", times, wanted)
    expect(pipeline.stubline, wanted)
    assert dead_letters(pipeline.stubline) == before, "no record is dead-lettered for it"


def lose(pipeline: TrappedPipeline, what: str, times: int, wanted: Wanted) -> None:
    """Lose one more of each process."""
    proxies = pipeline.proxies.values()
    for proxy in proxies:
        (proxy.lose_answer if what == "answers" else proxy.lose_commit)()
    wanted += evening(pipeline.stubline, orders=4)
    until(
        f"{what} of each are lost, {times} times",
        lambda: all(
            (proxy.answers_lost if what == "answers" else proxy.commits_lost) >= times
            for proxy in proxies
        ),
        more(pipeline.stubline, wanted),
    )


def test_an_exception_at_any_point_changes_nothing_and_dead_letters_no_record(
    pipeline: TrappedPipeline,
) -> None:
    before = dead_letters(pipeline.stubline)
    pipeline.set(",".join(f"{point}:raise:{place}" for place, point in enumerate(POINTS, 1)))
    pipeline.traps["delivery"].set(
        ",".join(f"{point}:raise:{place}" for place, point in enumerate((*POINTS, "tick"), 1))
    )
    wanted = sprung(pipeline, dict.fromkeys(STAGES, len(POINTS)) | {"delivery": len(POINTS) + 1})
    expect(pipeline.stubline, wanted)
    assert dead_letters(pipeline.stubline) == before


def test_a_delivery_that_fails_is_made_again(
    pipeline: TrappedPipeline, pipeline_stack: Stack
) -> None:
    """The report is an error; then the broker stands still for longer than the producers wait, with
    outputs of each in flight.
    """
    stubline, wanted = pipeline.stubline, Wanted()
    before = {stage: published_again(pipeline, stage) for stage in STAGES}
    pipeline.set(",".join(f"delivered:fail:{number}" for number in (1, 2, 4)))
    wanted += sprung(pipeline, dict.fromkeys(STAGES, 3))
    until(
        "published again",
        lambda: all(published_again(pipeline, stage) > before[stage] for stage in STAGES),
    )
    before = {stage: published_again(pipeline, stage) for stage in STAGES}
    for stage in reversed(STAGES):
        stop_at(pipeline, stage, "in_flight", wanted)
    (broker,) = pipeline_stack.kafka
    broker.pause()
    try:
        for stage in STAGES:
            pipeline.program(stage).resume()
        time.sleep(2 * QUICK_DELIVERY_MS / 1_000)
    finally:
        broker.resume()
    until(
        "published again",
        lambda: all(published_again(pipeline, stage) > before[stage] for stage in STAGES),
    )
    expect(stubline, wanted + evening(stubline, orders=4))


def published_again(pipeline: TrappedPipeline, stage: str) -> int:
    """Count how often it acquired a lane whose outbox was not acknowledged."""
    log = pipeline.program(stage).log_file.read_text("utf-8", "replace")
    return len(re.findall(r'"republished": [1-9]', log))


def stop_at(pipeline: TrappedPipeline, stage: str, point: str, wanted: Wanted) -> None:
    pipeline.traps[stage].set(f"{point}:stop:1")
    until(
        f"{stage} stands still", lambda: pipeline.is_stopped(stage), more(pipeline.stubline, wanted)
    )


def test_a_process_stopped_inside_its_transaction_holds_no_other_up(
    pipeline: TrappedPipeline,
) -> None:
    """It is stopped past all bounds and others take over. What it does when it goes on fails, and
    so does its callback `lost`.
    """
    stubline, wanted = pipeline.stubline, Wanted()
    for stage in reversed(STAGES):  # the last first: one that stands still feeds none
        stop_at(pipeline, stage, "transaction_begun", wanted)
    with joined(stubline, "heir") as heirs:
        until(
            "the heirs hold all lanes",
            lambda: owned(stubline, {stage: set(members) for stage, members in heirs.items()}),
        )
        assert stubline.value(IN_TRANSACTIONS) == 0, "the rows are free"
        wanted += evening(stubline, orders=8)
        pipeline.set("lost:raise:1")
        for stage in STAGES:
            pipeline.program(stage).resume()
        wanted += evening(stubline, orders=8)
        until("all go on", lambda: all(trap.sprung() for trap in pipeline.traps.values()))
        expect(stubline, wanted)
        assert all(pipeline.program(stage).running for stage in STAGES)


# What an operator does.


def known_of(stubline: Stubline, wanted: Wanted) -> dict[str, list[str]]:
    """Return all that is known of these orders."""
    names = [order.order_id for order, _ in wanted]
    known = {
        name: sorted(
            map(str, stubline.rows(f"{statement} where order_id = any(%(names)s)", names=names))
        )
        for name, statement in KNOWN.items()
    }
    sent = stubline.sent()
    return known | {"mails": sorted(str(sent.get(order.purchase.email)) for order, _ in wanted)}


def rewind(stubline: Stubline, lanes: list[dict[str, Any]]) -> None:
    """Rewind the lanes to their first record, several operators at once."""
    where = [(lane["consumer_group"], lane["topic"], lane["partition"]) for lane in lanes]
    with ThreadPoolExecutor(4) as pool:
        done = list(
            pool.map(lambda lane: stubline.command("lanes", "rewind", *lane, "--to", 0), where)
        )
    assert [command.returncode for command in done] == [0] * len(lanes), done


def repeated(stubline: Stubline, lanes: list[dict[str, Any]]) -> bool:
    """Whether each of these lanes has found nothing new in what it had worked before."""
    key = ("consumer_group", "topic", "partition")
    now = {tuple(row[name] for name in key): row["nothing_new"] for row in stubline.rows(LANES)}
    return all(
        now[tuple(lane[name] for name in key)] >= lane["nothing_new"] + lane["next_offset"]
        for lane in lanes
    )


def test_a_dead_letter_of_each_service_replayed_twice_has_its_effect_once(
    pipeline: TrappedPipeline,
) -> None:
    """Two operators replay it at once, then again when it is resolved; then its copy is read
    again.
    """
    stubline, wanted = pipeline.stubline, Wanted()
    pipeline.set("parse:raise:2")
    until(
        "a dead letter each",
        lambda: all(trap.sprung() for trap in pipeline.traps.values()),
        more(stubline, wanted),
    )
    stubline.settle()
    dead = [row for row in stubline.rows(DEAD_LETTERED) if row["state"] == "open"]
    assert sorted(row["consumer_group"] for row in dead) == sorted(NAMES.groups.values())
    ids = [row["id"] for row in dead]
    with ThreadPoolExecutor() as pool:
        codes = [
            command.returncode
            for command in pool.map(lambda _: stubline.command("dead", "replay", *ids), range(2))
        ]
    assert 0 in codes
    expect(stubline, wanted)
    assert {row["state"] for row in stubline.rows(DEAD_LETTERED) if row["id"] in ids} == {
        "resolved"
    }
    before = known_of(stubline, wanted)
    second = stubline.command("dead", "replay", *ids)
    assert (second.returncode, "dead-letter-state-refused" in second.stderr) == (1, True), (
        second.stderr
    )
    replays = [row for row in stubline.rows(LONGEST) if row["topic"].endswith(".replay.v1")]
    assert len(replays) == len(STAGES)
    rewind(stubline, replays)
    expect(stubline, wanted)
    assert repeated(stubline, replays)
    assert known_of(stubline, wanted) == before


def test_lanes_of_every_service_that_an_operator_rewinds_work_everything_again_and_double_nothing(
    stubline: Stubline,
) -> None:
    wanted = evening(stubline, orders=12)
    expect(stubline, wanted)
    before, lanes = known_of(stubline, wanted), stubline.rows(LONGEST)
    assert {lane["consumer_group"] for lane in lanes} == set(NAMES.groups.values())
    rewind(stubline, lanes)
    others = evening(stubline, orders=8)  # while they work it again
    expect(stubline, wanted + others)
    assert repeated(stubline, lanes)
    assert known_of(stubline, wanted) == before


# Storms.


def test_a_storm_of_duplicates_issues_and_mails_each_order_once(stubline: Stubline) -> None:
    """Each callback eight times at the same instant, over two members of every service."""
    before = stubline.store.stages()["stubline.ingest"].effects
    with joined(stubline, "twin") as twins:
        wanted = evening(stubline, orders=12, copies=8, share=1.0)
        until("both hold lanes", lambda: owned(stubline, members(stubline, twins)))
        expect(stubline, wanted + evening(stubline, orders=4, copies=8, share=1.0))
    callbacks = 4 * sum(map(len, STORIES))
    assert stubline.store.stages()["stubline.ingest"].effects - before == callbacks, (
        "each has its effect once"
    )


def test_a_storm_of_poison_harms_no_neighbour_and_is_kept_byte_for_byte(stubline: Stubline) -> None:
    """A tenth of what each service reads: unreadable bytes, no value at all, and keys that no table
    takes.
    """
    before, wanted = dead_letters(stubline), Wanted()
    for number in range(6):
        wanted += evening(stubline, orders=4)
        stubline.post("shop", "order.updated", b'{"id": 1, "status": poison')
        poison(stubline, number)
    expect(stubline, wanted)
    assert dead_letters(stubline) - before == 6 * (3 + 3 + 2 * 3 + 3), (
        "three of each topic, in each group that reads it"
    )
    assert stubline.value("select count(*) from runtime.controls where paused") == 0, (
        "no failure-rate breaker opened"
    )


def poison(stubline: Stubline, number: int) -> None:
    """Write poison into each topic that a service reads. The handler's is a snapshot like others,
    but with a NUL in its key.
    """
    producer = Producer(producer_settings(stubline.store.bootstrap_servers, "test", 10_000))
    name = f"poison-{number}\0"
    for topic in READ:
        headers: list[tuple[str, str | bytes | None]] = [
            ("from", b"\x00\xff"),
            ("from", None),
            ("\u00fc", b"2"),
        ]
        producer.produce(topic, b"\xff\x00 poison", b"shop:%d" % number, headers=headers)
        producer.produce(topic, None, None)
    for event in (
        observed(name, "completed"),
        decided(name, 2),
        issued(f"shop:{name}", 1, "Active"),
    ):
        output = event.encode(time=TIME)
        producer.produce(output.topic, output.value, output.key, headers=list(output.headers))
    assert producer.flush(10) == 0


def test_members_of_every_service_that_come_and_go_lose_and_double_nothing(
    pipeline: TrappedPipeline,
) -> None:
    """One, three and one again; the rebalance callbacks of the one that stays raise each time."""
    stubline, wanted = pipeline.stubline, Wanted()
    pipeline.set("revoked:raise:1,assigned:raise:1,revoked:raise:2")
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
        {"revoked:raise", "assigned:raise"} <= set(trap.sprung())
        for trap in pipeline.traps.values()
    )


@contextmanager
def joined(stubline: Stubline, *names: str) -> Iterator[dict[str, list[Program]]]:
    """Run more members of each service, and end them as a deployment does."""
    services = stubline.services
    others = {
        stage: [
            services.add(
                f"{stage}-{name}",
                f"services.{stage}",
                f"STUBLINE_{stage.upper()}_HEALTH_PORT",
                stage,
            )
            for name in names
        ]
        for stage in STAGES
    }
    programs = [program for members in others.values() for program in members]
    try:
        for program in programs:
            program.start_soon()
        yield others
    finally:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Program.stop, programs))


def members(stubline: Stubline, others: Mapping[str, Sequence[Program]]) -> dict[str, set[Program]]:
    return {stage: {stubline.services.programs[stage], *others.get(stage, ())} for stage in STAGES}
