"""Signifyd: decisions by their own time, in bodies of two ages."""

from __future__ import annotations

import base64
import hmac
import itertools
from pathlib import Path

import pytest

from schemas import structs
from schemas.fraud import FraudVerdict
from services.ingest import vendors
from services.ingest.errors import CallbackUnreadable
from services.ingest.rules.decide import CallbackOutcome, KnownOrder, decide_batch
from services.ingest.rules.facts import ParsedCallback
from services.ingest.rules.verdicts import current_verdicts
from services.ingest.vendors.shared.source import WebhookRequest
from services.ingest.vendors.signifyd import webhook as signifyd
from tests.support.callbacks import record
from tests.support.vendors.signifyd import case, decision


def parse(
    body: bytes, checkpoint: str = "CHECKOUT", at: str = "2026-11-20T15:30:00.000000Z"
) -> ParsedCallback:
    decision = record(body, kind=signifyd.SOURCE.type, source="checker", orders_of="shop", at=at)
    headers = (
        [*decision.headers, ("ce_callbacktopic", checkpoint.encode())]
        if checkpoint
        else decision.headers
    )
    return vendors.parse(decision._replace(headers=headers))


def decided(*callbacks: ParsedCallback) -> tuple[list[CallbackOutcome], FraudVerdict]:
    batch = decide_batch(
        callbacks, {"shop:727": KnownOrder("shop:727", 1, 0, None, {}, frozenset())}, seen=[]
    )
    ((name, verdict_content),) = current_verdicts(batch.orders["shop:727"].facts)
    assert name == "checker"
    return batch.outcomes, structs.decode(FraudVerdict, verdict_content)


def word(*bodies: bytes) -> str:
    return decided(*map(parse, bodies))[1].verdict


@pytest.mark.parametrize("header", signifyd.SIGNATURES)
def test_the_published_algorithm_verifies_under_both_names_of_its_header(header: bytes) -> None:
    body = b'{"orderId":"AB1597","decision":{"checkpointAction":"ACCEPT"}}'
    signature = b"sPX8FiT3q703qHBjsjv8udGIF1X1idJQWaFbpUOQ7zM="  # vector G1
    assert signifyd.verify(WebhookRequest({header: signature}, body, (b"testKey",)))
    assert not signifyd.verify(WebhookRequest({header: signature.lower()}, body, (b"testKey",)))
    assert not signifyd.verify(
        WebhookRequest({header: signature.rstrip(b"=")}, body, (b"testKey",))
    )


def test_the_header_of_the_settings_block_is_read_instead_of_those_that_are_known() -> None:
    right = base64.b64encode(hmac.digest(b"testKey", b"{}", "sha256"))
    options = signifyd.read_options({"signature_header": "Signifyd-Signature-Of-Tomorrow"}, Path())
    at = WebhookRequest(
        {b"signifyd-signature-of-tomorrow": right}, b"{}", (b"testKey",), options=options
    )
    assert signifyd.verify(at)
    assert not signifyd.verify(at._replace(options={}))
    assert not signifyd.verify(at._replace(headers={signifyd.SIGNATURES[0]: right}))
    for name in ("Signifyd Signature", "signature:", "\u00e9"):
        with pytest.raises(ValueError, match="signature_header"):
            signifyd.read_options({"signature_header": name}, Path())


def test_a_forged_header_of_the_new_name_is_refused_despite_a_right_one_of_the_old() -> None:
    right = base64.b64encode(hmac.digest(b"testKey", b"{}", "sha256"))
    headers = {signifyd.SIGNATURES[0]: b"forged", signifyd.SIGNATURES[1]: right}
    assert not signifyd.verify(WebhookRequest(headers, b"{}", (b"testKey",)))


@pytest.mark.parametrize("header", signifyd.TYPE_HEADERS)
def test_the_checkpoint_is_read_under_each_of_its_names(header: bytes) -> None:
    assert signifyd.callback_type({header: b"MERCHANT_REVIEW"}) == "MERCHANT_REVIEW"
    assert signifyd.callback_type({header: b"\xff\r\n x" * 500}).isprintable()


@pytest.mark.parametrize(
    ("action", "expected"),
    [("ACCEPT", "approved"), ("accept", "approved"), ("REJECT", "declined")]
    + [(word, "pending") for word in ("HOLD", "CHALLENGE", "ESCALATE", "ACCEPT?", "UNACCEPT")],
)
def test_only_accept_releases_an_order(action: str, expected: str) -> None:
    assert word(decision(action)) == expected


