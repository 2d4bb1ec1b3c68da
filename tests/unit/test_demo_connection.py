"""The demonstration's HTTP connection reads a response however it is cut, and outlives a server."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from deploy.demo.kept_connection import KeptConnection, Response, post
from deploy.local.ports import HOST

RESPONSE = b"HTTP/1.1 503 Busy\r\nRetry-After: 2\r\nContent-Length: 5\r\n\r\nlater"
REQUEST = post("/hooks/shop", {"X-Topic": "order.updated"}, b"{}")


@contextmanager
def server(pieces: list[bytes], connections: int) -> Iterator[int]:
    """Serve so many connections: each request gets these pieces, and an incomplete response ends
    its connection. Yields the port.
    """

    def serve() -> None:
        for _ in range(connections):
            client, _ = listening.accept()
            with client:
                while client.recv(len(REQUEST), socket.MSG_WAITALL):
                    for piece in pieces:
                        client.sendall(piece)
                    if b"".join(pieces) != RESPONSE:
                        break

    with socket.create_server((HOST, 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


async def responses(port: int, requests: int) -> list[Response | BaseException]:
    async with KeptConnection(port) as connection:
        return [
            (await asyncio.gather(connection.request(REQUEST), return_exceptions=True))[0]
            for _ in range(requests)
        ]


@given(some.sets(some.integers(1, len(RESPONSE) - 1), max_size=4))
def test_a_response_is_read_however_it_is_cut(cuts: set[int]) -> None:
    pieces = [RESPONSE[one:other] for one, other in pairwise([0, *sorted(cuts), len(RESPONSE)])]
    with server(pieces, connections=1) as port:
        read = asyncio.run(responses(port, 2))
    headers = {b"retry-after": b"2", b"content-length": b"5"}
    assert read == [Response(503, headers)] * 2


@pytest.mark.parametrize("cut", [0, 10, len(RESPONSE) - 1])
def test_a_server_that_breaks_off_is_an_error_and_the_next_request_connects_again(cut: int) -> None:
    with server([RESPONSE[:cut]], connections=2) as port:
        read = asyncio.run(responses(port, 2))
    assert [isinstance(error, ConnectionError) for error in read] == [True, True]
