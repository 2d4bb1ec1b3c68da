"""A storefront's own orders, published as CloudEvents straight to Kafka: in our words, in minor units, with its own clock."""

from __future__ import annotations

from schemas.callbacks import NATIVE, NativeOrder
from schemas.orders import Line, Person, Storefront
from services.ingest.errors import CallbackMisaddressed, CallbackUnreadable
from services.ingest.rules import facts
from services.ingest.sources.money import exponent
from services.ingest.sources.source import Received, Source, amount, bounded, distinct, named, status
from services.ingest.sources.text import clean, email

EVENT_ID_CHARS_MAX = 200


def identify(received: Received, order: NativeOrder) -> str:
    """CloudEvents: source and id together name an event for ever."""
    if len(received.id) > EVENT_ID_CHARS_MAX:
        raise CallbackUnreadable(f"ce_id is longer than {EVENT_ID_CHARS_MAX}")
    return f"{order.source}:{order.order_id} {named(received.id, 'ce_id')}"


def normalise(received: Received) -> facts.Callback:
    order = NativeOrder.model_validate_json(received.body)
    order_id = f"{order.source}:{named(order.order_id, 'order_id')}"
    if order.source != received.source:
        raise CallbackMisaddressed(f"ce_source is /sources/{received.source}, the order is of {order.source}")
    if received.key != order_id.encode():
        raise CallbackMisaddressed(f"the record's key is not {order_id}")
    modified_at = bounded(order.modified_at)
    told: tuple[facts.Fact, ...] = facts.storefront_facts(storefront(order), modified_at)
    if order.is_deleted is not None:
        told += (facts.deletion_fact(modified_at, is_deleted=order.is_deleted),)
    return facts.callback(identify(received, order), order_id, told)


def storefront(order: NativeOrder) -> Storefront:
    exponent(order.currency)
    distinct([line.line_id for line in order.lines])
    for line in order.lines:
        named(line.line_id, "line_id")
        amount(line.total_minor)
        if not all(number.isprintable() for number in line.numbers):
            raise CallbackUnreadable("a chosen number has a character that cannot be printed")
    return Storefront(
        status=status(order.status),
        number=clean(order.number, 64),
        currency=order.currency,
        total_minor=amount(order.total_minor),
        refunded_minor=amount(order.refunded_minor),
        paid_at=None if order.paid_at is None else bounded(order.paid_at),
        buyer=person(order.buyer),
        lines=tuple([cleaned(line) for line in order.lines]),
    )


def person(told: Person) -> Person:
    """The same one when there is nothing to put right."""
    name, address = clean(told.name, 200), email(told.email)
    return told if name == told.name and address == told.email else Person(name=name, email=address)


def cleaned(line: Line) -> Line:
    """The same one when there is nothing to put right."""
    product_id, sku, name = clean(line.product_id, 64), clean(line.sku, 100), clean(line.name, 300)
    recipient = line.recipient and person(line.recipient)
    if product_id == line.product_id and sku == line.sku and name == line.name and recipient is line.recipient:
        return line
    return line.model_copy(update={"product_id": product_id, "sku": sku, "name": name, "recipient": recipient})


SOURCE = Source(
    kind="native", type=NATIVE, normalise=normalise, comes_to_the_door=False
)  # the broker says who may write
