"""What Adyen's bytes mean: items that are signed one by one, without their time."""

from __future__ import annotations

from datetime import datetime
from itertools import permutations
from typing import Any

import pytest

from schemas import structs
from schemas.fraud import FraudVerdict
from schemas.orders import Movement
from services.ingest import vendors
from services.ingest.callback_records import records
from services.ingest.config.sources_file import SourceConfig
from services.ingest.errors import CallbackUnreadable
from services.ingest.rules.facts import ParsedCallback, merge_facts
from services.ingest.vendors.adyen import webhook as adyen
from services.ingest.vendors.adyen.items import split_events
from services.ingest.vendors.shared.source import WebhookRequest
from tests.support import callbacks
from tests.support.vendors import VENDORS, Sample
from tests.support.vendors.adyen import (
    KEY,
    OTHER_KEY,
    PAYMENT,
    item,
    modified,
    notified,
    sample,
    signed,
)

ADYEN = VENDORS["adyen"]
DISPUTE = "QLKZTM5FXS475S65"
EUR = {"currency": "EUR", "value": 1500}


def read(fields: dict[str, Any]) -> ParsedCallback:
    return vendors.parse(ADYEN.record(sample(fields)))


def disputed(code: str, **changes: object) -> ParsedCallback:
    return read(item("chargeback", eventCode=code, **changes))


def only(callback: ParsedCallback) -> Movement:
    (fact,) = callback.movements
    return structs.decode(Movement, fact.content)


def movement_fields(movement: Movement) -> tuple[str, str, str, str, int | None]:
    return (
        movement.kind,
        movement.reference,
        movement.payment,
        movement.state,
        movement.amount_minor,
    )


def ending(*callbacks: ParsedCallback) -> list[Movement]:
    known = merge_facts({}, [fact for callback in callbacks for fact in callback.movements])
    return [structs.decode(Movement, known[name].content) for name in sorted(known)]


def is_let_in(body: bytes, key: str = KEY) -> bool:
    return adyen.verify(WebhookRequest({}, body, [adyen.signing_key(key)]))


# Proof of origin.


def vector(psp: str, account: str, reference: str, value: int, signature: str) -> dict[str, Any]:
    return {
        "pspReference": psp,
        "merchantAccountCode": account,
        "merchantReference": reference,
        "amount": {"value": value, "currency": "EUR"},
        "eventCode": "AUTHORISATION",
        "success": "true",
        "additionalData": {"hmacSignature": signature},
    }


ROMAN = "AntoniStroinski"
VECTORS = [
    pytest.param(
        KEY,
        vector(
            "7914073381342284",
            "TestMerchant",
            "TestPayment-1407325143704",
            1130,
            "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0=",
        ),
        id="A1",
    ),
    pytest.param(
        OTHER_KEY,
        vector(
            "T7FD4VM4D3RZNN82",
            ROMAN,
            r"\\slashes are fun",
            1000,
            "nIgT81gaB5oJpn2jPXupDq68iRo2wUlBsuYjtYfwKqo=",
        ),
        id="A2",
    ),
    pytest.param(
        OTHER_KEY,
        vector(
            "M8NB66SBZSGLNK82",
            ROMAN,
            ":slashes are fun",
            1000,
            "2EQYm7YJpKO4EtHSPu55SQTyWf8dkW5u2nD1tJFpViA=",
        ),
        id="A3",
    ),
    pytest.param(
        OTHER_KEY,
        vector(
            "X3GWNS6KJ8NKGK82",
            ROMAN,
            "//slashes are fun",
            1000,
            "9Z0xdpG9Xi3zcmXv14t/BvMBut77O/Xq9D4CQXSDUi4=",
        ),
        id="A4",
    ),
    pytest.param(
        OTHER_KEY,
        vector(
            "ZVWN7D3WSMK2WN82",
            ROMAN,
            r"\:/\/slashes are fun",
            1000,
            "CZErGCNQaSsxbaQfZaJlakqo7KPP+mIa8a+wx3yNs9A=",
        ),
        id="A5",
    ),
]


@pytest.mark.parametrize(("key", "fields"), VECTORS)
def test_the_signature_is_the_vendors(key: str, fields: dict[str, Any]) -> None:
    assert is_let_in(notified(fields), key)
    assert not is_let_in(notified(fields), "00" * 32)
    for name in ("pspReference", "merchantAccountCode", "merchantReference", "eventCode"):
        assert not is_let_in(notified({**fields, name: fields[name] + "x"}), key)
    for changed in (
        {"success": "false"},
        {"originalReference": "x"},
        {"amount": {**fields["amount"], "value": 1}},
    ):
        assert not is_let_in(notified({**fields, **changed}), key)


