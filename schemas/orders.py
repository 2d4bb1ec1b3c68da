"""The events of an order: what is known of it, what was decided, which tickets it has, and what was
delivered.

Every event is a full snapshot of what its writer knows of the order (schemas.envelope). Amounts are
integers in minor units of their currency; times are UTC. Internal readers ignore unknown fields. An
unknown word of an enumeration means that the writer is newer, and stops them.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas.envelope import Snapshot

Source = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9-]{1,32}$",
        description="A shop or gateway: the slug in the path of its webhook endpoint.",
    ),
]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217.")]
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


class SnapshotPart(BaseModel):
    """The base of the models inside a snapshot."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Person(SnapshotPart):
    name: str = Field("", max_length=200)
    email: str = Field("", max_length=320)


def is_omitted(value: object) -> bool:
    """Return whether a field is left out when it is written.

    Fields that few orders need are only written for those, so that the snapshots of all others are
    the same as those of earlier releases.
    """
    return value is None or value == ""


UncountableText = Annotated[
    str | None,
    Field(
        max_length=100,
        description="What the source wrote where no minor units of a currency can be counted; "
        "empty: nothing. Left out: the amount is counted.",
        exclude_if=lambda text: text is None,
    ),
]


class Line(SnapshotPart):
    """One product of an order. Its id stays the same when the quantity is edited."""

    line_id: str = Field(min_length=1, max_length=64)
    product_id: str = Field("", max_length=64)
    sku: str = Field("", max_length=100)
    name: str = Field("", max_length=300)
    quantity: int = Field(ge=0, le=1_000_000)
    total_minor: int = Field(0, description="0, and no amount, where `total_text` stands.")
    recipient: Person | None = Field(
        None, description="Of a gift: the person who is to hold its tickets. None: the buyer."
    )
    numbers: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        (),
        max_length=2_000,
        description="Ticket numbers that the buyer chose, in the order of the tickets.",
    )
    is_eticket: bool | None = Field(
        None, description="Whether it is delivered as a file. None: the shop does not report it."
    )
    variation_id: str = Field(
        "",
        max_length=64,
        description=(
            "Which variation of its product, where a shop sells several under one. Left out: none."
        ),
        exclude_if=is_omitted,
    )
    total_text: UncountableText = None


class Storefront(SnapshotPart):
    """The order as its shop last reported it."""

    status: str = Field(
        min_length=1, max_length=40, description="Normalised: lower case, without a `wc-` prefix."
    )
    channel: str = Field(
        "",
        max_length=40,
        description=(
            "The kind of buyer, where a marketplace distinguishes them: `tevo`, `office`, `client`."
        ),
    )
    number: str = Field(
        "", max_length=64, description="The number that the shop prints; may differ from the id."
    )
    currency: Currency = Field(description="ISO 4217. `XXX`, where `currency_text` stands.")
    total_minor: int = Field(description="0, and no amount, where `total_text` stands.")
    refunded_minor: int = Field(
        0, ge=0, description="0, and no amount, where `refunded_text` stands."
    )
    placed_at: datetime | None = Field(
        None, description="When the buyer placed it. None: the shop does not report it."
    )
    paid_at: datetime | None = Field(
        None, description="When payment was complete; shops keep it on cancelled orders."
    )
    buyer: Person
    lines: tuple[Line, ...] = Field(max_length=500)
    currency_text: UncountableText = None
    total_text: UncountableText = None
    refunded_text: UncountableText = None
    decimals: int | None = Field(
        None,
        ge=0,
        le=8,
        description=(
            "How many decimal digits its amounts have, where that is not the number of ISO 4217."
        ),
        exclude_if=is_omitted,
    )


MovementKind = Literal["authorisation", "capture", "failure", "refund", "dispute", "warning"]
MovementState = Literal["open", "done", "failed", "undone"]


class Movement(SnapshotPart):
    """A movement of money at a gateway, done or possible. It is identified by its kind and the
    gateway's reference.
    """

    gateway: Source
    kind: MovementKind = Field(
        description="`warning`: a card issuer's early report of fraud. `dispute`: chargebacks too."
    )
    reference: str = Field(
        min_length=1, max_length=200, description="The gateway's id of the refund, dispute, ..."
    )
    payment: str = Field(
        min_length=1, max_length=200, description="The gateway's id of the payment it belongs to."
    )
    state: MovementState = Field(
        description=(
            "`open` is not decided, `done` moved the money, `failed` did not, `undone` moved it "
            "back."
        )
    )
    amount_minor: int | None = Field(
        None,
        description="The total so far under this reference. None: the gateway does not report it.",
    )
    currency: Currency | None = None
    detail: str = Field(
        "", max_length=200, description="The gateway's own words: a reason, a status."
    )
    at: datetime
    amount_text: UncountableText = None


