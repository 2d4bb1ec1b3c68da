"""Settings from the environment.

An unknown name under a service's prefix stops the start, and the nearest known name is suggested: a
misspelt limit would be no limit. pydantic-settings alone ignores unknown names.
"""

import os
import sys
from typing import NoReturn, Self, TypeVar

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
    """The bounds of a service's lanes. A service adds its own settings under its prefix."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    batch_records_max: int = Field(
        1_000,
        ge=1,
        le=10_000,
        description="Most records in a transaction. More gain little and hold the locks longer.",
    )
    batch_bytes_max: int = Field(
        4 * 2**20,
        ge=2**20,
        le=32 * 2**20,
        description="Most bytes of input in a transaction. Bounds memory and the outbox.",
    )
    batch_linger_ms: int = Field(
        100,
        ge=0,
        le=1_000,
        description=(
            "How long a batch that is not full waits for more records. The first record after a "
            "quiet second does not wait. 100 saves some 30 % of the CPU at 25 orders/s."
        ),
    )
    batch_wait_ms: int = Field(
        20,
        ge=1,
        le=1_000,
        description="How long one fetch waits for a first record.",
    )
    acknowledgement_wait_ms: int = Field(
        500,
        ge=50,
        le=5_000,
        description="A lane that waits longer for acknowledgements is paused; the others go on.",
    )
    revoke_deadline_ms: int = Field(
        150,
        ge=0,
        le=2_000,
        description=(
            "How long a revoked lane may wait for acknowledgements. The other lanes wait with it."
        ),
    )
    stop_deadline_ms: int = Field(
        10_000,
        ge=500,
        le=60_000,
        description="From SIGTERM to the end. Keep it below the orchestrator's grace period.",
    )
    tick_interval_ms: int = Field(
        1_000, ge=50, le=60_000, description="How often the work without input runs."
    )
    controls_interval_ms: int = Field(
        500,
        ge=50,
        le=900,
        description=(
            "How often pause, resume and rates are read. They have to act within a second."
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
    replay_dead_letters_max: int = Field(
        200, ge=1, le=5_000, description="Most dead letters in one replay transaction."
    )
    replay_bytes_max: int = Field(
        4 * 2**20,
        ge=2**20,
        le=32 * 2**20,
        description="Most bytes of dead letters in one replay transaction.",
    )
    delivery_timeout_ms: int = Field(
        10_000,
        ge=1_000,
        le=120_000,
        description="When an unacknowledged output counts as failed and is produced again.",
    )
    acquire_backoff_min_ms: int = Field(
        100, ge=10, le=5_000, description="The first wait of a lane that was fenced."
    )
    acquire_backoff_max_ms: int = Field(
        2_000, ge=100, le=60_000, description="The longest wait of a lane that was fenced."
    )
    backoff_max_ms: int = Field(
        5_000,
        ge=100,
        le=60_000,
        description="The longest wait while database or broker are unavailable, with jitter.",
    )
    bisect_deadline_ms: int = Field(
        1_500,
        ge=100,
        le=2_500,
        description="How long bisecting a failed batch may take. Below transaction_timeout_ms.",
    )
    breaker_window_records: int = Field(
        200, ge=10, le=10_000, description="The last records whose failure rate is watched."
    )
    breaker_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description=("Share of unexpected failures among them at which the service pauses itself."),
    )
    transaction_timeout_ms: int = Field(
        3_000,
        ge=500,
        le=5_000,
        description="Longest transaction. Below the group's session timeout.",
    )
    idle_in_transaction_ms: int = Field(
        2_000,
        ge=200,
        le=5_000,
        description="Longest idle time inside a transaction, for a process that was stopped there.",
    )
    lock_timeout_ms: int = Field(
        1_500,
        ge=50,
        le=5_000,
        description="Longest wait for a row lock. Then the batch is decided again.",
    )
    tcp_user_timeout_ms: int = Field(
        4_000,
        ge=1_000,
        le=30_000,
        description="When a silent connection counts as broken. Below the session timeout.",
    )
    health_host: str = Field(
        "127.0.0.1",
        description="Where /livez, /readyz and /metrics listen. 0.0.0.0 in a container.",
    )
    health_port: int = Field(
        0, ge=0, le=65_535, description="0 takes a free port, which the first log line names."
    )
    live_seconds_max: int = Field(
        30,
        ge=2,
        le=600,
        description=(
            "A loop that did not finish an iteration for so long fails /livez, and its "
            "supervisor restarts the process."
        ),
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR."
    )

    @model_validator(mode="after")
    def _bounds_nest(self) -> Self:
        """A wait inside a transaction must end before the transaction does."""
        for inner in ("idle_in_transaction_ms", "lock_timeout_ms", "bisect_deadline_ms"):
            if getattr(self, inner) >= self.transaction_timeout_ms:
                raise ValueError(f"{inner} must be below transaction_timeout_ms")
        if self.acquire_backoff_min_ms > self.acquire_backoff_max_ms:
            raise ValueError("acquire_backoff_min_ms must not be above acquire_backoff_max_ms")
        return self


class ConfigurationError(ValueError):
    """The environment is wrong. The message is one line and quotes no value, since a value may be a
    password.
    """


S = TypeVar("S", bound=BaseSettings)


def read(cls: type[S]) -> S:
    """Read settings from the environment. Raises ConfigurationError with everything that is
    wrong.
    """
    problems = _unknown(cls)
    try:
        settings = cls()
    except ValidationError as error:
        for detail in error.errors(include_input=False, include_url=False, include_context=False):
            name = ".".join(str(part) for part in detail["loc"])
            problem = "is not set" if detail["type"] == "missing" else detail["msg"].lower()
            if detail["type"] == "value_error":  # of our own validators, with names in capitals
                problem = detail["msg"].removeprefix("Value error, ")
            problems.append(f"{variable(cls, name)} {problem}" if name else problem)
        raise ConfigurationError("; ".join(problems)) from None
    except SettingsError as error:  # a list or mapping that is not JSON
        raise ConfigurationError("; ".join([*problems, str(error)])) from None
    if problems:
        raise ConfigurationError("; ".join(problems))
    return settings


def load(cls: type[S]) -> S:
    """As `read`, at a process's start: a wrong configuration ends it with exit code 78 and one
    line.
    """
    try:
        return read(cls)
    except ConfigurationError as error:
        refuse_start(error)


def refuse_start(error: ConfigurationError) -> NoReturn:
    """End the process with exit code 78 and one line."""
    print(one_line(f"configuration: {error}"), file=sys.stderr)  # noqa: T201 - before the logs are set up, and for a person
    raise SystemExit(EX_CONFIG) from None


def variable(cls: type[BaseSettings], field: str) -> str:
    """Return the environment variable of a setting."""
    return f"{prefix(cls)}{field}".upper()


def prefix(cls: type[BaseSettings]) -> str:
    return cls.model_config.get("env_prefix", "")


def _unknown(cls: type[BaseSettings]) -> list[str]:
    if not (own := prefix(cls).upper()):
        return []
    known = [variable(cls, field) for field in cls.model_fields]
    unknown = sorted(
        name for name in os.environ if name.upper().startswith(own) and name.upper() not in known
    )
    return [f"{name} is not a setting{did_you_mean(name.upper(), known)}" for name in unknown]
