"""The settings of the lane and the sender. They are one class, because they share a prefix
and so one list of known names.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from services.delivery.addresses import parse_mailbox
from services.delivery.documents import DocumentScope
from services.runtime.settings import LaneSettings


class DeliverySettings(LaneSettings):
    """The lane files jobs; senders (`python -m services.delivery.sender`) lease, render and send
    them.
    """

    model_config = SettingsConfigDict(
        env_prefix="STUBLINE_DELIVERY_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    tick_interval_ms: int = Field(
        200, ge=50, le=60_000, description="How often changed deliveries are published."
    )
    publish_delay_ms: int = Field(
        500,
        ge=0,
        le=60_000,
        description="How long a changed delivery waits until it is published. A mail that is filed "
        "and sent within that time is one event; 0 publishes each change at the next tick.",
    )
    dirty_orders_max: int = Field(
        1_000,
        ge=1,
        le=10_000,
        description="Orders whose deliveries one tick publishes. The others wait for the next.",
    )
    backlog_high_jobs: int = Field(
        2_000_000,
        ge=10,
        le=100_000_000,
        description="From so many open jobs on the lanes stop reading, for the sake of the "
        "database's disk: a job takes 2 KB. Below it jobs are filed however long a mail server "
        "is unavailable.",
    )
    backlog_low_jobs: int = Field(
        1_500_000,
        ge=1,
        le=100_000_000,
        description="At so few open jobs the lanes read again. Below the high mark.",
    )

    smtp_url: str = Field(
        "",
        repr=False,
        description="The mail server: `smtp://[user:password@]host:port`, `smtps://...`; "
        "`?starttls=required` encrypts. A password is only sent encrypted, or to this machine "
        "itself.",
    )
    sender_address: str = Field(
        "Tickets <tickets@localhost.localdomain>",
        description="From whom mails come; Message-IDs have its domain. Change it once, before "
        "the first mail.",
    )
    reply_to: str = Field("", description="Where replies go, if elsewhere.")
    smtp_timeout_ms: int = Field(
        10_000, ge=200, le=300_000, description="Longest wait for one reply of the mail server."
    )
    mail_deadline_ms: int = Field(
        30_000,
        ge=500,
        le=600_000,
        description="Longest dialogue for one mail; then the connection is cut.",
    )
    mails_per_connection_max: int = Field(
        100,
        ge=1,
        le=10_000,
        description="A connection is closed after so many mails: some servers require it.",
    )
    connections: int = Field(
        4,
        ge=1,
        le=32,
        description="Connections of a sender to the mail server, a thread and a database session "
        "each. They are opened when more jobs are due than one of them leases. More help where "
        "the mail server is slow or far away.",
    )
    lease_jobs_max: int = Field(
        16,
        ge=1,
        le=200,
        description="Jobs a connection leases at once while more are due than it leased before. "
        "More saves round trips, and delays more when the sender dies.",
    )
    lease_ms: int = Field(
        60_000,
        ge=1_000,
        le=3_600_000,
        description="A lease that is not renewed for so long expires, and another sender may take "
        "the job. Longer than a mail's deadline.",
    )
    render_deadline_ms: int = Field(
        600_000,
        ge=1_000,
        le=3_600_000,
        description="How long a sender may work on one job before it stops renewing the lease.",
    )
    files_url: str = Field(
        "",
        repr=False,
        description="Where rendered files and plates are stored, the same for all senders and for "
        "`stubline campaigns apply`: a folder by its absolute path, or `s3://BUCKET/PREFIX`. "
        "Empty: `stubline/files` under $XDG_STATE_HOME or ~/.local/state.",
    )
    files_keep_days: int = Field(
        30,
        ge=0,
        le=3_650,
        description="A file that was not used for so long is removed, and rendered again when it "
        "is needed: the same bytes. 0 keeps all.",
    )
    designs_folder: str = Field(
        "",
        description="Your ticket designs, a folder each, the same on all senders. Empty: only the "
        "built-in ones.",
    )
    plates_folder: str = Field(
        "",
        description="Where this machine stores compiled designs. If they are lost, they are "
        "loaded from the blob store, or compiled again. Empty: `stubline/plates` under "
        "$XDG_CACHE_HOME or ~/.cache.",
    )
    plates_keep_days: int = Field(
        90,
        ge=0,
        le=3_650,
        description="A compiled design that no process on this machine loaded for so long is "
        "removed, as is one in the blob store that was written so long ago. It is compiled again "
        "when it is needed. 0 keeps all.",
    )
    document: DocumentScope = Field(
        "order",
        description="`order`: one PDF with all tickets. `ticket`: one each, all attached; more "
        "than 100 are one PDF all the same.",
    )
    idle_wait_ms: int = Field(
        250, ge=10, le=60_000, description="How often an idle sender looks for jobs."
    )
    retry_min_ms: int = Field(
        30_000,
        ge=50,
        le=3_600_000,
        description="First delay after a failure; doubles with each. Jitter is added.",
    )
    retry_max_ms: int = Field(
        3_600_000, ge=50, le=86_400_000, description="Longest delay between two attempts."
    )
    failures_max: int = Field(
        20,
        ge=1,
        le=1_000,
        description="After so many failures a mail is a dead letter. An unavailable server is no "
        "failure of the mail.",
    )
    age_max_hours: int = Field(
        96,
        ge=1,
        le=720,
        description="A job of this age becomes a dead letter at its next failure, however few it "
        "had.",
    )
    breaker_failures: int = Field(
        3,
        ge=1,
        le=100,
        description="Failures of the mail server in a row that open the circuit breaker.",
    )
    breaker_min_ms: int = Field(
        1_000,
        ge=50,
        le=600_000,
        description="How long the circuit breaker is open at first; doubles with each failed try.",
    )
    breaker_max_ms: int = Field(
        60_000, ge=50, le=3_600_000, description="Longest time that the breaker is open."
    )
    sender_health_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="As HEALTH_PORT, for a sender. 0 takes a free port, which the first log line "
        "names.",
    )

    @field_validator("sender_address")
    @classmethod
    def _is_an_address(cls, text: str) -> str:
        _, address = parse_mailbox(text)
        if not text.rpartition("@")[2].isascii():
            raise ValueError(f"must name its domain in ASCII: `{address}`")
        return text

    @field_validator("reply_to")
    @classmethod
    def _is_an_address_or_empty(cls, text: str) -> str:
        return cls._is_an_address(text) if text else text

    @model_validator(mode="after")
    def _bounds_fit(self) -> Self:
        if self.backlog_low_jobs >= self.backlog_high_jobs:
            raise ValueError("backlog_low_jobs must be below backlog_high_jobs")
        if self.lease_ms <= self.mail_deadline_ms:
            raise ValueError(
                "lease_ms must be above mail_deadline_ms: a mail would outlast its lease"
            )
        if self.retry_min_ms > self.retry_max_ms:
            raise ValueError("retry_min_ms must not be above retry_max_ms")
        if self.breaker_min_ms > self.breaker_max_ms:
            raise ValueError("breaker_min_ms must not be above breaker_max_ms")
        return self
