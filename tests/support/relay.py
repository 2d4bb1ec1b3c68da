"""A server on loopback through which a client reaches another one."""

from __future__ import annotations

import socket
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"


class Relay(ABC):
    """Listens inside `with`, and serves each client in a thread of its own."""

    def __init__(self) -> None:
        self._listening = socket.create_server((HOST, 0))
        self._open = [self._listening]
        self.port = int(self._listening.getsockname()[1])

    @abstractmethod
    def serve_client(self, client: socket.socket) -> None:
        """Serve one connection of a client to its end."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for opened in self._open:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()

    def connect(self, client: socket.socket, server: socket.socket, greeting: bytes = b"") -> None:
        """Send the greeting to the server, then pass on bytes both ways until both have ended."""
        self._open += [client, server]
        server.sendall(greeting)
        threading.Thread(target=_pipe, args=(server, client), daemon=True).start()
        _pipe(client, server)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            self.serve_client(client)


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65_536):
            target.sendall(content)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
