"""A sender's SQL: jobs taken, ends written. Each method is one transaction of its own, and short:
no mail is sent inside one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import dict_row

from schemas.orders import TicketsChanged
from services.delivery.sender.rules import LeasedJob, SendIntent, SkipReason, SmtpReply, intend
from services.runtime.errors import StublineError
from services.runtime.postgres import statements
from services.runtime.postgres.ledger import Session
from services.runtime.text import storable
from services.runtime.version import CODE_VERSION

SQL = statements.load(__package__)
REFRAINED = {SkipReason.HELD: ("due", True), SkipReason.CANCELLED: ("cancelled", False)}


class PlannedSend(NamedTuple):
    """An intent, written, and the order that it belongs to."""

    intent: SendIntent
    snapshot: TicketsChanged


class LeasedBatch(NamedTuple):
    work: list[PlannedSend]
    refrained: int
    lost_leases: int
    found: int  # jobs that were due, whatever came of them


class OrderState(NamedTuple):
    jobs: Mapping[str, int]
    oldest_due_s: float


@dataclass(slots=True)
class JobQueue:
    """One connection, which is opened when it is needed and forgotten when it fails."""

    connect: Callable[[], Session]
    owner: str
    group: str
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

    def take(self, jobs_max: int, lease_s: float) -> LeasedBatch:
        """Due jobs, looked at beside their orders, with the intent to send them. At most six round
        trips for any number.
        """
        with self.session.transaction():
            rows = self._rows("take_jobs", {"jobs_max": jobs_max})
            if not rows:
                return LeasedBatch([], 0, 0, 0)
            ids = sorted({row["order_id"] for row in rows})
            orders = {
                row["order_id"]: row for row in self._rows("lock_free_orders", {"order_ids": ids})
            }
            work: list[PlannedSend] = []
            refrained: list[tuple[UUID, SkipReason]] = []
            lost = 0
            for row in rows:
                if (order := orders.get(row["order_id"])) is None:
                    continue  # the lane is at it: in a moment
                lost += row["lease_owner"] is not None
                snapshot = TicketsChanged.model_validate(order["tickets"])
                found = intend(leased(row), order["decision"], snapshot)
                if isinstance(found, SkipReason):
                    refrained.append((row["job_id"], found))
                else:
                    work.append(PlannedSend(found, snapshot))
            self._write(work, refrained, lease_s)
        return LeasedBatch(work, len(refrained), lost, len(rows))

    def _write(
        self,
        work: Sequence[PlannedSend],
        refrained: Sequence[tuple[UUID, SkipReason]],
        lease_s: float,
    ) -> None:
        if work:
            ids = [it.intent.job.job_id for it in work]
            recipients = [storable(it.intent.recipient, 320) for it in work]
            columns = {"job_ids": ids, "recipients": recipients}
            columns["envelope_recipients"] = [it.intent.envelope_recipient for it in work]
            self._do("write_intents", columns | {"lease_s": lease_s})
        if left := [
            (it.intent.job.job_id, ticket)
            for it in work
            for ticket in sorted(it.intent.left_behind)
        ]:
            self._do(
                "drop_inactive_tickets",
                {"job_ids": [job for job, _ in left], "ticket_ids": [it for _, it in left]},
            )
        if refrained:
            columns = {
                "job_ids": [job_id for job_id, _ in refrained],
                "states": [REFRAINED[why][0] for _, why in refrained],
                "are_held": [REFRAINED[why][1] for _, why in refrained],
            }
            self._do("skip_jobs", columns)

    def hold(self, job: LeasedJob, lease_s: float) -> bool:
        """Whether the job is still ours, and then for a whole lease."""
        return bool(self._rows("confirm_lease", lease(job) | {"lease_s": lease_s}))

    def renew(self, jobs: Sequence[LeasedJob], lease_s: float) -> None:
        columns = {
            "job_ids": [job.job_id for job in jobs],
            "attempts": [job.attempt for job in jobs],
        }
        self._do("renew_leases", columns | {"lease_s": lease_s})

    def accepted(
        self, job: LeasedJob, answer: SmtpReply, document_sha256: bytes
    ) -> tuple[int, float]:
        """How often its mail has been accepted by now, and how long the job took since it was
        filed.
        """
        with self.session.transaction():
            self._rows("mark_order_dirty", {"order_id": job.order_id})
            said = {
                "job_id": job.job_id,
                "answer": storable(str(answer)),
                "document_sha256": document_sha256,
            }
            row = self._rows("record_accepted", said)[0]
        return int(row["mails"]), float(row["waited_s"])

    def failed(
        self,
        job: LeasedJob,
        answer: str,
        *,
        wait_s: float,
        is_failure: bool,
        is_unknown: bool,
        bury: Callable[[datetime], StublineError | None],
    ) -> StublineError | None:
        """Due again behind a wait; or, when `bury` at the database's time says so, dead with its
        letter.
        """
        with self.session.transaction():
            now = self._rows("mark_order_dirty", {"order_id": job.order_id})[0]["at"]
            said = {
                "answer": storable(answer, 500),
                "is_failure": is_failure,
                "is_unknown": is_unknown,
            }
            if not self._rows("record_failure", lease(job) | said | {"wait_s": wait_s}):
                return None  # another's by now: what he does ends it
            error = bury(now)
            return error if error is not None and self._bury(job, error) else None

    def _bury(self, job: LeasedJob, error: StublineError) -> bool:
        told = {
            "code": error.code,
            "text": storable(error.cause or error.code),
            "code_version": CODE_VERSION,
        }
        letters = self._rows("add_dead_letter", lease(job) | told)
        if letters:
            self._do("dead_letter_job", {"job_id": job.job_id, "dead_letter_id": letters[0]["id"]})
        return bool(letters)

    def give_back(self, jobs: Sequence[LeasedJob]) -> None:
        self._do(
            "release_leases",
            {"job_ids": [job.job_id for job in jobs], "attempts": [job.attempt for job in jobs]},
        )

    def is_paused(self) -> bool:
        return bool(self._rows("is_paused", {})[0]["exists"])

    def standing(self) -> OrderState:
        rows = {row["status"]: row for row in self._rows("count_jobs", {})}
        oldest = rows["due"]["oldest_s"] if "due" in rows else 0.0
        return OrderState({name: row["jobs"] for name, row in rows.items()}, oldest)

    def _rows(self, name: str, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        cursor = self.session.cursor(row_factory=dict_row)
        return cursor.execute(
            SQL[name], {"owner": self.owner, "group": self.group, **arguments}
        ).fetchall()

    def _do(self, name: str, arguments: Mapping[str, Any]) -> None:
        self.session.execute(SQL[name], {"owner": self.owner, "group": self.group, **arguments})


def lease(job: LeasedJob) -> dict[str, Any]:
    return {"job_id": job.job_id, "attempt": job.attempt}


def leased(row: Mapping[str, Any]) -> LeasedJob:
    """As it will be when the intent is written: its attempt is the next."""
    return LeasedJob(
        row["job_id"],
        row["order_id"],
        row["attempts"] + 1,
        row["failures"],
        row["retry_since"],
        frozenset(row["ticket_ids"]),
    )