@pytest.mark.parametrize("success", [True, "true"])
def test_a_flag_may_be_a_word_or_a_flag(success: object) -> None:
    fields = {**signed(item()), "success": success}
    assert is_let_in(notified(fields))
    callback = vendors.parse(
        ADYEN.record(ADYEN.samples["authorised"]._replace(body=notified(fields)))
    )
    assert callback == read(item())


def test_null_and_an_empty_text_are_signed_alike() -> None:
    fields = signed(item())
    for nothing in ({"originalReference": ""}, {"originalReference": None}):
        assert is_let_in(notified({**fields, **nothing}))


def test_every_item_must_fit_and_there_must_be_one() -> None:
    good = signed(item())
    assert is_let_in(notified(good, good))
    assert not is_let_in(notified(good, signed(item(), OTHER_KEY)))
    assert not is_let_in(notified())
    assert not is_let_in(b'{"notificationItems":[{}]}')
    assert not is_let_in(b'{"notificationItems":{"NotificationRequestItem":{}}}')
    wrong: list[object] = [
        {"value": 15.0, "currency": "EUR"},
        {"value": [], "currency": "EUR"},
        "EUR",
        [],
    ]
    for money in wrong:
        assert not is_let_in(notified({**good, "amount": money}))
    for more in ({}, {"hmacSignature": 1}, {"hmacSignature": "\u20ac"}, {"hmacSignature": None}):
        assert not is_let_in(notified({**good, "additionalData": more}))
    assert not is_let_in(notified({**good, "additionalData": []}))


def test_a_field_that_stands_twice_is_read_as_it_was_signed() -> None:
    genuine = notified(signed(item())).decode()
    for twice in (
        genuine.replace('"success"', '"success":"false","success"'),
        genuine.replace('"eventCode"', '"eventCode":"CHARGEBACK","eventCode"'),
    ):
        assert is_let_in(twice.encode())
        callback = vendors.parse(
            ADYEN.record(ADYEN.samples["authorised"]._replace(body=twice.encode()))
        )
        assert callback.movements == read(item()).movements


@pytest.mark.parametrize(
    "secret", ["", "whsec_no", KEY[:-1], KEY[:-1] + "g", "0x" + KEY, KEY + " 00"]
)
def test_a_malformed_key_is_refused_and_not_quoted(secret: str) -> None:
    with pytest.raises(ValueError, match="is not a hexadecimal key") as caught:
        adyen.signing_key(secret)
    assert not secret or secret not in str(caught.value)


# The content of items.


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (item(), ("authorisation", PAYMENT, PAYMENT, "done", 1500)),
        (item(success="false"), ("failure", PAYMENT, PAYMENT, "failed", 1500)),
        (modified("CAPTURE", "CAP1"), ("capture", "CAP1", PAYMENT, "done", 1500)),
        (
            modified("CAPTURE", "CAP1", success="false"),
            ("capture", "CAP1", PAYMENT, "failed", 1500),
        ),
        (modified("CAPTURE_FAILED", "CAP1"), ("capture", "CAP1", PAYMENT, "failed", 1500)),
        (modified("CANCELLATION", "CAN1"), ("authorisation", PAYMENT, PAYMENT, "undone", 1500)),
        (modified("REFUND", "REF1"), ("refund", "REF1", PAYMENT, "done", 1500)),
        (modified("REFUND", "REF1", success="false"), ("refund", "REF1", PAYMENT, "failed", 1500)),
        (modified("REFUND_FAILED", "REF1"), ("refund", "REF1", PAYMENT, "failed", 1500)),
        (modified("REFUNDED_REVERSED", "REF1"), ("refund", "REF1", PAYMENT, "undone", 1500)),
        (modified("CANCEL_OR_REFUND", "COR1"), ("refund", "COR1", PAYMENT, "done", 1500)),
        (modified("NOTIFICATION_OF_FRAUD", "NOF1"), ("warning", "NOF1", PAYMENT, "open", 1500)),
        *(
            (item("chargeback", eventCode=code), ("dispute", DISPUTE, PAYMENT, state, 1500))
            for code, state in {
                "REQUEST_FOR_INFORMATION": "open",
                "NOTIFICATION_OF_CHARGEBACK": "open",
                "CHARGEBACK": "done",
                "CHARGEBACK_REVERSED": "undone",
                "SECOND_CHARGEBACK": "done",
                "PREARBITRATION_OPEN": "open",
                "PREARBITRATION_WON": "undone",
                "PREARBITRATION_LOST": "done",
            }.items()
        ),
    ],
)
def test_each_event_code_is_one_kind_of_movement(
    fields: dict[str, Any], expected: tuple[object, ...]
) -> None:
    callback = read(fields)
    assert movement_fields(only(callback)) == expected
    assert only(callback).detail == fields["eventCode"]
    assert (callback.order_id, callback.payments) == ("shop:727", (f"shop/{PAYMENT}",))
    assert (
        callback.key == f"vendor {fields['pspReference']} {fields['eventCode']} {fields['success']}"
    )
    assert callback.drift == ()


