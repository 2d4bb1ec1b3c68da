"""Points in the life of a mail that a sender reports. `SenderTelemetry` does nothing;
`SenderLoggingTelemetry` counts and logs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from typing_extensions import override

from services.delivery import metrics
from services.delivery.document_cache import CachedDocument
from services.delivery.errors import MailServerLoginRefused, MailServerUnavailable
from services.delivery.sender.rules import LeasedJob, SendVerdict, SmtpReply
from services.delivery.sender.store import JobCounts, LeasedBatch
from services.runtime.errors import StublineError
from services.runtime.failures import classification
from services.runtime.failures.circuit_breaker import BreakerState
from services.runtime.observability import logs
from services.runtime.observability.health import Health
from services.runtime.observability.log_limits import RepeatLimiter

OUTCOMES = {
    SendVerdict.ACCEPTED: "accepted",
    SendVerdict.RETRY: "retry",
    SendVerdict.REFUSED: "refused",
    SendVerdict.UNKNOWN: "unknown",
    SendVerdict.UNAVAILABLE: "unavailable",
    SendVerdict.LOGIN_REFUSED: "unavailable",
}
JOB_STATES = ("due", "waiting", "held", "dead")


class SenderTelemetry:
    """The points in their order. Between any two the process may die."""

    def leased(self, batch: LeasedBatch) -> None:
        """Intents are recorded. Nothing is rendered yet."""

    def stamped(self, pages: int) -> None: ...
    def laid_out(self, pages: int, reason: str) -> None:
        """WeasyPrint laid the page out, because a text of it cannot be stamped."""

    def characters_missing(self, design: str, field: str, characters: int) -> None:
        """Characters of a text that no font has: they are printed as U+FFFD."""

    def compiled(self, seconds: float) -> None:
        """A design was compiled for a campaign."""

    def plate_loaded(self, seconds: float) -> None:
        """A plate was loaded from the blob store: nothing is compiled for that campaign."""

    def files_indexed(self, order_id: str) -> None:
        """Rows name the files that were rendered; their contents are not in the store yet."""

    def rendered(self, job: LeasedJob, files: Sequence[CachedDocument], seconds: float) -> None:
        """The files are ready. No mail server has been contacted."""

    def handed_over(self, job: LeasedJob) -> None:
        """The final dot is sent; its reply has not been read."""

    def reply_received(
        self, job: LeasedJob, reply: SmtpReply, verdict: SendVerdict, seconds: float
    ) -> None:
        """The reply is known here, and not yet in the database."""

    def recorded(self, job: LeasedJob) -> None:
        """The result is in the database."""

    def accepted(self, mails: int, waited_s: float) -> None: ...
    def dead_lettered(self, job: LeasedJob, error: StublineError) -> None: ...
    def released(self, jobs: Sequence[LeasedJob]) -> None: ...
    def breaker_state(self, destination: str, state: BreakerState) -> None:
        """The state of the mail server's circuit breaker, after each iteration."""

    def jobs_counted(self, state: JobCounts) -> None: ...
    def iteration_done(self, *, is_ready: bool, reason: str) -> None: ...
    def database_unavailable(self, error: BaseException, wait_s: float) -> None:
        """The database is unavailable: the sender backs off for so many seconds."""

    def unexpected(self, job: LeasedJob, error: BaseException) -> None: ...
    def unprintable(self, job: LeasedJob, error: StublineError) -> None:
        """The job's design cannot be printed. The job is tried again later."""

    def file_failed(self, order_id: str, error: StublineError) -> None:
        """The blob store or a file in it failed. The mail is sent all the same."""

    def files_removed(self, files: int) -> None: ...
    def plates_removed(self, plates: int) -> None: ...


