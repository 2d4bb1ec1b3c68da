"""Record batches that no client library would write, produced over a plain socket.

The broker takes them, because it can unpack them; librdkafka cannot. Formats: Kafka's protocol
guide (record batch v2, Produce v7) and RFC 8878 (Zstandard).
"""

from __future__ import annotations

import socket
import struct
import time

ZSTD, ZSTD_MAGIC, ZSTD_BLOCK_BYTES_MAX = 4, 0xFD2FB528, 2**17
RAW_BLOCK, RUN_LENGTH_BLOCK = 0, 1
PRODUCE, PRODUCE_VERSION = 0, 7
ACKS_ALL, TIMEOUT_MS, NO_PRODUCER = -1, 10_000, -1
UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, NOT_LEADER, TRIES_MAX = 3, 5, 6, 600


def blanks_that_cannot_be_unpacked(key: bytes, blanks: int, *, records: int = 1) -> bytes:
    """A batch whose zstd frame omits its length, as Java's producer writes it: some bytes for each
    128 KiB of blanks.

    librdkafka unpacks such a frame only up to `receive.message.max.bytes` (100 MB).
    """
    pieces: list[bytes] = []
    for number in range(records):
        before = b"\0" + _varint(0) + _varint(number) + _varint(len(key)) + key + _varint(blanks)
        after = _varint(0)  # no headers
        pieces += [
            _raw(_varint(len(before) + blanks + len(after)) + before),
            _run_of(b" ", blanks),
            _raw(after),
        ]
    window_of_128_kib = bytes([0x00, 7 << 3])
    frame = (
        struct.pack("<I", ZSTD_MAGIC)
        + window_of_128_kib
        + b"".join(pieces)
        + _block(b"", RAW_BLOCK, 0, last=True)
    )
    return batch(frame, compression=ZSTD, records=records)


def batch(content: bytes, *, compression: int, records: int) -> bytes:
    """A record batch of format 2 around records that are already packed."""
    now = int(time.time() * 1_000)
    checked = (
        struct.pack(">hiqqqhii", compression, records - 1, now, now, NO_PRODUCER, -1, -1, records)
        + content
    )
    body = struct.pack(">ibI", -1, 2, _crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(body)) + body


def produce(servers: str, topic: str, partition: int, packed: bytes) -> int:
    """Sends one batch to the only broker and returns its first offset. AssertionError: the broker
    refused it.

    A topic that was just created is known before its partitions have a leader: like every client,
    this waits for one.
    """
    error, offset = _answer(servers, topic, partition, packed)
    for _ in range(TRIES_MAX):
        if error not in (UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, NOT_LEADER):
            break
        time.sleep(0.1)
        error, offset = _answer(servers, topic, partition, packed)
    assert error == 0, f"the broker answers {error}"
    return offset


def _answer(servers: str, topic: str, partition: int, packed: bytes) -> tuple[int, int]:
    """One request: the broker's error code, and the batch's first offset."""
    body = struct.pack(">hhi", -1, ACKS_ALL, TIMEOUT_MS)  # no transactional id
    body += (
        struct.pack(">i", 1)
        + _text(topic)
        + struct.pack(">iii", 1, partition, len(packed))
        + packed
    )
    request = struct.pack(">hhi", PRODUCE, PRODUCE_VERSION, 1) + _text("stubline-test") + body
    host, _, port = servers.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", _received(connection, 4))
        answer = _received(connection, length)
    at = (
        4 + 4 + 2 + len(topic) + 4 + 4
    )  # correlation id, topics, the topic's name, partitions, the partition
    error, offset = struct.unpack_from(">hq", answer, at)
    return int(error), int(offset)


def _received(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        more = connection.recv(count - len(received))
        assert more, "the broker closed the connection"
        received += more
    return received


def _text(content: str) -> bytes:
    return struct.pack(">h", len(content)) + content.encode()


def _varint(number: int) -> bytes:
    """Zigzag, as records write their numbers."""
    left = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def _raw(content: bytes) -> bytes:
    return _block(content, RAW_BLOCK, len(content))


def _run_of(byte: bytes, count: int) -> bytes:
    full_blocks, remainder = divmod(count, ZSTD_BLOCK_BYTES_MAX)
    runs = _block(byte, RUN_LENGTH_BLOCK, ZSTD_BLOCK_BYTES_MAX) * full_blocks
    return runs + (_block(byte, RUN_LENGTH_BLOCK, remainder) if remainder else b"")


def _block(content: bytes, kind: int, size: int, *, last: bool = False) -> bytes:
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + content


def _crc32c(content: bytes) -> int:
    table = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
