"""What services say of an order: what is known of it, what was decided, which tickets it has, what
was delivered.

Every event is a full snapshot of what its writer knows of the order (schemas.envelope). Amounts are
integers in minor units of their currency; times are UTC. Internal readers ignore fields that they
do not know; a word of an enumeration that they do not know means that the writer is newer, and
stops them.
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
        pattern=r"^[a-z0-9-]{1,32}$", description="A shop or gateway: the slug in the door's path."
    ),
]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217.")]
# The door's `?` stands for an id that it could not read.
ORDER_ID = re.compile(r"[a-z0-9-]{1,32}:(?!\?)\S{1,200}")
TICKETS_PER_ORDER_MAX = 2_000  # the rest of a larger order is refund due


def order_of(key: bytes | None) -> str | None:
    """Whose data a record is, as far as its key tells: what cannot be read is a person's all the
    same.
    """
    text = (key or b"").decode("utf-8", "replace")
    return (
        text if ORDER_ID.fullmatch(text) and text.isprintable() and "\ufffd" not in text else None
    )


class SnapshotPart(BaseModel):
    """Inside a snapshot."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Person(SnapshotPart):
    name: str = Field("", max_length=200)
    email: str = Field("", max_length=320)


def is_omitted(value: object) -> bool:
    """Fields that few orders need are written for those alone, so that the others are written as by
    earlier releases.
    """
    return value is None or value == ""


UncountableText = Annotated[
    str | None,
    Field(
        max_length=100,
        description="What the source wrote where no minor units of a currency can be counted; "
        "empty: nothing. Left out: "
        "the amount is counted.",
        exclude_if=lambda text: text is None,
    ),
]


class Line(SnapshotPart):
    """One product of an order. Its id survives edits of the quantity."""

    line_id: str = Field(min_length=1, max_length=64)
    product_id: str = Field("", max_length=64)
    sku: str = Field("", max_length=100)
    name: str = Field("", max_length=300)
    quantity: int = Field(ge=0, le=1_000_000)
    total_minor: int = Field(0, description="0, and no amount, where `total_text` stands.")
    recipient: Person | None = Field(
        None, description="Of a gift, who shall hold its tickets. None: the buyer."
    )
    numbers: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        (),
        max_length=2_000,
        description="Ticket numbers that the buyer chose, in the order of the tickets.",
    )
    is_eticket: bool | None = Field(
        None, description="Whether it is delivered as a file. None: the shop does not say."
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
    """The order as its shop last told it."""

    status: str = Field(
        min_length=1, max_length=40, description="Normalised: lower case, without a `wc-` prefix."
    )
    channel: str = Field(
        "",
        max_length=40,
        description=(
            "Who buys, where a marketplace tells kinds of buyers apart: `tevo`, `office`, `client`."
        ),
    )
    number: str = Field(
        "", max_length=64, description="What the shop prints; may differ from its id."
    )
    currency: Currency = Field(description="ISO 4217. `XXX`, where `currency_text` stands.")
    total_minor: int = Field(description="0, and no amount, where `total_text` stands.")
    refunded_minor: int = Field(
        0, ge=0, description="0, and no amount, where `refunded_text` stands."
    )
    placed_at: datetime | None = Field(
        None, description="When the buyer placed it. None: the shop does not say."
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
            "How many digits its amounts have behind the point, where that is not ISO "
            "4217's number."
        ),
        exclude_if=is_omitted,
    )


MovementKind = Literal["authorisation", "capture", "failure", "refund", "dispute", "warning"]
MovementState = Literal["open", "done", "failed", "undone"]


class Movement(SnapshotPart):
    """Money of an order that moved at a gateway, or may. Each is known by its kind and the
    gateway's reference.
    """

    gateway: Source
    kind: MovementKind = Field(
        description="`warning`: an issuer's early word of fraud. `dispute`: chargebacks too."
    )
    reference: str = Field(
        min_length=1, max_length=200, description="The gateway's id of the refund, dispute, ..."
    )
    payment: str = Field(
        min_length=1, max_length=200, description="The gateway's id of the payment it belongs to."
    )
    state: MovementState = Field(
        description=(
            "`open` is not decided, `done` moved the money, `failed` did not, `undone` "
            "brought it back."
        )
    )
    amount_minor: int | None = Field(
        None, description="In all, so far, under this reference. None: the gateway does not say."
    )
    currency: Currency | None = None
    detail: str = Field(
        "", max_length=200, description="The gateway's own words: a reason, a status."
    )
    at: datetime
    amount_text: UncountableText = None


class OrderObserved(Snapshot):
    """All that ingest knows of an order.

    `reached` keeps when each status was last told: so the same facts mean the same whatever way
    they came, and a status that was reached stays reached. `is_deleted` is a fact of its own: an
    update never lifts a trash.
    """

    topic: ClassVar[str] = "orders.observed.v1"
    event_type: ClassVar[str] = "stubline.order.observed.v1"

    writer: str = "ingest"
    source: Source
    external_id: str = Field(min_length=1, max_length=200)
    storefront: Storefront | None = None
    reached: dict[str, datetime] = Field(
        default_factory=dict, description="Status -> the last time it was told."
    )
    is_deleted: bool = False
    movements: tuple[Movement, ...] = Field(
        (), description="What gateways say of its payments, by gateway, kind and reference."
    )
    new: tuple[str, ...] = Field(
        (), description="Names of the facts that this event brought. Said beside the snapshot."
    )


RecipientEmail = Annotated[
    str | None,
    Field(
        max_length=320,
        description="Of a gift; empty when only a name is known. None: it is no gift.",
    ),
]
State = Literal["observed", "gated", "released", "refused", "cancelled"]


class DecidedLine(SnapshotPart):
    """`quantity` is what shall be active now: zero when the order is not released."""

    line_id: str
    product_id: str = ""
    sku: str = ""
    name: str = ""
    quantity: int = Field(ge=0)
    holder: Person
    recipient_email: RecipientEmail = None
    variation_id: str = Field("", description="Left out: none.", exclude_if=is_omitted)


class OrderDecided(Snapshot):
    """What shall be. It never says how far it has come."""

    topic: ClassVar[str] = "orders.decided.v1"
    event_type: ClassVar[str] = "stubline.order.decided.v1"

    writer: str = "approval"
    source: Source
    external_id: str
    number: str = ""
    state: State
    reasons: tuple[str, ...] = Field(
        (), description="Why, in words that operators read: `status completed`, `deleted`."
    )
    buyer: Person
    lines: tuple[DecidedLine, ...] = ()
    refund_due_tickets: int = Field(0, ge=0, description="Beyond tickets_per_order_max.")


TicketStatus = Literal[
    "Active", "Won", "Cancelled"
]  # SF-038; set by what happens to the order, a draw or a door


class CampaignSnapshot(SnapshotPart):
    """What delivery needs of a campaign, for it reads nobody's tables."""

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
    """Paid ordinals of a line without a ticket, and why."""

    line_id: str
    product_id: str = ""
    quantity: int = Field(ge=1)
    reason: Literal["no_campaign", "sold_out", "campaign_closed"]


class TicketsChanged(Snapshot):
    """All tickets that an order ever got, and what it did not get."""

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
    """Every delivery of an order."""

    topic: ClassVar[str] = "deliveries.changed.v1"
    event_type: ClassVar[str] = "stubline.deliveries.changed.v1"

    writer: str = "delivery"
    jobs: tuple[JobSnapshot, ...] = ()
