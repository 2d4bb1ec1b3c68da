"""What one transaction takes, from which lanes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.runtime.errors import Stop, StublineError
from services.runtime.loop.lane import Lane, PreparedRecord
from services.runtime.ports import ExpectedLane
from services.runtime.records import LaneKey


@dataclass(slots=True)
class LaneSlice:
    """The first prepared records of one lane: its share of a batch."""

    lane: Lane
    taken: list[PreparedRecord]

    @property
    def expected(self) -> ExpectedLane:
        return self.lane.expected


class LanesFenced(Exception):
    """Rows of these lanes are not as expected. Everything is rolled back; the records of the other
    lanes are decided again.
    """

    def __init__(self, lanes: frozenset[LaneKey]) -> None:
        super().__init__(sorted(lanes))
        self.lanes = lanes


class RecordsFailed(Exception):
    """The handler raised for a record that is not known yet. Everything is rolled back; bisecting
    finds the record.
    """


def collect(lanes: Iterable[Lane], records_max: int, bytes_max: int) -> list[LaneSlice]:
    """Return the next batch, in the order in which the lanes' rows are locked.

    Each lane gets its share of the records, so that a flooded lane does not starve the others. All
    lanes share the bytes, and only the first record of the batch may pass that bound: a lane of
    which no record fits waits for the next transaction, which begins with the lanes that have
    waited longest.
    """
    ready = sorted(
        (lane for lane in lanes if lane.may_commit and _has_event(lane)),
        key=lambda lane: (lane.commit_at, lane.key),
    )
    slices: list[LaneSlice] = []
    for index, lane in enumerate(ready):
        share = -(-records_max // (len(ready) - index))
        taken: list[PreparedRecord] = []
        size = 0
        for prepared in lane.prepared[:share]:
            larger = size + prepared.size
            if isinstance(prepared.event, Stop) or ((taken or slices) and larger > bytes_max):
                break
            taken.append(prepared)
            size = larger
        records_max -= len(taken)
        bytes_max = max(bytes_max - size, 0)
        if taken:
            slices.append(LaneSlice(lane, taken))
        if records_max <= 0:
            break
    return sorted(slices, key=lambda lane_slice: lane_slice.lane.key)


def records_in(slices: Iterable[LaneSlice]) -> int:
    return sum(len(lane_slice.taken) for lane_slice in slices)


def _has_event(lane: Lane) -> bool:
    return bool(lane.prepared) and not isinstance(lane.prepared[0].event, Stop)


def first_stop(lane: Lane) -> StublineError | None:
    """Return the Stop at the head of a lane, if every record before it is committed."""
    if lane.prepared and isinstance(lane.prepared[0].event, Stop):
        return lane.prepared[0].event
    return None


def halved(slices: Sequence[LaneSlice]) -> list[LaneSlice]:
    """Return the first half of the records, as a prefix of each lane."""
    left = max(1, records_in(slices) // 2)
    half = []
    for lane_slice in slices:
        taken = lane_slice.taken[:left]
        left -= len(taken)
        if taken:
            half.append(LaneSlice(lane_slice.lane, taken))
    return half
