"""What a sender decides: whether a job may go now, what an answer means, when to try again. Pure:
no clock, no chance, no I/O.

Answers are judged by RFC 5321 and 3463: the first digit decides, the enhanced code says whose fault
it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Literal
from uuid import UUID

from schemas.orders import Ticket, TicketsChanged
from services.delivery.addresses import address
from services.delivery.errors import (
    AddressRefused,
    DialogueRefused,
    MailRefused,
    PolicyRefused,
    RecipientUnusable,
    RetriesExhausted,
    Undeliverable,
)

ENHANCED = re.compile(r"\s*([245])\.(\d{1,3})\.(\d{1,3})\b")
NOT_OUR_LOGIN = frozenset({432, 454, 530, 534, 535, 538})
NO_SUCH_BOX = frozenset({521, 551, 553, 556})
NOT_UNDERSTOOD = frozenset({500, 501, 502, 503, 504, 555})
CLOSING = 421
OVER_QUOTA = 552

Stage = Literal["connect", "login", "mail", "rcpt", "data", "end"]


@dataclass(frozen=True, slots=True)
class LeasedJob:
    """A job that a sender holds, as its row stood when it was taken. `attempt` names the lease: a
    later one is another's.
    """

    job_id: UUID
    order_id: str
    attempt: int
    failures: int
    retry_since: datetime
    ticket_ids: frozenset[UUID]


class SkipReason(Enum):
    """Why a job does not go, though it was due."""

    HELD = auto()  # its order is not released
    CANCELLED = auto()  # none of its tickets is active


@dataclass(frozen=True, slots=True)
class SendIntent:
    """What goes, to whom. Tickets of the job that are not active stay behind and leave it."""

    job: LeasedJob
    recipient: str
    tickets: tuple[Ticket, ...]

    @property
    def envelope_recipient(self) -> str:
        """The address that the mail server is given; empty when the order's is none."""
        try:
            return address(self.recipient)
        except RecipientUnusable:
            return ""

    @property
    def left_behind(self) -> frozenset[UUID]:
        return self.job.ticket_ids - {ticket.ticket_id for ticket in self.tickets}


def intend(
    job: LeasedJob, decision: str | None, snapshot: TicketsChanged
) -> SendIntent | SkipReason:
    """At the moment of acting, by the latest of both writers."""
    tickets = tuple(
        it for it in snapshot.tickets if it.ticket_id in job.ticket_ids and it.status != "Cancelled"
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
    UNKNOWN = auto()  # it may have been accepted: again, with the same Message-ID
    AWAY = auto()  # the server, so every mail
    NOT_OUR_LOGIN = auto()  # the server, so every mail; somebody has to mend it


SILENCE: dict[Stage, SendVerdict] = {
    "connect": SendVerdict.AWAY,
    "login": SendVerdict.AWAY,
    "end": SendVerdict.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class SmtpReply:
    """What the mail server said, and to what. Code 0: nothing, because the connection broke or a
    wait ended.
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


def judge(answer: SmtpReply) -> SendVerdict:
    """Precedence: no answer, login, closing, the stage before any mail, then the first digit."""
    verdict = SendVerdict.RETRY
    if answer.code == 0:
        verdict = SILENCE.get(answer.stage, SendVerdict.RETRY)
    elif answer.code in NOT_OUR_LOGIN:
        verdict = SendVerdict.NOT_OUR_LOGIN
    elif answer.code == CLOSING or answer.stage == "connect":
        verdict = SendVerdict.AWAY
    elif answer.stage == "login":
        verdict = SendVerdict.NOT_OUR_LOGIN
    elif answer.stage == "rcpt" and answer.code == OVER_QUOTA:
        verdict = (
            SendVerdict.RETRY
        )  # old servers say it for "too many recipients" (RFC 5321, 4.5.3.1.10)
    elif answer.code // 100 == 5:
        verdict = SendVerdict.REFUSED
    elif answer.code // 100 == 2:
        verdict = SendVerdict.ACCEPTED
    return verdict


def shakes_the_server(answer: SmtpReply, verdict: SendVerdict) -> bool:
    """Whether the breaker counts it: the server's own trouble, and silence, whoever's fault that
    is.
    """
    return verdict in {SendVerdict.AWAY, SendVerdict.NOT_OUR_LOGIN} or answer.code == 0


def refusal(answer: SmtpReply) -> Undeliverable:
    """Which letter a refusal makes. A 5.7 is policy and says nothing of the address, whatever the
    basic code.
    """
    enhanced = answer.enhanced
    if enhanced and enhanced[:2] == (5, 7):
        return PolicyRefused(str(answer))
    if (
        answer.code in NO_SUCH_BOX
        or (enhanced and enhanced[:2] == (5, 1))
        or (answer.code == 550 and not enhanced)
    ):
        return AddressRefused(str(answer))
    if answer.code in NOT_UNDERSTOOD:
        return DialogueRefused(str(answer))
    return MailRefused(str(answer))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The ceilings, and the waits between attempts."""

    retry_min_s: float
    retry_max_s: float
    failures_max: int
    age_max: timedelta

    def wait_s(self, failures: int, chance: float) -> float:
        """Doubles with each failure, between half and all of it by chance, so that a crowd does not
        come back at once.
        """
        doubled = self.retry_min_s * 2.0 ** min(failures - 1, 40)
        return min(self.retry_max_s, doubled) * (0.5 + chance / 2)

    def ceiling(self, job: LeasedJob, last: str, now: datetime) -> Undeliverable | None:
        """The letter, when this failure was one too many."""
        failures, age = job.failures + 1, now - job.retry_since
        if failures >= self.failures_max:
            return RetriesExhausted(f"after {failures} failures; the last: {last}")
        if age >= self.age_max:
            return RetriesExhausted(
                f"after {age.total_seconds() / 3600:.0f} hours; the last: {last}"
            )
        return None
