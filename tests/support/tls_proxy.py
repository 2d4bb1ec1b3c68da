"""TLS in front of a local PostgreSQL, which is built without it: the client's side is as in an
installation.
"""

from __future__ import annotations

import socket
import ssl
import struct

from tests.support.certificates import Issued
from tests.support.relay import Relay

TLS_REQUEST = struct.pack("!ii", 8, 80_877_103)


class TlsProxy(Relay):
    """Answers a client's request for TLS, and passes on the bytes inside."""

    def __init__(self, target: tuple[str, int], certificate: Issued) -> None:
        super().__init__()
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.certificate, certificate.key)
        self.sessions = 0  # that were encrypted

    def serve_client(self, client: socket.socket) -> None:
        if client.recv(8, socket.MSG_WAITALL) != TLS_REQUEST:
            client.close()
            return
        client.sendall(b"S")
        inside = self._context.wrap_socket(client, server_side=True)
        self.sessions += 1
        self.connect(inside, socket.create_connection(self._target, 5))
