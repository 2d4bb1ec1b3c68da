"""A Kafka cluster as one of its clients sees it: addresses, security, properties and names.

Every client of Stubline gets its settings from `KafkaCluster.client_settings`: workers, the webhook
endpoint, the probe of damaged batches, and the commands. In this order, later ones win: what the
client is for, the librdkafka properties file, and how brokers are reached.

With a prefix, topics and groups have longer names on the brokers. Only clients know them: rows,
events, logs and commands use the names of schemas/topics.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from confluent_kafka import KafkaException, Producer

from services.runtime import files
from services.runtime.kafka.credentials import secret
from services.runtime.kafka.properties import read_properties
from services.runtime.kafka.settings import KafkaSettings
from services.runtime.settings import ConfigurationError, load, refuse_start

OPEN = KafkaSettings.model_construct()  # no encryption, no login, no prefix
PROPERTIES_BYTES_MAX = 64 * 2**10
C = TypeVar("C")  # a client


@dataclass(frozen=True)
class KafkaCluster:
    """All that a client must know of its cluster. Its text shows no secret."""

    bootstrap_servers: str
    settings: KafkaSettings = field(default=OPEN, repr=False)

    @classmethod
    def of(cls, cluster: KafkaCluster | str) -> KafkaCluster:
        """Addresses alone name a cluster without encryption, logins and a prefix."""
        return cls(cluster) if isinstance(cluster, str) else cluster

    def client_settings(self, own: Mapping[str, object]) -> dict[str, Any]:
        """Return what librdkafka gets. Raises ConfigurationError."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            **own,
            **self._properties,
            **self._security(),
        }

    @property
    def is_open(self) -> bool:
        """Whether addresses alone are enough: nothing else is set."""
        return self.settings.model_dump() == OPEN.model_dump()

    @property
    def prefix(self) -> str:
        return self.settings.prefix

    def with_prefix(self, name: str) -> str:
        """The name of a topic or group on the brokers: with the prefix of the settings."""
        return self.settings.prefix + name

    def without_prefix(self, name: str) -> str:
        """The name of a topic in Stubline, for its name on the brokers, which begins with the
        prefix.
        """
        return name[len(self.settings.prefix) :]

    def all_with_prefix(self, names: Iterable[str]) -> list[str]:
        return [self.with_prefix(name) for name in names]

    def check(self) -> None:
        """Raises ConfigurationError if a client cannot be made: a secret that is missing, a file
        that holds no certificate, a property with a value that librdkafka does not take.
        """
        self.make(Producer, {**self.client_settings({}), "log_level": 0})

    @staticmethod
    def make(kind: Callable[..., C], settings: Mapping[str, object], **more: object) -> C:
        """Make a consumer, producer or admin client. Raises ConfigurationError: a client may refuse
        its properties together though it takes each of them.
        """
        try:
            return kind(dict(settings), **more)
        except KafkaException as error:
            raise ConfigurationError(f"Kafka client: {error.args[0].str().rstrip()}") from None
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"Kafka client: {error}") from None

    @cached_property
    def _properties(self) -> dict[str, str]:
        if (path := self.settings.properties) is None:
            return {}
        try:
            return read_properties(files.read_text(path, PROPERTIES_BYTES_MAX))
        except (files.FileUnusableError, ValueError) as error:
            raise ConfigurationError(f"STUBLINE_KAFKA_PROPERTIES: {path}: {error}") from None

    def _security(self) -> dict[str, object]:
        settings = self.settings
        properties: dict[str, object | None] = {
            "ssl.ca.location": settings.ca_file and str(settings.ca_file),
            "ssl.certificate.location": settings.certificate_file
            and str(settings.certificate_file),
            "ssl.key.location": settings.key_file and str(settings.key_file),
            "ssl.key.password": secret(settings.key_password),
            "sasl.mechanism": settings.sasl_mechanism,
            "sasl.username": settings.user,
            "sasl.password": secret(settings.password),
        }
        if settings.security_protocol != "PLAINTEXT":
            properties["security.protocol"] = settings.security_protocol
        if settings.sasl_mechanism == "OAUTHBEARER":
            properties |= {
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.token.endpoint.url": settings.oauth_token_url,
                "sasl.oauthbearer.client.id": settings.oauth_client_id,
                "sasl.oauthbearer.client.secret": secret(settings.oauth_client_secret),
                "sasl.oauthbearer.scope": settings.oauth_scope,
            }
        return {name: content for name, content in properties.items() if content is not None}


def configured(bootstrap_servers: str) -> KafkaCluster:
    """The cluster as STUBLINE_KAFKA_* describe it, for a process's start: a wrong configuration
    ends it with exit code 78 and one line.
    """
    cluster = KafkaCluster(bootstrap_servers, load(KafkaSettings))
    try:
        if not cluster.is_open:
            cluster.check()
    except ConfigurationError as error:
        refuse_start(error)
    return cluster
