"""What one transaction takes, from which lanes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.runtime.errors import Stop, StublineError
from services.runtime.loop.lane import Lane, PreparedRecord
from services.runtime.loop.ports import ExpectedLane
from services.runtime.records import LaneKey


@dataclass(slots=True)
class LaneSlice:
    """The first records that stand prepared in one lane."""

    lane: Lane
    taken: list[PreparedRecord]

    @property
    def claim(self) -> ExpectedLane:
        return self.lane.claim


class LanesLost(Exception):
    """Rows of these lanes are not as claimed. Everything is undone; the other lanes are decided
    anew.
    """

    def __init__(self, lanes: frozenset[LaneKey]) -> None:
        super().__init__(sorted(lanes))
        self.lanes = lanes


class RecordsFailed(Exception):
    """The handler raised, and nobody knows yet for which record. Everything is undone; bisecting
    finds it.
    """


def collect(lanes: Iterable[Lane], records_max: int, bytes_max: int) -> list[LaneSlice]:
    """In key sequence, as rows are locked. Each lane gets its share of records, so that a flooded
    one does not starve the rest.

    Bytes are shared by all of them, and only the first record of all may pass the bound: lanes of
    which none fits wait for the next transaction, where those that have waited longest come first.
    """
    ready = sorted(
        (lane for lane in lanes if lane.may_commit and _takeable(lane)),
        key=lambda lane: (lane.commit_at, lane.key),
    )
    parts: list[LaneSlice] = []
    for index, lane in enumerate(ready):
        share = -(-records_max // (len(ready) - index))
        taken: list[PreparedRecord] = []
        size = 0
        for prepared in lane.prepared[:share]:
            larger = size + prepared.size
            if isinstance(prepared.event, Stop) or ((taken or parts) and larger > bytes_max):
                break
            taken.append(prepared)
            size = larger
        records_max -= len(taken)
        bytes_max = max(bytes_max - size, 0)
        if taken:
            parts.append(LaneSlice(lane, taken))
        if records_max <= 0:
            break
    return sorted(parts, key=lambda part: part.lane.key)


def _takeable(lane: Lane) -> bool:
    return bool(lane.prepared) and not isinstance(lane.prepared[0].event, Stop)


def first_stop(lane: Lane) -> StublineError | None:
    """The Stop that stands at the head of a lane: everything before it is committed."""
    if lane.prepared and isinstance(lane.prepared[0].event, Stop):
        return lane.prepared[0].event
    return None


def halved(parts: Sequence[LaneSlice]) -> list[LaneSlice]:
    """The first half of the records, a prefix of each lane: for records that fail only together."""
    left = max(1, sum(len(part.taken) for part in parts) // 2)
    half = []
    for part in parts:
        taken = part.taken[:left]
        left -= len(taken)
        if taken:
            half.append(LaneSlice(part.lane, taken))
    return half
