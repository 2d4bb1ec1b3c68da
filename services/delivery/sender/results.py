"""What became of an attempt to send a job's mail, until it is in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.delivery.sender.rules import LeasedJob, SendVerdict, SmtpReply
from services.runtime.errors import StublineError

FAILURES = frozenset({SendVerdict.RETRY, SendVerdict.UNKNOWN, SendVerdict.REFUSED})


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


def jobs_of(result: AttemptResult) -> Sequence[LeasedJob]:
    return result.jobs if isinstance(result, ReleasedJobs) else [result.job]
