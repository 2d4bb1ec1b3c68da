"""Riskified: decisions without a time. What was seen once can be sent again by anybody, and must
not bring back what was.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.fraud import FraudSignals, FraudVerdict
from services.ingest import vendors
from services.ingest.errors import CallbackUnreadable
from services.ingest.rules.decide import CallbackOutcome, KnownOrder, decide_batch
from services.ingest.rules.facts import ParsedCallback
from services.ingest.vendors.riskified import webhook as riskified
from services.ingest.vendors.shared.source import WebhookRequest
from services.ingest.worker import fraud_signals
from services.runtime.records import Record
from tests.support.callbacks import record
from tests.support.vendors.riskified import VENDOR, decision
from tests.support.vendors.vendor import Sample

WORDS = ("submitted", "approved", "declined", "pending", "cancelled", "half-approved")
Transition = tuple[str | None, str]


def received(body: bytes, second: int = 0) -> Record:
    at = f"2026-11-20T15:{30 + second // 60}:{second % 60:02d}.000000Z"
    return record(
        body,
        kind=riskified.SOURCE.type,
        source="checker",
        orders_of="shop",
        reception_id=f"r{second}",
        at=at,
    )


def parse(body: bytes, second: int = 0) -> ParsedCallback:
    return vendors.parse(received(body, second))


def transitions(*steps: Transition) -> list[ParsedCallback]:
    return [parse(decision(after, before), second) for second, (before, after) in enumerate(steps)]


def decided(
    callbacks: Sequence[ParsedCallback], known: KnownOrder | None = None
) -> tuple[list[CallbackOutcome], KnownOrder]:
    order = known or KnownOrder("shop:727", 1, 0, None, {}, frozenset())
    result = decide_batch(callbacks, {"shop:727": order}, seen=[])
    return result.outcomes, result.orders["shop:727"]


def published_verdicts(order: KnownOrder) -> dict[str, FraudVerdict]:
    """As approval reads it."""
    output = fraud_signals(order._replace(sequence=1)).encode(time="2026-11-20T15:30:00Z")
    return FraudSignals.read(output.headers, output.value).verdicts


def current_word(*steps: Transition) -> str:
    return published_verdicts(decided(transitions(*steps))[1])["checker"].verdict


def test_the_vendors_own_vector_verifies() -> None:
    body = (
        b'{"order":{"id":"123","status":"approved","old_status":"submitted",'
        b'"description":"Approved by Riskified"}}'
    )
    digest = b"071ef80d5790011d2f111479b75eed15e907432a4523defb4e627c6725d3b6b3"  # vector R1
    secrets = (b"636b3045e083eddf4ea9f0b7f2ed4a26",)
    assert riskified.verify(WebhookRequest({riskified.SIGNATURE: digest}, body, secrets))
    assert not riskified.verify(
        WebhookRequest({riskified.SIGNATURE: digest.upper()}, body, secrets)
    )
    # the signature covers line ends
    request = WebhookRequest({riskified.SIGNATURE: digest}, body + b"\n", secrets)
    assert not riskified.verify(request)


def test_a_decision_has_its_order_and_its_reason() -> None:
    callback = parse(VENDOR.samples["approved"].body)
    assert callback.order_id == "shop:727"
    assert callback.key == "checker:727 submitted>approved DC-1"
    assert riskified.order_ids(VENDOR.samples["approved"].body) == ("727",)
    (verdict,) = published_verdicts(decided([callback])[1]).values()
    assert (verdict.source, verdict.verdict, verdict.score) == ("checker", "approved", 12.0)
    assert verdict.detail == "approved DC-1: Reviewed and approved by Riskified"
    assert parse(VENDOR.samples["in several lines"].body).order_id == "shop:ord-100"


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("approved", "approved"),
        ("Approved ", "approved"),
        ("declined", "declined"),
        ("submitted", "pending"),
        ("pending", "pending"),
        ("cancelled", "pending"),
        ("error", "pending"),
        ("test", "pending"),
        ("half-approved", "pending"),
        ("approved\u200b", "pending"),
    ],
)
def test_only_approved_releases_an_order(status: str, word: str) -> None:
    assert current_word(("submitted", status)) == word


def test_an_unknown_status_is_reported() -> None:
    (drift_notice,) = parse(decision("half-approved", "submitted")).drift
    assert (drift_notice.kind, drift_notice.cause, drift_notice.is_reported) == (
        "unknown-status",
        "half-approved",
        True,
    )
    assert not parse(decision("cancelled", "submitted")).drift


def test_the_test_notification_is_accepted_and_has_no_facts() -> None:
    greeting = parse(VENDOR.samples["test"].body)
    assert greeting.order_id is None
    assert not greeting.facts
    assert not [drift_notice for drift_notice in greeting.drift if drift_notice.is_reported]
    assert parse(b'{"order":{"id":0,"status":"approved"}}').order_id == "shop:0"


@pytest.mark.parametrize(
    "body",
    [
        b'{"order":{"id":"727"}}',
        b'{"order":{"status":"approved"}}',
        b'{"id":"727"}',
        b'{"order":{"id":"?727","status":"approved"}}',  # stands for an unusable order id
    ],
)
def test_what_has_no_order_or_no_status_is_a_dead_letter(body: bytes) -> None:
    with pytest.raises(CallbackUnreadable):
        parse(body)


# The chain.


@pytest.mark.parametrize(
    ("steps", "word"),
    [
        ([("submitted", "approved")], "approved"),
        ([(None, "approved")], "approved"),
        ([("submitted", "approved"), ("approved", "declined")], "declined"),
        ([("submitted", "declined"), ("declined", "approved")], "approved"),
        ([("submitted", "approved"), ("approved", "approved")], "approved"),
        ([("submitted", "approved"), ("approved", "cancelled")], "pending"),
        # A decision between the two was lost.
        ([("submitted", "approved"), ("declined", "approved")], "approved"),
        # It is unknown which came last.
        ([(None, "approved"), (None, "declined")], "declined"),
        ([("submitted", "approved"), ("submitted", "declined")], "declined"),
        ([("submitted", "approved"), ("pending", "declined")], "declined"),
        (
            [("submitted", "approved"), ("approved", "declined"), ("declined", "approved")],
            "declined",
        ),
        ([("submitted", "approved"), ("approved", "submitted")], "pending"),
        ([("declined", "declined"), ("submitted", "approved")], "declined"),
        ([("approved", "half-approved"), ("half-declined", "approved")], "pending"),
    ],
)
def test_the_verdict_is_the_end_of_the_chain_and_without_one_end_the_most_severe(
    steps: list[Transition], word: str
) -> None:
    for order in itertools.permutations(steps):
        assert current_word(*order) == word


def test_an_old_approval_sent_again_releases_nothing() -> None:
    approved, declined = transitions(("submitted", "approved"), ("approved", "declined"))
    _, order = decided([approved, declined])
    for second, body in (
        (90, decision("approved", "submitted")),
        (95, decision("approved", "submitted", description="?")),
    ):
        (verdict,), order = decided([parse(body, second)], order)
        assert published_verdicts(order)["checker"].verdict == "declined"
        # an unknown word may be applied, but gives no other verdict
        assert verdict is not CallbackOutcome.APPLIED or b"?" in body


def test_a_repeat_is_a_duplicate_whenever_it_comes() -> None:
    first, repeated = (parse(decision("approved", "submitted"), second) for second in (0, 1_200))
    assert first.content_hash == repeated.content_hash
    for pair in ([first, repeated], [repeated, first]):
        outcomes, order = decided(pair)
        assert outcomes[1] is CallbackOutcome.DUPLICATE
        assert published_verdicts(order)["checker"].at.minute == 30  # when it was first reported


TRANSITIONS = st.tuples(st.sampled_from([None, *WORDS]), st.sampled_from(WORDS))
HISTORIES = st.lists(TRANSITIONS, min_size=1, max_size=6)


@given(HISTORIES, st.data())
def test_the_same_notifications_give_the_same_verdict_in_any_order_and_number(
    steps: list[Transition], data: st.DataObject
) -> None:
    callbacks = transitions(*steps)
    _, expected = decided(callbacks)
    shuffled = data.draw(st.permutations(callbacks + callbacks[: len(callbacks) // 2]))
    cut = data.draw(st.integers(0, len(shuffled)))
    _, order = decided(shuffled[:cut])
    _, order = decided(shuffled[cut:], order)
    assert published_verdicts(order) == published_verdicts(expected)
    assert order.facts == expected.facts


@given(HISTORIES, st.data())
def test_replays_never_change_the_verdict(steps: list[Transition], data: st.DataObject) -> None:
    _, before = decided(transitions(*steps))
    drawn = data.draw(st.lists(st.sampled_from(steps), min_size=1, max_size=6))
    replayed = [
        parse(decision(after, old), 600 + second) for second, (old, after) in enumerate(drawn)
    ]
    outcomes, after_it = decided(replayed, before)
    assert set(outcomes) == {CallbackOutcome.DUPLICATE}
    assert published_verdicts(after_it) == published_verdicts(before)


@given(st.lists(st.sampled_from(("approved", "declined", "pending")), min_size=1, max_size=6))
def test_an_honest_history_never_releases_what_it_ends_by_not_approving(words: list[str]) -> None:
    """If a chain repeats no status the verdict is its last one; otherwise it is never more than
    that.
    """
    chain = list(zip(["submitted", *words], words, strict=False))
    word = current_word(*chain)
    last = {"approved": "approved", "declined": "declined"}.get(words[-1], "pending")
    if len({"submitted", *words}) == len(words) + 1:
        assert word == last
    elif last != "approved":
        assert word != "approved"


def test_an_order_cannot_be_filled_with_transitions() -> None:
    steps = [(f"w{n}", f"v{n}") for n in range(500)]
    _, order = decided(transitions(*steps))
    assert len(order.facts) == 1
    callback = VENDOR.source.order_ids(Sample(b'{"order":{"id":"??"}}').body)
    assert callback == (None,)
