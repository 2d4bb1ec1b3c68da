"""What a client reports of its connections, made into the error of a request that failed.

A request that no broker answered fails with a timeout. The client reports the reason separately: a
login that was refused, a certificate that has expired, an address that does not resolve.
"""

from __future__ import annotations

from confluent_kafka import KafkaError

from services.runtime.errors import BrokerUnavailable
from services.runtime.kafka import tls_probe
from services.runtime.kafka.cluster import KafkaCluster

LOGIN = frozenset(
    {
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - its public name
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
    }
)
TLS = frozenset({KafkaError._SSL})  # noqa: SLF001 - its public name
TLS_WORDS = ("SSL handshake", "certificate", " alert ")  # in the text of a lost connection
TEXT_CHARS_MAX = 400


class BrokerLoginRefused(BrokerUnavailable):
    """Kafka does not accept the process's user, password or token."""

    code = "broker-login-refused"
    next_step = (
        "Compare STUBLINE_KAFKA_SASL_MECHANISM, STUBLINE_KAFKA_USER and the secret of the process "
        "with the user on the brokers or at the token server. A password in a file is read again: "
        "the service goes on by itself."
    )


class BrokerTlsFailed(BrokerUnavailable):
    """No encrypted connection: a certificate is not trusted, has expired, or is for another
    name.
    """

    code = "broker-tls-failed"
    next_step = (
        "`openssl s_client -connect HOST:PORT` shows the broker's certificate and its dates: "
        "compare it with STUBLINE_KAFKA_CA_FILE, and the process's own with what the brokers "
        "trust. The service goes on by itself."
    )


class ConnectionErrors:
    """The last thing that a client reported of its connections. Its `report` is the client's
    `error_cb`.
    """

    def __init__(self, cluster: KafkaCluster) -> None:
        self._cluster = cluster
        self._last: KafkaError | None = None

    def report(self, error: KafkaError) -> None:
        """Keeps the reason when `all brokers are down` follows it."""
        if self._last is None or error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
            self._last = error

    def clear(self) -> None:
        """Call it when a broker has answered."""
        self._last = None

    def unavailable(self, cause: str) -> BrokerUnavailable:
        """Return the error of a request that no broker answered."""
        if self._last is None:
            return BrokerUnavailable(cause)
        kind, text = error_type(self._last), self._last.str()[:TEXT_CHARS_MAX]
        if kind is BrokerTlsFailed and (reason := tls_probe.reason(self._cluster)):
            text = reason
        return kind(f"{cause}: {text}")


def error_type(error: KafkaError) -> type[BrokerUnavailable]:
    """Return the kind of an error: no connection, no encryption, or no login."""
    if error.code() in LOGIN:
        return BrokerLoginRefused
    text = error.str()
    if error.code() in TLS or any(word in text for word in TLS_WORDS):
        return BrokerTlsFailed
    return BrokerUnavailable
