"""The laws of every source: one suite over all of them. A new source is under them as soon as its
vendor has a module (tests/support/vendors).
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.envelope import NUL, NotAnEvent
from schemas.fraud import FraudSignals
from schemas.orders import OrderObserved
from services.ingest import vendors
from services.ingest.rules.decide import CallbackOutcome, KnownOrder, KnownPayment, decide_batch
from services.ingest.rules.facts import ParsedCallback
from services.ingest.store import facts_from_json, facts_to_json
from services.ingest.vendors.shared.source import CertificateNeededError
from services.ingest.worker import fraud_signals, order_observed
from services.runtime.errors import Poison
from tests.support.mutations import mutated
from tests.support.vendors import VENDORS, Sample, Vendor
from tests.support.vendors.vendor import NOW

EACH = [
    pytest.param(vendor, sample, id=f"{kind}: {name}")
    for kind, vendor in VENDORS.items()
    for name, sample in vendor.samples.items()
]
every_sample = pytest.mark.parametrize(("vendor", "sample"), EACH)
every_vendor = pytest.mark.parametrize(
    "vendor", [pytest.param(vendor, id=kind) for kind, vendor in VENDORS.items()]
)
MUTATIONS, ROUNDS = 100, 100  # of each source: 10,000 bodies
ROUNDS_OF_CHAOS = 1_000  # and 100,000 before a release


def test_no_source_is_without_its_laws() -> None:
    assert sorted(VENDORS) == sorted(vendors.WEBHOOK_SOURCES)


def is_let_in(vendor: Vendor, sample: Sample, *, at: float = NOW) -> bool:
    return vendor.source.verify(vendor.request(sample, at=at))


def outcomes_and_order(
    *parsed: ParsedCallback, known: KnownOrder | None = None
) -> tuple[list[CallbackOutcome], KnownOrder]:
    order_ids = {callback.order_id for callback in parsed if callback.order_id} or {"shop:1"}
    orders = {name: known or KnownOrder(name, 1, 0, None, {}, frozenset()) for name in order_ids}
    payments = {name: KnownPayment(name) for callback in parsed for name in callback.payments}
    decided = decide_batch(parsed, orders, seen=[], payments=payments)
    return decided.outcomes, decided.orders[min(order_ids)]


def ends(vendor: Vendor, sample: Sample) -> ParsedCallback | None:
    """Return a callback, or nothing when it becomes a dead letter with a stated reason. Anything
    else fails the test.
    """
    try:
        return vendors.parse(vendor.record(sample))
    except (NotAnEvent, Poison) as error:
        reason = str(error)
    assert reason.strip()
    return None


def is_publishable(parsed: ParsedCallback) -> None:
    """Check that it can be stored and published, and that what is published can be read."""
    assert 1 <= len(parsed.key) <= 1_000
    assert all(3 <= len(name) <= 300 and name.isprintable() for name in parsed.payments)
    assert all(
        len(drift_notice.cause) <= 300 and drift_notice.cause.isprintable() and drift_notice.cause
        for drift_notice in parsed.drift
    )
    _, order = outcomes_and_order(parsed)
    stored = facts_to_json(order.facts)
    assert not NUL.search(stored.encode())
    assert facts_from_json(stored) == order.facts
    if parsed.order_id is not None and order.facts:
        order = order._replace(sequence=1)
        for snapshot, kind in (
            (order_observed(order, sorted(order.facts)), OrderObserved),
            (fraud_signals(order), FraudSignals),
        ):
            output = snapshot.encode(time="2026-11-20T15:30:00Z")
            assert kind.read(output.headers, output.value).key == parsed.order_id


@every_sample
def test_only_a_request_signed_with_a_secret_is_accepted(vendor: Vendor, sample: Sample) -> None:
    assert is_let_in(vendor, sample)
    request = vendor.request(sample)
    # while a secret is being replaced
    assert vendor.source.verify(vendor.request(sample, vendor.other_secret))
    assert not vendor.source.verify(request._replace(secrets=()))
    unsigned = request.body if vendor.seal is None else vendor.seal(request.body, "")
    assert not vendor.source.verify(request._replace(headers={}, path_suffix="", body=unsigned))
    other_secrets = [
        vendor.source.signing_key(vendor.secret.swapcase()),
        vendor.source.signing_key(vendor.other_secret[::-1]),
    ]
    if (
        vendor.secret.swapcase() != vendor.secret
        and vendor.source.signing_key(vendor.secret) not in other_secrets
    ):
        assert not vendor.source.verify(request._replace(secrets=other_secrets))


@every_sample
def test_a_body_that_was_touched_is_refused(vendor: Vendor, sample: Sample) -> None:
    if not vendor.signs_body:
        pytest.skip("it signs nothing, so nothing of it is believed")
    request, rng = vendor.request(sample), random.Random(7)
    for _ in range(20):
        body = bytearray(sample.body)
        at = rng.randrange(len(body))
        body[at] = (body[at] + rng.randrange(1, 255)) % 256
        touched = request._replace(body=bytes(body))
        if not vendor.source.verify(touched):
            continue
        # What the vendor does not sign must not matter.
        before, after = ends(vendor, sample), ends(vendor, sample._replace(body=bytes(body)))
        assert (
            after is None
            or before is None
            or after.facts + after.movements == before.facts + before.movements
        )


@every_sample
def test_a_sender_whose_signed_time_is_far_off_either_way_is_refused(
    vendor: Vendor, sample: Sample
) -> None:
    if not vendor.signs_time:
        pytest.skip("it signs no time")
    assert is_let_in(vendor, sample, at=NOW - 290)
    assert is_let_in(vendor, sample, at=NOW + 290)
    assert not is_let_in(vendor, sample, at=NOW - 310)
    assert not is_let_in(vendor, sample, at=NOW + 310)


@every_sample
def test_no_headers_make_the_endpoint_fail(vendor: Vendor, sample: Sample) -> None:
    request = vendor.request(sample)
    for name in request.headers:
        for text in (b"", b"\xff\xfe", b"=", b",,=", b"a" * 5_000, b"t=1,v1=\x00", b"9" * 400):
            try:
                changed = request._replace(headers={**request.headers, name: text})
                vendor.source.verify(changed)
                vendor.source.callback_type(changed.headers).encode()
                vendor.source.is_ping(changed)
            except CertificateNeededError:
                pass


@every_sample
def test_a_sample_is_read_and_its_repeat_is_known(vendor: Vendor, sample: Sample) -> None:
    for piece in vendor.source.split_events(sample.body):
        alone = sample._replace(body=piece)
        once, repeated = (
            vendors.parse(vendor.record(alone, reception_id=reception_id))
            for reception_id in ("a-1", "b-2")
        )
        assert (once.key, once.content_hash, once.order_id) == (
            repeated.key,
            repeated.content_hash,
            repeated.order_id,
        )
        is_publishable(once)
        verdicts, _ = outcomes_and_order(once, repeated)
        assert verdicts[1] is CallbackOutcome.DUPLICATE


@every_sample
def test_two_sources_of_a_kind_never_share_a_key(vendor: Vendor, sample: Sample) -> None:
    one, other = (
        vendors.parse(vendor.record(sample, slug=slug)) for slug in ("vendor", "vendor-2")
    )
    assert one.key != other.key


@every_sample
def test_card_data_never_leaves_the_endpoint(vendor: Vendor, sample: Sample) -> None:
    cleaned = vendor.source.without_cards(sample.body)
    assert not [card_data for card_data in vendor.card_data if card_data in cleaned]
    complete, part = (ends(vendor, sample._replace(body=body)) for body in (sample.body, cleaned))
    proofs = [
        callback and callback.proof for callback in (complete, part)
    ]  # each transmission has its own
    assert (complete and complete._replace(proof=None)) == (part and part._replace(proof=None)), (
        proofs
    )
    assert vendor.source.without_cards(cleaned) == cleaned


@every_vendor
def test_the_card_data_that_must_be_removed_is_in_a_sample(vendor: Vendor) -> None:
    for data in vendor.card_data:
        assert any(data in sample.body for sample in vendor.samples.values())


@every_vendor
@settings(max_examples=ROUNDS)
@given(seed=st.integers(0, 2**32))
def test_every_body_ends_in_one_outcome_with_a_stated_reason(vendor: Vendor, seed: int) -> None:
    """10,000 mutated bodies per source: each is a callback or a dead letter, and none makes the
    endpoint fail.
    """
    ends_whatever_is_sent(vendor, seed)


@pytest.mark.chaos
@every_vendor
@settings(max_examples=ROUNDS_OF_CHAOS)
@given(seed=st.integers(0, 2**32))
def test_every_body_ends_in_one_outcome_at_length(vendor: Vendor, seed: int) -> None:
    ends_whatever_is_sent(vendor, seed)


def ends_whatever_is_sent(vendor: Vendor, seed: int) -> None:
    rng, samples = random.Random(seed), list(vendor.samples.values())
    for _ in range(MUTATIONS):
        sample = rng.choice(samples)
        body = mutated(sample.body, rng)
        changed = sample._replace(body=body)
        try:
            vendor.source.verify(vendor.request(sample)._replace(body=body))
            vendor.source.is_ping(vendor.request(sample)._replace(body=body))
        except CertificateNeededError:
            pass
        pieces = vendor.source.split_events(body)
        assert pieces
        assert sum(map(len, pieces)) <= 2 * len(body) + 1_000
        assert all(
            order_id is None or 0 < len(order_id) <= 200
            for piece in pieces
            for order_id in vendor.source.order_ids(piece)
        )
        vendor.source.without_cards(body)
        if parsed := ends(vendor, changed):
            is_publishable(parsed)


@every_vendor
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 100_000,
        b'{"id":' * 50_000,
        b"null",
        b"[]",
        b"{}",
        b"\xff" * 100,
        b'"x"',
        b"=" * 1000,
        b"9" * 100_000,
    ],
)
def test_no_bytes_raise_an_unexpected_error(vendor: Vendor, body: bytes) -> None:
    first = next(iter(vendor.samples.values()))
    assert (
        not vendor.source.verify(vendor.request(first)._replace(body=body)) or not vendor.signs_body
    )
    assert vendor.source.order_ids(body)
    vendor.source.without_cards(body)
    if parsed := ends(vendor, first._replace(body=body)):
        is_publishable(parsed)
