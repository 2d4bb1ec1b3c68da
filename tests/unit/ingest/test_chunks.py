"""Where the reads of a chunked request end decides nothing: a body is no trailer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from services.ingest.webhooks.connections import OpenConnections
from services.ingest.webhooks.protocol import TRAILERS_BYTES_MAX

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"x" * (2 * TRAILERS_BYTES_MAX)
SIZE = b"%x\r\n" % len(CHUNK)


async def counted(_scope: Scope, receive: Receive, send: Send) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    content = b"%d bytes" % size
    headers = [(b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


class Written(asyncio.Transport):
    """A connection whose reads are given one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.content, self.closed = b"", asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.content += bytes(data)

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        self.closed.set()

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int:
        return 0


async def answer(reads: Sequence[bytes]) -> bytes:
    protocol = OpenConnections(10, 10.0).protocol()
    config = uvicorn.Config(
        counted, http=protocol, lifespan="off", log_config=None, server_header=False
    )
    config.load()
    one, written = protocol(config, ServerState(), {}), Written()  # type: ignore[call-arg] # uvicorn's own arguments
    one.connection_made(written)
    for read in reads:
        if not written.is_closing():
            one.data_received(read)
            await asyncio.sleep(0)
    await written.closed.wait()
    return written.content


@pytest.mark.parametrize(
    ("reads", "status", "end"),
    [
        (
            [
                HEAD,
                SIZE,
                CHUNK + b"\r\n" + SIZE,
                CHUNK + b"\r\n" + SIZE,
                CHUNK + b"\r\n0\r\n",
                b"\r\n",
            ],
            b"200",
            b"49152 bytes",
        ),
        ([HEAD + SIZE, CHUNK + b"\r\n0\r\n", b"a: b\r\n", b"\r\n"], b"200", b"16384 bytes"),
        ([HEAD + SIZE, CHUNK + b"\r\n0\r\na: " + b"b" * 9_000], b"431", b""),
        ([HEAD + SIZE, CHUNK + b"\r\n0\r\na: b", b"b" * 9_000], b"431", b""),
        ([HEAD, b"0\r\n", b"a: " + b"b" * 9_000], b"431", b""),
    ],
    ids=[
        "sizes apart",
        "trailers apart",
        "long trailer",
        "long trailer in two reads",
        "long trailer alone",
    ],
)
def test_a_read_that_ends_after_a_chunk_header_is_no_trailer(
    reads: Sequence[bytes], status: bytes, end: bytes
) -> None:
    answered = asyncio.run(answer(reads))
    assert answered.split(b" ", 2)[1] == status
    assert answered.endswith(end)


def test_a_limit_is_answered_alike_with_and_without_an_offer_of_an_upgrade() -> None:
    remainder = SIZE + CHUNK + b"\r\n0\r\n" + b"a: b\r\n" * 200 + b"\r\n"
    offering = HEAD.replace(b"Connection: close", b"Connection: Upgrade, close\r\nUpgrade: h2c")
    for head in (HEAD, offering):
        answered = asyncio.run(answer([head + remainder]))
        assert answered.split(b" ", 2)[1] == b"431"
