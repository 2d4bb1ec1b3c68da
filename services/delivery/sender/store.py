"""A sender's SQL, which leases jobs and records results. Each method is one short transaction of
its own, in which no mail is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import dict_row

from schemas import structs
from schemas.orders import TicketsChanged
from services.delivery.sender.results import AcceptedMail
from services.delivery.sender.rules import LeasedJob, SendIntent, SkipReason, plan_send
from services.runtime.errors import StublineError
from services.runtime.observability.version import CODE_VERSION
from services.runtime.postgres import statements
from services.runtime.postgres.lane_store import Session
from services.runtime.text import storable

SQL = statements.load(__package__)
STATE_OF_SKIPPED = {SkipReason.HELD: ("due", True), SkipReason.CANCELLED: ("cancelled", False)}


class PlannedSend(NamedTuple):
    """A recorded intent, and the order that it belongs to."""

    intent: SendIntent
    snapshot: TicketsChanged


class RecordedMail(NamedTuple):
    """An accepted mail in the database. `mails`: how many of its job have been accepted by now.
    `waited_s`: since the job was filed. `is_next_confirmed`: whether the connection's next job is
    still this sender's.
    """

    mails: int
    waited_s: float
    is_next_confirmed: bool


class LeasedBatch(NamedTuple):
    work: list[PlannedSend]
    skipped: int
    lost_leases: int
    due: int  # jobs that were due, whether they are sent or not
    recorded: RecordedMail | None = None  # of the mail before


class JobCounts(NamedTuple):
    jobs: Mapping[str, int]
    oldest_due_s: float


@dataclass(slots=True)
class JobQueue:
    """The jobs of one sender. Its connection is opened when needed and dropped when it fails."""

    connect: Callable[[], Session]
    owner: str
    group: str
    destination: str = "mail"
    _session: Session | None = None

    @property
    def session(self) -> Session:
        if self._session is None or self._session.closed:
            self._session = self.connect()
        return self._session

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None

    def lease_due(
        self, jobs_max: int, lease_s: float, accepted: AcceptedMail | None = None
    ) -> LeasedBatch:
        """Lease due jobs that their orders still want sent, and record the intent to send them. Any
        number of jobs takes at most five statements. The connection's last accepted mail is
        recorded in the same transaction.
        """
        with self.session.transaction():
            recorded = self.record_accepted(accepted) if accepted is not None else None
            rows = self._rows("take_jobs", {"jobs_max": jobs_max})
            if not rows:
                return LeasedBatch([], 0, 0, 0, recorded)
            ids = sorted({row["order_id"] for row in rows})
            orders = {
                row["order_id"]: row for row in self._rows("lock_free_orders", {"order_ids": ids})
            }
            work: list[PlannedSend] = []
            skipped: list[tuple[UUID, SkipReason]] = []
            lost = 0
            for row in rows:
                if (order := orders.get(row["order_id"])) is None:
                    continue  # the lane has it locked: a later lease finds it
                lost += row["lease_owner"] is not None
                snapshot = structs.decode(TicketsChanged, order["tickets"])
                planned = plan_send(leased_job(row), order["decision"], snapshot)
                if isinstance(planned, SkipReason):
                    skipped.append((row["job_id"], planned))
                else:
                    work.append(PlannedSend(planned, snapshot))
            self._write(work, skipped, lease_s)
        return LeasedBatch(work, len(skipped), lost, len(rows), recorded)

    def _write(
        self,
        work: Sequence[PlannedSend],
        skipped: Sequence[tuple[UUID, SkipReason]],
        lease_s: float,
    ) -> None:
        if work:
            ids = [send.intent.job.job_id for send in work]
            recipients = [storable(send.intent.recipient, 320) for send in work]
            columns = {"job_ids": ids, "recipients": recipients}
            columns["envelope_recipients"] = [send.intent.envelope_recipient for send in work]
            self._do("write_intents", columns | {"lease_s": lease_s})
        if left_out := [
            (send.intent.job.job_id, ticket)
            for send in work
            for ticket in sorted(send.intent.left_out)
        ]:
            self._do(
                "drop_inactive_tickets",
                {
                    "job_ids": [job for job, _ in left_out],
                    "ticket_ids": [ticket for _, ticket in left_out],
                },
            )
        if skipped:
            columns = {
                "job_ids": [job_id for job_id, _ in skipped],
                "states": [STATE_OF_SKIPPED[reason][0] for _, reason in skipped],
                "are_held": [STATE_OF_SKIPPED[reason][1] for _, reason in skipped],
            }
            self._do("skip_jobs", columns)

    def confirm_lease(self, job: LeasedJob, lease_s: float) -> bool:
        """Return whether the job is still this sender's. If so, its lease is extended."""
        return bool(self._rows("confirm_lease", lease_columns(job) | {"lease_s": lease_s}))

    def renew(self, jobs: Sequence[LeasedJob], lease_s: float) -> None:
        columns = {
            "job_ids": [job.job_id for job in jobs],
            "attempts": [job.attempt for job in jobs],
        }
        self._do("renew_leases", columns | {"lease_s": lease_s})

    def record_accepted(
        self, accepted: AcceptedMail, next_job: LeasedJob | None = None, lease_s: float = 0.0
    ) -> RecordedMail:
        """Record that a mail was accepted, and make the last check of the connection's next job: if
        it is still this sender's, its lease is extended. One statement.
        """
        columns = {
            "order_id": accepted.job.order_id,
            "job_id": accepted.job.job_id,
            "answer": storable(str(accepted.reply)),
            "document_sha256": accepted.document_sha256,
            "code_version": CODE_VERSION,
            "next_job_id": next_job.job_id if next_job is not None else None,
            "next_attempt": next_job.attempt if next_job is not None else 0,
            "lease_s": lease_s,
        }
        [row] = self._rows("record_accepted", columns)
        return RecordedMail(int(row["mails"]), float(row["waited_s"]), row["is_next_confirmed"])

    def record_failure(
        self,
        job: LeasedJob,
        reply: str,
        *,
        wait_s: float,
        is_failure: bool,
        is_unknown: bool,
        final_error: Callable[[datetime], StublineError | None],
    ) -> StublineError | None:
        """Make the job due again after a delay. If `final_error` has an error for the database's
        time, dead-letter the job instead, and return that error.
        """
        with self.session.transaction():
            now = self._rows("mark_order_dirty", {"order_id": job.order_id})[0]["at"]
            columns = {
                "answer": storable(reply, 500),
                "is_failure": is_failure,
                "is_unknown": is_unknown,
            }
            if not self._rows("record_failure", lease_columns(job) | columns | {"wait_s": wait_s}):
                return None  # another sender's by now, whose result ends it
            error = final_error(now)
            return error if error is not None and self._dead_letter(job, error) else None

    def _dead_letter(self, job: LeasedJob, error: StublineError) -> bool:
        columns = {
            "code": error.code,
            "text": storable(error.cause or error.code),
            "code_version": CODE_VERSION,
        }
        rows = self._rows("add_dead_letter", lease_columns(job) | columns)
        if rows:
            self._do("dead_letter_job", {"job_id": job.job_id, "dead_letter_id": rows[0]["id"]})
        return bool(rows)

    def release(self, jobs: Sequence[LeasedJob]) -> None:
        self._do(
            "release_leases",
            {"job_ids": [job.job_id for job in jobs], "attempts": [job.attempt for job in jobs]},
        )

    def is_paused(self) -> bool:
        return bool(self._rows("is_paused", {})[0]["exists"])

    def count_jobs(self) -> JobCounts:
        rows = {row["status"]: row for row in self._rows("count_jobs", {})}
        oldest = rows["due"]["oldest_s"] if "due" in rows else 0.0
        return JobCounts({name: row["jobs"] for name, row in rows.items()}, oldest)

    def _rows(self, name: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        cursor = self.session.cursor(row_factory=dict_row)
        return cursor.execute(SQL[name], self._own() | arguments).fetchall()

    def _do(self, name: str, arguments: dict[str, Any]) -> None:
        self.session.execute(SQL[name], self._own() | arguments)

    def _own(self) -> dict[str, Any]:
        return {"owner": self.owner, "group": self.group, "destination": self.destination}


def lease_columns(job: LeasedJob) -> dict[str, Any]:
    return {"job_id": job.job_id, "attempt": job.attempt}


def leased_job(row: Mapping[str, Any]) -> LeasedJob:
    """Return the job as it will be when the intent is recorded: its attempt is the next."""
    return LeasedJob(
        row["job_id"],
        row["order_id"],
        row["attempts"] + 1,
        row["failures"],
        row["retry_since"],
        frozenset(row["ticket_ids"]),
    )
