"""Two webhook endpoints with different clocks on a real Kafka: an order ends as its shop left it
nevertheless.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import permutations
from typing import NamedTuple

import pytest

from schemas.orders import OrderObserved
from services.ingest import vendors
from services.ingest import worker as ingest
from services.ingest.errors import ClockSkewed
from services.runtime.postgres import connection
from services.runtime.records import Record
from tests.support.callbacks import woo_order
from tests.support.stack import Databases
from tests.support.stages import outputs_of
from tests.support.webhook_endpoint import WebhookEndpointProcess

SKEW_S = 3.0
LOG_WAIT_S = 20.0


class Pair(NamedTuple):
    """Two endpoints of one installation, serving one shop."""

    wrong: WebhookEndpointProcess
    right: WebhookEndpointProcess


@pytest.fixture(scope="module", params=[SKEW_S, -SKEW_S], ids=["3 s ahead", "3 s behind"])
def pair(
    request: pytest.FixtureRequest, bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    slug = f"skew{'ahead' if request.param > 0 else 'behind'}"
    folders = [tmp_path_factory.mktemp(name) for name in ("wrong", "right")]
    wrong = WebhookEndpointProcess(bootstrap_servers, slug, folders[0], clock_ahead_s=request.param)
    with wrong, WebhookEndpointProcess(bootstrap_servers, slug, folders[1]) as right:
        yield Pair(wrong, right)


def trash(endpoint: WebhookEndpointProcess, order: int) -> None:
    assert (
        endpoint.send(json.dumps({"id": order}).encode(), callback_type="order.deleted").status_code
        == 200
    )


def restore(endpoint: WebhookEndpointProcess, order: int) -> None:
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    body = json.dumps(woo_order(id=order, status="completed", date_modified_gmt=at)).encode()
    assert endpoint.send(body, callback_type="order.restored").status_code == 200


def ending(url: str, records: tuple[Record, ...]) -> list[bool]:
    """Return for each of its events whether the order is deleted."""
    session = connection.connect(
        url, name="test", transaction_timeout_ms=60_000, idle_ms=60_000, lock_ms=10_000
    )
    with session, session.transaction():
        outcomes = [
            outcome
            for record in records
            for outcome in ingest.handle([vendors.parse(record)], session)
        ]
    return [
        OrderObserved.read(output.headers, output.value).is_deleted
        for output in outputs_of(outcomes)
    ]


@pytest.mark.parametrize("first", ["wrong", "right"])
@pytest.mark.parametrize("is_restored_last", [True, False])
def test_a_trash_and_a_restore_at_two_endpoints_count_in_the_order_in_which_they_came(
    pair: Pair, databases: Databases, first: str, is_restored_last: bool
) -> None:
    order = 1_000 + 2 * (first == "wrong") + is_restored_last
    endpoints = (pair.wrong, pair.right) if first == "wrong" else (pair.right, pair.wrong)
    steps = (trash, restore) if is_restored_last else (restore, trash)
    for step, endpoint in zip(steps, endpoints, strict=True):
        step(endpoint, order)
    kept = [
        record
        for record in pair.wrong.records()
        if record.key == f"{pair.wrong.slug}:{order}".encode()
    ]
    assert len(kept) == 2
    for sent in permutations(kept):
        with databases.new() as url:
            assert ending(url, sent)[-1] is not is_restored_last


def test_an_endpoint_whose_clock_is_wrong_reports_it_and_serves_on(pair: Pair) -> None:
    for endpoint in pair:
        trash(endpoint, 2_000)
    until = time.monotonic() + LOG_WAIT_S
    while not (
        lines := [line for line in pair.wrong.log_lines() if line.get("code") == ClockSkewed.code]
    ):
        assert time.monotonic() < until, pair.wrong.log()
        time.sleep(0.05)
    assert len(lines) == 1  # of several callbacks: once a minute
    while (
        "ok\ndegraded: this machine's clock is at least"
        not in (ready := pair.wrong.health.get("/readyz")).text
    ):
        assert time.monotonic() < until, ready.text  # it is looked at once a second
        time.sleep(0.05)
    assert ready.status_code == 200
    exposed = pair.wrong.metrics()
    (skew,) = [
        float(line.split()[-1])
        for line in exposed.splitlines()
        if line.startswith("stubline_ingest_webhook_clock_skew")
    ]
    assert SKEW_S - 1 < abs(skew) <= SKEW_S + 1
    assert pair.right.health.get("/readyz").text == "ok\n"