def test_refunds_in_part_are_movements_of_their_own() -> None:
    one = read(modified("REFUND", "REF1", amount={"currency": "EUR", "value": 500}))
    two = read(modified("REFUND", "REF2", amount={"currency": "EUR", "value": 250}))
    assert [movement_fields(movement) for movement in ending(one, two)] == [
        ("refund", "REF1", PAYMENT, "done", 500),
        ("refund", "REF2", PAYMENT, "done", 250),
    ]


def test_a_movement_that_lacks_its_amount_is_accepted_and_reported() -> None:
    callback = read(item("chargeback", eventCode="CHARGEBACK", amount=None))
    assert only(callback).amount_minor is None
    assert [(drift_notice.kind, drift_notice.cause) for drift_notice in callback.drift] == [
        ("missing-field", "amount of 'CHARGEBACK'")
    ]
    assert not disputed("CHARGEBACK").drift


def test_a_chargeback_that_is_sent_again_with_another_date_does_not_undo_its_reversal() -> None:
    """The date is not signed: anybody who has seen an item can write another one."""
    done = disputed("CHARGEBACK")
    reversed_ = disputed("CHARGEBACK_REVERSED", eventDate="2026-12-01T10:00:00+01:00")
    for date in ("1991-01-01T00:00:00Z", "2026-12-24T00:00:00Z", "2199-01-01T00:00:00Z"):
        replayed = disputed("CHARGEBACK", eventDate=date)
        assert replayed.key == done.key
        for order in permutations([done, reversed_, replayed]):
            (movement,) = ending(*order)
            assert movement.state == "undone"
            assert movement.at == datetime.fromisoformat("2026-12-01T10:00:00+01:00")


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (item(), modified("CANCELLATION", "CAN1")),
        (modified("REFUND", "REF1"), modified("REFUND_FAILED", "REF1")),
        (modified("REFUND", "REF1"), modified("REFUNDED_REVERSED", "REF1")),
        (modified("CAPTURE", "CAP1"), modified("CAPTURE_FAILED", "CAP1")),
        (
            item("chargeback", eventCode="CHARGEBACK_REVERSED"),
            item("chargeback", eventCode="SECOND_CHARGEBACK"),
        ),
        (
            item("chargeback", eventCode="SECOND_CHARGEBACK"),
            item("chargeback", eventCode="PREARBITRATION_WON"),
        ),
    ],
)
def test_the_later_stage_wins_however_they_come_and_are_dated(
    earlier: dict[str, Any], later: dict[str, Any]
) -> None:
    begun, ended = read({**earlier, "eventDate": "2030-01-01T00:00:00Z"}), read(later)
    assert ending(begun, ended) == ending(ended, begun) == ending(ended)


@pytest.mark.parametrize(
    ("code", "word"), [("MANUAL_REVIEW_ACCEPT", "approved"), ("MANUAL_REVIEW_REJECT", "declined")]
)
def test_a_manual_review_is_a_verdict(code: str, word: str) -> None:
    callback = read(modified(code, "REV1"))
    (fact,) = callback.movements
    assert structs.decode(FraudVerdict, fact.content).verdict == word
    assert fact.name == f"verdict:vendor:{PAYMENT}"


def test_a_rejection_stays_whatever_is_sent_again() -> None:
    accepted = read(modified("MANUAL_REVIEW_ACCEPT", "REV1", eventDate="2030-01-01T00:00:00Z"))
    rejected = read(modified("MANUAL_REVIEW_REJECT", "REV2"))
    for order in permutations([accepted, rejected]):
        (known,) = merge_facts(
            {}, [fact for callback in order for fact in callback.movements]
        ).values()
        assert structs.decode(FraudVerdict, known.content).verdict == "declined"


def test_what_is_not_signed_decides_nothing() -> None:
    plain = read(item())
    changed = read(
        item(
            reason="Refused",
            paymentMethod="mc",
            operations=[],
            additionalData={"fraudResultType": "RED"},
        )
    )
    assert (plain.content_hash, plain.movements) == (changed.content_hash, changed.movements)


