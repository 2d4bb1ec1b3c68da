"""A sender at work: take, look, render, send, write. One thread, one connection, one mail
server.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from services.delivery.addresses import address
from services.delivery.breaker import CircuitBreaker
from services.delivery.document_cache import CachedDocument, DocumentCache
from services.delivery.documents import Per, document, documents
from services.delivery.printing.errors import DesignUnusable
from services.delivery.errors import RenderFailed
from services.delivery.sender.cleanup import FileCleanup
from services.delivery.sender.leases import LeaseRenewer
from services.delivery.sender.mail import SenderIdentity, compose
from services.delivery.sender.rules import (
    LeasedJob,
    RetryPolicy,
    SendVerdict,
    SmtpReply,
    judge,
    refusal,
    shakes_the_server,
)
from services.delivery.sender.smtp import OutgoingMail, SmtpChannel
from services.delivery.sender.store import JobQueue, PlannedSend
from services.delivery.sender.telemetry import SenderTelemetry
from services.runtime.errors import Poison, StublineError, Transient
from services.runtime.observability import logs

STANDING_INTERVAL_S = 5.0
CONTROLS_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class SenderContext:
    """What a sender works with. `per`: what one PDF holds."""

    desk: JobQueue
    channel: SmtpChannel
    breaker: CircuitBreaker
    heart: LeaseRenewer
    patience: RetryPolicy
    letterhead: SenderIdentity
    telemetry: SenderTelemetry
    archive: DocumentCache
    janitor: FileCleanup
    per: Per
    clock: Callable[[], float]
    chance: Callable[[], float]
    lease_jobs_max: int
    lease_s: float


class Sender:
    """Crash: between the intent and the answer written, the lease runs out and another sender tries
    again.
    """

    def __init__(self, means: SenderContext, is_ending: Callable[[], bool]) -> None:
        self._means, self._is_ending = means, is_ending
        self._ends: deque[tuple[LeasedJob, Callable[[], None]]] = (
            deque()
        )  # what happened, and is not yet written
        self._is_paused = False
        self._controls_at = self._standing_at = float("-inf")

    def turn(self) -> bool:
        """False when there is nothing to do just now. Raises what the database raises; what
        happened is written next turn.
        """
        means = self._means
        self.write_ends()
        self._look_around()
        means.telemetry.server(means.channel.where.name, means.breaker.openness)
        allowed = (
            0
            if self._is_paused or self._is_ending()
            else means.breaker.allows(means.lease_jobs_max)
        )
        means.telemetry.turned(
            is_ready=means.breaker.openness < 1, why="" if allowed else self._why()
        )
        if not allowed:
            return False
        taken = means.desk.take(allowed, means.lease_s)
        if taken.found:
            means.telemetry.taken(taken)
        jobs = [work.intent.job for work in taken.work]
        means.heart.hold(jobs)
        self._work(deque(taken.work))
        return bool(taken.work) or bool(taken.refrained)

    @property
    def is_settled(self) -> bool:
        """Nothing has happened that is not written."""
        return not self._ends

    def _why(self) -> str:
        if self._is_paused:
            return "paused"
        return (
            "stopping"
            if self._is_ending()
            else f"mail server {self._means.channel.where.name} is left alone for a while"
        )

    def _look_around(self) -> None:
        means, now = self._means, self._means.clock()
        if now - self._controls_at >= CONTROLS_INTERVAL_S:
            self._is_paused, self._controls_at = means.desk.is_paused(), now
        if now - self._standing_at >= STANDING_INTERVAL_S:
            means.telemetry.stands(means.desk.standing())
            self._standing_at = now
        means.janitor.turn()

    def _work(self, waiting: deque[PlannedSend]) -> None:
        means = self._means
        try:
            while (
                waiting
                and not self._is_ending()
                and means.breaker.allows(1)
                and not self._is_paused
            ):
                work = waiting.popleft()
                means.heart.begin(work.intent.job)
                self._do(work)
                self.write_ends()
                self._look_around()
        finally:
            if waiting:
                self._give_back([work.intent.job for work in waiting])
        self.write_ends()

    def _give_back(self, jobs: list[LeasedJob]) -> None:
        def write() -> None:
            self._means.desk.give_back(jobs)
            self._means.heart.release(jobs)

        self._ends.append((jobs[0], write))
        self._means.telemetry.given_back(jobs)

    def _do(self, work: PlannedSend) -> None:
        """One job, to its end. Whatever the order's data do to the renderer is that order's letter
        and nobody else's.
        """
        job, means = work.intent.job, self._means
        try:
            parcel, sha256 = self._pack(work)
        except psycopg.Error:
            self._give_back([job])  # nothing was tried
            raise
        except (
            DesignUnusable,
            Transient,
        ) as error:  # people can mend it, and none of it is this order's fault
            means.telemetry.unprintable(job, error)
            self._fail(job, f"not sent: {error.code}: {error.cause}", SendVerdict.RETRY, error)
            return
        except Poison as error:
            self._fail(job, f"not sent: {error.cause}", SendVerdict.REFUSED, error)
            return
        except Exception as error:  # noqa: BLE001 - a stranger's data may do anything to a renderer
            means.telemetry.unexpected(job, error)
            self._fail(
                job,
                "not sent: it could not be rendered",
                SendVerdict.REFUSED,
                RenderFailed(logs.describe(error)),
            )
            return
        if self._is_still_ours(job):
            self._send(job, parcel, sha256)

    def _is_still_ours(self, job: LeasedJob) -> bool:
        is_ours = False
        try:
            is_ours = self._means.desk.hold(job, self._means.lease_s)
        finally:
            if not is_ours:
                self._give_back([job])  # what is another's by now is left alone
        return is_ours

    def _send(self, job: LeasedJob, parcel: OutgoingMail, sha256: bytes) -> None:
        means = self._means
        begun = means.clock()
        answer = means.channel.send(parcel, at_final_dot=lambda: means.telemetry.handed_over(job))
        verdict = judge(answer)
        means.telemetry.answered(job, answer, verdict, means.clock() - begun)
        if shakes_the_server(answer, verdict):
            means.breaker.failed(at_once=verdict is SendVerdict.NOT_OUR_LOGIN)
        else:
            means.breaker.succeeded()
        if verdict is SendVerdict.ACCEPTED:
            self._ends.append((job, lambda: self._accept(job, answer, sha256)))
        else:
            self._fail(
                job,
                str(answer),
                verdict,
                refusal(answer) if verdict is SendVerdict.REFUSED else None,
            )

    def _pack(self, work: PlannedSend) -> tuple[OutgoingMail, bytes]:
        job, means = work.intent.job, self._means
        recipient = address(work.intent.recipient)
        begun = means.clock()
        spoken = means.archive.renderer.language
        printed = means.archive.fetch(
            job.order_id, documents(work.snapshot, work.intent.tickets, means.per, spoken)
        )
        means.telemetry.rendered(job, printed, means.clock() - begun)
        mail = compose(
            document(work.snapshot, work.intent.tickets),
            [file.pdf for file in printed],
            job_id=job.job_id,
            recipient=recipient,
            letterhead=means.letterhead,
            now=datetime.now(UTC),
        )
        return OutgoingMail(means.letterhead.address, recipient, str(job.job_id), mail), digest(
            printed
        )

    def _accept(self, job: LeasedJob, answer: SmtpReply, sha256: bytes) -> None:
        mails, waited_s = self._means.desk.accepted(job, answer, sha256)
        self._means.telemetry.accepted(mails, waited_s)

    def _fail(
        self, job: LeasedJob, said: str, verdict: SendVerdict, error: StublineError | None
    ) -> None:
        """Later, or never. The server's own trouble costs the mail nothing but time. `error`: what
        its letter says, if it has one at all.
        """
        means = self._means
        is_failure = verdict in {SendVerdict.RETRY, SendVerdict.UNKNOWN, SendVerdict.REFUSED}
        failures = job.failures + is_failure
        wait_s = (
            means.patience.wait_s(max(1, failures), means.chance())
            if is_failure
            else means.breaker.wait_s
        )

        def bury(now: datetime) -> StublineError | None:
            if verdict is SendVerdict.REFUSED:
                return error
            ceiling = means.patience.ceiling(job, said, now) if is_failure else None
            return (
                type(error)(ceiling.cause)
                if ceiling and isinstance(error, DesignUnusable)
                else ceiling
            )

        def write() -> None:
            buried = means.desk.failed(
                job,
                said,
                wait_s=wait_s,
                is_failure=is_failure,
                is_unknown=verdict is SendVerdict.UNKNOWN,
                bury=bury,
            )
            if buried is not None:
                means.telemetry.buried(job, buried)

        self._ends.append((job, write))

    def write_ends(self) -> None:
        """What happened, into the database. While that is away it stays here, and its leases are
        kept alive.
        """
        while self._ends:
            job, write = self._ends[0]
            write()
            self._ends.popleft()
            self._means.heart.release([job])
            self._means.telemetry.recorded(job)


def digest(printed: Sequence[CachedDocument]) -> bytes:
    """What was handed over: a file's SHA-256; of several, that of their SHA-256s in their
    sequence.
    """
    if len(printed) == 1:
        return printed[0].sha256
    return hashlib.sha256(b"".join(file.sha256 for file in printed)).digest()
