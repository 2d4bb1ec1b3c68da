"""The lanes that the broker assigns to this process, and how each is acquired: in the loop, never
in a rebalance callback.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Generic, TypeVar

from services.runtime.errors import OutboxUnreadable, Stop, TopicRecreated
from services.runtime.failures.backoff import ExponentialDelay
from services.runtime.loop import outbox
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import Lane, LaneState
from services.runtime.loop.publisher import OutputPublisher
from services.runtime.ports import AcquiredLane, Acquisition
from services.runtime.records import TIMER, LaneKey

S = TypeVar("S")
TIMER_TOPIC_ID = "@timer"  # the timer's lane has no topic, and an id that never changes


class Assignment(Generic[S]):
    """The lanes of this process, by key.

    It is the group's rebalance listener. Its callbacks do no I/O, except that a revoked lane's last
    acknowledgements are awaited.
    """

    def __init__(self, context: WorkerContext[S], publisher: OutputPublisher) -> None:
        self._broker, self._lane_store = context.broker, context.lane_store
        self._publisher = publisher
        self._settings, self._telemetry = context.settings, context.telemetry
        self._clock = context.clock
        self._acquire_delay = ExponentialDelay(
            self._settings.acquire_backoff_min_ms / 1_000,
            self._settings.acquire_backoff_max_ms / 1_000,
        )
        self._timer_follows = LaneKey(context.service.topics[0], 0)
        self.lanes: dict[LaneKey, Lane] = {}
        self.is_paused = False  # lanes are acquired, but nothing is fetched for them
        self.is_member = False  # the group has assigned lanes, perhaps none, and not refused since

    def __iter__(self) -> Iterator[Lane]:
        return iter(self.lanes.values())

    @property
    def with_partition(self) -> list[LaneKey]:
        """All lanes but the timer's."""
        return [key for key in self.lanes if key != TIMER]

    # Rebalance callbacks, inside `fetch`. What they raise is raised by `fetch`.

    def assigned(self, lanes: Collection[LaneKey]) -> None:
        self.is_member = True
        for key in self.with_timer(lanes):
            self.lanes[key] = Lane(key)
        self._telemetry.assigned(lanes)

    def revoked(self, lanes: Collection[LaneKey]) -> None:
        """Wait for the acknowledgements of what is committed, up to the deadline. The next owner
        publishes what remains.
        """
        leaving = [self.lanes[key] for key in self.with_timer(lanes) if key in self.lanes]
        for lane in leaving:
            lane.prepared.clear()
        try:
            self._publisher.await_acks(
                leaving, 0.0, until=self._clock() + self._settings.revoke_deadline_ms / 1_000
            )
            self._publisher.settle(leaving)
        finally:
            self._drop(lanes)
            self._telemetry.revoked(lanes)

    def lost(self, lanes: Collection[LaneKey]) -> None:
        self._drop(lanes)
        self._telemetry.lost(lanes)

    def with_timer(self, lanes: Collection[LaneKey]) -> list[LaneKey]:
        """Return the lanes, and the timer's if it goes with one of them (model/: rule 18, the
        timer's owner).
        """
        return [*lanes, TIMER] if self._timer_follows in lanes else list(lanes)

    def _drop(self, lanes: Collection[LaneKey]) -> None:
        for key in self.with_timer(lanes):
            if lane := self.lanes.pop(key, None):
                lane.reset()

    # Steps of the loop.

    def agree_with(self, assigned: Collection[LaneKey]) -> None:
        """Take the client's own list of lanes, and acquire all of them again.

        After an exception out of `fetch` it is unknown which callbacks ran (model/: rule 21,
        exception out of fetch).
        """
        if missing := [key for key in self.with_partition if key not in assigned]:
            self._drop(missing)
        for key in self.with_timer(assigned):
            self.lanes.setdefault(key, Lane(key))
        self.reacquire(list(self.lanes))

    def reacquire(self, lanes: Collection[LaneKey], wait_s: float = 0.0) -> None:
        """Drop all that is known of lanes. They are acquired again after the next successful fetch,
        though not within `wait_s` seconds, if the broker still assigns them.
        """
        known = [key for key in lanes if key in self.lanes]
        for key in known:
            self.lanes[key].reset()
            self.lanes[key].acquire_at = self._clock() + wait_s
        if paused := [key for key in known if key != TIMER]:
            self._broker.pause(paused)

    def reacquire_fenced(self, lanes: Collection[LaneKey]) -> None:
        """Acquire lanes again, with backoff, whose rows are another's or were moved (model/: rule
        13, fenced, acquire again).
        """
        for key in lanes:
            if key in self.lanes:
                self.reacquire([key], self._next_acquire_delay_s(self.lanes[key]))
        self._telemetry.fenced(lanes)

    def stop(self, lane: Lane, error: Stop) -> None:
        """Stop a lane and write the reason into its row. The row is changed only if it is still as
        expected: a lane that another process owns by now is not ours to stop.
        """
        expected = lane.expected
        lane.mark_stopped(error.code)
        lane.acquire_at = self._clock() + self._settings.idle_check_ms / 1_000
        if lane.key != TIMER:
            self._broker.pause([lane.key])
        self._telemetry.stopped(lane.key, error.code, error.cause)
        self._lane_store.stop(expected, error.code, error.cause)

    def reposition(self, lane: Lane, reason: str) -> None:
        """Have the client read again from the lane's fetch position, since its own may be wrong.
        The prepared records are contiguous, so they stay.
        """
        self.start_at_fetch_position(lane)
        self._telemetry.repositioned(lane.key, lane.fetch_position, reason)

    def suspect_offset_gap(self, lane: Lane) -> None:
        """Have the client read again from the lane's fetch position, because offsets are missing
        there.

        Either the log has an offset gap or the client skipped records: the next assignment shows
        which.
        """
        self.start_at_fetch_position(lane)
        self._telemetry.offset_gap_suspected(lane.key, lane.fetch_position)

    def start_at_fetch_position(self, lane: Lane) -> None:
        self._start_at(lane, lane.fetch_position)

    def acquire_due(self) -> None:
        """Acquire the lanes that are due, stopped ones too: an operator may have resolved them."""
        now = self._clock()
        due = sorted(
            key
            for key, lane in self.lanes.items()
            if lane.state is not LaneState.RUNNING and lane.acquire_at <= now
        )
        if not due:
            return
        topic_ids = self._topic_ids(due)
        known = [key for key in due if key.topic in topic_ids]
        acquisition = self._lane_store.acquire(known) if known else Acquisition({}, {}, frozenset())
        if acquisition.missing:
            self._lane_store.add_lanes(
                {
                    key: (topic_ids[key.topic], 0 if key == TIMER else self._broker.bounds(key)[0])
                    for key in acquisition.missing
                }
            )
            more = self._lane_store.acquire(sorted(acquisition.missing))
            acquisition = Acquisition(
                acquisition.acquired | more.acquired,
                acquisition.stopped | more.stopped,
                more.missing,
            )
        for key in due:
            self._begin(self.lanes[key], acquisition, topic_ids)

    def _topic_ids(self, lanes: Collection[LaneKey]) -> Mapping[str, str]:
        topics = {key.topic for key in lanes} - {TIMER.topic}
        topic_ids = self._broker.topic_ids(topics)() if topics else {}
        return {**topic_ids, TIMER.topic: TIMER_TOPIC_ID}

    def _begin(self, lane: Lane, acquisition: Acquisition, topic_ids: Mapping[str, str]) -> None:
        row = acquisition.acquired.get(lane.key)
        if row is not None:
            self.run_acquired(lane, row, topic_ids[lane.key.topic])
        elif lane.key in acquisition.stopped:
            if lane.state is not LaneState.STOPPED:
                code = acquisition.stopped[lane.key]
                lane.mark_stopped(code)
                self._telemetry.stopped(lane.key, code, "stopped before, and not resolved")
            lane.acquire_at = self._clock() + self._settings.idle_check_ms / 1_000
        else:  # a commit holds the row, or the topic does not exist
            lane.acquire_at = self._clock() + self._next_acquire_delay_s(lane)

    def run_acquired(self, lane: Lane, row: AcquiredLane, topic_id: str) -> None:
        """Run a lane from its acquired row, and publish the outputs that the row holds (model/:
        rule 8, outbox until acknowledged; rule 12, acquire in the loop).
        """
        lane.run_from(row)
        try:
            outputs = outbox.decode(row.outbox)
        except OutboxUnreadable as error:
            self.stop(lane, error)
            return
        if row.topic_id != topic_id:
            self.stop(
                lane,
                TopicRecreated(f"{lane.key.topic} had the id {row.topic_id} and has {topic_id}"),
            )
            return
        if lane.key != TIMER:
            self._start_at(lane, row.next_offset)
        self._telemetry.acquired(lane.key, row.epoch, row.next_offset, len(outputs))
        if outputs:
            self._publisher.send(lane, outputs)

    def _start_at(self, lane: Lane, offset: int) -> None:
        self._broker.start_at(lane.key, offset)
        if self.is_paused:
            self._broker.pause([lane.key])

    def pause_for_acks(self, lane: Lane) -> None:
        """Fetch no records for a lane whose acknowledgements are late; the others go on without
        it.
        """
        lane.drop_prepared()
        lane.paused_for_acks = True
        if lane.key != TIMER:
            self._broker.pause([lane.key])

    def resume_acknowledged(self) -> None:
        """Read on in the lanes that were paused for their acknowledgements and have them now."""
        for lane in self.lanes.values():
            if (
                lane.paused_for_acks
                and lane.pending_acks is None
                and lane.state is LaneState.RUNNING
            ):
                lane.paused_for_acks = False
                self.reposition(lane, "its acknowledgements were late")

    def _next_acquire_delay_s(self, lane: Lane) -> float:
        """Return how long to wait before the lane is acquired again. Lanes are few, and what holds
        their rows is short, so no jitter is needed.
        """
        lane.acquire_attempts += 1
        return self._acquire_delay.delay_s(lane.acquire_attempts)
