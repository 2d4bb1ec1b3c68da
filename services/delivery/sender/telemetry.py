"""What a sender tells while it works: points in the life of a mail. `SenderTelemetry` does nothing;
the Narrator counts and speaks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from typing_extensions import override

from services.delivery import metrics
from services.delivery.document_cache import CachedDocument
from services.delivery.errors import MailServerLoginRefused, MailServerUnavailable
from services.delivery.sender.rules import LeasedJob, SendVerdict, SmtpReply
from services.delivery.sender.store import LeasedBatch, OrderState
from services.runtime import failures
from services.runtime.errors import StublineError
from services.runtime.observability import logs
from services.runtime.observability.health import Health
from services.runtime.observability.log_limits import RepeatLimiter

OUTCOMES = {
    SendVerdict.ACCEPTED: "accepted",
    SendVerdict.RETRY: "retry",
    SendVerdict.REFUSED: "refused",
    SendVerdict.UNKNOWN: "unknown",
    SendVerdict.AWAY: "away",
    SendVerdict.NOT_OUR_LOGIN: "away",
}
STANDINGS = ("due", "waiting", "held", "dead")


class SenderTelemetry:
    """Points in their sequence. Between any two the process may die."""

    def taken(self, taken: LeasedBatch) -> None:
        """Intents are written; nothing is rendered yet."""

    def stamped(self, pages: int) -> None: ...
    def whole(self, pages: int, why: str) -> None:
        """Set by WeasyPrint, because a text cannot be stamped."""

    def lacking(self, design: str, field: str, letters: int) -> None:
        """Letters of a text that no font has: they are printed as U+FFFD."""

    def compiled(self, seconds: float) -> None:
        """A design, for a campaign."""

    def named(self, order_id: str) -> None:
        """Rows name the files that were rendered; their contents are not in the store yet."""

    def rendered(self, job: LeasedJob, printed: Sequence[CachedDocument], seconds: float) -> None:
        """The files are there; the server has not been spoken to."""

    def handed_over(self, job: LeasedJob) -> None:
        """The final dot is sent; its answer has not been read."""

    def answered(
        self, job: LeasedJob, answer: SmtpReply, verdict: SendVerdict, seconds: float
    ) -> None:
        """The answer is known here, and not yet in the database."""

    def recorded(self, job: LeasedJob) -> None:
        """It is in the database."""

    def accepted(self, mails: int, waited_s: float) -> None: ...
    def buried(self, job: LeasedJob, error: StublineError) -> None: ...
    def given_back(self, jobs: Sequence[LeasedJob]) -> None: ...
    def server(self, destination: str, openness: float) -> None:
        """Whether the mail server is left alone: 0 no, 0.5 one mail tries, 1 yes."""

    def stands(self, standing: OrderState) -> None: ...
    def turned(self, *, is_ready: bool, why: str) -> None: ...
    def trouble(self, error: BaseException, wait_s: float) -> None:
        """The database's fault: the sender waits so many seconds."""

    def unexpected(self, job: LeasedJob, error: BaseException) -> None: ...
    def unprintable(self, job: LeasedJob, error: StublineError) -> None:
        """Its design cannot be printed as it is; the job is tried again later."""

    def file_trouble(self, order_id: str, error: StublineError) -> None:
        """Something is wrong with the content store or what is in it. It was got over."""

    def files_removed(self, files: int) -> None: ...
    def plates_removed(self, plates: int) -> None: ...


