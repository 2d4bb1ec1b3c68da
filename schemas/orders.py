"""The events of an order: what is known of it, what was decided, which tickets it has, and what was
delivered.

Every event is a full snapshot of what its writer knows of the order (schemas.envelope). Amounts are
integers in minor units of their currency; times are UTC. A field that has its default is left out.
Readers ignore unknown fields; an unknown value of an enumeration means that the writer is newer,
and stops them.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, ClassVar, Final, Literal
from uuid import UUID

from msgspec import Meta

from schemas.envelope import Slug, Snapshot
from schemas.structs import NO_NEWLINE, SnapshotPart, always_written

SOURCE_PATTERN, CURRENCY_PATTERN = "^[a-z0-9-]{1,32}$", "^[A-Z]{3}$"
Source = Annotated[
    str,
    Meta(
        pattern=SOURCE_PATTERN + NO_NEWLINE,
        description="A shop or gateway: the slug in the path of its webhook endpoint.",
    ),
]
Currency = Annotated[str, Meta(pattern=CURRENCY_PATTERN + NO_NEWLINE, description="ISO 4217.")]
ExternalId = Annotated[str, Meta(min_length=1, max_length=200)]
Time = Annotated[datetime, Meta(tz=True)]  # with an offset; writers use UTC
Count = Annotated[int, Meta(ge=0)]
# The webhook endpoint writes `?` for an id that it could not parse.
ORDER_ID = re.compile(r"[a-z0-9-]{1,32}:(?!\?)\S{1,200}")
TICKETS_PER_ORDER_MAX = 2_000  # beyond them refunds are due


def order_of(key: bytes | None) -> str | None:
    """Return the id of the order whose data a record holds, or None if its key does not name one.

    Such a record may hold personal data all the same.
    """
    text = (key or b"").decode("utf-8", "replace")
    return (
        text if ORDER_ID.fullmatch(text) and text.isprintable() and "\ufffd" not in text else None
    )


class Person(SnapshotPart, frozen=True, kw_only=True):
    name: Annotated[str, Meta(max_length=200)] = ""
    email: Annotated[str, Meta(max_length=320)] = ""


UncountableText = Annotated[
    Annotated[str, Meta(max_length=100)] | None,
    Meta(
        description="What the source wrote where no minor units of a currency can be counted; "
        "empty: nothing. Left out: the amount is counted."
    ),
]


class Line(SnapshotPart, frozen=True, kw_only=True):
    """One product of an order. Its id stays the same when the quantity is edited."""

    line_id: Annotated[str, Meta(min_length=1, max_length=64)]
    product_id: Annotated[str, Meta(max_length=64)] = ""
    sku: Annotated[str, Meta(max_length=100)] = ""
    name: Annotated[str, Meta(max_length=300)] = ""
    quantity: Annotated[int, Meta(ge=0, le=1_000_000)]
    total_minor: Annotated[
        int, Meta(description="0, and no amount, where `total_text` stands.")
    ] = 0
    recipient: Annotated[
        Person | None,
        Meta(description="Of a gift: the person who is to hold its tickets. Left out: the buyer."),
    ] = None
    numbers: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...],
        Meta(
            max_length=2_000,
            description="Ticket numbers that the buyer chose, in the order of the tickets.",
        ),
    ] = ()
    is_eticket: Annotated[
        bool | None,
        Meta(
            description="Whether it is delivered as a file. Left out: the shop does not report it."
        ),
    ] = None
    variation_id: Annotated[
        str,
        Meta(
            max_length=64,
            description="Which variation of its product, where a shop sells several under one.",
        ),
    ] = ""
    total_text: UncountableText = None


class Storefront(SnapshotPart, frozen=True, kw_only=True):
    """The order as its shop last reported it."""

    status: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=40,
            description="Normalised: lower case, without a `wc-` prefix.",
        ),
    ]
    channel: Annotated[
        str,
        Meta(
            max_length=40,
            description="The kind of buyer, where a marketplace distinguishes them: `tevo`, "
            "`office`, `client`.",
        ),
    ] = ""
    number: Annotated[
        str,
        Meta(
            max_length=64,
            description="The number that the shop prints; may differ from the id.",
        ),
    ] = ""
    currency: Annotated[
        Currency, Meta(description="ISO 4217. `XXX`, where `currency_text` stands.")
    ]
    total_minor: Annotated[int, Meta(description="0, and no amount, where `total_text` stands.")]
    refunded_minor: Annotated[
        int, Meta(ge=0, description="0, and no amount, where `refunded_text` stands.")
    ] = 0
    placed_at: Annotated[
        Time | None,
        Meta(description="When the buyer placed it. Left out: the shop does not report it."),
    ] = None
    paid_at: Annotated[
        Time | None,
        Meta(description="When payment was complete; shops keep it on cancelled orders."),
    ] = None
    buyer: Person
    lines: Annotated[tuple[Line, ...], Meta(max_length=500)]
    currency_text: UncountableText = None
    total_text: UncountableText = None
    refunded_text: UncountableText = None
    decimals: Annotated[
        Annotated[int, Meta(ge=0, le=8)] | None,
        Meta(
            description="How many decimal digits its amounts have, where that is not the number "
            "of ISO 4217."
        ),
    ] = None


MovementKind = Literal["authorisation", "capture", "failure", "refund", "dispute", "warning"]
MovementState = Literal["open", "done", "failed", "undone"]


class Movement(SnapshotPart, frozen=True, kw_only=True):
    """A movement of money at a gateway, done or possible. It is identified by its kind and the
    gateway's reference.
    """

    gateway: Source
    kind: Annotated[
        MovementKind,
        Meta(
            description="`warning`: a card issuer's early report of fraud. `dispute`: chargebacks "
            "too."
        ),
    ]
    reference: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=200,
            description="The gateway's id of the refund, dispute, ...",
        ),
    ]
    payment: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=200,
            description="The gateway's id of the payment it belongs to.",
        ),
    ]
    state: Annotated[
        MovementState,
        Meta(
            description="`open` is not decided, `done` moved the money, `failed` did not, "
            "`undone` moved it back."
        ),
    ]
    amount_minor: Annotated[
        int | None,
        Meta(
            description="The total so far under this reference. Left out: the gateway does not "
            "report it."
        ),
    ] = None
    currency: Currency | None = None
    detail: Annotated[
        str, Meta(max_length=200, description="The gateway's own words: a reason, a status.")
    ] = ""
    at: Time
    amount_text: UncountableText = None


class OrderObserved(Snapshot, frozen=True, kw_only=True):
    """All that ingest knows of an order.

    `reached` keeps when each status was last reported, so that the same facts have the same content
    in whatever order they came, and a status that was reached stays reached. `is_deleted` is a fact
    of its own: an update of the order does not restore it from the trash.
    """

    topic: ClassVar[str] = "orders.observed.v1"
    event_type: ClassVar[str] = "stubline.order.observed.v1"

    writer: Slug = always_written("ingest")
    source: Source
    external_id: ExternalId
    storefront: Storefront | None = None
    reached: Annotated[
        dict[str, Time], Meta(description="Status -> the last time it was reported.")
    ] = {}  # noqa: RUF012 - msgspec copies it
    is_deleted: bool = False
    movements: Annotated[
        tuple[Movement, ...],
        Meta(description="The movements of its payments, by gateway, kind and reference."),
    ] = ()
    new: Annotated[
        tuple[str, ...],
        Meta(description="Names of the facts that this event brought. Not part of the snapshot."),
    ] = ()


RecipientEmail = Annotated[
    Annotated[str, Meta(max_length=320)] | None,
    Meta(description="Of a gift; empty if only a name is known. Left out: it is no gift."),
]
State = Literal["observed", "gated", "released", "refused", "cancelled"]


class DecidedLine(SnapshotPart, frozen=True, kw_only=True):
    """A line. `quantity` counts the tickets that are to be active: zero unless it is released."""

    line_id: str
    product_id: str = ""
    sku: str = ""
    name: str = ""
    quantity: Count
    holder: Person
    recipient_email: RecipientEmail = None
    variation_id: str = ""


class OrderDecided(Snapshot, frozen=True, kw_only=True):
    """What is to be issued. How far that has come is not part of it."""

    topic: ClassVar[str] = "orders.decided.v1"
    event_type: ClassVar[str] = "stubline.order.decided.v1"

    writer: Slug = always_written("approval")
    source: Source
    external_id: str
    number: str = ""
    state: State
    reasons: Annotated[
        tuple[str, ...],
        Meta(description="Why, in words for operators: `status completed`, `deleted`."),
    ] = ()
    buyer: Person
    lines: tuple[DecidedLine, ...] = ()
    refund_due_tickets: Annotated[
        int, Meta(ge=0, description="Those beyond 2,000 tickets an order.")
    ] = 0


# SF-038. Set by what happens to the order or in a draw.
TicketStatus = Literal["Active", "Won", "Cancelled"]
# Why a paid ordinal has no ticket, at the issuer: its rules give these reasons, its tables store
# them, and snapshots publish them. Ordinals beyond the limit of an order never reach it.
UnissuedReason = Literal["no_campaign", "sold_out", "campaign_closed"]
# Why a refund is due: a reason of the issuer, or the limit of an order, which approval applies.
RefundReason = Literal[UnissuedReason, "over_order_limit"]
OVER_ORDER_LIMIT: Final[RefundReason] = "over_order_limit"


class CampaignSnapshot(SnapshotPart, frozen=True, kw_only=True):
    """What delivery needs of a campaign: it reads no other service's tables."""

    campaign_id: str
    version: Annotated[int, Meta(ge=1)]
    name: str
    starts_on: date | None = None
    starts_at: Annotated[str | None, Meta(description="Local time as printed, HH:MM.")] = None
    zone: Annotated[str, Meta(description="IANA.")] = "UTC"
    venue: str = ""
    design: str = "plain"
    language: Annotated[
        str,
        Meta(description="BCP 47, in which its tickets are printed. Left out: the design's first."),
    ] = ""


