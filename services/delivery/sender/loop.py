"""The loop of a sender: lease, check, render, send, record. It has one thread, one connection and
one mail server.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from services.delivery.addresses import smtp_address
from services.delivery.document_cache import CachedDocument, DocumentCache
from services.delivery.documents import DocumentScope, document, split_document, summary
from services.delivery.errors import RenderFailed
from services.delivery.printing.errors import DesignUnusable
from services.delivery.sender.cleanup import FileCleanup
from services.delivery.sender.leases import LeaseRenewer
from services.delivery.sender.mail import SenderIdentity, compose
from services.delivery.sender.rules import (
    LeasedJob,
    RetryPolicy,
    SendVerdict,
    SmtpReply,
    classify_reply,
    counts_against_server,
    refusal_error,
)
from services.delivery.sender.smtp import OutgoingMail, SmtpChannel
from services.delivery.sender.store import JobQueue, PlannedSend
from services.delivery.sender.telemetry import SenderTelemetry
from services.runtime.errors import Poison, StublineError, Transient
from services.runtime.failures.circuit_breaker import BreakerState, CircuitBreaker
from services.runtime.observability import logs

COUNT_INTERVAL_S = 5.0
CONTROLS_INTERVAL_S = 0.5
FAILURES = frozenset({SendVerdict.RETRY, SendVerdict.UNKNOWN, SendVerdict.REFUSED})


@dataclass(frozen=True, slots=True)
class SenderContext:
    """The dependencies of a sender. `document_scope` is what one PDF holds."""

    queue: JobQueue
    channel: SmtpChannel
    breaker: CircuitBreaker
    lease_renewer: LeaseRenewer
    retry_policy: RetryPolicy
    identity: SenderIdentity
    telemetry: SenderTelemetry
    documents: DocumentCache
    cleanup: FileCleanup
    document_scope: DocumentScope
    clock: Callable[[], float]
    rng: Callable[[], float]
    lease_jobs_max: int
    lease_s: float


@dataclass(frozen=True, slots=True)
class AcceptedMail:
    """The mail server accepted the mail. `document_sha256` is the hash of what was attached."""

    job: LeasedJob
    reply: SmtpReply
    document_sha256: bytes


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """The job was not sent, or it is not known whether it was. `error` is the one that a dead
    letter would quote.
    """

    job: LeasedJob
    reply: str
    verdict: SendVerdict
    error: StublineError | None
    wait_s: float

    @property
    def is_failure(self) -> bool:
        """Whether the attempt counts against the mail. A failure of the server only delays it."""
        return self.verdict in FAILURES


@dataclass(frozen=True, slots=True)
class ReleasedJobs:
    """Nothing was tried: the leases end, and the attempts are not counted."""

    jobs: Sequence[LeasedJob]


AttemptResult = AcceptedMail | FailedAttempt | ReleasedJobs


class Sender:
    """Sends the mails of due jobs.

    Crash: if the process dies between the intent and the recorded result, the lease expires and
    another sender tries again.
    """

    def __init__(self, context: SenderContext, is_ending: Callable[[], bool]) -> None:
        self._context, self._is_ending = context, is_ending
        self._unwritten: deque[AttemptResult] = deque()  # happened, and not yet in the database
        self._is_paused = False
        self._controls_at = self._counted_at = float("-inf")

    def step(self) -> bool:
        """Lease and send some jobs. Return False when there is nothing to do now.

        Raises what the database raises; results that were not written are written by the next step.
        """
        context = self._context
        self.write_results()
        self._check_controls()
        context.telemetry.breaker_state(context.channel.server.name, context.breaker.state)
        allowed = (
            0
            if self._is_paused or self._is_ending()
            else context.breaker.allows(context.lease_jobs_max)
        )
        context.telemetry.iteration_done(
            is_ready=context.breaker.state is not BreakerState.OPEN,
            reason="" if allowed else self._idle_reason(),
        )
        if not allowed:
            return False
        leased = context.queue.lease_due(allowed, context.lease_s)
        if leased.due:
            context.telemetry.leased(leased)
        context.lease_renewer.hold([send.intent.job for send in leased.work])
        self._work(deque(leased.work))
        return bool(leased.work) or bool(leased.skipped)

    @property
    def is_settled(self) -> bool:
        """Whether every result is in the database."""
        return not self._unwritten

    def _idle_reason(self) -> str:
        if self._is_paused:
            return "paused"
        if self._is_ending():
            return "stopping"
        return f"circuit breaker open: no mail is sent to {self._context.channel.server.name}"

    def _check_controls(self) -> None:
        context, now = self._context, self._context.clock()
        if now - self._controls_at >= CONTROLS_INTERVAL_S:
            self._is_paused, self._controls_at = context.queue.is_paused(), now
        if now - self._counted_at >= COUNT_INTERVAL_S:
            context.telemetry.jobs_counted(context.queue.count_jobs())
            self._counted_at = now
        context.cleanup.step()

    def _work(self, waiting: deque[PlannedSend]) -> None:
        context = self._context
        try:
            while (
                waiting
                and not self._is_ending()
                and context.breaker.allows(1)
                and not self._is_paused
            ):
                send = waiting.popleft()
                context.lease_renewer.begin(send.intent.job)
                self._attempt(send)
                self.write_results()
                self._check_controls()
        finally:
            if waiting:
                self._release([send.intent.job for send in waiting])
        self.write_results()

    def _release(self, jobs: list[LeasedJob]) -> None:
        self._unwritten.append(ReleasedJobs(jobs))
        self._context.telemetry.released(jobs)

    def _attempt(self, send: PlannedSend) -> None:
        """Attempt one job. If an order's data break the renderer, only that order's job becomes a
        dead letter.
        """
        job, context = send.intent.job, self._context
        try:
            mail, sha256 = self._compose(send)
        except psycopg.Error:
            self._release([job])  # nothing was tried
            raise
        except (DesignUnusable, Transient) as error:
            # An operator can fix it, and it is not this order's fault.
            context.telemetry.unprintable(job, error)
            self._fail(job, f"not sent: {error.code}: {error.cause}", SendVerdict.RETRY, error)
            return
        except Poison as error:
            self._fail(job, f"not sent: {error.cause}", SendVerdict.REFUSED, error)
            return
        except Exception as error:  # noqa: BLE001 - a customer's data may do anything to a renderer
            context.telemetry.unexpected(job, error)
            failed = RenderFailed(logs.describe(error))
            self._fail(job, "not sent: it could not be rendered", SendVerdict.REFUSED, failed)
            return
        if self._is_still_leased(job):
            self._send(job, mail, sha256)

    def _is_still_leased(self, job: LeasedJob) -> bool:
        is_leased = False
        try:
            is_leased = self._context.queue.confirm_lease(job, self._context.lease_s)
        finally:
            if not is_leased:
                self._release([job])  # another sender may have it by now
        return is_leased

    def _send(self, job: LeasedJob, mail: OutgoingMail, sha256: bytes) -> None:
        context = self._context
        begun = context.clock()
        reply = context.channel.send(mail, at_final_dot=lambda: context.telemetry.handed_over(job))
        verdict = classify_reply(reply)
        context.telemetry.reply_received(job, reply, verdict, context.clock() - begun)
        if counts_against_server(reply, verdict):
            context.breaker.failed(at_once=verdict is SendVerdict.LOGIN_REFUSED)
        else:
            context.breaker.succeeded()
        if verdict is SendVerdict.ACCEPTED:
            self._unwritten.append(AcceptedMail(job, reply, sha256))
        else:
            error = refusal_error(reply) if verdict is SendVerdict.REFUSED else None
            self._fail(job, str(reply), verdict, error)

    def _compose(self, send: PlannedSend) -> tuple[OutgoingMail, bytes]:
        """Return the mail, and the hash of what is attached to it."""
        job, context = send.intent.job, self._context
        recipient = smtp_address(send.intent.recipient)
        begun = context.clock()
        order = document(send.snapshot, send.intent.tickets, context.documents.renderer.language)
        files = context.documents.fetch(job.order_id, split_document(order, context.document_scope))
        context.telemetry.rendered(job, files, context.clock() - begun)
        content = compose(
            summary(order, send.snapshot.campaigns),
            [file.pdf for file in files],
            job_id=job.job_id,
            recipient=recipient,
            identity=context.identity,
            now=datetime.now(UTC),
        )
        mail = OutgoingMail(context.identity.address, recipient, str(job.job_id), content)
        return mail, combined_sha256(files)

    def _fail(
        self, job: LeasedJob, reply: str, verdict: SendVerdict, error: StublineError | None
    ) -> None:
        context = self._context
        if verdict in FAILURES:
            failures = max(1, job.failures + 1)
            wait_s = context.retry_policy.delay.delay_s(failures, context.rng())
        else:
            wait_s = context.breaker.wait_s
        self._unwritten.append(FailedAttempt(job, reply, verdict, error, wait_s))

    def write_results(self) -> None:
        """Write the results to the database. While the database is unavailable the results stay
        here, and their leases are renewed.
        """
        while self._unwritten:
            result = self._unwritten[0]
            self._write(result)
            self._unwritten.popleft()
            jobs = result.jobs if isinstance(result, ReleasedJobs) else [result.job]
            self._context.lease_renewer.release(jobs)
            self._context.telemetry.recorded(jobs[0])

    def _write(self, result: AttemptResult) -> None:
        context = self._context
        match result:
            case AcceptedMail(job, reply, sha256):
                mails, waited_s = context.queue.record_accepted(job, reply, sha256)
                context.telemetry.accepted(mails, waited_s)
            case FailedAttempt(job):
                error = context.queue.record_failure(
                    job,
                    result.reply,
                    wait_s=result.wait_s,
                    is_failure=result.is_failure,
                    is_unknown=result.verdict is SendVerdict.UNKNOWN,
                    final_error=lambda now: self._final_error(result, now),
                )
                if error is not None:
                    context.telemetry.dead_lettered(job, error)
            case ReleasedJobs(jobs):
                context.queue.release(jobs)

    def _final_error(self, result: FailedAttempt, now: datetime) -> StublineError | None:
        """Return the error that dead-letters the job, or None when it is tried again."""
        if result.verdict is SendVerdict.REFUSED:
            return result.error
        if not result.is_failure:
            return None
        exhausted = self._context.retry_policy.exhausted(result.job, result.reply, now)
        if exhausted and isinstance(result.error, DesignUnusable):
            return type(result.error)(exhausted.cause)
        return exhausted


def combined_sha256(files: Sequence[CachedDocument]) -> bytes:
    """Return the SHA-256 of the one file that was attached; of several, that of their SHA-256s in
    their order.
    """
    if len(files) == 1:
        return files[0].sha256
    return hashlib.sha256(b"".join(file.sha256 for file in files)).digest()