class SenderLoggingTelemetry(SenderTelemetry):
    """Metrics, a log line for what is worth one, and the answers of the health door. Never an
    address, never a code.
    """

    def __init__(self, health: Health) -> None:
        self._log, self._health = logs.get("sender"), health
        self._openness, self._repeats = 0.0, RepeatLimiter()
        self._was_ready: tuple[bool, str] | None = None
        self._lacking = set[
            tuple[str, str]
        ]()  # what was told once: a design's fields are few, its texts are not

    @override
    def taken(self, taken: LeasedBatch) -> None:
        self._health.beat()
        if taken.lost_leases:
            metrics.LOST_LEASES.add(taken.lost_leases)
            self._log.warning("leases ran out without an answer", jobs=taken.lost_leases)
        if taken.refrained:
            metrics.ATTEMPTS.add(taken.refrained, outcome="given_back")

    @override
    def stamped(self, pages: int) -> None:
        metrics.PAGES.add(pages, kind="stamped")

    @override
    def whole(self, pages: int, why: str) -> None:
        metrics.PAGES.add(pages, kind=why)

    @override
    def lacking(self, design: str, field: str, letters: int) -> None:
        metrics.LACKING.add(letters)
        if (design, field) not in self._lacking:
            self._lacking.add((design, field))
            self._log.warning(
                "characters that no font has are printed as U+FFFD", design=design, field=field
            )

    @override
    def compiled(self, seconds: float) -> None:
        metrics.COMPILE_SECONDS.observe(seconds)
        self._log.info("design compiled", seconds=round(seconds, 2))

    @override
    def rendered(self, job: LeasedJob, printed: Sequence[CachedDocument], seconds: float) -> None:
        self._health.beat()
        for outcome, files in Counter(file.outcome for file in printed).items():
            metrics.FILES.add(files, outcome=outcome)
            metrics.FILE_BYTES.add(
                sum(len(it.pdf) for it in printed if it.outcome == outcome), outcome=outcome
            )
        if any(file.outcome != "found" for file in printed):
            metrics.RENDER_SECONDS.observe(seconds)

    @override
    def answered(
        self, job: LeasedJob, answer: SmtpReply, verdict: SendVerdict, seconds: float
    ) -> None:
        self._health.beat()
        metrics.ATTEMPTS.add(outcome=OUTCOMES[verdict])
        if verdict is SendVerdict.ACCEPTED:
            metrics.MAIL_SECONDS.observe(seconds)
            return
        codes = {
            SendVerdict.AWAY: MailServerUnavailable.code,
            SendVerdict.NOT_OUR_LOGIN: MailServerLoginRefused.code,
        }
        where = {"key": job.order_id, "job_id": str(job.job_id), "attempt": job.attempt}
        self._log.warning(
            "mail not accepted",
            **where,
            outcome=OUTCOMES[verdict],
            code=codes.get(verdict),
            stage=answer.stage,
            reply=answer.code,
        )

    @override
    def accepted(self, mails: int, waited_s: float) -> None:
        metrics.WAIT_SECONDS.observe(max(0.0, waited_s))
        if mails > 1:
            metrics.REPEATED.add()

    @override
    def buried(self, job: LeasedJob, error: StublineError) -> None:
        metrics.LETTERS.add(code=error.code)
        self._log.error("job given up", key=job.order_id, job_id=str(job.job_id), code=error.code)

    @override
    def given_back(self, jobs: Sequence[LeasedJob]) -> None:
        metrics.ATTEMPTS.add(len(jobs), outcome="given_back")

    @override
    def server(self, destination: str, openness: float) -> None:
        metrics.BREAKER.set(openness, destination=destination)
        if (openness == 1) != (self._openness == 1):
            self._log.warning(
                "mail server is left alone" if openness == 1 else "mail server is tried",
                destination=destination,
            )
        self._openness = openness

    @override
    def stands(self, standing: OrderState) -> None:
        metrics.JOBS.set_all({(name,): float(standing.jobs.get(name, 0)) for name in STANDINGS})
        metrics.OLDEST_DUE.set(standing.oldest_due_s)

    @override
    def turned(self, *, is_ready: bool, why: str) -> None:
        self._health.beat()
        if (is_ready, why) != self._was_ready:
            self._health.ready(is_ready, why)
            self._log.info("ready" if is_ready else "not ready", why=why)
            self._was_ready = (is_ready, why)

    @override
    def trouble(self, error: BaseException, wait_s: float) -> None:
        code = failures.code_of(error)
        suppressed = self._repeats.due(code)
        if suppressed is not None:
            more = {"wait_s": round(wait_s, 2), "suppressed": suppressed}
            self._log.warning("retrying after error", code=code, **more, error=logs.describe(error))

    @override
    def unexpected(self, job: LeasedJob, error: BaseException) -> None:
        self._log.error("job failed", key=job.order_id, job_id=str(job.job_id), exc_info=error)

    @override
    def unprintable(self, job: LeasedJob, error: StublineError) -> None:
        where = {"key": job.order_id, "job_id": str(job.job_id), "attempt": job.attempt}
        self._log.warning(
            "not printed, tried again later", **where, code=error.code, error=error.cause
        )

    @override
    def file_trouble(self, order_id: str, error: StublineError) -> None:
        metrics.FILE_TROUBLES.add(code=error.code)
        self._log.warning(
            "trouble with a stored file", key=order_id, code=error.code, error=error.cause
        )

    @override
    def files_removed(self, files: int) -> None:
        metrics.FILES_REMOVED.add(files)
        self._log.info("unused files removed", files=files)

    @override
    def plates_removed(self, plates: int) -> None:
        self._log.info("unused plates removed", plates=plates)
