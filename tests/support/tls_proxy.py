"""TLS in front of a local PostgreSQL, which is built without it: the client's side is as in an
installation.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.certificates import Issued

HOST = "127.0.0.1"
TLS_REQUEST = struct.pack("!ii", 8, 80_877_103)


class TlsProxy:
    """Answers a client's request for TLS, and passes on the bytes inside."""

    def __init__(self, target: tuple[str, int], certificate: Issued) -> None:
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.certificate, certificate.key)
        self._listening = socket.create_server((HOST, 0))
        self._open = [self._listening]
        self.port = int(self._listening.getsockname()[1])
        self.sessions = 0  # that were encrypted

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._open.append(client)
                threading.Thread(target=self._session, args=(client,), daemon=True).start()

    def close(self) -> None:
        for opened in self._open:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()

    def _session(self, client: socket.socket) -> None:
        with suppress(OSError):
            if client.recv(8, socket.MSG_WAITALL) != TLS_REQUEST:
                client.close()
                return
            client.sendall(b"S")
            inside = self._context.wrap_socket(client, server_side=True)
            self.sessions += 1
            server = socket.create_connection(self._target, 5)
            self._open += [inside, server]
            threading.Thread(target=_pipe, args=(server, inside), daemon=True).start()
            _pipe(inside, server)


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65_536):
            target.sendall(content)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def tls_proxy(target: tuple[str, int], certificate: Issued) -> Iterator[TlsProxy]:
    proxy = TlsProxy(target, certificate)
    threading.Thread(target=proxy.serve, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.close()