@pytest.mark.parametrize(
    ("guarantee", "review", "expected"),
    [
        ("APPROVED", "UNSET", "approved"),
        ("APPROVED", None, "approved"),
        ("APPROVED", "FRAUDULENT", "declined"),
        ("APPROVED", "DOUBTFUL", "pending"),
        ("DECLINED", "GOOD", "declined"),
        ("PENDING", "GOOD", "pending"),
        ("IN_REVIEW", None, "pending"),
        ("CANCELED", "GOOD", "pending"),
        ("UNREQUESTED", "GOOD", "pending"),
        (None, "GOOD", "approved"),
        (None, "FRAUDULENT", "declined"),
        (None, "UNSET", "pending"),
        ("TOMORROW", None, "pending"),
    ],
)
def test_of_an_older_body_the_guarantee_decides_unless_a_review_found_fraud(
    guarantee: str | None, review: str | None, expected: str
) -> None:
    assert word(case(guaranteeDisposition=guarantee, reviewDisposition=review)) == expected


def test_an_unknown_word_is_reported() -> None:
    (drift_notice,) = parse(decision("ESCALATE")).drift
    assert (drift_notice.kind, drift_notice.cause, drift_notice.is_reported) == (
        "unknown-status",
        "ESCALATE",
        True,
    )
    assert not parse(decision("HOLD")).drift


def test_the_later_decision_wins_in_any_order_and_of_two_at_once_the_more_severe() -> None:
    early, late = "2026-11-20T15:29:00.000Z", "2026-11-20T15:29:00.001Z"
    for one, other, expected in (
        (decision("ACCEPT", early), decision("REJECT", late), "declined"),
        (decision("REJECT", early), decision("ACCEPT", late), "approved"),
        (decision("ACCEPT", early), decision("REJECT", early), "declined"),
        (decision("ACCEPT", early), decision("HOLD", early), "pending"),
        # without a time it is unknown which came last
        (decision("ACCEPT", None), decision("REJECT", None), "declined"),
        (decision("REJECT", None), decision("ACCEPT", early), "approved"),
        (decision("ACCEPT", None), decision("REJECT", early), "declined"),
    ):
        assert word(one, other) == word(other, one) == expected


def test_a_replay_is_older_or_known_and_never_counts() -> None:
    bodies = [
        decision("ACCEPT", "2026-11-20T15:29:00Z"),
        decision("REJECT", "2026-11-20T15:30:00Z"),
    ]
    # the checkpoint is not signed
    replay = parse(bodies[0], "SIGNIFYD_REVIEW", at="2026-11-22T00:00:00.000000Z")
    outcomes, verdict = decided(*map(parse, bodies), replay)
    assert verdict.verdict == "declined"
    assert outcomes[2] is CallbackOutcome.SUPERSEDED


def test_a_decision_without_its_time_is_the_same_whenever_it_comes() -> None:
    times = [f"2026-11-20T15:3{n}:00.000000Z" for n in range(3)]
    callbacks = [parse(decision("ACCEPT", None), at=at) for at in times]
    for order in itertools.permutations(callbacks):
        outcomes, verdict = decided(*order)
        assert outcomes[1:] == [CallbackOutcome.DUPLICATE, CallbackOutcome.DUPLICATE]
        assert verdict.at.minute == 30


def test_a_decision_has_its_order_and_its_reason() -> None:
    callback = parse(decision("ACCEPT"))
    assert callback.order_id == "shop:727"
    assert callback.key == "checker:727 299 CHECKOUT 2026-11-20T15:29:00.000000Z"
    verdict = decided(callback)[1]
    assert (verdict.verdict, verdict.score, verdict.detail) == (
        "approved",
        812.5,
        "ACCEPT: SIGNIFYD_APPROVED",
    )
    assert signifyd.order_ids(decision("ACCEPT")) == ("727",)


@pytest.mark.parametrize(
    ("body", "callback_type", "is_reported"),
    [(b'{"orderId":"727"}', "CHECKOUT", True), (case(orderId="19418"), "cases/test", False)],
)
def test_a_test_and_a_body_without_a_decision_are_kept_and_have_no_facts(
    body: bytes, callback_type: str, is_reported: bool
) -> None:
    callback = parse(body, callback_type)
    assert callback.order_id is None
    assert [
        (drift_notice.is_kept, drift_notice.is_reported, drift_notice.body)
        for drift_notice in callback.drift
    ] == [(True, is_reported, body)]


@pytest.mark.parametrize(
    "body",
    [
        b'{"decision":{"checkpointAction":"ACCEPT"}}',
        b'{"orderId":"7 27","decision":null}',
        b'{"orderId":"?727","decision":{"checkpointAction":"ACCEPT"}}',
    ],
)
def test_what_names_no_order_is_a_dead_letter(body: bytes) -> None:
    with pytest.raises(CallbackUnreadable):
        parse(body)
