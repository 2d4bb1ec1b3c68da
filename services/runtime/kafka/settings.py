"""Settings for Kafka, which every process and command reads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.runtime.settings import variable

REFERENCE = "^(env|file):.+$"  # to a secret
TLS_SETTINGS = frozenset({"ca_file", "certificate_file", "key_file", "key_password"})
USER_AND_PASSWORD = ("user", "password")
LOGIN_SETTINGS = {  # by SASL mechanism: what it needs
    "PLAIN": USER_AND_PASSWORD,
    "SCRAM-SHA-256": USER_AND_PASSWORD,
    "SCRAM-SHA-512": USER_AND_PASSWORD,
    "OAUTHBEARER": ("oauth_token_url", "oauth_client_id", "oauth_client_secret"),
}


class KafkaSettings(BaseSettings):
    """How every process and command reaches the brokers of KAFKA_BOOTSTRAP_SERVERS. The default is
    a cluster without encryption and logins, as the local stack is. Secrets are named and never
    written here: `env:NAME` reads a variable, `file:PATH` a file. A secret in a file is read again
    when the file changes.
    """

    model_config = SettingsConfigDict(
        env_prefix="STUBLINE_KAFKA_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT",
        description=(
            "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, as the brokers' listener has it. "
            "SASL_PLAINTEXT sends records, and PLAIN also the password, unencrypted."
        ),
    )
    ca_file: Path | None = Field(
        None,
        description="PEM: the authorities that sign the brokers' certificates. None: the system's.",
    )
    certificate_file: Path | None = Field(
        None,
        description=(
            "PEM: the certificate by which brokers know the process, with its chain. When it "
            "changes, the process ends with exit code 70, and its supervisor starts it with the "
            "new one."
        ),
    )
    key_file: Path | None = Field(None, description="PEM: the private key of that certificate.")
    key_password: str | None = Field(
        None, pattern=REFERENCE, description="`env:NAME` or `file:PATH`: decrypts the key."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = (
        Field(
            None,
            description=(
                "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER; needed by the SASL protocols."
            ),
        )
    )
    user: str | None = Field(
        None, min_length=1, description="Of PLAIN and SCRAM. One for each process keeps ACLs exact."
    )
    password: str | None = Field(
        None,
        pattern=REFERENCE,
        description=(
            "`env:NAME` or `file:PATH`: the user's password. The next connection uses a changed "
            "file, within seconds."
        ),
    )
    oauth_token_url: str | None = Field(
        None,
        pattern="^https?://",
        description="Of OAUTHBEARER: where tokens are requested with the client credentials.",
    )
    oauth_client_id: str | None = Field(None, min_length=1, description="Of OAUTHBEARER.")
    oauth_client_secret: str | None = Field(
        None,
        pattern=REFERENCE,
        description=(
            "`env:NAME` or `file:PATH`: the client's secret. When the file changes, the process "
            "ends as it does for a certificate."
        ),
    )
    oauth_scope: str | None = Field(
        None, min_length=1, description="Of OAUTHBEARER, if the token server requires one."
    )
    properties: Path | None = Field(
        None,
        description=(
            "A file of librdkafka properties, `name=value` a line, for everything else: timeouts, "
            "buffers, client.rack. What exactly-once effects rest on cannot be set there."
        ),
    )
    prefix: str = Field(
        "",
        max_length=100,
        pattern="^[A-Za-z0-9._-]*$",
        description=(
            "Stands before the name of every topic and group on the brokers, for a cluster that "
            "others share: `acme.` makes `acme.orders.observed.v1`. The database, the log and the "
            "commands go on using the names without it. Never change it in an installation that "
            "has lanes."
        ),
    )
    partitions: int | None = Field(
        None,
        ge=1,
        le=1_000,
        description=(
            "Of each topic that `stubline migrate` creates or grows. None: as listed in "
            "docs/reference/topics.md. It can be raised, and never lowered."
        ),
    )
    replication: int | None = Field(
        None,
        ge=1,
        le=10,
        description=(
            "Replicas of each topic that `stubline migrate` creates. None: three, or as many as "
            "there are brokers."
        ),
    )

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        """Each setting is used: a password that no login sends is a mistake somewhere."""
        needed: set[str] = set()
        if self.security_protocol.startswith("SASL_"):
            needed |= {"sasl_mechanism", *LOGIN_SETTINGS.get(self.sasl_mechanism or "", ())}
        if self.certificate_file or self.key_file:
            needed |= {"certificate_file", "key_file"}
        usable = needed | ({"oauth_scope"} if self.sasl_mechanism == "OAUTHBEARER" else set())
        if self.security_protocol.endswith("SSL"):
            usable |= TLS_SETTINGS
        secured = TLS_SETTINGS | {"sasl_mechanism", "oauth_scope"}.union(*LOGIN_SETTINGS.values())
        for name in sorted(secured):
            is_set = getattr(self, name) is not None
            if name in needed and not is_set:
                raise ValueError(f"{variable(type(self), name)} is not set")
            if is_set and name not in usable:
                raise ValueError(
                    f"{variable(type(self), name)} is set, and {self._security} does not use it"
                )
        return self

    @property
    def _security(self) -> str:
        mechanism = f" with {self.sasl_mechanism}" if self.sasl_mechanism else ""
        return f"{self.security_protocol}{mechanism}"
