"""Stops lanes whose fetches fail until an operator decides: the partition lacks the offset, or a
batch cannot be unpacked. The other lanes go on. refused_inputs.py handles what the broker refuses.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from services.runtime.errors import OffsetOutOfRange, RecordUnreadable, TopicRecreated
from services.runtime.loop.assignment import Assignment
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import Lane, LaneState
from services.runtime.ports import FetchResult
from services.runtime.records import LaneKey

S = TypeVar("S")
# In a row and at one offset. A response that was damaged on its way is sound when fetched again.
UNREADABLE_REPORTS_MIN = 3


class FetchErrorHandler(Generic[S]):
    """Acts on the errors that a fetch reports for lanes; see ports.FetchResult."""

    def __init__(self, context: WorkerContext[S], assignment: Assignment[S]) -> None:
        self._broker, self._assignment = context.broker, assignment

    def handle(self, fetch: FetchResult) -> None:
        """Stop or reposition the lanes of a fetch that it could not read. Raises what the broker
        client raises.
        """
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
        """Stop the lane, unless the broker contradicts the client, which reports it only once."""
        topic_id = self._broker.topic_ids({lane.key.topic})().get(lane.key.topic)
        low, high = self._broker.bounds(lane.key)
        where = (
            f"{lane.key.topic} {lane.key.partition} has {low} to {high}, the lane is at "
            f"{lane.next_offset}: {text}"
        )
        if topic_id is not None and topic_id != lane.topic_id:
            self._assignment.stop(lane, TopicRecreated(where))
        elif low <= lane.next_offset <= high:
            self._assignment.reposition(
                lane, f"the client took {lane.fetch_position} for out of range"
            )
        else:
            self._assignment.stop(lane, OffsetOutOfRange(where))

    def _unreadable(self, lane: Lane, text: str) -> None:
        """Stop the lane exactly at the batch: the records before it are committed first."""
        if lane.prepared or not lane.may_commit:
            return
        lane.unreadable += 1
        if lane.unreadable < UNREADABLE_REPORTS_MIN:
            return
        next_offset = self._broker.unreadable_to(lane.key, lane.fetch_position)
        how_far = (
            "where the batch ends was not found"
            if next_offset is None
            else f"go on at {next_offset}"
        )
        self._assignment.stop(
            lane,
            RecordUnreadable(
                f"{lane.key.topic} {lane.key.partition} at {lane.fetch_position}, {how_far}: {text}"
            ),
        )
