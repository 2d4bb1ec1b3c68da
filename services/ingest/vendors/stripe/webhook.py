"""Stripe: Events signed with their time, repeated until they are accepted, in any order, each with
its object as it was then.

One change may come as two Events. So facts are named by the object that changed, and versioned by
the Event's time (`events`).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence

from schemas.callbacks import STRIPE
from services.ingest.rules import facts
from services.ingest.vendors.shared.gateway import (
    field_blanker,
    kept_callback,
    order_id,
    order_reference,
    quoted,
    to_iso_minor,
)
from services.ingest.vendors.shared.money import EXPONENTS
from services.ingest.vendors.shared.source import ReceivedCallback, Source, WebhookRequest
from services.ingest.vendors.stripe.events import OWN_DIGITS, TYPES, StripeCallback
from services.ingest.vendors.stripe.objects import StripeEvent, StripeMoney, StripeObject

SIGNATURE = b"stripe-signature"
TIME = re.compile(rb"[0-9]{1,15}")
PARTS_MAX = 32  # of the header; Stripe sends a time and one v1 for each secret
# An order's id without quote, comma, backslash and brace.
ORDER = re.compile(rb'"order_id"\s*:\s*"?([!#-+\--\[\]-|~]{1,200})"?\s*[,}]')
# Known, and irrelevant to orders: kept, and not reported as drift.
IRRELEVANT_TYPES = (
    "account.", "application_fee.", "balance.", "billing_portal.", "capability.",
    "cash_balance.", "charge.pending", "charge.updated", "checkout.session.", "coupon.",
    "credit_note.", "customer", "file.", "invoice", "issuing", "mandate.",
    "payment_intent.created", "payment_intent.partially_funded", "payment_intent.processing",
    "payment_intent.requires_action", "payment_link.", "payment_method.", "payout.", "person.",
    "plan.", "price.", "product.", "promotion_code.", "quote.", "reporting.", "setup_intent.",
    "sigma.", "source.", "subscription_schedule.", "tax_rate.", "terminal.", "test_helpers.",
    "topup.", "transfer.",
)  # fmt: skip


def signature(header: bytes) -> tuple[bytes, Sequence[bytes]]:
    """Return the header's time and every v1; other schemes prove nothing."""
    parts = [part.strip().partition(b"=") for part in header.split(b",", PARTS_MAX)[:PARTS_MAX]]
    times = [value for name, _, value in parts if name == b"t"]
    return times[0] if times else b"", [value for name, _, value in parts if name == b"v1"]


def verify(request: WebhookRequest) -> bool:
    """Check hex(HMAC-SHA256(secret, time.body)): any v1, any secret. Stripe signs each repeat
    again, so an old time is a replay.
    """
    at, given = signature(request.headers.get(SIGNATURE, b""))
    if not TIME.fullmatch(at) or abs(request.at - int(at)) > request.tolerance_s:
        return False
    signed, fits = b"%b.%b" % (at, request.body), False
    for secret in request.secrets:
        expected = hmac.digest(secret, signed, "sha256").hex().encode()
        for signature_given in given:
            fits |= hmac.compare_digest(expected, signature_given)
    return fits


def order_ids(body: bytes) -> tuple[str | None]:
    """Return the order's id of the first metadata that has one."""
    match = ORDER.search(body)
    return (order_reference(match[1].decode()) if match else None,)


def identify(received: ReceivedCallback, event: StripeEvent) -> str:
    return f"{received.source} {event.id}"


def normalise(received: ReceivedCallback) -> facts.ParsedCallback:
    event = StripeEvent.model_validate_json(received.body)
    key, kind = identify(received, event), quoted(event.type)
    if not event.livemode:
        return kept_callback(
            received, key, "test-mode", "an event of Stripe's test mode", is_reported=True
        )
    read = TYPES.get(event.type)
    if read is None:
        is_reported = not event.type.startswith(IRRELEVANT_TYPES)
        return kept_callback(
            received, key, "unknown-type", f"the event type {kind}", is_reported=is_reported
        )
    stripe_object, (movements, drift) = read(StripeCallback(received, event), event.data.object)
    drift += uncountable_amount_drift(received, stripe_object)
    payments = [
        facts.payment_name(received.order_source, reference)
        for reference in stripe_object.references
        if reference
    ]
    if not payments:
        return kept_callback(
            received, key, "no-payment", f"{kind} of no payment", is_reported=False
        )
    order = order_id(received, (stripe_object.metadata or {}).get("order_id"))
    return facts.parsed_callback(key, order, payments=payments, movements=movements, drift=drift)


def uncountable_amount_drift(
    received: ReceivedCallback, stripe_object: StripeObject
) -> tuple[facts.DriftNotice, ...]:
    """Return the drift of an object whose amounts cannot be counted; its movements keep them as
    texts.
    """
    if (
        not isinstance(stripe_object, StripeMoney)
        or to_iso_minor(stripe_object.amount, stripe_object.currency.upper(), OWN_DIGITS)
        is not None
    ):
        return ()
    quoted_currency = quoted(stripe_object.currency.upper())
    kind = (
        "unreadable-amount" if stripe_object.currency.upper() in EXPONENTS else "unknown-currency"
    )
    text = (
        f"the currency {quoted_currency}"
        if kind == "unknown-currency"
        else f"an amount in {quoted_currency}"
    )
    return (facts.DriftNotice(received.source, kind, text, received.body),)


without_cards = field_blanker(
    "last4",
    "dynamic_last4",
    "exp_month",
    "exp_year",
    "fingerprint",
    "iin",
    "network_transaction_id",
    "authorization_code",
    "account_number",
    "routing_number",
    "bank_code",
    "branch_code",
    "sort_code",
    "iban_last4",
    "bic",
    "verified_name",
    "cardholder_name",
    "receipt_url",  # links to a page that shows the card
    "client_secret",  # lets the payer's browser act on the payment
)

SOURCE = Source(
    kind="stripe",
    type=STRIPE,
    verify=verify,
    normalise=normalise,
    order_ids=order_ids,
    without_cards=without_cards,
    needs_orders_of=True,
)
