"""Laws of the trace context, by the W3C's text: valid is continued, anything else is ignored and
never repaired.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis.strategies import binary, from_regex, integers, text

from services.runtime.observability import tracing
from services.runtime.observability.tracing import Trace

VALID = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_valid_header_is_read() -> None:
    trace = tracing.parse(VALID)
    assert trace == Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 1)
    assert tracing.parse(VALID.encode()) == trace
    assert str(trace) == VALID


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        VALID.upper(),
        VALID.replace("00-4", "ff-4", 1),
        VALID + "-more",  # version 00 has four parts
        VALID + " ",
        VALID + "\n",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        VALID.replace("-01", "-1"),
        VALID.replace("-01", "-0x"),
        "0\u0660" + VALID[2:],  # a digit, but not one of ours
        "01-" + VALID[3:] + "-" + "a" * 600,
    ],
)
def test_an_invalid_header_is_ignored(header: str | None) -> None:
    assert tracing.parse(header) is None


@pytest.mark.parametrize("flags", ["00", "01", "02", "03", "ff"])
def test_flags_are_bits(flags: str) -> None:
    trace = tracing.parse(VALID[:-2] + flags)
    assert trace is not None
    assert trace.sampled == bool(int(flags, 16) & 1)
    assert str(tracing.child(trace)).endswith(f"-{flags}")


def test_a_later_version_is_read_by_what_it_shares_with_ours() -> None:
    trace = tracing.parse("cc" + VALID[2:] + "-what-the-future-holds")
    assert trace is not None
    assert str(trace) == VALID


@given(integers(0, 255))
def test_a_hop_keeps_the_trace_and_takes_a_new_span(flags: int) -> None:
    parent = tracing.new()._replace(flags=flags)
    hop = tracing.child(parent)
    assert (hop.trace_id, hop.flags) == (parent.trace_id, flags)
    assert hop.span_id != parent.span_id
    assert tracing.parse(str(hop)) == hop


def test_without_a_parent_a_trace_begins() -> None:
    begun = {tracing.child(None).trace_id for _ in range(100)}
    assert len(begun) == 100
    assert all(tracing.parse(str(tracing.new())) for _ in range(100))


@given(text() | binary())
def test_whatever_is_sent_from_outside_is_no_error(header: str | bytes) -> None:
    trace = tracing.parse(header)
    assert trace is None or tracing.parse(str(trace)) is not None


@given(
    binary(max_size=70)
    | from_regex(rb"\A(00|01|ff)-[0-9a-f]{31}[0-9a-f]-(0{16}|[0-9a-f]{16})-[0-9a-f]{2}\Z")
)
@example(VALID.encode())
@example(VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32).encode())
def test_the_quick_way_to_the_next_hop_equals_the_long_one(header: bytes) -> None:
    parent, trace = tracing.parse(header), tracing.parse(tracing.hop(header))
    assert trace is not None
    assert (
        (trace.trace_id, trace.flags) == (parent.trace_id, parent.flags)
        if parent
        else trace.flags == 1
    )
    assert parent is None or trace.span_id != parent.span_id
