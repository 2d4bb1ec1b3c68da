"""The outbox's format: what a release has written into a row, every later one reads."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as some

from schemas.envelope import Output
from services.runtime.errors import OutboxUnreadable
from services.runtime.loop import outbox

OUTPUTS = [
    Output("a.v1", b"k", b'{"x":1}', [("ce_id", b"1"), ("none", None)]),
    Output("dead.v1", None, None, []),
]
BYTES = some.none() | some.binary(max_size=40)
HEADERS = some.lists(some.tuples(some.text(max_size=8), BYTES), max_size=4)


def by_hand(outputs: list[Output]) -> bytes:
    """Encode as the module's docstring describes it, with zlib."""

    def field(content: bytes | None) -> bytes:
        return b"\xff\xff\xff\xff" if content is None else len(content).to_bytes(4, "big") + content

    fields = b"".join(
        field(output.topic.encode())
        + field(output.key)
        + len(output.headers).to_bytes(4, "big")
        + b"".join(field(name.encode()) + field(content) for name, content in output.headers)
        + field(output.value)
        for output in outputs
    )
    return b"\x01" + zlib.compress(fields, 1)


def test_what_zlib_wrote_is_read() -> None:
    assert outbox.decode(by_hand(OUTPUTS)) == OUTPUTS


@given(
    some.lists(
        some.builds(Output, some.text(min_size=1, max_size=8), BYTES, BYTES, HEADERS),
        min_size=1,
        max_size=5,
    )
)
def test_any_zlib_reads_what_is_written(outputs: list[Output]) -> None:
    stored = outbox.encode(outputs)
    assert stored is not None
    assert zlib.decompress(stored[1:]) == zlib.decompress(by_hand(outputs)[1:])
    assert outbox.decode(stored) == outputs


def test_a_later_version_and_damage_are_reported() -> None:
    stored = outbox.encode(OUTPUTS) or b""
    for wrong in (b"\x02" + stored[1:], stored[:-3], b"\x01not zlib"):
        with pytest.raises(OutboxUnreadable):
            outbox.decode(wrong)
