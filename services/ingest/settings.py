"""The settings of ingest: those of its lanes and those of its webhook endpoint."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from schemas.topics import MIB
from services.runtime.settings import LaneSettings

ROOM_BYTES = 16 * 1_024  # of a record, for its key, its headers and what Kafka adds


class IngestSettings(LaneSettings):
    """Read by the worker (`python -m services.ingest`) and by the webhook endpoint (`python -m
    services.ingest.webhooks`).
    """

    model_config = SettingsConfigDict(env_prefix="STUBLINE_INGEST_", frozen=True, extra="ignore")

    sources_file: Path | None = Field(
        None,
        description=(
            "TOML: the sources whose callbacks the webhook endpoint accepts, and where their "
            "secrets are. The endpoint needs it."
        ),
    )
    kept_days: int = Field(
        90,
        ge=1,
        le=3_650,
        description=(
            "How long callbacks are kept that no release acts on: for so long a later release can"
            " replay them."
        ),
    )
    webhook_host: str = Field(
        "127.0.0.1", description="Where the webhook endpoint listens. 0.0.0.0 in a container."
    )
    webhook_port: int = Field(
        8_080, ge=0, le=65_535, description="0 takes a free port; the first log line says which."
    )
    webhook_health_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description=(
            "Where the webhook endpoint answers /livez, /readyz and /metrics, at HEALTH_HOST: "
            "never at the port that the public reaches. 0 takes a free port; the first log line "
            "says which."
        ),
    )
    webhook_body_bytes_max: int = Field(
        MIB - ROOM_BYTES,
        ge=1_024,
        le=MIB - ROOM_BYTES,
        description=(
            "A larger body is refused with 413 while it is read. A record of its topic holds no "
            "more."
        ),
    )
    webhook_body_wait_ms: int = Field(
        10_000, ge=100, le=60_000, description="How long a body may take to arrive; then 408."
    )
    webhook_headers_wait_ms: int = Field(
        10_000,
        ge=100,
        le=60_000,
        description=(
            "How long a request's headers may take to arrive, from connecting on, and how long a "
            "response may go unread; then the connection is closed."
        ),
    )
    webhook_connections_max: int = Field(
        4_000,
        ge=16,
        le=100_000,
        description=(
            "Open connections, and never more than the limit of open files less 64. One more "
            "takes the place of one that is idle, does not read or does not finish, or is closed."
        ),
    )
    webhook_in_flight_max: int = Field(
        2_000,
        ge=1,
        le=50_000,
        description=(
            "Callbacks that are read or wait for Kafka at once. One more takes the place of the "
            "one whose body has been arriving for longest, or is answered with 503."
        ),
    )
    webhook_in_flight_bytes_max: int = Field(
        32 * MIB,
        ge=MIB,
        le=512 * MIB,
        description="Their bytes, which bounds the endpoint's memory. Beyond it the same happens.",
    )
    webhook_source_rate_max: float = Field(
        4_000,
        ge=0.1,
        le=1_000_000,
        description=(
            "Callbacks per second of one source, with a burst of twice as many, and as many again"
            " for repeats; one more is answered with 429. `rate_max` in the sources file "
            "overrides it for a source. WooCommerce never repeats a callback, so set it high "
            "enough that only a flood is refused."
        ),
    )
    webhook_clock_tolerance_s: int = Field(
        300,
        ge=30,
        le=3_600,
        description=(
            "How far a signed time (Stripe, PayPal) may be from the endpoint's clock, behind or "
            "ahead."
        ),
    )
    webhook_clock_skew_warning_ms: int = Field(
        2_000,
        ge=100,
        le=600_000,
        description=(
            "How far this machine's clock may be from Kafka's, either way, before /readyz and the "
            "log report it. No order of facts depends on it; the tolerance above and the measured "
            "waits do."
        ),
    )
    webhook_acknowledgement_wait_ms: int = Field(
        5_000,
        ge=200,
        le=50_000,
        description=(
            "How long Kafka may take to acknowledge; then 503. Below the 60 s that "
            "WooCommerce waits."
        ),
    )
    webhook_retry_after_s: int = Field(
        10, ge=1, le=600, description="How long a 503 asks its caller to wait."
    )
