"""What the client reports instead of a lane's records, and is not passing: an offset that the log
lacks, a batch that it cannot unpack. The lane stops with its code; the others go on.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from services.runtime.errors import OffsetOutOfRange, RecordUnreadable, TopicRecreated
from services.runtime.loop.assignment import Assignment
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import Lane, LaneState
from services.runtime.loop.ports import FetchResult
from services.runtime.records import LaneKey

S = TypeVar("S")
UNREADABLE_REPORTS_MIN = (
    3  # at one offset, before it is believed: a damaged answer would not be damaged again
)


class InputHealth(Generic[S]):
    """Judges what a fetch reports of lanes; see ports.Fetch."""

    def __init__(self, means: WorkerContext[S], assignment: Assignment[S]) -> None:
        self._log, self._assignment = means.log, assignment

    def look(self, fetch: FetchResult) -> None:
        """Raises what the log raises."""
        for key, text in fetch.out_of_range.items():
            if lane := self._running(key):
                self._out_of_range(lane, text)
        for key, text in fetch.unreadable.items():
            if lane := self._running(key):
                self._unreadable(lane, text)

    def _running(self, key: LaneKey) -> Lane | None:
        lane = self._assignment.lanes.get(key)
        return lane if lane is not None and lane.state is LaneState.RUNNING else None

    def _out_of_range(self, lane: Lane, text: str) -> None:
        """The client says it once and is silent from then on, so it is asked again whether it is
        so.
        """
        found = self._log.topic_ids({lane.key.topic})().get(lane.key.topic)
        low, high = self._log.bounds(lane.key)
        where = (
            f"{lane.key.topic} {lane.key.partition} has {low} to {high}, the lane is at "
            f"{lane.expected}: {text}"
        )
        if found is not None and found != lane.topic_id:
            self._assignment.halt(lane, TopicRecreated(where))
        elif low <= lane.expected <= high:
            self._assignment.again(lane, f"the client took {lane.tail} for out of range")
        else:
            self._assignment.halt(lane, OffsetOutOfRange(where))

    def _unreadable(self, lane: Lane, text: str) -> None:
        """The records before the batch are worked first, so that the lane stops exactly at it."""
        if lane.prepared or not lane.may_commit:
            return
        lane.unreadable += 1
        if lane.unreadable < UNREADABLE_REPORTS_MIN:
            return
        next_offset = self._log.unreadable_to(lane.key, lane.tail)
        how_far = (
            "where the batch ends was not found"
            if next_offset is None
            else f"go on at {next_offset}"
        )
        self._assignment.halt(
            lane,
            RecordUnreadable(
                f"{lane.key.topic} {lane.key.partition} at {lane.tail}, {how_far}: {text}"
            ),
        )
