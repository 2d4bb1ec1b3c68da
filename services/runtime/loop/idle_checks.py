"""Detects, every few seconds, what no record reports: a row that an operator moved, a client that
stopped fetching, a topic that was re-created.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.runtime.errors import TopicRecreated
from services.runtime.loop.assignment import Assignment
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import Lane, LaneState, unacknowledged
from services.runtime.loop.refused_inputs import RefusedInputs
from services.runtime.loop.timestamps import TimestampChecks
from services.runtime.ports import FetchResult, LaneUpdate
from services.runtime.records import TIMER, LaneKey

S = TypeVar("S")
REASSIGNMENT_WAIT_MIN_S, REASSIGNMENT_WAIT_MAX_S = 30.0, 300.0


@dataclass(frozen=True, slots=True)
class Reassignment:
    """A lane was assigned again because no record came up to this end of its partition."""

    fetch_position: int
    end: int
    wait_s: float
    next_at: float


class IdleChecks(Generic[S]):
    """Checks lanes every few seconds: their rows (model/: rule 15, idle owners compare), their
    topics' ids (rule 16, topic id) and the ends of their partitions (rule 20, silence is checked).
    """

    def __init__(self, context: WorkerContext[S], assignment: Assignment[S]) -> None:
        self._assignment = assignment
        self._broker, self._lane_store = context.broker, context.lane_store
        self._telemetry, self._clock = context.telemetry, context.clock
        self._wall_clock = context.wall_clock
        self._interval_s = context.settings.idle_check_ms / 1_000
        self._next = 0.0
        # Fetch positions of the lanes that were quiet at the last check.
        self._quiet_at: dict[LaneKey, int] = {}
        self._requested_ends: Callable[[], Mapping[LaneKey, int]] = dict
        self._stable_ends: Mapping[LaneKey, int] = {}
        self._reassignments: dict[LaneKey, Reassignment] = {}
        # Lanes that were at an open transaction at the last check.
        self._waiting_before: frozenset[LaneKey] = frozenset()
        self._input_topics = frozenset(context.service.input_topics)
        self.refused_inputs = RefusedInputs(context, assignment)
        self._timestamps = TimestampChecks(
            context.service.broker_stamped, context.telemetry, context.clock
        )

    def observe(self, fetch: FetchResult) -> None:
        """Examine a fetch. It is called for every fetch."""
        self.refused_inputs.observe(fetch)
        self._timestamps.observe(fetch)

    def run(self, *, is_paused: bool) -> None:
        """Run all checks, if they are due. Raises what broker client and lane store raise."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self._interval_s
        running = [lane for lane in self._assignment if lane.state is LaneState.RUNNING]
        self.compare_rows(running)
        self.compare_topics(running)
        if not is_paused:
            self.compare_ends(running)
            self.refused_inputs.recheck()
        self._commit_trailing_gaps(running, now)
        self.clear_idle(running, now)
        if running:
            self._telemetry.conservation(
                self._lane_store.conservation([lane.key for lane in running])
            )
        self._gauges(self._wall_clock() * 1_000)

    def compare_rows(self, running: list[Lane]) -> None:
        """Acquire lanes again whose row is another's or was moved (model/: rule 15, idle owners
        compare).
        """
        if running and (fenced := self._lane_store.compare([lane.expected for lane in running])):
            self._assignment.reacquire_fenced(fenced)

    def compare_topics(self, running: list[Lane]) -> None:
        """Stop the lanes whose topic was re-created (model/: rule 16, topic id)."""
        lanes = [lane for lane in running if lane.state is LaneState.RUNNING and lane.key != TIMER]
        topic_ids = self._broker.topic_ids(self._input_topics)()
        self.refused_inputs.compare(topic_ids.keys())
        for lane in lanes:
            # A topic that is missing has no id to compare: the group revokes its lanes.
            topic_id = topic_ids.get(lane.key.topic, lane.topic_id)
            if topic_id != lane.topic_id:
                self._assignment.stop(
                    lane,
                    TopicRecreated(
                        f"{lane.key.topic} had the id {lane.topic_id} and has {topic_id}"
                    ),
                )

    def compare_ends(self, running: list[Lane]) -> None:
        """Assign a lane again if no record came for a whole interval although its partition goes
        on; at an unchanged end, ever more rarely (model/: rule 20, silence is checked).

        The end is requested from the broker. The client knows an end only from fetching, so one
        that stopped fetching sees no lag (seen once with librdkafka 2.16 after its broker had
        restarted: silent for good, ready, and with a lag of 0).
        """
        quiet = {
            lane.key: lane
            for lane in running
            if lane.state is LaneState.RUNNING
            and lane.key != TIMER
            and not lane.prepared
            and not lane.pending_acks
        }
        self._stable_ends = self._requested_ends()
        for key, end in self._stable_ends.items():
            lane = quiet.get(key)
            if lane is None or end <= lane.scanned_end:
                continue
            if self._quiet_at.get(key) != lane.fetch_position:
                continue
            if self._is_due(key, lane.fetch_position, end):
                self._assignment.reposition(
                    lane, f"no record comes although the partition ends at {end}"
                )
        self._quiet_at = {key: lane.fetch_position for key, lane in quiet.items()}
        self._requested_ends = self._broker.request_ends(self._quiet_at.keys())
        self._reassignments = {
            key: earlier
            for key, earlier in self._reassignments.items()
            if self._quiet_at.get(key) == earlier.fetch_position
        }

    def _commit_trailing_gaps(self, running: list[Lane], now: float) -> None:
        """Commit the offset gaps at the ends of partitions, so that a log that ends in transaction
        markers shows no lag.

        It compares as a commit of records does, and only lanes without pending acknowledgements
        take part.
        """
        at_gap = [
            lane
            for lane in running
            if lane.state is LaneState.RUNNING and lane.key != TIMER and lane.trailing_gap_offsets
        ]
        if not at_gap:
            return
        rows = [
            LaneUpdate(lane.expected, lane.scanned_end, None, lane.trailing_gap_offsets, 0, 0, 0, 0)
            for lane in at_gap
        ]
        with self._lane_store.transaction() as transaction:
            locked = transaction.lock([lane.expected for lane in at_gap])
            if not locked.fenced:
                transaction.advance(rows)
                transaction.commit()
        if locked.fenced:
            self._assignment.reacquire_fenced(locked.fenced)
            return
        for lane in at_gap:
            lane.advance_over_trailing_gap(now)
        self._broker.commit_group_offsets({lane.key: lane.next_offset for lane in at_gap})

    def _is_due(self, key: LaneKey, fetch_position: int, end: int) -> bool:
        """Return whether a lane that gets no record may be assigned again now.

        A client that is wrong about the end needs it once; one that is right will never bring a
        record, however often it is assigned again. So the wait doubles at an unchanged end.
        """
        earlier, now, wait_s = self._reassignments.get(key), self._clock(), REASSIGNMENT_WAIT_MIN_S
        if earlier is not None and (earlier.fetch_position, earlier.end) == (fetch_position, end):
            if now < earlier.next_at:
                return False
            wait_s = min(2 * earlier.wait_s, REASSIGNMENT_WAIT_MAX_S)
        self._reassignments[key] = Reassignment(fetch_position, end, wait_s, now + wait_s)
        return True

    def clear_idle(self, running: list[Lane], now: float) -> None:
        """Clear the rows of lanes that committed nothing for an interval (model/: rule 8, outbox
        until acknowledged).
        """
        self.clear(
            [
                lane
                for lane in running
                if not lane.prepared and now - lane.commit_at > self._interval_s
            ]
        )

    def clear(self, lanes: list[Lane]) -> None:
        """Empty the outbox of rows whose outputs are all acknowledged (model/: rule 8, outbox until
        acknowledged).
        """
        if done := [lane for lane in lanes if lane.may_commit and lane.row_holds_outputs]:
            self._lane_store.clear_outbox([lane.expected for lane in done])
            for lane in done:
                lane.row_holds_outputs = False

    def _gauges(self, now_ms: float) -> None:
        lag: dict[LaneKey, tuple[int, float]] = {}
        open_transactions: dict[LaneKey, int] = {}
        for lane in self._assignment:
            if (
                lane.state is not LaneState.RUNNING
                or lane.key == TIMER
                or (ends := self._broker.ends(lane.key)) is None
            ):
                continue
            stable = self._stable_ends.get(lane.key)
            at = lane.next_offset if lane.prepared else lane.scanned_end
            if stable is not None and stable <= at < ends[1]:
                open_transactions[lane.key] = ends[1] - at
                end = at
            else:
                end = max(ends[1], stable or 0)
            lag_records = max(0, end - at)
            has_age = lag_records and lane.last_timestamp_ms >= 0
            age_s = max(0.0, (now_ms - lane.last_timestamp_ms) / 1_000) if has_age else 0.0
            lag[lane.key] = (lag_records, age_s)
        stopped = [lane.key for lane in self._assignment if lane.state is LaneState.STOPPED]
        # Reported only if seen twice in a row: a record that came between the two requests looks
        # like an open transaction for a moment.
        uncommitted = {
            key: count for key, count in open_transactions.items() if key in self._waiting_before
        }
        self._waiting_before = frozenset(open_transactions)
        self._telemetry.gauges(lag, unacknowledged(self._assignment), stopped, uncommitted)
