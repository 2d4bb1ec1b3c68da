"""Real bodies of WooCommerce through ingest, approval and issuer: who gets which tickets, and what
people are sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import pytest

from schemas.orders import OrderObserved, TicketsChanged
from services.approval.settings import ApprovalSettings, policies
from services.console import cli
from services.console.store import list_orders, read_order
from services.delivery import documents
from services.ingest import vendors
from services.ingest import worker as ingest
from services.runtime.records import Record
from tests.support.callbacks import record, woo_order
from tests.support.stack import Databases
from tests.support.stages import Stages, opened, outputs_of, raffle, sqlstate_of
from tests.support.vendors.woocommerce import line

MINUTE = "2026-11-20T15:{:02d}:08"


@pytest.fixture
def stages(database_url: str) -> Iterator[Stages]:
    with opened(database_url) as opened_stages:
        opened_stages.apply(raffle(skus=["RFL-SPRING"]))
        yield opened_stages


@pytest.fixture(scope="module")
def shared(databases: Databases) -> Iterator[Stages]:
    """One database for tests that use orders of their own."""
    with databases.new() as url, opened(url) as opened_stages:
        opened_stages.apply(raffle(skus=["RFL-SPRING"]))
        yield opened_stages


def shop_record(
    status: str,
    minute: int = 0,
    order: int = 727,
    callback_type: str = "order.updated",
    **changes: Any,
) -> Record:
    at = MINUTE.format(minute)
    times = {"date_created_gmt": at, "date_modified_gmt": at}
    body = woo_order(id=order, number=str(order), status=status, **times | changes)
    return record(body, order=str(order), callback_type=callback_type, at=f"{at}.000000Z")


def trashed(minute: int, order: int = 727) -> Record:
    body = json.dumps({"id": order}).encode()
    return record(
        body, order=str(order), callback_type="order.deleted", at=f"{MINUTE.format(minute)}.500000Z"
    )


def observe(stages: Stages, *records: Record) -> list[OrderObserved]:
    with stages.session.transaction():
        outcomes = ingest.handle([vendors.parse(record) for record in records], stages.session)
    return [OrderObserved.read(output.headers, output.value) for output in outputs_of(outcomes)]


def through(stages: Stages, *records: Record) -> list[TicketsChanged]:
    """Process records one by one through the three stages. Return what the issuer publishes for
    each.
    """
    return [
        event
        for record in records
        for observed in observe(stages, record)
        for event in stages.work(observed)
    ]


def state_of(stages: Stages, order: int) -> tuple[str, list[str]]:
    (row,) = stages.rows(
        (
            "select state, decision -> 'reasons' as reasons from approval.orders where order_id = "
            "%(id)s"
        ),
        {"id": f"shop:{order}"},
    )
    return row["state"], row["reasons"]


@pytest.mark.feature("SF-035", "SF-037")
def test_a_gift_is_held_by_its_recipient_and_all_else_by_the_buyer(stages: Stages) -> None:
    """Two entries for the buyer and one as a gift, of which only an address is known; the mail is
    the buyer's.
    """
    (observed,) = observe(stages, shop_record("completed"))
    assert observed.storefront is not None
    assert [line.recipient and line.recipient.email for line in observed.storefront.lines] == [
        None,
        "bob@example.org",
    ]
    (event,) = stages.work(observed)
    ada = ("Ada Example", "ada@example.org")
    assert [(ticket.holder.name, ticket.holder.email) for ticket in event.tickets] == [
        ada,
        ada,
        ("", "bob@example.org"),
    ]
    assert [ticket.recipient_email for ticket in event.tickets] == [None, None, "bob@example.org"]
    kept = stages.rows("select recipient_email from issuer.tickets order by line_id, ordinal")
    assert [ticket["recipient_email"] for ticket in kept] == [None, None, "bob@example.org"]
    printed = documents.document(event, event.tickets)
    assert [page.holder for page in printed.pages] == [
        "Ada Example",
        "Ada Example",
        "bob@example.org",
    ]
    assert (printed.purchaser, printed.email) == ada


@pytest.mark.feature("SF-035", "SF-037")
def test_a_recipient_who_is_named_later_holds_the_same_ticket(stages: Stages) -> None:
    (first,) = through(stages, shop_record("completed", line_items=[line(1)]))
    gift = line(1, ("recipient_name", "Bob"), ("recipient_email", "bob@example.org"))
    (second,) = through(stages, shop_record("completed", 1, line_items=[gift]))
    (before,), (after,) = first.tickets, second.tickets
    assert (before.number, before.code) == (after.number, after.code)
    assert (before.holder.name, after.holder.name) == ("Ada Example", "Bob")
    assert (before.recipient_email, after.recipient_email) == (None, "bob@example.org")
    (nameless,) = through(
        stages, shop_record("completed", 2, line_items=[line(1, ("recipient_name", "Bob"))])
    )
    assert [ticket.recipient_email for ticket in nameless.tickets] == [""]
    (own,) = through(stages, shop_record("completed", 3, line_items=[line(1)]))
    assert [(ticket.holder.name, ticket.recipient_email) for ticket in own.tickets] == [
        ("Ada Example", None)
    ]


def test_a_gift_of_a_buyer_without_a_name_is_printed_with_no_ones_name(stages: Stages) -> None:
    (event,) = through(
        stages, shop_record("completed", line_items=[line(1)], billing={"email": "ada@example.org"})
    )
    assert documents.document(event, event.tickets).pages[0].holder == ""


@pytest.mark.feature("SF-095")
def test_lines_of_another_kind_get_no_ticket_and_have_a_reason(shared: Stages) -> None:
    shirt = line(2, quantity=3, product_id=11, sku="SHIRT")
    (event,) = through(
        shared, shop_record("completed", order=95, line_items=[line(1, quantity=2), shirt])
    )
    assert [ticket.line_id for ticket in event.tickets] == ["1", "1"]
    assert [(line.line_id, line.quantity, line.reason) for line in event.unissued] == [
        ("2", 3, "no_campaign")
    ]
    assert [line["sku"] for line in read_order(shared.session, "shop:95")["waiting"]] == ["SHIRT"]


def test_variations_without_skus_of_their_own_are_distinguished(stages: Stages) -> None:
    """Both lines have their product's id and SKU; only the variation shows which was bought."""
    child, adult = (
        line(at, product_id=11, sku="", variation_id=variation)
        for at, variation in ((1, 17), (2, 18))
    )
    (event,) = through(stages, shop_record("completed", line_items=[child, adult]))
    assert [(line.line_id, line.reason) for line in event.unissued] == [
        ("1", "no_campaign"),
        ("2", "no_campaign"),
    ]
    assert {line["variation_id"] for line in read_order(stages.session, "shop:727")["waiting"]} == {
        "17",
        "18",
    }
    stages.apply(
        raffle(id="children", skus=[], variation_ids=["17"]),
        raffle(id="adults", skus=[], variation_ids=["18"]),
    )
    (event,) = stages.tick()
    assert [(ticket.line_id, ticket.campaign_id) for ticket in event.tickets] == [
        ("1", "children"),
        ("2", "adults"),
    ]


