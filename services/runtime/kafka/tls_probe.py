"""Finds why TLS fails. The Kafka client does not report it: its error for a certificate that has
expired reads as if the authority were unknown.
"""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from services.runtime.kafka.cluster import KafkaCluster

CONNECT_S = 1.0
ADDRESSES_MAX = 3


def reason(cluster: KafkaCluster) -> str:
    """Return the reason in one sentence, or nothing if the handshake succeeds now."""
    if (own := _own_certificate(cluster.settings.certificate_file)) is not None:
        return own
    for address in cluster.bootstrap_servers.split(",")[:ADDRESSES_MAX]:
        host, _, port = address.strip().rpartition(":")
        try:
            _shake_hands(host.strip("[]"), int(port), cluster.settings.ca_file)
        except ssl.SSLCertVerificationError as error:
            return f"{address}: {error.verify_message}"
        except (OSError, ValueError):
            continue
    return ""


def _own_certificate(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError):
        return f"{file} holds no certificate"
    if (until := certificate.not_valid_after_utc) > datetime.now(UTC):
        return None
    return f"{file} expired at {until:%Y-%m-%d %H:%M} UTC"


def _shake_hands(host: str, port: int, authorities: Path | None) -> None:
    context = ssl.create_default_context(cafile=None if authorities is None else str(authorities))
    with (
        socket.create_connection((host, port), CONNECT_S) as opened,
        context.wrap_socket(opened, server_hostname=host),
    ):
        pass