class Ticket(SnapshotPart, frozen=True, kw_only=True):
    ticket_id: UUID
    line_id: str
    ordinal: Annotated[int, Meta(ge=1)]
    campaign_id: str
    number: Annotated[str, Meta(min_length=1, max_length=64)]
    code: Annotated[
        str,
        Meta(
            min_length=26,
            max_length=26,
            description="128 random bits in base32. Never logged.",
        ),
    ]
    status: TicketStatus
    holder: Person
    recipient_email: RecipientEmail = None
    product_id: str = ""
    issued_at: Time

    def __repr__(self) -> str:
        """Return a text without the code."""
        return f"Ticket(ticket_id={self.ticket_id}, number={self.number!r}, status={self.status})"


class Unissued(SnapshotPart, frozen=True, kw_only=True):
    """Paid ordinals of a line that have no ticket, and the reason."""

    line_id: str
    product_id: str = ""
    quantity: Annotated[int, Meta(ge=1)]
    reason: UnissuedReason


class TicketsChanged(Snapshot, frozen=True, kw_only=True):
    """All tickets that an order ever got, and the paid ordinals that have none."""

    topic: ClassVar[str] = "tickets.changed.v1"
    event_type: ClassVar[str] = "stubline.tickets.changed.v1"

    writer: Slug = always_written("issuer")
    source: Source
    external_id: str
    number: str = ""
    buyer: Person
    campaigns: tuple[CampaignSnapshot, ...] = ()
    tickets: tuple[Ticket, ...] = ()
    unissued: tuple[Unissued, ...] = ()
    refund_due_tickets: Count = 0


class JobSnapshot(SnapshotPart, frozen=True, kw_only=True):
    job_id: UUID
    kind: Literal["initial", "resend"]
    state: Literal["due", "sent", "cancelled", "dead"]
    ticket_ids: tuple[UUID, ...]
    attempts: Count
    sent_at: Time | None = None


class DeliveriesChanged(Snapshot, frozen=True, kw_only=True):
    """All deliveries of an order."""

    topic: ClassVar[str] = "deliveries.changed.v1"
    event_type: ClassVar[str] = "stubline.deliveries.changed.v1"

    writer: Slug = always_written("delivery")
    jobs: tuple[JobSnapshot, ...] = ()
