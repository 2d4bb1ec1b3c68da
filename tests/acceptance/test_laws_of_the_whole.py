"""What holds of the whole pipeline: kills, zombies and crashed servers while orders flow through
all four services.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from confluent_kafka import Producer

from deploy.demo.woocommerce import deleted_body
from deploy.local.programs import STAGES, Program
from deploy.local.stack import Stack
from schemas import callbacks
from services.runtime.kafka.client import producer_settings
from tests.acceptance.evening import evening, expect
from tests.acceptance.laws import check
from tests.support.stubline import BoughtOrder, Stubline


@contextmanager
def sabotaged(stubline: Stubline, stage: str, what: str) -> Iterator[Program]:
    """Restart the service with a trap, and afterwards without."""
    program = stubline.services.programs[stage]
    program.stop()
    program.replace_module("tests.support.sabotaged", stage, SABOTAGE=what)
    program.start_soon()
    try:
        yield program
    finally:
        program.stop(immediate=True)
        program.replace_module(f"services.{stage}")
        program.start_soon()


# A minute each: two points run with every change, the others before a release.
LONG = pytest.mark.chaos


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("transaction_begun", marks=LONG),
        "committing",
        "committed",
        pytest.param("produced", marks=LONG),
        pytest.param("published", marks=LONG),
    ],
)
def test_each_service_killed_at_a_point_loses_and_doubles_nothing(
    stubline: Stubline, point: str
) -> None:
    wanted: list[tuple[BoughtOrder, int]] = []
    for stage in STAGES:
        with sabotaged(stubline, stage, f"{point}:kill:2") as program:
            until = time.monotonic() + 60
            while program.running and time.monotonic() < until:
                wanted += evening(stubline, orders=2)  # until a batch has reached the trap
                time.sleep(1.0)
            assert not program.running, f"the trap of {stage} was never reached"
    expect(stubline, wanted)


def test_a_sender_killed_while_it_sends_doubles_no_job(stubline: Stubline) -> None:
    stubline.mail.slow(300)
    try:
        wanted = evening(stubline, orders=8)
        for _ in range(3):
            time.sleep(1.0)
            for name in ("sender-1", "sender-2"):
                stubline.services.programs[name].stop(immediate=True)
                stubline.services.programs[name].start_soon()
    finally:
        stubline.mail.behave("accept")
    expect(stubline, wanted)


def test_a_zombie_of_every_service_does_no_harm(stubline: Stubline) -> None:
    """They are stopped past the session timeout while others take over, and then go on with what
    they had fetched.
    """
    programs = [stubline.services.programs[stage] for stage in STAGES]
    first = evening(stubline, orders=8)
    for program in programs:
        program.pause()
    others = [stubline.services.second_member(stage) for stage in STAGES]
    for other in others:
        other.start_soon()
    second = evening(stubline, orders=8)
    time.sleep(8.0)
    for program in programs:
        program.resume()
    third = evening(stubline, orders=8)
    expect(stubline, first + second + third)
    for other in others:
        other.stop()
    expect(stubline, third)


@pytest.mark.parametrize("server", ["kafka", "postgres"])
def test_a_server_that_fell_over_is_not_missed(
    stubline: Stubline, pipeline_stack: Stack, server: str
) -> None:
    """The shop sends again after a 503, as this test's does; what was answered with 200 is not
    lost.
    """
    fallen = pipeline_stack.kafka[0] if server == "kafka" else pipeline_stack.postgres
    before = evening(stubline, orders=8)
    fallen.stop(immediate=True)
    time.sleep(1.0)
    fallen.start()
    after = evening(stubline, orders=8)
    expect(stubline, before + after)


def history(stubline: Stubline) -> list[tuple[str, bytes, int]]:
    """Return (topic, body, second of reception) of one order's life: paid, trashed, restored, and
    one line raised.
    """
    order = stubline.order(RFL=2)
    callbacks_sent = [
        ("order.updated", body_of(order, status, second), second)
        for second, status in enumerate(("pending", "processing", "completed"))
    ]
    callbacks_sent.append(("order.deleted", deleted_body(order.purchase.order_id), 4))
    callbacks_sent.append(("order.restored", body_of(order, "completed", 5), 6))
    stubline.change(order, quantity=3)
    callbacks_sent.append(("order.updated", body_of(order, "completed", 7), 8))
    return callbacks_sent


def body_of(order: BoughtOrder, status: str, second: int) -> bytes:
    order.status, order.modified = status, order.created + timedelta(seconds=second)
    return order.body


def end_of(stubline: Stubline, order_id: str) -> tuple[str, tuple[str, ...], int]:
    """Return its state, its active ordinals by line, and how many of them are in a mail that was
    sent. Numbers depend on the path.
    """
    (decided,) = stubline.rows(
        "select state from approval.orders where order_id = %(o)s", o=order_id
    )
    active = stubline.rows(
        "select right(line_id, 1) || '/' || ordinal as ordinal, "
        "(select count(*) from delivery.job_tickets join delivery.jobs using (job_id) "
        "where job_tickets.ticket_id = tickets.ticket_id and jobs.state = 'sent') as mails "
        "from issuer.tickets where order_id = %(o)s and status = 'Active' order by 1",
        o=order_id,
    )
    return (
        decided["state"],
        tuple(row["ordinal"] for row in active),
        sum(row["mails"] for row in active),
    )


def test_an_order_ends_the_same_in_whatever_sequence_its_facts_are_logged(
    stubline: Stubline,
) -> None:
    """Sixteen permutations, and each record twice. A trash and a restore are ordered by the log
    alone, so they keep their order.
    """
    producer = Producer(
        producer_settings(stubline.services.environment["KAFKA_BOOTSTRAP_SERVERS"], "test", 10_000)
    )
    draw, numbers = random.Random(3), []
    for permutation in range(16):
        sent = history(stubline)
        numbers.append(next(stubline.numbers) - 1)
        draw.shuffle(sent)
        first, second = sorted(
            index
            for index, (topic, _, _) in enumerate(sent)
            if topic in {"order.deleted", "order.restored"}
        )
        if sent[first][0] == "order.restored":
            sent[first], sent[second] = sent[second], sent[first]
        for place, (topic, body, second) in enumerate(itertools.chain(sent, sent)):
            event = callbacks.received(
                body,
                source="shop",
                key=f"shop:{numbers[-1]}",
                kind=callbacks.WOOCOMMERCE,
                reception_id=f"{permutation}-{place}",
                content_type="application/json",
                callbacktopic=topic,
            )
            output = event.encode(time=f"2026-11-20T12:00:{second:02d}.000000Z")
            producer.produce(
                output.topic, value=output.value, key=output.key, headers=list(output.headers)
            )
        producer.flush()
    stubline.settle()
    ends = {end_of(stubline, f"shop:{number}") for number in numbers}
    assert ends == {("released", ("0/1", "0/2", "0/3"), 3)}
    check(stubline)