class SenderLoggingTelemetry(SenderTelemetry):
    """Counts metrics, logs the events that matter, and reports the states of the health server. It
    never logs an address or a code.
    """

    def __init__(self, health: Health) -> None:
        self._log, self._health = logs.get("sender"), health
        self._breaker, self._repeats = BreakerState.CLOSED, RepeatLimiter()
        self._was_ready: tuple[bool, str] | None = None
        # Logged once each: a design's fields are few, its texts are not.
        self._missing = set[tuple[str, str]]()

    @override
    def leased(self, batch: LeasedBatch) -> None:
        self._health.beat()
        if batch.lost_leases:
            metrics.LOST_LEASES.add(batch.lost_leases)
            self._log.warning("leases ran out without an answer", jobs=batch.lost_leases)
        if batch.skipped:
            metrics.ATTEMPTS.add(batch.skipped, outcome="released")

    @override
    def stamped(self, pages: int) -> None:
        metrics.PAGES.add(pages, kind="stamped")

    @override
    def laid_out(self, pages: int, reason: str) -> None:
        metrics.PAGES.add(pages, kind=reason)

    @override
    def characters_missing(self, design: str, field: str, characters: int) -> None:
        metrics.CHARACTERS_MISSING.add(characters)
        if (design, field) not in self._missing:
            self._missing.add((design, field))
            self._log.warning(
                "characters that no font has are printed as U+FFFD", design=design, field=field
            )

    @override
    def compiled(self, seconds: float) -> None:
        metrics.COMPILE_SECONDS.observe(seconds)
        self._log.info("design compiled", seconds=round(seconds, 2))

    @override
    def plate_loaded(self, seconds: float) -> None:
        metrics.PLATES_LOADED.add()
        self._log.info("plate loaded from the blob store", seconds=round(seconds, 2))

    @override
    def rendered(self, job: LeasedJob, files: Sequence[CachedDocument], seconds: float) -> None:
        self._health.beat()
        for outcome, count in Counter(file.outcome for file in files).items():
            metrics.FILES.add(count, outcome=outcome)
            metrics.FILE_BYTES.add(
                sum(len(file.pdf) for file in files if file.outcome == outcome), outcome=outcome
            )
        if any(file.outcome != "found" for file in files):
            metrics.RENDER_SECONDS.observe(seconds)

    @override
    def reply_received(
        self, job: LeasedJob, reply: SmtpReply, verdict: SendVerdict, seconds: float
    ) -> None:
        self._health.beat()
        metrics.ATTEMPTS.add(outcome=OUTCOMES[verdict])
        if verdict is SendVerdict.ACCEPTED:
            metrics.MAIL_SECONDS.observe(seconds)
            return
        codes = {
            SendVerdict.UNAVAILABLE: MailServerUnavailable.code,
            SendVerdict.LOGIN_REFUSED: MailServerLoginRefused.code,
        }
        fields = {"key": job.order_id, "job_id": str(job.job_id), "attempt": job.attempt}
        self._log.warning(
            "mail not accepted",
            **fields,
            outcome=OUTCOMES[verdict],
            code=codes.get(verdict),
            stage=reply.stage,
            reply=reply.code,
        )

    @override
    def accepted(self, mails: int, waited_s: float) -> None:
        metrics.WAIT_SECONDS.observe(max(0.0, waited_s))
        if mails > 1:
            metrics.MAILS_REPEATED.add()

    @override
    def dead_lettered(self, job: LeasedJob, error: StublineError) -> None:
        metrics.DEAD_LETTERED.add(code=error.code)
        self._log.error(
            "job dead-lettered", key=job.order_id, job_id=str(job.job_id), code=error.code
        )

    @override
    def released(self, jobs: Sequence[LeasedJob]) -> None:
        metrics.ATTEMPTS.add(len(jobs), outcome="released")

    @override
    def breaker_state(self, destination: str, state: BreakerState) -> None:
        metrics.BREAKER.set(state, destination=destination)
        is_open = state is BreakerState.OPEN
        if is_open != (self._breaker is BreakerState.OPEN):
            self._log.warning(
                "circuit breaker opened" if is_open else "circuit breaker no longer open",
                destination=destination,
            )
        self._breaker = state

    @override
    def jobs_counted(self, state: JobCounts) -> None:
        metrics.JOBS.set_all({(name,): float(state.jobs.get(name, 0)) for name in JOB_STATES})
        metrics.OLDEST_DUE.set(state.oldest_due_s)

    @override
    def iteration_done(self, *, is_ready: bool, reason: str) -> None:
        self._health.beat()
        if (is_ready, reason) != self._was_ready:
            self._health.ready(is_ready, reason)
            self._log.info("ready" if is_ready else "not ready", reason=reason)
            self._was_ready = (is_ready, reason)

    @override
    def database_unavailable(self, error: BaseException, wait_s: float) -> None:
        code = classification.code_of(error)
        suppressed = self._repeats.due(code)
        if suppressed is not None:
            more = {"wait_s": round(wait_s, 2), "suppressed": suppressed}
            self._log.warning("retrying after error", code=code, **more, error=logs.describe(error))

    @override
    def unexpected(self, job: LeasedJob, error: BaseException) -> None:
        self._log.error("job failed", key=job.order_id, job_id=str(job.job_id), exc_info=error)

    @override
    def unprintable(self, job: LeasedJob, error: StublineError) -> None:
        fields = {"key": job.order_id, "job_id": str(job.job_id), "attempt": job.attempt}
        self._log.warning(
            "design unusable, retrying later", **fields, code=error.code, error=error.cause
        )

    @override
    def file_failed(self, order_id: str, error: StublineError) -> None:
        metrics.FILE_FAILURES.add(code=error.code)
        self._log.warning("stored file failed", key=order_id, code=error.code, error=error.cause)

    @override
    def files_removed(self, files: int) -> None:
        metrics.FILES_REMOVED.add(files)
        self._log.info("unused files removed", files=files)

    @override
    def plates_removed(self, plates: int) -> None:
        self._log.info("unused plates removed", plates=plates)
