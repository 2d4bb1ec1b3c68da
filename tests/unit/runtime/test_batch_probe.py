"""The end of an unreadable batch is found among batches of any size, readable or not."""

from __future__ import annotations

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.kafka.batch_probe import _first_outside


@given(st.lists(st.tuples(st.integers(1, 5_000), st.booleans()), min_size=1, max_size=8), st.data())
def test_the_offset_after_a_batch_is_found_whatever_follows_it(
    batches: list[tuple[int, bool]], data: st.DataObject
) -> None:
    begins = [0]
    for size, _ in batches:
        begins.append(begins[-1] + size)
    reads = 0

    def batch_at(offset: int) -> int | None:
        nonlocal reads
        reads += 1
        number = bisect_right(begins, offset) - 1
        return begins[number] if number < len(batches) and not batches[number][1] else None

    number = data.draw(st.integers(0, len(batches) - 1))
    offset = data.draw(st.integers(begins[number], begins[number + 1] - 1))
    is_readable = batches[number][1]
    assert _first_outside(batch_at, offset) == (None if is_readable else begins[number + 1])
    assert reads <= 30
