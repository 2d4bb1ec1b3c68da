"""A batch is bounded in records and bytes, and no lane waits for ever."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.loop.batch import collect
from services.runtime.loop.lane import Lane, LaneState, PreparedRecord
from services.runtime.records import LaneKey, Record

SIZES = st.dictionaries(
    st.integers(0, 7), st.lists(st.integers(1, 900), min_size=1, max_size=8), min_size=1, max_size=8
)


def lanes_of(sizes: Mapping[int, list[int]]) -> dict[int, Lane]:
    return {number: lane_of(number, each) for number, each in sizes.items()}


def lane_of(number: int, sizes: list[int]) -> Lane:
    key = LaneKey("in", number)
    lane = Lane(key, LaneState.RUNNING, next_offset=0, fetch_position=len(sizes))
    for offset, size in enumerate(sizes):
        record = Record("in", number, offset, 0, None, b"", ())
        lane.prepared.append(PreparedRecord(key, offset, record, None, 0, size))
    return lane


@given(SIZES, st.integers(1, 20), st.integers(1, 2_000))
def test_a_transaction_passes_its_bytes_by_no_more_than_its_first_record(
    sizes: dict[int, list[int]], records_max: int, bytes_max: int
) -> None:
    slices = collect(lanes_of(sizes).values(), records_max, bytes_max)
    taken = [prepared.size for lane_slice in slices for prepared in lane_slice.taken]
    assert slices == sorted(slices, key=lambda lane_slice: lane_slice.lane.key), (
        "rows are locked in key order"
    )
    assert 1 <= len(taken) <= records_max
    assert sum(taken) <= bytes_max or len(taken) == 1


@given(SIZES, st.integers(1, 20), st.integers(1, 2_000))
def test_no_lane_starves_however_large_the_records_of_the_others_are(
    sizes: dict[int, list[int]], records_max: int, bytes_max: int
) -> None:
    lanes = lanes_of(sizes)
    waited = dict.fromkeys(lanes, 0)
    for batch in range(1, sum(map(len, sizes.values())) + 1):
        slices = collect(lanes.values(), records_max, bytes_max)
        went = {lane_slice.lane.key.partition for lane_slice in slices}
        for number, lane in lanes.items():
            waited[number] = 0 if number in went or not lane.prepared else waited[number] + 1
            assert waited[number] < len(lanes)
        for lane_slice in slices:
            lane_slice.lane.advance(len(lane_slice.taken), float(batch))
    assert not any(lane.prepared for lane in lanes.values())
