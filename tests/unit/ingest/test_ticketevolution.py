"""Ticket Evolution's webhooks: nothing in them is trusted, and the orders that they name are read
again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from urllib.parse import quote_plus, urlencode

import pytest

from services.ingest import vendors
from services.ingest.config import sources_file
from services.ingest.errors import CallbackUnreadable
from services.ingest.rules.facts import ParsedCallback
from services.ingest.vendors.ticketevolution.webhook import FIELDS_MAX, SOURCE
from tests.support.vendors import Sample
from tests.support.vendors.ticketevolution import ITEM, ORDER, VENDOR, WEBHOOK, WORD, form, order

ROOT = Path(__file__).resolve().parents[3]


def read(body: bytes) -> ParsedCallback:
    return vendors.parse(VENDOR.record(Sample(body), slug="tevo"))


def unread(body: bytes) -> str:
    with pytest.raises(CallbackUnreadable) as raised:
        read(body)
    return str(raised.value)


def is_let_in(path_suffix: str = "", header: bytes = b"") -> bool:
    request = VENDOR.request(VENDOR.samples["order created"])
    return SOURCE.verify(
        request._replace(
            path_suffix=path_suffix, headers={b"authorization": header} if header else {}
        )
    )


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


def test_the_word_stands_in_the_path_or_as_the_password_of_the_address() -> None:
    assert is_let_in(path_suffix=WORD)
    assert is_let_in(path_suffix=VENDOR.other_secret)
    assert is_let_in(header=basic(f"tevo:{WORD}"))
    assert is_let_in(header=basic(f":{WORD}").replace(b"Basic", b"basic"))
    for path_suffix in ("", WORD[:-1], WORD + "/", f"{WORD}/more", WORD.upper(), "\udcff"):
        assert not is_let_in(path_suffix=path_suffix)
    for header in (
        basic(WORD),
        basic(f"{WORD}:"),
        b"Bearer " + WORD.encode(),
        b"Basic =",
        b"Basic",
        WORD.encode(),
    ):
        assert not is_let_in(header=header)


@pytest.mark.parametrize(
    "secret",
    ["with a blank in it!", "a/word/with/slashes", "percent%41percent", "ünlesbar-lang-genug"],
)
def test_a_word_that_an_address_would_change_keeps_its_source_out(
    secret: str, tmp_path: Path
) -> None:
    file = tmp_path / "sources.toml"
    file.write_text('[sources.tevo]\nkind = "ticketevolution"\nsecrets = ["env:WORD"]\n', "utf-8")
    assert sources_file.read(file, {"WORD": WORD})["tevo"].refusal is None
    refused = sources_file.read(file, {"WORD": secret})["tevo"].refusal or ""
    assert "letters, digits" in refused
    assert secret not in refused


def test_the_webhook_of_the_notes_requests_its_order() -> None:
    """As it is there: its body has little of the order, and not when it changed, so its bytes are
    its key.
    """
    callback = read(WEBHOOK)
    assert (callback.orders_to_fetch, callback.key) == (
        ("tevo:10324712",),
        f"tevo {hashlib.sha256(WEBHOOK).hexdigest()}",
    )


@pytest.mark.feature("SF-196")
@pytest.mark.parametrize(
    "event", ["order_created", "fraud_response_received", "order_accepted", " Order_Created "]
)
def test_an_order_event_is_no_fact_but_requests_the_order(event: str) -> None:
    callback = read(form(ORDER, event))
    assert callback.orders_to_fetch == ("tevo:10324712",)
    assert (
        callback.order_id,
        callback.facts,
        callback.payments,
        callback.movements,
        callback.drift,
    ) == (
        None,
        (),
        (),
        (),
        (),
    )


def test_whatever_a_body_claims_it_is_no_fact() -> None:
    """It is not signed."""
    lie = order(
        seller_state="completed", fraud_check_status="approved", buyer={"type": "Office", "id": 6}
    )
    assert read(form(lie)).facts == ()


def test_the_order_is_found_in_items_and_numbers_and_never_taken_from_the_group() -> None:
    assert read(form(ITEM, "etickets_finalized")).orders_to_fetch == ("tevo:10324712",)
    for body in (
        {"id": 5, "oid": " 61449-190823"},
        {"id": 5, "order_id": "190823", "oid": "1-2", "url": "/orders/3"},
        {"id": 5, "url": "/orders/190823/items/5"},
        {"id": 5, "order_id": 190823},
        {"id": 190823, "seller_state": "pending"},
        {"id": "190823"},
    ):
        assert read(form(body)).orders_to_fetch == ("tevo:190823",), body
        assert SOURCE.order_ids(form(body)) == ("190823",)
    for silent in (
        {},
        {"oid": "4606857"},
        {"id": True},
        {"id": -5},
        {"id": 1.5},
        {"id": "9" * 20},
        {"order_id": "1 2"},
    ):
        assert "names no order" in unread(form(silent))
    # an item, whose id is not that of an order
    assert "names no order" in unread(form({"id": 5}, "etickets_finalized"))


@pytest.mark.feature("SF-190")
@pytest.mark.parametrize(
    "event", ["order_accepted", "etickets_finalized", "delivery_complete", "not_known_yet"]
)
def test_what_comes_to_us_as_a_buyer_is_kept_and_not_acted_on(event: str) -> None:
    body = form(ORDER, event, "buyer")
    callback = read(body)
    assert (callback.facts, callback.orders_to_fetch) == ((), ())
    (drift_notice,) = callback.drift
    assert (drift_notice.is_kept, drift_notice.is_reported, drift_notice.body) == (
        True,
        False,
        body,
    )
    assert event in drift_notice.cause


@pytest.mark.feature("SF-190")
def test_an_unknown_type_is_kept_reported_and_read_again_where_it_names_an_order() -> None:
    callback = read(form(ORDER, "order_teleported"))
    assert (callback.facts, callback.orders_to_fetch) == ((), ("tevo:10324712",))
    (drift_notice,) = callback.drift
    assert (
        drift_notice.kind,
        drift_notice.cause,
        drift_notice.is_kept,
        drift_notice.is_reported,
    ) == (
        "unknown-type",
        "order_teleported",
        True,
        True,
    )
    nameless = read(form({"id": 5}, "order_teleported"))
    assert (nameless.orders_to_fetch, nameless.drift[0].is_kept) == ((), True)
    unknown_recipient = read(form(ORDER, "order_created", "broker"))
    assert unknown_recipient.drift[0].cause == "order_created to broker"
    assert len(read(form(ORDER, "x\u202e" * 5_000)).drift[0].cause) <= 200


@pytest.mark.parametrize("name", ["event_id", "performer_id", "perfomer_id", "venue_id"])
def test_changes_of_the_catalogue_are_kept_and_not_reported(name: str) -> None:
    for fields in (
        {name: "915177", "event_type": "event_updated"},
        {name: "915177", "event_type": "not_known_yet", "body": "{}"},
        {"event_type": "event_created"},
    ):
        body = urlencode(fields).encode()
        callback = read(body)
        assert (callback.facts, callback.orders_to_fetch, SOURCE.order_ids(body)) == (
            (),
            (),
            (None,),
        )
        (drift_notice,) = callback.drift
        assert (drift_notice.is_kept, drift_notice.is_reported) == (True, False)


@pytest.mark.feature("SF-196")
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no event_type"),
        (form("{"), "not JSON"),
        (form(""), "not JSON"),
        (form("null"), "not a JSON object"),
        (form("[" * 100_000), "not JSON"),
        (form('{"id":1}', ""), "no event_type"),
        (b"event_type=a&" * (FIELDS_MAX + 1), "more than 20 fields"),
        (b"event_type=order_created&event_type=order_created&body={}", "a field twice"),
        (b"event_type=order_created&body=%ff", "not text"),
        ("event_type=é".encode(), "not text"),
        (json.dumps(ORDER).encode(), "no event_type"),
    ],
)
def test_a_broken_form_is_a_dead_letter_with_its_reason(body: bytes, reason: str) -> None:
    assert SOURCE.order_ids(body) == (None,)
    assert reason in unread(body)


def test_no_reason_quotes_what_was_sent() -> None:
    for body in (
        form('{"id": "secret-of-a-buyer"'),
        form({"secret-of-a-buyer": 1}),
        b"secret-of-a-buyer=1",
    ):
        assert "secret-of-a-buyer" not in unread(body)


def test_the_key_is_of_group_recipient_type_id_and_time_of_change() -> None:
    """Not of the bytes: forms are written in several ways."""
    key = read(form(ORDER)).key
    spread = read(
        b"recipient=seller&order_group_id=4606857&event_type=order_created&body="
        + quote_plus(json.dumps(ORDER)).encode()
    )
    movements = read(form(order(updated_at="2026-11-20T09:40:04-05:00")))
    assert spread.key == movements.key == key
    assert spread.content_hash == read(form(ORDER)).content_hash
    others = [
        form(ORDER, group="1"),
        form(ORDER, recipient="buyer"),
        form(ORDER, "order_accepted"),
        form(order(id=5)),
        form(order(updated_at="2026-11-20T14:40:05Z")),
        form(order(fraud_check_status="approved")),  # within the second of the pending one
        form(order(updated_at=None)),
        form(order(updated_at="2026-11-20T14:40:04")),  # no clock of the vendor
        form(ORDER, group="x" * 5_000),
    ]
    keys = [read(body).key for body in others]
    assert len({key, *keys}) == len(others) + 1
    assert max(map(len, keys)) < 300


@pytest.mark.feature("SF-228")
@pytest.mark.parametrize(
    "page",
    ["73302018", "3083141149", "3084976129", "2321547302", "676986886", "983115", "21233775"],
)
def test_the_how_to_links_the_vendors_pages_and_its_settings_are_taken(
    page: str, tmp_path: Path
) -> None:
    text = (ROOT / "docs/how-to/connect-ticket-evolution.md").read_text("utf-8")
    assert re.search(
        rf"\(https://ticketevolution\.atlassian\.net/wiki/spaces/API/pages/{page}[)/]", text
    )
    block = text.partition("```toml\n")[2].partition("\n\n")[0]
    file = tmp_path / "sources.toml"
    file.write_text(block, "utf-8")
    config = sources_file.read(file, {"TEVO_WORD": WORD})["tevo"]
    assert (config.source, config.refusal) == (SOURCE, None)