@pytest.mark.feature("SF-031", "SF-032")
@pytest.mark.parametrize(("order", "status"), [(31, "cancelled"), (32, "refunded")])
def test_an_order_that_arrives_already_over_gets_no_ticket_also_when_an_older_callback_comes_late(
    shared: Stages, order: int, status: str
) -> None:
    over, late = shop_record(status, 5, order), shop_record("completed", 2, order)
    events = through(shared, over, late, late)
    assert [event.tickets for event in events] == [()] * len(events)
    assert state_of(shared, order) == ("cancelled", [f"status {status}"])


@pytest.mark.feature("SF-070")
def test_a_body_with_nothing_but_an_id_cancels_every_ticket_each_time_the_order_is_trashed(
    stages: Stages,
) -> None:
    through(stages, shop_record("completed"))
    numbers = stages.tickets()
    for minute in (10, 20):
        through(stages, trashed(minute))
        assert (stages.tickets(), stages.tickets(status="Cancelled")) == ([], numbers)
        through(stages, shop_record("completed", minute + 1))
        assert stages.tickets() == [], "an update never lifts a trash"
        through(stages, shop_record("completed", minute + 5, callback_type="order.restored"))
        assert stages.tickets() == numbers
    through(stages, trashed(30))
    assert state_of(stages, 727) == ("cancelled", ["deleted"])


@pytest.mark.feature("SF-005")
def test_an_order_in_a_status_that_nobody_named_is_kept_with_a_reason_until_the_policy_names_it(
    database_url: str,
) -> None:
    with opened(database_url) as stages:
        stages.apply(raffle(skus=["RFL-SPRING"]))
        through(stages, shop_record("completely-new"))
        assert state_of(stages, 727) == ("observed", ["waiting for status completed"])
    with opened(database_url, policies(ApprovalSettings(issue_when="completely-new"))) as stages:
        through(stages, shop_record("completely-new", 1))  # saved again in the shop
        assert (state_of(stages, 727)[0], len(stages.tickets())) == ("released", 3)


def test_an_order_at_the_checkout_waits(shared: Stages) -> None:
    through(
        shared,
        shop_record("checkout-draft", order=40, callback_type="order.created", date_paid_gmt=None),
    )
    assert state_of(shared, 40)[0] == "observed"


