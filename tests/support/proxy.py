"""A network between a process and PostgreSQL that loses what a test wants it to lose."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

HOST = "127.0.0.1"
BYTES_MAX = 65_536


class Proxy:
    """Forwards bytes, one thread a connection."""

    def __init__(self, target_url: str, port: int = 0) -> None:
        """`port` may be an earlier proxy's, so that its clients find this one."""
        target = conninfo_to_dict(target_url)
        self._target = (str(target["host"]), int(target["port"] or 0))
        self._listener = socket.create_server((HOST, port))
        self.port = int(self._listener.getsockname()[1])
        self._answers_to_lose, self._commits_to_lose = 0, 0
        self.answers_lost, self.commits_lost = 0, 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)

    def url(self, url: str) -> str:
        """Return the URL of the same database through this proxy."""
        return make_conninfo(url, host=HOST, port=self.port)

    def lose_answer(self, commits: int = 1) -> None:
        """Break the connection after the next commits have reached the server."""
        self._answers_to_lose += commits

    def lose_commit(self, commits: int = 1) -> None:
        """Break the connection before the next commits reach the server."""
        self._commits_to_lose += commits

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            _break(connection)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(
                    target=self._serve, args=(client,), name="proxy connection", daemon=True
                ).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, 5)
        except OSError:
            client.close()
            return
        with self._lock:
            self._open |= {client, server}
        try:
            self._forward(client, server)
        except OSError:
            pass  # one side has closed, so the other is closed too
        finally:
            with self._lock:
                self._open -= {client, server}
            _break(client)
            _break(server)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    source = client if key.fd == client.fileno() else server
                    content = source.recv(BYTES_MAX)
                    if not content or (source is client and self._loses(content, server)):
                        return
                    (server if source is client else client).sendall(content)

    def _loses(self, content: bytes, server: socket.socket) -> bool:
        if b"COMMIT" not in content:
            return False
        with self._lock:
            loses_commit, loses_answer = self._commits_to_lose > 0, self._answers_to_lose > 0
            self._commits_to_lose -= loses_commit
            self._answers_to_lose -= loses_answer and not loses_commit
            self.commits_lost += loses_commit
        if loses_commit:
            return True
        if loses_answer:
            server.sendall(content)
            server.recv(BYTES_MAX)  # it is committed now, and the process never learns of it
            with self._lock:
                self.answers_lost += 1
        return loses_answer


def _break(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
