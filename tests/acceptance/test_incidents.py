"""Schema drift through the whole pipeline: one incident for all of it, and after the next release
its replay issues the tickets.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from deploy.local.stack import Stack
from tests.support.stubline import Stubline, piped

ORDERS = 12


@pytest.fixture(scope="module")
def stubline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stubline]:
    """A pipeline of its own: its dead letters are changed by hand, and other tests compare each
    with its source.
    """
    with Stack.temporary() as stack, piped(stack, tmp_path_factory.mktemp("incidents")) as stubline:
        yield stubline


def await_ends(stubline: Stubline) -> None:
    until = time.monotonic() + 120
    while stubline.value(
        "select count(*) from runtime.dead_letters where state in ('requested', 'replayed')"
    ):
        assert time.monotonic() < until, "a replayed dead letter has no end"
        time.sleep(0.1)


def test_what_a_release_could_not_read_is_one_incident_and_its_replay_issues_the_tickets(
    stubline: Stubline,
) -> None:
    orders = [stubline.paid_order(quantity=2) for _ in range(ORDERS)]
    for order in orders:
        drifted = json.loads(order.body)
        drifted["line_items"][0]["quantity"] = {"value": 2}
        stubline.post("shop", "order.updated", json.dumps(drifted).encode())
    stubline.settle()
    answer = stubline.command("incidents", "list", "--json")
    (incident,) = json.loads(answer.stdout)
    assert (incident["count"], incident["waiting"], incident["source"]) == (ORDERS, ORDERS, "shop")
    assert incident["cause"].startswith("line_items.#.quantity: ")
    # A release that reads the new form would make the same of them as of these bytes.
    for order in orders[1:]:
        stubline.rows(
            "update runtime.dead_letters set value = %(body)s where subject_key = %(order)s "
            "returning id",
            body=order.body,
            order=order.order_id,
        )
    done = stubline.command("incidents", "resolve", incident["id"], "--replay", "--json")
    assert json.loads(done.stdout)["concerned"] == ORDERS, done.stderr
    await_ends(stubline)
    stubline.settle()
    assert [len(stubline.tickets_of(order)) for order in orders] == [0] + [2] * (ORDERS - 1)
    (left,) = json.loads(stubline.command("incidents", "list", "--json").stdout)
    assert (left["id"], left["count"], left["waiting"]) == (incident["id"], ORDERS, 1)
    assert stubline.conservation_gap() == 0
    stubline.command("incidents", "resolve", incident["id"], "--discard", "--reason", "a test's")