# Suspected duplicates.


def alike(stages: Stages, *, only_alike: bool = False) -> dict[str, list[str]]:
    listed = list_orders(stages.session, None, 50, only_alike=only_alike)
    return {row["order_id"]: row["suspected_duplicates"] for row in listed}


def twin(order: int, minute: int = 0, status: str = "pending", **changes: Any) -> Record:
    return shop_record(status, minute, order, **{"date_paid_gmt": None, **changes})


@pytest.mark.feature("SF-021")
@pytest.mark.parametrize("places", list(permutations(range(3))), ids=str)
def test_suspected_duplicates_name_each_other_whichever_came_first(
    database_url: str, places: tuple[int, ...]
) -> None:
    bodies = [twin(1, 0), twin(2, 20), twin(3, 40, total="99.00")]
    with opened(database_url) as stages:
        through(stages, *[bodies[place] for place in places])
        assert alike(stages) == {"shop:1": ["shop:2"], "shop:2": ["shop:1"], "shop:3": []}
        assert set(alike(stages, only_alike=True)) == {"shop:1", "shop:2"}
        assert [
            lookalike["order_id"]
            for lookalike in read_order(stages.session, "shop:2")["lookalikes"]
        ] == ["shop:1"]


@pytest.mark.feature("SF-021")
@pytest.mark.parametrize("end", ["cancelled", "trash"])
def test_ending_one_leaves_the_other_which_nobody_suspects_any_more(
    stages: Stages, end: str
) -> None:
    through(stages, twin(1), twin(2, 1))
    through(stages, trashed(2, 1) if end == "trash" else twin(1, 2, end))
    assert alike(stages) == {"shop:1": ["shop:2"], "shop:2": []}
    assert alike(stages, only_alike=True) == {}
    through(stages, twin(2, 5, "completed"))
    assert len(stages.tickets("2")) == 3


@pytest.mark.feature("SF-021")
def test_an_order_that_is_saved_again_much_later_stays_suspected(stages: Stages) -> None:
    """Shops send a callback for every save, and a review of an order saves it."""
    through(stages, twin(1), twin(2, 20))
    through(stages, twin(2, 20, date_modified_gmt="2026-11-21T09:00:00"))
    assert alike(stages) == {"shop:1": ["shop:2"], "shop:2": ["shop:1"]}


@pytest.mark.feature("SF-021")
def test_suspicion_blocks_nothing(stages: Stages) -> None:
    through(stages, twin(1, 0, "completed"), twin(2, 1, "completed"))
    assert (len(stages.tickets("1")), len(stages.tickets("2"))) == (3, 3)


def test_orders_far_apart_are_no_duplicates_and_the_window_can_be_set(database_url: str) -> None:
    for window, expected in ((0, []), (600, []), (1200, ["shop:1"])):
        with opened(database_url, policies(ApprovalSettings(duplicate_window_s=window))) as stages:
            minute = window // 100  # something new to publish
            through(stages, twin(1, minute), twin(2, minute + 20))
            assert alike(stages)["shop:2"] == expected


def test_orders_of_two_shops_are_never_lookalikes(stages: Stages) -> None:
    through(stages, twin(1))
    elsewhere = record(
        woo_order(id=1, status="pending", date_paid_gmt=None), source="other", order="1"
    )
    through(stages, elsewhere)
    assert alike(stages) == {"shop:1": [], "other:1": []}


@pytest.mark.parametrize(
    "wrong",
    ["fingerprint = '\\x00'", "placed_at = null", "duplicate_window_s = 0", "fingerprint = null"],
)
def test_a_lookalike_key_is_complete_or_there_is_none(shared: Stages, wrong: str) -> None:
    through(shared, twin(50))
    assert (
        sqlstate_of(shared, f"update approval.orders set {wrong} where order_id = 'shop:50'")
        == "23514"
    )


@pytest.mark.feature("SF-021")
def test_the_command_lists_lookalikes(
    stages: Stages,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:1")  # no vendor is polled
    monkeypatch.setenv("COLUMNS", "200")
    through(stages, twin(1), twin(2, 1), twin(3, 2, total="1.00"))
    run: Callable[..., int] = lambda *words: cli.run(list(words))  # noqa: E731 - one line is enough
    assert run("orders", "list", "--suspected-duplicates", "--state", "observed", "--json") == 0
    assert {order["order_id"] for order in json.loads(capsys.readouterr().out)} == {
        "shop:1",
        "shop:2",
    }
    assert run("orders", "list", "--limit", "1") == 0
    assert "shop:3" in capsys.readouterr().out
    assert run("orders", "show", "shop:1") == 0
    assert "lookalikes" in capsys.readouterr().out
    assert run("orders", "list", "--state", "sent") == 2
