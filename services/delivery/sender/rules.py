"""What a sender decides: whether a job may be sent now, what a reply means, when to try again.
Pure: no clock, no randomness, no I/O.

Replies are classified by RFC 5321 and 3463: the first digit decides between success, a temporary
and a permanent failure, and the enhanced code whether the recipient, the mail or the server caused
it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Literal
from uuid import UUID

from schemas.orders import Ticket, TicketsChanged
from services.delivery.addresses import smtp_address
from services.delivery.errors import (
    AddressRefused,
    DialogueRefused,
    MailRefused,
    PolicyRefused,
    RecipientUnusable,
    RetriesExhausted,
    Undeliverable,
)
from services.runtime.failures.backoff import ExponentialDelay

ENHANCED = re.compile(r"\s*([245])\.(\d{1,3})\.(\d{1,3})\b")
LOGIN_CODES = frozenset({432, 454, 530, 534, 535, 538})
NO_SUCH_MAILBOX = frozenset({521, 551, 553, 556})
NOT_UNDERSTOOD = frozenset({500, 501, 502, 503, 504, 555})
CLOSING = 421
OVER_QUOTA = 552

Stage = Literal["connect", "login", "mail", "rcpt", "data", "end"]


@dataclass(frozen=True, slots=True)
class LeasedJob:
    """A job that a sender holds, as its row stood when it was leased. `attempt` identifies the
    lease: a later attempt is another sender's.
    """

    job_id: UUID
    order_id: str
    attempt: int
    failures: int
    retry_since: datetime
    ticket_ids: frozenset[UUID]


class SkipReason(Enum):
    """Why a job that was due is not sent."""

    HELD = auto()  # its order is not released
    CANCELLED = auto()  # none of its tickets is active


@dataclass(frozen=True, slots=True)
class SendIntent:
    """What is sent, to whom. Tickets of the job that are not active are left out of it."""

    job: LeasedJob
    recipient: str
    tickets: tuple[Ticket, ...]

    @property
    def envelope_recipient(self) -> str:
        """Return the address for the mail server; empty when the order's is unusable."""
        try:
            return smtp_address(self.recipient)
        except RecipientUnusable:
            return ""

    @property
    def left_out(self) -> frozenset[UUID]:
        return self.job.ticket_ids - {ticket.ticket_id for ticket in self.tickets}


def plan_send(
    job: LeasedJob, decision: str | None, snapshot: TicketsChanged
) -> SendIntent | SkipReason:
    """Decide at the moment of sending, by the latest snapshot of both writers."""
    tickets = tuple(
        ticket
        for ticket in snapshot.tickets
        if ticket.ticket_id in job.ticket_ids and ticket.status != "Cancelled"
    )
    if not tickets:
        return SkipReason.CANCELLED
    if decision != "released":
        return SkipReason.HELD
    return SendIntent(job, snapshot.buyer.email.strip(), tickets)


class SendVerdict(Enum):
    ACCEPTED = auto()
    RETRY = auto()  # this mail, later
    REFUSED = auto()  # this mail, never
    UNKNOWN = auto()  # it may have been accepted: try again, with the same Message-ID
    UNAVAILABLE = auto()  # the server, so every mail
    LOGIN_REFUSED = auto()  # the server, so every mail; an operator has to fix it


VERDICT_WITHOUT_REPLY: dict[Stage, SendVerdict] = {
    "connect": SendVerdict.UNAVAILABLE,
    "login": SendVerdict.UNAVAILABLE,
    "end": SendVerdict.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class SmtpReply:
    """What the mail server replied, and to what. Code 0: nothing, because the connection broke or a
    time limit passed.
    """

    stage: Stage
    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.stage}: {self.code or 'no answer'} {self.text}"[:500]

    @property
    def enhanced(self) -> tuple[int, int, int] | None:
        match = ENHANCED.match(self.text)
        return (int(match[1]), int(match[2]), int(match[3])) if match else None


def classify_reply(reply: SmtpReply) -> SendVerdict:
    """Classify in this precedence: no reply, login, closing, the stage before any mail, the first
    digit.
    """
    verdict = SendVerdict.RETRY
    if reply.code == 0:
        verdict = VERDICT_WITHOUT_REPLY.get(reply.stage, SendVerdict.RETRY)
    elif reply.code in LOGIN_CODES:
        verdict = SendVerdict.LOGIN_REFUSED
    elif reply.code == CLOSING or reply.stage == "connect":
        verdict = SendVerdict.UNAVAILABLE
    elif reply.stage == "login":
        verdict = SendVerdict.LOGIN_REFUSED
    elif reply.stage == "rcpt" and reply.code == OVER_QUOTA:
        # Old servers send it for "too many recipients" (RFC 5321, 4.5.3.1.10).
        verdict = SendVerdict.RETRY
    elif reply.code // 100 == 5:
        verdict = SendVerdict.REFUSED
    elif reply.code // 100 == 2:
        verdict = SendVerdict.ACCEPTED
    return verdict


def counts_against_server(reply: SmtpReply, verdict: SendVerdict) -> bool:
    """Return whether the circuit breaker counts the reply as a failure of the server: unavailable,
    login refused, or no reply at all.
    """
    return verdict in {SendVerdict.UNAVAILABLE, SendVerdict.LOGIN_REFUSED} or reply.code == 0


def refusal_error(reply: SmtpReply) -> Undeliverable:
    """Return the error of a refusal's dead letter. An enhanced code 5.7 is a matter of policy and
    not of the address, whatever the basic code.
    """
    enhanced = reply.enhanced
    if enhanced and enhanced[:2] == (5, 7):
        return PolicyRefused(str(reply))
    if (
        reply.code in NO_SUCH_MAILBOX
        or (enhanced and enhanced[:2] == (5, 1))
        or (reply.code == 550 and not enhanced)
    ):
        return AddressRefused(str(reply))
    if reply.code in NOT_UNDERSTOOD:
        return DialogueRefused(str(reply))
    return MailRefused(str(reply))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The limits of retrying, and the delays between attempts, by failures of the job."""

    delay: ExponentialDelay
    failures_max: int
    age_max: timedelta

    def exhausted(self, job: LeasedJob, last: str, now: datetime) -> Undeliverable | None:
        """Return the error of the dead letter, when this failure was one too many."""
        failures, age = job.failures + 1, now - job.retry_since
        if failures >= self.failures_max:
            return RetriesExhausted(f"after {failures} failures; the last: {last}")
        if age >= self.age_max:
            return RetriesExhausted(
                f"after {age.total_seconds() / 3600:.0f} hours; the last: {last}"
            )
        return None
