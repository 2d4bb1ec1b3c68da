"""Settings from the environment. A name that nobody knows stops the start: a misspelt limit is a
limit that is not there.

pydantic-settings ignores unknown names in silence; `load` does not, and offers the nearest.
"""

import os
import sys
from typing import Self, TypeVar

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from schemas.text import did_you_mean
from services.runtime.text import one_line

EX_CONFIG = 78  # sysexits.h: the configuration is wrong; restarting changes nothing


class Servers(BaseSettings):
    """Where the broker and the database are. Every service, tool and test goes by these two."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    kafka_bootstrap_servers: str = Field(
        min_length=1, description="host:port of one or more brokers, with commas."
    )
    database_url: str = Field(
        min_length=1, repr=False, description="PostgreSQL 18 or later, as a libpq URL."
    )


class LaneSettings(BaseSettings):
    """The bounds of a service's lanes. A service's own settings add to these, under its prefix."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    batch_records_max: int = Field(
        1_000, ge=1, le=10_000, description="More gains little and holds the locks longer."
    )
    batch_bytes_max: int = Field(
        4 * 2**20,
        ge=2**20,
        le=32 * 2**20,
        description="Bytes of input a transaction may take. Bounds memory and `unpublished`.",
    )
    batch_wait_ms: int = Field(
        20,
        ge=1,
        le=1_000,
        description="How long a batch may wait to fill: what a quiet night pays.",
    )
    acknowledgement_wait_ms: int = Field(
        500,
        ge=50,
        le=5_000,
        description="A lane that waits longer for the broker is left out of the joint transaction.",
    )
    revoke_deadline_ms: int = Field(
        150,
        ge=0,
        le=2_000,
        description=(
            "How long a revoked lane may wait for acknowledgements. The others wait with it."
        ),
    )
    stop_deadline_ms: int = Field(
        10_000,
        ge=500,
        le=60_000,
        description="From SIGTERM to the end. Keep it below the orchestrator's grace period.",
    )
    tick_interval_ms: int = Field(
        1_000, ge=50, le=60_000, description="How often work with no input is looked for."
    )
    controls_interval_ms: int = Field(
        500,
        ge=50,
        le=900,
        description=(
            "How often pause, resume and rates are read. They promise to act within a second."
        ),
    )
    idle_check_ms: int = Field(
        3_000,
        ge=200,
        le=60_000,
        description=(
            "How often a lane without records compares its row and the end of its partition."
        ),
    )
    replay_letters_max: int = Field(
        200, ge=1, le=5_000, description="Dead letters that one tick gives back."
    )
    replay_bytes_max: int = Field(
        4 * 2**20,
        ge=2**20,
        le=32 * 2**20,
        description="Bytes of dead letters that one tick gives back.",
    )
    delivery_timeout_ms: int = Field(
        10_000,
        ge=1_000,
        le=120_000,
        description="When the producer gives an output up. It is then produced again from the row.",
    )
    acquire_backoff_min_ms: int = Field(
        100, ge=10, le=5_000, description="The first wait of a lane that was fenced."
    )
    acquire_backoff_max_ms: int = Field(
        2_000, ge=100, le=60_000, description="The longest wait of a lane that was fenced."
    )
    outage_backoff_max_ms: int = Field(
        5_000,
        ge=100,
        le=60_000,
        description="The longest wait while the database or the broker is away. Jitter is added.",
    )
    bisect_deadline_ms: int = Field(
        1_500,
        ge=100,
        le=2_500,
        description="How long a batch may be tried in parts, below the transaction's own bound.",
    )
    brake_window_records: int = Field(
        200, ge=10, le=10_000, description="The last records that the brake looks at."
    )
    brake_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description=(
            "Share of unexpected failures in that window at which the service pauses itself."
        ),
    )
    transaction_timeout_ms: int = Field(
        3_000,
        ge=500,
        le=5_000,
        description="Longest transaction. Stays below the group's session timeout.",
    )
    idle_in_transaction_ms: int = Field(
        2_000,
        ge=200,
        le=5_000,
        description="Longest rest inside a transaction, for a process that was stopped there.",
    )
    lock_timeout_ms: int = Field(
        1_500, ge=50, le=5_000, description="Longest wait for a row. Then all is decided anew."
    )
    tcp_user_timeout_ms: int = Field(
        4_000,
        ge=1_000,
        le=30_000,
        description="When a silent network counts as broken. Stays below the session timeout.",
    )
    health_host: str = Field(
        "127.0.0.1",
        description="Where /livez, /readyz and /metrics listen. 0.0.0.0 in a container.",
    )
    health_port: int = Field(
        0, ge=0, le=65_535, description="0 takes a free port; the first log line says which."
    )
    live_seconds_max: int = Field(
        30,
        ge=2,
        le=600,
        description=(
            "A loop that has not turned for so long fails /livez, and is started anew by "
            "its keeper."
        ),
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR."
    )

    @model_validator(mode="after")
    def _bounds_nest(self) -> Self:
        """A wait inside a transaction that outlasts it would never be seen to end."""
        for inner in ("idle_in_transaction_ms", "lock_timeout_ms", "bisect_deadline_ms"):
            if getattr(self, inner) >= self.transaction_timeout_ms:
                raise ValueError(f"{inner} must be below transaction_timeout_ms")
        if self.acquire_backoff_min_ms > self.acquire_backoff_max_ms:
            raise ValueError("acquire_backoff_min_ms must not be above acquire_backoff_max_ms")
        return self


class ConfigurationError(ValueError):
    """One clear line for whoever set the environment. It never quotes a value: a value may be a
    password.
    """


S = TypeVar("S", bound=BaseSettings)


def read(cls: type[S]) -> S:
    """The settings of the environment, or ConfigurationError with everything that is wrong with
    them.
    """
    problems = _unknown(cls)
    try:
        settings = cls()
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False, include_context=False):
            name = ".".join(str(part) for part in fault["loc"])
            what = "is not set" if fault["type"] == "missing" else fault["msg"].lower()
            problems.append(f"{variable(cls, name)} {what}" if name else what)
        raise ConfigurationError("; ".join(problems)) from None
    except SettingsError as error:  # a list or mapping that is no JSON
        raise ConfigurationError("; ".join([*problems, str(error)])) from None
    if problems:
        raise ConfigurationError("; ".join(problems))
    return settings


def load(cls: type[S]) -> S:
    """As `read`, for a process's start: a wrong configuration ends it with exit code 78 and one
    line.
    """
    try:
        return read(cls)
    except ConfigurationError as error:
        print(one_line(f"configuration: {error}"), file=sys.stderr)  # noqa: T201 - before the logs are set up, and for a person
        raise SystemExit(EX_CONFIG) from None


def variable(cls: type[BaseSettings], field: str) -> str:
    """What a setting is called in the environment."""
    return f"{prefix(cls)}{field}".upper()


def prefix(cls: type[BaseSettings]) -> str:
    return cls.model_config.get("env_prefix", "")


def _unknown(cls: type[BaseSettings]) -> list[str]:
    if not (own := prefix(cls).upper()):
        return []
    known = [variable(cls, field) for field in cls.model_fields]
    strangers = sorted(
        name for name in os.environ if name.upper().startswith(own) and name.upper() not in known
    )
    return [f"{name} is no setting{did_you_mean(name.upper(), known)}" for name in strangers]
