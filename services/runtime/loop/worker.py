"""The loop of a service: fetch, prepare, commit, publish, over all lanes of the process, in one
thread.

Crash: at any point the rows say what is committed and what must still be published; the next owner
starts from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Generic, TypeVar

from services.runtime.errors import (
    BatchUndecided,
    BrokerUnavailable,
    FailureRateExceeded,
    Fatal,
    Stop,
    TickFailed,
    TopicRecreated,
)
from services.runtime.failures import FailureKind, code_of
from services.runtime.loop.assignment import Assignment
from services.runtime.loop.backoff import Backoff
from services.runtime.loop.batch import (
    LaneSlice,
    LanesLost,
    RecordsFailed,
    collect,
    first_stop,
    halved,
)
from services.runtime.loop.batch_size import AdaptiveBatchSize
from services.runtime.loop.bisect import PoisonBisector
from services.runtime.loop.breaker import FailureRateBreaker
from services.runtime.loop.commit import BatchCommitter, CommittedBatch
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.idle_checks import IdleChecks
from services.runtime.loop.input_health import InputHealth
from services.runtime.loop.lane import LaneState, RecordPosition
from services.runtime.loop.parsing import RecordParser
from services.runtime.loop.ports import FetchResult
from services.runtime.loop.publisher import OutputPublisher
from services.runtime.loop.throttle import Throttle
from services.runtime.loop.timer import Timer
from services.runtime.records import TIMER, Dead

S = TypeVar("S")
TRIES_MAX = 50  # of one batch, whatever happens to it: then the world is given time
MOMENTS_MAX = 3  # failures of the moment in a row before they count as the world's
REST_S = 0.02


class Worker(Generic[S]):
    """One member of a service's group. `step` is one turn; the process that runs it calls it until
    told to stop.
    """

    def __init__(self, means: WorkerContext[S]) -> None:
        self._log, self._ledger, self._settings = means.log, means.ledger, means.settings
        self._telemetry, self._fault, self._clock = means.telemetry, means.fault, means.clock
        self._publisher = OutputPublisher(means.log, means.telemetry, means.clock)
        self.assignment = Assignment(means, self._publisher)
        self._intake = RecordParser(
            means.service.parse, means.service.replay_topic, means.telemetry
        )
        self._brake = FailureRateBreaker(
            means.settings.breaker_window_records, means.settings.breaker_share
        )
        self._decider = BatchCommitter(means, self._brake)
        self._blame = PoisonBisector(means)
        self._pace = Throttle(means)
        self._timer = Timer(means)
        self._watch = IdleChecks(means, self.assignment)
        self._input = InputHealth(means, self.assignment)
        self._stride = AdaptiveBatchSize(means.settings)
        self._outage = Backoff(means.settings.outage_backoff_max_ms / 1_000)
        self._was_paused = self._must_reconnect = False
        means.log.subscribe(means.service.input_topics, self.assignment)

    # One turn.

    def step(self) -> None:
        """Raises only what must end the process (Fatal, or a defect of the loop itself)."""
        try:
            self._turn()
        except Fatal:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is: the rows know, and the lanes are acquired again
            self._troubled(error)
        why = self._outage.code or self._pace.why or self._watch.refused.code or self._stopped()
        self._telemetry.turned(is_ready=not why, why=why)

    def _turn(self) -> None:
        if rest := self._outage.rest(self._clock()):
            self._watch.heard(
                self._log.fetch(1, min(REST_S, rest))
            )  # stay in the group; all lanes are paused
            return
        if self._must_reconnect:
            self._ledger.reconnect()
            self._must_reconnect = False
        self._pace.refresh()
        self._apply_pause()
        fetch = self._fetch()
        self._watch.heard(fetch)
        busy = {key.topic for key in fetch.records} | {
            lane.key.topic for lane in self.assignment if lane.prepared
        }
        topic_ids = (
            self._log.topic_ids(busy - {TIMER.topic}) if busy else dict
        )  # asked now, read before the commit
        self._prepare(fetch)
        self._log.deliveries(0)
        self._settle()
        self.assignment.acquire_due()
        if not self._pace.paused:
            self._work(topic_ids)
            self._tick()
        self._watch.look(is_paused=self._pace.paused)
        self._outage.passed(self._clock())

    def _troubled(self, error: Exception) -> None:
        """Nothing is believed any more, of any lane; the rows know. Nothing is dead-lettered for
        it.
        """
        wait = self._outage.begin(code_of(error), self._clock())
        self._telemetry.trouble(error, self._outage.troubles, wait)
        self._must_reconnect = True
        try:
            self.assignment.agree_with(self._log.assigned())
        except BrokerUnavailable:
            self.assignment.forget(list(self.assignment.lanes))

    def _stopped(self) -> str:
        """The first lane that stands still until an operator decides, and why; the others go on."""
        stopped = [lane for lane in self.assignment if lane.state is LaneState.STOPPED]
        if not stopped:
            return ""
        first = min(stopped, key=lambda lane: lane.key)
        more = f" and {len(stopped) - 1} more" if len(stopped) > 1 else ""
        return f"{first.stop_code}: {first.key.topic} {first.key.partition}{more}"

    # Fetch and prepare.

    def _apply_pause(self) -> None:
        self.assignment.is_silent = self._pace.paused
        if self._pace.paused != self._was_paused:
            running = [
                lane.key
                for lane in self.assignment
                if lane.state is LaneState.RUNNING and lane.key != TIMER
            ]
            if running:
                (self._log.pause if self._pace.paused else self._log.resume)(running)
            if not self._pace.paused:
                self._brake.release()
            self._was_paused = self._pace.paused

    def _fetch(self) -> FetchResult:
        prepared = sum(len(lane.prepared) for lane in self.assignment)
        room = self._stride.room(prepared)
        wait_s = self._settings.batch_wait_ms / 1_000
        own = self.assignment.with_partition
        if self._pace.paused:
            return self._log.fetch(1, wait_s)
        if room <= 0:
            return self._hushed(0.0)
        allowed = self._pace.allowance(room, len(own), self._log.lanes_total())
        if allowed <= 0:
            return self._hushed(wait_s)
        fetch = self._log.fetch(allowed, 0.0 if prepared else wait_s)
        self._pace.took(sum(map(len, fetch.records.values())))
        return fetch

    def _hushed(self, timeout_s: float) -> FetchResult:
        """The group is listened to while no record may come."""
        running = [
            lane.key
            for lane in self.assignment
            if lane.state is LaneState.RUNNING and lane.key != TIMER
        ]
        if running:
            self._log.pause(running)
        fetch = self._log.fetch(1, timeout_s)
        if running:
            self._log.resume([key for key in running if key in self.assignment.lanes])
        return fetch

    def _prepare(self, fetch: FetchResult) -> None:
        self._input.look(fetch)
        sizes: list[int] = []
        for key in fetch.records | fetch.ends:
            records = fetch.records.get(key, ())
            lane = self.assignment.lanes.get(key)
            if lane is None or lane.state is not LaneState.RUNNING or lane.left_out:
                # no epoch: these records are its owner's, or ours again from where the row says
                continue
            before = len(lane.prepared)
            if not self._intake.prepare(lane, records, fetch.ends.get(key)):
                self.assignment.doubted(lane)
            sizes += [prepared.size for prepared in lane.prepared[before:]]
        self._stride.prepared(sizes)

    # Commit and publish.

    def _settle(self) -> None:
        settled = self._publisher.settle(self.assignment)
        if settled.again:
            self.assignment.forget(
                [lane.key for lane in settled.again], self._settings.acquire_backoff_min_ms / 1_000
            )
        for lane, error in settled.refused:
            self.assignment.halt(lane, error)
        self.assignment.take_back()

    def _work(self, topic_ids: Callable[[], Mapping[str, str]]) -> None:
        waiting = [lane for lane in self.assignment if lane.prepared and lane.outbox]
        if waiting:
            self._publisher.await_answers(waiting, self._settings.acknowledgement_wait_ms / 1_000)
            self._settle()
            for lane in waiting:
                if lane.outbox and lane.state is LaneState.RUNNING:
                    self.assignment.leave_out(lane)
        for lane in list(self.assignment):
            if isinstance(stop := first_stop(lane), Stop) and lane.may_commit:
                self.assignment.halt(lane, stop)
        parts = collect(self.assignment, self._stride.records, self._settings.batch_bytes_max)
        if parts and (parts := self._still_same(parts, topic_ids())):
            self._commit(parts)

    def _still_same(self, parts: list[LaneSlice], topic_ids: Mapping[str, str]) -> list[LaneSlice]:
        """The id is read after the fetch and before the commit: a fetch by name cannot be trusted
        after an older check.
        """
        same = []
        for part in parts:
            lane = part.lane
            found = topic_ids.get(lane.key.topic)
            if found == lane.topic_id:
                same.append(part)
            elif found is not None:
                self.assignment.halt(
                    lane,
                    TopicRecreated(f"{lane.key.topic} had the id {lane.topic_id} and has {found}"),
                )
            else:  # deleted; if it is made again, acquiring it compares
                self.assignment.fenced([lane.key])
        return same

    def _commit(self, parts: list[LaneSlice]) -> None:
        verdicts: dict[RecordPosition, Dead] = {}
        moments = 0
        for _ in range(TRIES_MAX):
            if not parts:
                return
            try:
                self._publish(parts, self._decider.commit(parts, verdicts))
            except LanesLost as lost:
                self.assignment.fenced(lost.lanes)
                parts = [part for part in parts if part.lane.key not in lost.lanes]
            except RecordsFailed:
                parts = self._find(parts, verdicts)
            except FailureRateExceeded as brake:
                self._ledger.pause_service(brake.code, str(brake))
                self._pace.refresh_soon()
                return
            except Exception as error:
                fault = self._fault(error)
                if fault is FailureKind.TOO_SLOW and sum(len(part.taken) for part in parts) > 1:
                    parts = self._stride.shorten(parts)
                    continue
                moments += 1
                if (
                    fault not in {FailureKind.TRANSIENT, FailureKind.TOO_SLOW}
                    or moments > MOMENTS_MAX
                ):
                    raise
            else:
                return
        raise BatchUndecided(f"{sum(len(part.taken) for part in parts)} records, {TRIES_MAX} tries")

    def _find(
        self, parts: list[LaneSlice], verdicts: dict[RecordPosition, Dead]
    ) -> list[LaneSlice]:
        """Adds the guilty to `verdicts`; if they fail only together, half of them is tried
        alone.
        """
        try:
            found = self._blame.find(parts, verdicts, enough=self._settings.breaker_window_records)
        except LanesLost as lost:
            self.assignment.fenced(lost.lanes)
            return [part for part in parts if part.lane.key not in lost.lanes]
        except Exception as error:  # the search itself may last too long
            if (
                self._fault(error) is FailureKind.TOO_SLOW
                and sum(len(part.taken) for part in parts) > 1
            ):
                return self._stride.shorten(parts)
            raise
        verdicts |= found
        return parts if found else halved(parts)

    def _publish(self, parts: list[LaneSlice], decision: CommittedBatch) -> None:
        self._outage.end()
        self._stride.done(decision.done.seconds)
        for part in parts:
            part.lane.advance(len(part.taken), self._clock())
            self._publisher.send(part.lane, decision.outputs.get(part.lane.key, ()))
        self._telemetry.produced([part.lane.key for part in parts])

    def _tick(self) -> None:
        lane = self.assignment.lanes.get(TIMER)
        if lane is None or not self._timer.due(lane):
            return
        try:
            if (outputs := self._timer.tick(lane)) is not None:
                self._publisher.send(lane, outputs)
                self._telemetry.produced([TIMER])
        except LanesLost as lost:
            self.assignment.fenced(lost.lanes)
        except TickFailed as error:  # lanes with input go on
            self._telemetry.trouble(error, 1, self._settings.outage_backoff_max_ms / 1_000)

    # The end.

    def stop(self, asked_at: float | None = None) -> bool:
        """Stops preparing, waits for what is committed to be acknowledged, leaves the group. True
        if nothing was left.

        The deadline counts from when it was asked for, which may be some time ago: a turn may wait
        for a silent broker.
        """
        begun = self._clock() if asked_at is None else asked_at
        deadline = begun + self._settings.stop_deadline_ms / 1_000
        lanes = list(self.assignment)
        for lane in lanes:
            lane.prepared.clear()
        self._publisher.await_answers(lanes, 0.0, until=deadline - 1.0)
        self._publisher.settle(lanes)
        with suppress(
            Exception
        ):  # only a courtesy: else the next owner publishes again what is acknowledged
            self._watch.clear(lanes)
        left = [lane for lane in lanes if lane.outbox is not None or lane.in_doubt]
        self._log.close(max(0.0, deadline - self._clock()))
        self._ledger.close()
        return not left
