"""The loop of one connection of a sender: lease, render, check, send, record.

A mail costs one statement and one commit: it records that the mail before was accepted, and makes
the last check of the next. Leasing takes a further transaction for each few jobs, in which the
last mail before it is recorded.
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
from services.delivery.sender.leases import LeaseRenewer
from services.delivery.sender.mail import SenderIdentity, compose
from services.delivery.sender.results import (
    FAILURES,
    AcceptedMail,
    AttemptResult,
    FailedAttempt,
    ReleasedJobs,
    jobs_of,
)
from services.delivery.sender.rules import (
    LeasedJob,
    RetryPolicy,
    SendVerdict,
    classify_reply,
    counts_against_server,
    refusal_error,
)
from services.delivery.sender.smtp import OutgoingMail, SmtpChannel
from services.delivery.sender.store import JobQueue, PlannedSend, RecordedMail
from services.delivery.sender.telemetry import SenderTelemetry
from services.runtime.errors import Poison, StublineError, Transient
from services.runtime.failures.circuit_breaker import BreakerState, CircuitBreaker
from services.runtime.observability import logs

CONTROLS_INTERVAL_S = 0.5
LEASE_JOBS_FIRST = 4  # after a batch that was not full; doubles with each full one


@dataclass(frozen=True, slots=True)
class SenderContext:
    """The dependencies of one connection. `document_scope` is what one PDF holds. `is_first`: of
    the sender's connections; it alone tries whether a mail server is available again. `park` takes
    a job whose texts have to be laid out, if it has room. `wake_another` is called when more jobs
    are due than this connection may lease.
    """

    queue: JobQueue
    channel: SmtpChannel
    breaker: CircuitBreaker
    lease_renewer: LeaseRenewer
    retry_policy: RetryPolicy
    identity: SenderIdentity
    telemetry: SenderTelemetry
    documents: DocumentCache
    document_scope: DocumentScope
    clock: Callable[[], float]
    rng: Callable[[], float]
    lease_jobs_max: int
    lease_s: float
    is_first: bool
    park: Callable[[PlannedSend], bool]
    wake_another: Callable[[], None]
    housekeeping: Callable[[], None]


class Sender:
    """Sends the mails of due jobs by one connection. Not shared between threads.

    Crash: if the process dies between the intent and the recorded result, the lease expires and
    another sender tries again. An accepted mail is recorded before the next one is handed over by
    the same connection, so a crash repeats at most one mail a connection.
    """

    def __init__(self, context: SenderContext, is_ending: Callable[[], bool]) -> None:
        self.context, self._is_ending = context, is_ending
        self._unwritten: deque[AttemptResult] = deque()  # happened, and not yet in the database
        self._is_paused = False
        self._lease_jobs = min(LEASE_JOBS_FIRST, context.lease_jobs_max)
        self._controls_at = float("-inf")

    def step(self) -> bool:
        """Lease and send some jobs. Return False when there is nothing to do now.

        Raises what the database raises; results that were not written are written by the next step.
        """
        context = self.context
        self._write_all_but_accepted()
        self._check_controls()
        allowed = self._allowed(self._lease_jobs)
        if not allowed:
            self.write_results()
            return False
        accepted = self._accepted()
        leased = context.queue.lease_due(allowed, context.lease_s, accepted)
        if accepted is not None and leased.recorded is not None:
            self._written(leased.recorded)
        if leased.due:
            context.telemetry.leased(leased)
        self._lease_jobs = min(LEASE_JOBS_FIRST, context.lease_jobs_max)
        if leased.due == allowed:  # more may be due: others help, and this one leases more at once
            self._lease_jobs = min(2 * allowed, context.lease_jobs_max)
            context.wake_another()
        self.work(leased.work)
        return bool(leased.work) or bool(leased.skipped)

    def work(self, sends: Sequence[PlannedSend]) -> None:
        """Send the mails of leased jobs. Those that may not be sent any more are released."""
        waiting, context = deque(sends), self.context
        context.lease_renewer.hold([send.intent.job for send in waiting])
        try:
            self._check_controls()
            while waiting and self._may_send():
                send = waiting.popleft()
                job = send.intent.job
                context.lease_renewer.begin(job, [waits.intent.job for waits in waiting])
                self._attempt(send)
                self._write_all_but_accepted()
                self._check_controls()
        finally:
            if waiting:
                self.release([send.intent.job for send in waiting])
                self._write_all_but_accepted()

    @property
    def is_settled(self) -> bool:
        """Whether every result is in the database."""
        return not self._unwritten

    def _allowed(self, jobs: int) -> int:
        """Return how many of so many jobs may be sent now, and report why none may."""
        context = self.context
        allowed = self._may_send() and context.breaker.allows(jobs)
        state = context.breaker.state
        context.telemetry.breaker_state(context.channel.server.name, state)
        context.telemetry.iteration_done(
            is_ready=state is not BreakerState.OPEN, reason="" if allowed else self._idle_reason()
        )
        return allowed

    def _may_send(self) -> bool:
        breaker = self.context.breaker
        is_free = not self._is_paused and not self._is_ending()
        is_tried = breaker.state is BreakerState.CLOSED or self.context.is_first
        return is_free and is_tried and bool(breaker.allows(1))

    def _idle_reason(self) -> str:
        if self._is_paused:
            return "paused"
        if self._is_ending():
            return "stopping"
        return f"circuit breaker open: no mail is sent to {self.context.channel.server.name}"

    def _check_controls(self) -> None:
        context, now = self.context, self.context.clock()
        if now - self._controls_at >= CONTROLS_INTERVAL_S:
            self._is_paused, self._controls_at = context.queue.is_paused(), now
        context.housekeeping()

    def release(self, jobs: Sequence[LeasedJob]) -> None:
        """Give up leases of jobs of which nothing was tried. Written with the next results."""
        if not jobs:
            return
        self._unwritten.append(ReleasedJobs(jobs))
        self.context.telemetry.released(jobs)

    def _attempt(self, send: PlannedSend) -> None:
        """Attempt one job. If an order's data break the renderer, only that order's job becomes a
        dead letter.
        """
        job, context = send.intent.job, self.context
        try:
            composed = self._compose(send)
        except psycopg.Error:
            self.release([job])  # nothing was tried
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
        if composed is not None and self._is_still_leased(job):
            self._send(job, *composed)

    def _is_still_leased(self, job: LeasedJob) -> bool:
        """Make the last check before the mail is sent. The accepted mail before it is recorded by
        the same statement.
        """
        context, accepted, is_leased = self.context, self._accepted(), False
        try:
            if accepted is None:
                is_leased = context.queue.confirm_lease(job, context.lease_s)
            else:
                recorded = context.queue.record_accepted(accepted, job, context.lease_s)
                self._written(recorded)
                is_leased = recorded.is_next_confirmed
        finally:
            if not is_leased:
                self.release([job])  # another sender may have it by now
        return is_leased

    def _send(self, job: LeasedJob, mail: OutgoingMail, sha256: bytes) -> None:
        context = self.context
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

    def _compose(self, send: PlannedSend) -> tuple[OutgoingMail, bytes] | None:
        """Return the mail, and the hash of what is attached to it; or nothing, if the job was
        parked because it has to be laid out.
        """
        job, context = send.intent.job, self.context
        recipient = smtp_address(send.intent.recipient)
        begun = context.clock()
        order = document(send.snapshot, send.intent.tickets, context.documents.renderer.language)
        parts = split_document(order, context.document_scope)
        files = context.documents.stamp(parts)
        if files is None:
            if context.park(send):
                return None
            self.write_results()  # it takes long, and a crash meanwhile would repeat a mail
            files = context.documents.fetch(job.order_id, parts)
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
        context = self.context
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
            if isinstance(result, AcceptedMail):
                self._written(self.context.queue.record_accepted(result))
            else:
                self._write(result)
                self._settled()

    def _write_all_but_accepted(self) -> None:
        """Write the results, unless there is only an accepted mail: the statement before the next
        mail writes it.
        """
        if self._accepted() is None:
            self.write_results()

    def _accepted(self) -> AcceptedMail | None:
        """Return the accepted mail that is the only result not written yet."""
        if len(self._unwritten) == 1 and isinstance(result := self._unwritten[0], AcceptedMail):
            return result
        return None

    def _written(self, recorded: RecordedMail) -> None:
        self._settled()
        self.context.telemetry.accepted(recorded.mails, recorded.waited_s)

    def _settled(self) -> None:
        """The oldest result is in the database."""
        jobs = jobs_of(self._unwritten.popleft())
        self.context.lease_renewer.release(jobs)
        self.context.telemetry.recorded(jobs[0])

    def _write(self, result: FailedAttempt | ReleasedJobs) -> None:
        context = self.context
        match result:
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
        exhausted = self.context.retry_policy.exhausted(result.job, result.reply, now)
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
