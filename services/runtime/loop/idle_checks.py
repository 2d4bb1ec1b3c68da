"""What no record would show: a row that an operator moved, a client that reads on elsewhere, a
topic made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.runtime.errors import TopicRecreated
from services.runtime.loop.assignment import Assignment
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.input_access import InputAccess
from services.runtime.loop.lane import Lane, LaneState, unacknowledged
from services.runtime.loop.ports import FetchResult, LaneAdvance
from services.runtime.loop.timestamps import TimestampChecks
from services.runtime.records import TIMER, LaneKey

S = TypeVar("S")
REASSIGNMENT_WAIT_MIN_S, REASSIGNMENT_WAIT_MAX_S = 30.0, 300.0


@dataclass(frozen=True, slots=True)
class Reassignment:
    """A lane was assigned again because nothing came up to this end."""

    tail: int
    end: int
    wait_s: float
    next_at: float


class IdleChecks(Generic[S]):
    """Every few seconds: rows, topic ids and partition ends of lanes to which nothing comes
    (model/: rules 15, 16, 20).
    """

    def __init__(self, means: WorkerContext[S], assignment: Assignment[S]) -> None:
        self._assignment, self._log, self._ledger = assignment, means.log, means.ledger
        self._telemetry, self._clock, self._wall = means.telemetry, means.clock, means.wall
        self._interval_s = means.settings.idle_check_ms / 1_000
        self._next = 0.0
        self._tails: dict[LaneKey, int] = {}  # of the lanes that were quiet when `_ends` was asked
        self._ends: Callable[[], Mapping[LaneKey, int]] = dict
        self._heard: Mapping[LaneKey, int] = {}
        self._tried: dict[LaneKey, Reassignment] = {}
        self._waited: frozenset[LaneKey] = (
            frozenset()
        )  # lanes that stood before an open transaction when asked last
        self._input_topics = frozenset(means.service.input_topics)
        self.refused = InputAccess(means, assignment)
        self._stamps = TimestampChecks(means.service.broker_stamped, means.telemetry, means.clock)

    def heard(self, fetch: FetchResult) -> None:
        """What a fetch brought. Called for each."""
        self.refused.heard(fetch)
        self._stamps.heard(fetch)

    def look(self, *, is_paused: bool) -> None:
        """Raises what log and ledger raise."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self._interval_s
        running = [lane for lane in self._assignment if lane.state is LaneState.RUNNING]
        self._compare_rows(running)
        self._compare_topics(running)
        if not is_paused:
            self._compare_ends(running)
            self.refused.ask_again()
        self._step_over(running, now)
        self._clear(running, now)
        if running:
            self._telemetry.conservation(self._ledger.conservation([lane.key for lane in running]))
        self._gauges(self._wall() * 1_000)

    def _compare_rows(self, running: list[Lane]) -> None:
        if running and (lost := self._ledger.compare([lane.claim for lane in running])):
            self._assignment.fenced(lost)

    def _compare_topics(self, running: list[Lane]) -> None:
        lanes = [lane for lane in running if lane.state is LaneState.RUNNING and lane.key != TIMER]
        topic_ids = self._log.topic_ids(self._input_topics)()
        self.refused.compare(topic_ids.keys())
        for lane in lanes:
            found = topic_ids.get(
                lane.key.topic, lane.topic_id
            )  # a topic that is gone: the group takes the lane away
            if found != lane.topic_id:
                self._assignment.halt(
                    lane,
                    TopicRecreated(f"{lane.key.topic} had the id {lane.topic_id} and has {found}"),
                )

    def _compare_ends(self, running: list[Lane]) -> None:
        """Nothing came in a whole interval although the partition goes on: assign again; with the
        same end, ever more rarely.

        The broker is asked, for what the client knows of an end it knows from fetching: one that
        fetches no more sees no lag (librdkafka 2.16 after a restart of its broker, seen once:
        silent for good, ready, and 0 behind).
        """
        quiet = {
            lane.key: lane
            for lane in running
            if lane.state is LaneState.RUNNING
            and lane.key != TIMER
            and not lane.prepared
            and not lane.outbox
        }
        self._heard = self._ends()
        for key, end in self._heard.items():
            lane = quiet.get(key)
            if lane is None or self._tails.get(key) != lane.tail or end <= lane.read_to:
                continue
            if self._is_due(key, lane.tail, end):
                self._assignment.again(lane, f"nothing comes although the partition ends at {end}")
        self._tails = {key: lane.tail for key, lane in quiet.items()}
        self._ends = self._log.ask_ends(self._tails.keys())
        self._tried = {
            key: tried for key, tried in self._tried.items() if self._tails.get(key) == tried.tail
        }

    def _step_over(self, running: list[Lane], now: float) -> None:
        """Commits holes at the ends of partitions, so that a log that ends in markers is no lag.
        The same compare as for records; all that the rows hold is acknowledged.
        """
        over = [
            lane
            for lane in running
            if lane.state is LaneState.RUNNING and lane.key != TIMER and lane.hole_at_end
        ]
        if not over:
            return
        rows = [
            LaneAdvance(lane.claim, lane.read_to, None, lane.hole_at_end, 0, 0, 0, 0)
            for lane in over
        ]
        with self._ledger.transaction() as transaction:
            locked = transaction.lock([lane.claim for lane in over])
            if not locked.lost:
                transaction.advance(rows)
                transaction.commit()
        if locked.lost:
            self._assignment.fenced(locked.lost)
            return
        for lane in over:
            lane.step_over(now)
        self._log.hint({lane.key: lane.expected for lane in over})

    def _is_due(self, key: LaneKey, tail: int, end: int) -> bool:
        """A client that is wrong about the end is assigned again; one that is right will bring
        nothing, however often.
        """
        tried, now, wait_s = self._tried.get(key), self._clock(), REASSIGNMENT_WAIT_MIN_S
        if tried is not None and (tried.tail, tried.end) == (tail, end):
            if now < tried.next_at:
                return False
            wait_s = min(2 * tried.wait_s, REASSIGNMENT_WAIT_MAX_S)
        self._tried[key] = Reassignment(tail, end, wait_s, now + wait_s)
        return True

    def _clear(self, running: list[Lane], now: float) -> None:
        self.clear(
            [
                lane
                for lane in running
                if not lane.prepared and now - lane.commit_at > self._interval_s
            ]
        )

    def clear(self, lanes: list[Lane]) -> None:
        """Empties what is acknowledged out of the rows (model/: rule 8)."""
        if done := [lane for lane in lanes if lane.may_commit and lane.row_holds_outputs]:
            self._ledger.clear_unpublished([lane.claim for lane in done])
            for lane in done:
                lane.row_holds_outputs = False

    def _gauges(self, wall_ms: float) -> None:
        lag: dict[LaneKey, tuple[int, float]] = {}
        waits: dict[LaneKey, int] = {}
        for lane in self._assignment:
            if (
                lane.state is not LaneState.RUNNING
                or lane.key == TIMER
                or (ends := self._log.ends(lane.key)) is None
            ):
                continue
            stable, at = self._heard.get(lane.key), lane.expected if lane.prepared else lane.read_to
            if stable is not None and stable <= at < ends[1]:
                waits[lane.key] = ends[1] - at
                end = at
            else:
                end = max(ends[1], stable or 0)
            behind = max(0, end - at)
            known = behind and lane.last_timestamp_ms >= 0
            lag[lane.key] = (
                behind,
                max(0.0, (wall_ms - lane.last_timestamp_ms) / 1_000) if known else 0.0,
            )
        stopped = [lane.key for lane in self._assignment if lane.state is LaneState.STOPPED]
        # Twice in a row: a record that came between the two questions looks like an open
        # transaction for a moment.
        uncommitted = {key: count for key, count in waits.items() if key in self._waited}
        self._waited = frozenset(waits)
        self._telemetry.gauges(lag, unacknowledged(self._assignment), stopped, uncommitted)