@pytest.mark.parametrize(
    ("fields", "kind", "is_reported"),
    [
        (item(eventCode="REPORT_AVAILABLE", merchantReference=""), "unknown-type", False),
        (item(eventCode="OFFER_CLOSED"), "unknown-type", False),
        (item(eventCode="LEDGER_REWRITTEN"), "unknown-type", True),
        (modified("CANCELLATION", "CAN1", success="false"), "unknown-status", False),
        (modified("CHARGEBACK", "CB1", success="false"), "unknown-status", True),
        (modified("MANUAL_REVIEW_ACCEPT", "REV1", success="false"), "unknown-status", True),
    ],
)
def test_other_event_codes_are_kept_and_only_unknown_ones_are_reported(
    fields: dict[str, Any], kind: str, is_reported: bool
) -> None:
    callback = read(fields)
    assert (callback.order_id, callback.facts, callback.movements, callback.payments) == (
        None,
        (),
        (),
        (),
    )
    assert [
        (drift_notice.kind, drift_notice.is_kept, drift_notice.is_reported)
        for drift_notice in callback.drift
    ] == [(kind, True, is_reported)]


@pytest.mark.parametrize("reference", ["", "7 27", "7\u202e27", "?727", "7" * 201])
def test_a_reference_that_names_no_order_leaves_the_payment(reference: str) -> None:
    fields = item(merchantReference=reference)
    assert adyen.order_ids(sample(fields).body) == [None]
    callback = read(fields)
    assert callback.order_id is None
    assert callback.payments == (f"shop/{PAYMENT}",)


def test_one_item_repeated_by_the_thousand_is_one_record_and_a_dead_letter() -> None:
    """Whoever has seen an item may send it beside others, with another date each time: one callback
    makes no flood.
    """
    many = sample(
        *(item(eventDate=f"2026-11-20T16:28:08.{number:06d}+01:00") for number in range(101))
    )
    (record,) = records(SourceConfig("adyen", adyen.SOURCE, (), orders_of="shop"), "", many.body)
    assert record.data == many.body
    with pytest.raises(CallbackUnreadable, match="101 items"):
        vendors.parse(callbacks.record(many.body, kind=ADYEN.source.type, orders_of="shop"))
    assert (
        len(split_events(sample(*(item(pspReference=f"P{number}") for number in range(100))).body))
        == 100
    )


def test_each_item_is_a_record_of_its_order() -> None:
    several = sample(
        item(),
        item(merchantReference="728", pspReference="B1"),
        item(merchantReference="", pspReference="C1"),
    )
    assert adyen.order_ids(several.body) == ["727", "728", None]
    published = list(
        records(SourceConfig("adyen", adyen.SOURCE, (), orders_of="shop"), "", several.body)
    )
    assert [record.key for record in published[:2]] == ["shop:727", "shop:728"]
    assert published[2].key.startswith("adyen:?")
    parsed = [vendors.parse(ADYEN.record(Sample(record.data or b""))) for record in published]
    assert [record.order_id for record in parsed] == ["shop:727", "shop:728", None]
    assert len({record.key for record in parsed}) == 3
    assert sum(len(record.data or b"") for record in published) < 1.2 * len(several.body)
    with pytest.raises(CallbackUnreadable, match="has 3 items"):
        vendors.parse(callbacks.record(several.body, kind=ADYEN.source.type, orders_of="shop"))


def test_an_item_that_a_notification_repeats_is_one_record() -> None:
    """No time is signed: anybody who has seen an item could send many copies of it."""
    many = sample(*[item()] * 400)
    shop = SourceConfig("adyen", adyen.SOURCE, (), orders_of="shop")
    (one,) = records(shop, "", many.body)
    assert len(one.data or b"") < 2_000


def test_a_reference_with_colons_cannot_become_an_amount_or_a_code() -> None:
    """The signed text has no escapes; taken apart in another way it still fits, and is no item."""
    genuine = signed(item(merchantReference="728:1:EUR:REFUND:true"))
    shifted = {**genuine, "merchantReference": "728", "amount": {"value": 1, "currency": "EUR"}}
    shifted |= {"eventCode": "REFUND", "success": "true:1500:EUR:AUTHORISATION:true"}
    assert is_let_in(notified(shifted))
    moved_left = {
        **genuine,
        "merchantAccountCode": "ExampleShop:728:1",
        "merchantReference": "EUR:REFUND:true",
    }
    assert is_let_in(notified(moved_left))
    for fields in (shifted, moved_left):
        with pytest.raises(CallbackUnreadable):
            vendors.parse(ADYEN.record(ADYEN.samples["authorised"]._replace(body=notified(fields))))
