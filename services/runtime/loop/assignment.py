"""Which lanes the broker names as ours, and how each is acquired: in the loop, never in the
callback.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Generic, TypeVar

from services.runtime.errors import OutboxUnreadable, Stop, TopicRecreated
from services.runtime.loop import outbox
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import Lane, LaneState
from services.runtime.loop.ports import AcquiredLane, Acquisition
from services.runtime.loop.publisher import OutputPublisher
from services.runtime.records import TIMER, LaneKey

S = TypeVar("S")
TIMER_TOPIC_ID = "@timer"  # a lane without a topic has an id that never changes


class Assignment(Generic[S]):
    """The lanes of this process. Its callbacks do no I/O except that a revoked lane's last
    acknowledgements are awaited.
    """

    def __init__(self, means: WorkerContext[S], publisher: OutputPublisher) -> None:
        self._timer_follows = LaneKey(means.service.topics[0], 0)
        self._log, self._ledger, self._publisher = means.log, means.ledger, publisher
        self._settings, self._telemetry, self._clock = means.settings, means.telemetry, means.clock
        self.lanes: dict[LaneKey, Lane] = {}
        self.is_silent = (
            False  # the service is paused: a lane may be acquired, but nothing is fetched
        )
        self.is_member = (
            False  # the group has named lanes for us, perhaps none, since nobody doubted it
        )

    def __iter__(self) -> Iterator[Lane]:
        return iter(self.lanes.values())

    @property
    def with_partition(self) -> list[LaneKey]:
        return [key for key in self.lanes if key != TIMER]

    # The broker's word, inside `fetch`: the log keeps what these raise from the client, and raises
    # it out of `fetch`.

    def assigned(self, lanes: Collection[LaneKey]) -> None:
        self.is_member = True
        for key in self._and_timer(lanes):
            self.lanes[key] = Lane(key)
        self._telemetry.assigned(lanes)

    def revoked(self, lanes: Collection[LaneKey]) -> None:
        """What is committed is awaited, up to the deadline; what remains is the next owner's."""
        going = [self.lanes[key] for key in self._and_timer(lanes) if key in self.lanes]
        for lane in going:
            lane.prepared.clear()
        try:
            self._publisher.await_answers(
                going, 0.0, until=self._clock() + self._settings.revoke_deadline_ms / 1_000
            )
            self._publisher.settle(going)
        finally:
            self._drop(lanes)
            self._telemetry.revoked(lanes)

    def lost(self, lanes: Collection[LaneKey]) -> None:
        self._drop(lanes)
        self._telemetry.lost(lanes)

    def _and_timer(self, lanes: Collection[LaneKey]) -> list[LaneKey]:
        return [*lanes, TIMER] if self._timer_follows in lanes else list(lanes)

    def _drop(self, lanes: Collection[LaneKey]) -> None:
        for key in self._and_timer(lanes):
            if lane := self.lanes.pop(key, None):
                lane.forget()

    # The loop's own steps.

    def agree_with(self, named: Collection[LaneKey]) -> None:
        """After an exception out of `fetch` nobody knows which callbacks ran: the client's own list
        counts.
        """
        if gone := [key for key in self.with_partition if key not in named]:
            self._drop(gone)
        for key in self._and_timer(named):
            self.lanes.setdefault(key, Lane(key))
        self.forget(list(self.lanes))

    def forget(self, lanes: Collection[LaneKey], wait_s: float = 0.0) -> None:
        """To be acquired anew, after the next successful fetch if the broker still names it."""
        mine = [key for key in lanes if key in self.lanes]
        for key in mine:
            self.lanes[key].forget()
            self.lanes[key].acquire_at = self._clock() + wait_s
        if paused := [key for key in mine if key != TIMER]:
            self._log.pause(paused)

    def fenced(self, lanes: Collection[LaneKey]) -> None:
        for key in lanes:
            if key in self.lanes:
                self.forget([key], self._backoff(self.lanes[key]))
        self._telemetry.fenced(lanes)

    def halt(self, lane: Lane, error: Stop) -> None:
        """The lane stops and its row says why, guarded: a lane that is another's by now is not ours
        to stop.
        """
        claim = lane.claim
        lane.halt(error.code)
        lane.acquire_at = self._clock() + self._settings.idle_check_ms / 1_000
        if lane.key != TIMER:
            self._log.pause([lane.key])
        self._telemetry.stopped(lane.key, error.code, error.cause)
        self._ledger.stop(claim, error.code, error.cause)

    def again(self, lane: Lane, why: str) -> None:
        """The client's position is in doubt: start where the lane should be. What follows on so far
        stays prepared.
        """
        self.from_tail(lane)
        self._telemetry.assigned_again(lane.key, lane.tail, why)

    def doubted(self, lane: Lane) -> None:
        """A record or the end came that does not follow on: a hole in the log, or a jump of the
        client. The next assignment tells which.
        """
        self.from_tail(lane)
        self._telemetry.hole_doubted(lane.key, lane.tail)

    def from_tail(self, lane: Lane) -> None:
        self._start(lane, lane.tail)

    def acquire_due(self) -> None:
        """Also asks after stopped lanes, in case an operator has resolved them."""
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
        acquired = self._ledger.acquire(known) if known else Acquisition({}, {}, frozenset())
        if acquired.missing:
            found = {
                k: (topic_ids[k.topic], 0 if k == TIMER else self._log.bounds(k)[0])
                for k in acquired.missing
            }
            self._ledger.add_lanes(found)
            more = self._ledger.acquire(sorted(acquired.missing))
            acquired = Acquisition(
                acquired.held | more.held, acquired.stopped | more.stopped, more.missing
            )
        for key in due:
            self._begin(self.lanes[key], acquired, topic_ids)

    def _topic_ids(self, lanes: Collection[LaneKey]) -> Mapping[str, str]:
        topics = {key.topic for key in lanes} - {TIMER.topic}
        found = self._log.topic_ids(topics)() if topics else {}
        return {**found, TIMER.topic: TIMER_TOPIC_ID}

    def _begin(self, lane: Lane, acquired: Acquisition, topic_ids: Mapping[str, str]) -> None:
        held = acquired.held.get(lane.key)
        if held is not None:
            self._hold(lane, held, topic_ids[lane.key.topic])
        elif lane.key in acquired.stopped:
            if lane.state is not LaneState.STOPPED:
                lane.halt(acquired.stopped[lane.key])
                self._telemetry.stopped(
                    lane.key, acquired.stopped[lane.key], "stopped before, and not resolved"
                )
            lane.acquire_at = self._clock() + self._settings.idle_check_ms / 1_000
        else:  # its row is being committed by somebody, or its topic is gone
            lane.acquire_at = self._clock() + self._backoff(lane)

    def _hold(self, lane: Lane, held: AcquiredLane, topic_id: str) -> None:
        lane.hold(held)
        try:
            outputs = outbox.decode(held.unpublished)
        except OutboxUnreadable as error:
            self.halt(lane, error)
            return
        if held.topic_id != topic_id:
            self.halt(
                lane,
                TopicRecreated(f"{lane.key.topic} had the id {held.topic_id} and has {topic_id}"),
            )
            return
        if lane.key != TIMER:
            self._start(lane, held.next_offset)
        self._telemetry.acquired(lane.key, held.epoch, held.next_offset, len(outputs))
        if outputs:
            self._publisher.send(lane, outputs)

    def _start(self, lane: Lane, offset: int) -> None:
        self._log.start_at(lane.key, offset)
        if self.is_silent:
            self._log.pause([lane.key])

    def leave_out(self, lane: Lane) -> None:
        """Its acknowledgements are late: the others go on without it, and it holds no records
        meanwhile.
        """
        lane.drop_prepared()
        lane.left_out = True
        if lane.key != TIMER:
            self._log.pause([lane.key])

    def take_back(self) -> None:
        for lane in self.lanes.values():
            if lane.left_out and lane.outbox is None and lane.state is LaneState.RUNNING:
                lane.left_out = False
                self.again(lane, "its acknowledgements were late")

    def _backoff(self, lane: Lane) -> float:
        wait_ms = self._settings.acquire_backoff_min_ms * 2**lane.acquire_tries
        lane.acquire_tries = min(lane.acquire_tries + 1, 10)
        return float(min(wait_ms, self._settings.acquire_backoff_max_ms)) / 1_000