class OrderObserved(Snapshot):
    """All that ingest knows of an order.

    `reached` keeps when each status was last reported, so that the same facts have the same content
    in whatever order they came, and a status that was reached stays reached. `is_deleted` is a fact
    of its own: an update of the order does not restore it from the trash.
    """

    topic: ClassVar[str] = "orders.observed.v1"
    event_type: ClassVar[str] = "stubline.order.observed.v1"

    writer: str = "ingest"
    source: Source
    external_id: str = Field(min_length=1, max_length=200)
    storefront: Storefront | None = None
    reached: dict[str, datetime] = Field(
        default_factory=dict, description="Status -> the last time it was reported."
    )
    is_deleted: bool = False
    movements: tuple[Movement, ...] = Field(
        (), description="The movements of its payments, by gateway, kind and reference."
    )
    new: tuple[str, ...] = Field(
        (), description="Names of the facts that this event brought. Not part of the snapshot."
    )


RecipientEmail = Annotated[
    str | None,
    Field(
        max_length=320,
        description="Of a gift; empty if only a name is known. None: it is no gift.",
    ),
]
State = Literal["observed", "gated", "released", "refused", "cancelled"]


class DecidedLine(SnapshotPart):
    """A line. `quantity` counts the tickets that are to be active: zero unless it is released."""

    line_id: str
    product_id: str = ""
    sku: str = ""
    name: str = ""
    quantity: int = Field(ge=0)
    holder: Person
    recipient_email: RecipientEmail = None
    variation_id: str = Field("", description="Left out: none.", exclude_if=is_omitted)


class OrderDecided(Snapshot):
    """What is to be issued. How far that has come is not part of it."""

    topic: ClassVar[str] = "orders.decided.v1"
    event_type: ClassVar[str] = "stubline.order.decided.v1"

    writer: str = "approval"
    source: Source
    external_id: str
    number: str = ""
    state: State
    reasons: tuple[str, ...] = Field(
        (), description="Why, in words for operators: `status completed`, `deleted`."
    )
    buyer: Person
    lines: tuple[DecidedLine, ...] = ()
    refund_due_tickets: int = Field(0, ge=0, description="Those beyond 2,000 tickets an order.")


# SF-038. Set by what happens to the order or in a draw.
TicketStatus = Literal["Active", "Won", "Cancelled"]
# Why a paid ordinal has no ticket. The one enumeration of these reasons: the issuer's rules give
# them, its tables store them, and snapshots publish them.
UnissuedReason = Literal["no_campaign", "sold_out", "campaign_closed"]


class CampaignSnapshot(SnapshotPart):
    """What delivery needs of a campaign: it reads no other service's tables."""

    campaign_id: str
    version: int = Field(ge=1)
    name: str
    starts_on: date | None = None
    starts_at: str | None = Field(None, description="Local time as printed, HH:MM.")
    zone: str = Field("UTC", description="IANA.")
    venue: str = ""
    design: str = "plain"
    language: str = Field(
        "", description="BCP 47, in which its tickets are printed. Empty: the design's first."
    )


class Ticket(SnapshotPart):
    ticket_id: UUID
    line_id: str
    ordinal: int = Field(ge=1)
    campaign_id: str
    number: str = Field(min_length=1, max_length=64)
    code: str = Field(
        min_length=26,
        max_length=26,
        description="128 random bits in base32. Never logged.",
        repr=False,
    )
    status: TicketStatus
    holder: Person
    recipient_email: RecipientEmail = None
    product_id: str = ""
    issued_at: datetime


class Unissued(SnapshotPart):
    """Paid ordinals of a line that have no ticket, and the reason."""

    line_id: str
    product_id: str = ""
    quantity: int = Field(ge=1)
    reason: UnissuedReason


class TicketsChanged(Snapshot):
    """All tickets that an order ever got, and the paid ordinals that have none."""

    topic: ClassVar[str] = "tickets.changed.v1"
    event_type: ClassVar[str] = "stubline.tickets.changed.v1"

    writer: str = "issuer"
    source: Source
    external_id: str
    number: str = ""
    buyer: Person
    campaigns: tuple[CampaignSnapshot, ...] = ()
    tickets: tuple[Ticket, ...] = ()
    unissued: tuple[Unissued, ...] = ()
    refund_due_tickets: int = Field(0, ge=0)


class JobSnapshot(SnapshotPart):
    job_id: UUID
    kind: Literal["initial", "resend"]
    state: Literal["due", "sent", "cancelled", "dead"]
    ticket_ids: tuple[UUID, ...]
    attempts: int = Field(ge=0)
    sent_at: datetime | None = None


class DeliveriesChanged(Snapshot):
    """All deliveries of an order."""

    topic: ClassVar[str] = "deliveries.changed.v1"
    event_type: ClassVar[str] = "stubline.deliveries.changed.v1"

    writer: str = "delivery"
    jobs: tuple[JobSnapshot, ...] = ()
