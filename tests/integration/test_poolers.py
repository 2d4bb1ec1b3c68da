"""Laws of poolers: a session without its time bounds is refused before it does anything."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.runtime.postgres import connection as database
from services.runtime.postgres.session import SessionBoundsIgnored
from services.runtime.process import EX_SOFTWARE
from tests.support.relay import HOST, Relay

PLAIN, NO_TLS = (
    196_608,
    {80_877_103, 80_877_104},
)  # protocol 3.0; the requests for TLS and for GSSAPI
REFUSAL = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0"


class Pooler(Relay):
    """PgBouncer's two ways with `options` of a session's start: it drops them, or it refuses the
    session.
    """

    def __init__(self, url: str, *, is_refusing: bool) -> None:
        super().__init__()
        target = conninfo_to_dict(url)
        self._target = (str(target["host"]), int(str(target["port"])))
        self._is_refusing = is_refusing
        self.url = make_conninfo(url, host=HOST, port=self.port)

    def serve_client(self, client: socket.socket) -> None:
        with suppress(struct.error):
            code, body = self._startup(client)
            while code in NO_TLS:
                client.sendall(b"N")
                code, body = self._startup(client)
            words = body.rstrip(b"\0").split(b"\0")
            named = dict(zip(words[::2], words[1::2], strict=True))
            if named.pop(b"options", None) is not None and self._is_refusing:
                client.sendall(b"E" + struct.pack("!i", len(REFUSAL) + 4) + REFUSAL)
                client.close()
                return
            parameters = (
                b"".join(name + b"\0" + content + b"\0" for name, content in named.items()) + b"\0"
            )
            startup = struct.pack("!ii", len(parameters) + 8, PLAIN) + parameters
            self.connect(client, socket.create_connection(self._target, 5), startup)

    def _startup(self, client: socket.socket) -> tuple[int, bytes]:
        length, code = struct.unpack("!ii", client.recv(8, socket.MSG_WAITALL))
        return code, client.recv(length - 8, socket.MSG_WAITALL) if length > 8 else b""


@contextmanager
def pooled(url: str, *, is_refusing: bool = False) -> Iterator[str]:
    with Pooler(url, is_refusing=is_refusing) as pooler:
        yield pooler.url


def test_a_session_that_lost_its_bounds_is_refused_and_names_them(database_url: str) -> None:
    with pooled(database_url) as url, pytest.raises(SessionBoundsIgnored) as refused:
        database.connect(url, name="law")
    assert "transaction_timeout is 0 ms, not 3000 ms" in refused.value.cause
    assert "lock_timeout is 0 ms, not 1500 ms" in refused.value.cause


def test_a_pooler_that_refuses_our_options_is_not_an_unavailable_database(
    database_url: str,
) -> None:
    with (
        pooled(database_url, is_refusing=True) as url,
        pytest.raises(SessionBoundsIgnored, match="unsupported startup"),
    ):
        database.connect(url, name="law")


def test_a_session_whose_bounds_are_its_own_is_taken(database_url: str) -> None:
    with database.connect(
        database_url, name="law", lock_ms=77, transaction_timeout_ms=0
    ) as session:
        assert session.execute("show lock_timeout").fetchone() == ("77ms",)


@pytest.mark.parametrize("is_refusing", [False, True])
def test_a_service_that_connects_through_such_a_pooler_ends_with_the_code(
    database_url: str, bootstrap_servers: str, *, is_refusing: bool
) -> None:
    with pooled(database_url, is_refusing=is_refusing) as url:
        environment = {
            **os.environ,
            "DATABASE_URL": url,
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        }
        done = subprocess.run(
            [sys.executable, "-m", "services.issuer"],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == EX_SOFTWARE, done.stderr
    assert SessionBoundsIgnored.code in done.stderr
    assert "Traceback" not in done.stderr
