"""The loop of a service: fetch, prepare, commit, publish, for all lanes of the process, in one
thread.

Crash: at any point the rows hold what is committed and what is still to be published; the next
owner starts from there.
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
    OutputUnauthorized,
    Stop,
    TickFailed,
    TopicRecreated,
)
from services.runtime.failures.backoff import Backoff
from services.runtime.failures.classification import FailureKind, code_of
from services.runtime.loop.assignment import Assignment
from services.runtime.loop.batch import (
    LanesFenced,
    LaneSlice,
    RecordsFailed,
    collect,
    first_stop,
    halved,
    records_in,
)
from services.runtime.loop.batch_size import AdaptiveBatchSize
from services.runtime.loop.bisect import PoisonBisector
from services.runtime.loop.breaker import FailureRateBreaker
from services.runtime.loop.commit import BatchCommitter, CommittedBatch
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.fetch_errors import FetchErrorHandler
from services.runtime.loop.idle_checks import IdleChecks
from services.runtime.loop.lane import LaneState, RecordPosition
from services.runtime.loop.linger import BatchLinger
from services.runtime.loop.parsing import RecordParser
from services.runtime.loop.publisher import OutputPublisher
from services.runtime.loop.throttle import Throttle
from services.runtime.loop.timer import Timer
from services.runtime.loop.unauthorized_outputs import UnauthorizedOutputs
from services.runtime.ports import FetchResult
from services.runtime.records import TIMER, Dead, LaneKey

S = TypeVar("S")
ATTEMPTS_MAX = 50  # of one batch, whatever happens to it: then the loop backs off
TRANSIENT_ATTEMPTS_MAX = 3  # transient failures of one batch, before the loop backs off
BACKOFF_POLL_S = 0.02
RECORDS_WORTH_A_BATCH = 200  # each then bears 0.02 ms of it, so that waiting for more saves nothing


class Worker(Generic[S]):
    """One member of a service's group. A process calls `step` until a stop is requested, then
    `stop`.
    """

    def __init__(self, context: WorkerContext[S]) -> None:
        service, settings = context.service, context.settings
        self._broker, self._lane_store = context.broker, context.lane_store
        self._settings = settings
        self._classify, self._clock = context.classify, context.clock
        self._telemetry = context.telemetry
        self._publisher = OutputPublisher(context.broker, context.telemetry, context.clock)
        self.assignment = Assignment(context, self._publisher)
        self._parser = RecordParser(service.parse, service.replay_topic, context.telemetry)
        self._breaker = FailureRateBreaker(settings.breaker_window_records, settings.breaker_share)
        self._committer = BatchCommitter(context, self._breaker)
        self._bisector = PoisonBisector(context)
        self._throttle = Throttle(context)
        self._timer = Timer(context)
        self._idle_checks = IdleChecks(context, self.assignment)
        self._fetch_errors = FetchErrorHandler(context, self.assignment)
        self._unauthorized_outputs = UnauthorizedOutputs(context, self.assignment)
        self._batch_size = AdaptiveBatchSize(settings)
        self._linger = BatchLinger(settings.batch_linger_ms / 1_000)
        self._backoff = Backoff(settings.backoff_max_ms / 1_000, context.rng)
        self._was_paused = self._must_reconnect = False
        context.broker.subscribe(service.input_topics, self.assignment)

    # One iteration.

    def step(self) -> None:
        """Run one iteration of the loop, and report whether the process is ready.

        Raises only what must end the process: Fatal, or a defect of the loop itself.
        """
        try:
            self._iterate()
        except Fatal:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is: the rows decide, and the lanes are acquired again
            self._back_off(error)
        reason = (
            self._backoff.code
            or self._throttle.reason
            or self._idle_checks.refused_inputs.code
            or self._unauthorized_outputs.code
            or self._stop_reason()
        )
        self._telemetry.iteration_done(is_ready=not reason, reason=reason)

    def _iterate(self) -> None:
        """Do one iteration, in these steps.

        0. While backing off, only stay in the group: all lanes are paused.
        1. Reconnect to the database after a failure.
        2. Read the controls: pause, rate limit and backlog.
        3. Fetch; rebalance callbacks run inside. If the batch is due, request the ids of the topics
           whose records may be committed in this iteration.
        4. Prepare the fetched records.
        5. Evaluate delivery reports.
        6. Acquire lanes that are due.
        7. Commit a batch of what is prepared and publish its outputs, unless it waits for more
           records; then the timer's work.
        8. Run the idle checks.
        """
        if wait_s := self._backoff.remaining(self._clock()):
            self._idle_checks.observe(self._broker.fetch(1, min(BACKOFF_POLL_S, wait_s)))
            return
        if self._must_reconnect:
            self._lane_store.reconnect()
            self._must_reconnect = False
        self._throttle.refresh()
        self._apply_pause()
        fetch = self._fetch()
        self._idle_checks.observe(fetch)
        is_due = self._is_batch_due(fetch)
        topic_ids = self._request_topic_ids(fetch) if is_due else dict
        self._prepare(fetch)
        self._broker.poll_deliveries(0)
        self._settle()
        self.assignment.acquire_due()
        if not self._throttle.is_paused:
            if is_due:
                self._commit_prepared(topic_ids)
                self._linger.committed()
            self._run_timer()
        self._idle_checks.run(is_paused=self._throttle.is_paused)
        self._backoff.record_success(self._clock())

    def _back_off(self, error: Exception) -> None:
        """Drop what is known of every lane, since only the rows are certain, and wait. No record is
        dead-lettered for it.
        """
        wait_s = self._backoff.record_failure(code_of(error), self._clock())
        self._telemetry.backing_off(error, self._backoff.failures, wait_s)
        self._must_reconnect = True
        try:
            self.assignment.agree_with(self._broker.assigned())
        except BrokerUnavailable:
            self.assignment.reacquire(list(self.assignment.lanes))

    def _stop_reason(self) -> str:
        """Name the first lane that is stopped until an operator decides; the others go on."""
        stopped = [lane for lane in self.assignment if lane.state is LaneState.STOPPED]
        if not stopped:
            return ""
        first = min(stopped, key=lambda lane: lane.key)
        more = f" and {len(stopped) - 1} more" if len(stopped) > 1 else ""
        return f"{first.stop_code}: {first.key.topic} {first.key.partition}{more}"

    # Fetch and prepare.

    def _running(self) -> list[LaneKey]:
        return [
            lane.key
            for lane in self.assignment
            if lane.state is LaneState.RUNNING and lane.key != TIMER
        ]

    def _apply_pause(self) -> None:
        self.assignment.is_paused = self._throttle.is_paused
        if self._throttle.is_paused != self._was_paused:
            if running := self._running():
                (self._broker.pause if self._throttle.is_paused else self._broker.resume)(running)
            if not self._throttle.is_paused:
                self._breaker.reset()
            self._was_paused = self._throttle.is_paused

    def _fetch(self) -> FetchResult:
        prepared = sum(len(lane.prepared) for lane in self.assignment)
        room = self._batch_size.room(prepared)
        wait_s = self._settings.batch_wait_ms / 1_000
        own = self.assignment.with_partition
        if self._throttle.is_paused:
            return self._broker.fetch(1, wait_s)
        if room <= 0:
            return self._poll_group(0.0)
        allowed = self._throttle.allowance(room, len(own), self._broker.lanes_total())
        if allowed <= 0:
            return self._poll_group(wait_s)
        if prepared:
            wait_s = self._linger.remaining(self._clock())
        fetch = self._broker.fetch(allowed, wait_s)
        self._throttle.consume(sum(map(len, fetch.records.values())))
        return fetch

    def _poll_group(self, timeout_s: float) -> FetchResult:
        """Stay in the group without fetching records: all lanes are paused meanwhile."""
        running = self._running()
        if running:
            self._broker.pause(running)
        fetch = self._broker.fetch(1, timeout_s)
        if running:
            self._broker.resume([key for key in running if key in self.assignment.lanes])
        return fetch

    def _request_topic_ids(self, fetch: FetchResult) -> Callable[[], Mapping[str, str]]:
        """Request the ids of the topics in work, after the fetch; they are read just before the
        commit.
        """
        topics = {key.topic for key in fetch.records}
        topics |= {lane.key.topic for lane in self.assignment if lane.prepared}
        return self._broker.topic_ids(topics - {TIMER.topic}) if topics else dict

    def _prepare(self, fetch: FetchResult) -> None:
        self._fetch_errors.handle(fetch)
        sizes: list[int] = []
        for key in fetch.records | fetch.ends:
            records = fetch.records.get(key, ())
            lane = self.assignment.lanes.get(key)
            if lane is None or lane.state is not LaneState.RUNNING or lane.paused_for_acks:
                # Without an epoch the records are dropped: the lane's owner, perhaps this process,
                # reads them again from the row's next offset.
                continue
            before = len(lane.prepared)
            if not self._parser.prepare(lane, records, fetch.ends.get(key)):
                self.assignment.suspect_offset_gap(lane)
            sizes += [prepared.size for prepared in lane.prepared[before:]]
        self._batch_size.observe_sizes(sizes)

    def _is_batch_due(self, fetch: FetchResult) -> bool:
        """Return whether to commit now: the batch is full, or has waited long enough."""
        arrived, now = sum(map(len, fetch.records.values())), self._clock()
        records = arrived + sum(len(lane.prepared) for lane in self.assignment)
        self._linger.observe(records, has_arrived=arrived > 0, now=now)
        enough = min(self._batch_size.records, RECORDS_WORTH_A_BATCH)
        is_full = records >= enough or self._batch_size.room(records) <= 0
        return is_full or not self._linger.remaining(now)

    # Commit and publish.

    def _settle(self) -> None:
        settled = self._publisher.settle(self.assignment)
        for lane, failure in settled.failed:
            wait_s = self._settings.acquire_backoff_min_ms / 1_000
            if isinstance(failure, OutputUnauthorized):
                wait_s = self._unauthorized_outputs.delay_s(lane.key, failure)
            self.assignment.reacquire([lane.key], wait_s)
        for lane, error in settled.refused:
            self.assignment.stop(lane, error)
        self.assignment.resume_acknowledged()
        self._unauthorized_outputs.forget_published()

    def _commit_prepared(self, topic_ids: Callable[[], Mapping[str, str]]) -> None:
        waiting = [lane for lane in self.assignment if lane.prepared and lane.pending_acks]
        if waiting:
            self._publisher.await_acks(waiting, self._settings.acknowledgement_wait_ms / 1_000)
            self._settle()
            for lane in waiting:
                if lane.pending_acks and lane.state is LaneState.RUNNING:
                    self.assignment.pause_for_acks(lane)
        for lane in list(self.assignment):
            if isinstance(stop := first_stop(lane), Stop) and lane.may_commit:
                self.assignment.stop(lane, stop)
        slices = collect(self.assignment, self._batch_size.records, self._settings.batch_bytes_max)
        if slices and (slices := self.without_recreated(slices, topic_ids())):
            self._commit(slices)

    def without_recreated(
        self, slices: list[LaneSlice], topic_ids: Mapping[str, str]
    ) -> list[LaneSlice]:
        """Return the slices whose topic still has the id that the lane knows (model/: rule 16,
        topic id).

        A fetch goes by the topic's name, so the id counts only if it is read after the fetch and
        before the commit.
        """
        same = []
        for lane_slice in slices:
            lane = lane_slice.lane
            topic_id = topic_ids.get(lane.key.topic)
            if topic_id == lane.topic_id:
                same.append(lane_slice)
            elif topic_id is not None:
                self.assignment.stop(
                    lane,
                    TopicRecreated(
                        f"{lane.key.topic} had the id {lane.topic_id} and has {topic_id}"
                    ),
                )
            else:  # deleted; if it is created again, acquiring the lane compares the ids
                self.assignment.reacquire_fenced([lane.key])
        return same

    def _commit(self, slices: list[LaneSlice]) -> None:
        """Commit a batch, with as many attempts as its failures need."""
        known_dead: dict[RecordPosition, Dead] = {}
        transient_failures = 0
        for _ in range(ATTEMPTS_MAX):
            if not slices:
                return
            try:
                self._publish(slices, self._committer.commit(slices, known_dead))
            except LanesFenced as error:
                slices = self._without_fenced(slices, error)
            except RecordsFailed:
                slices = self._bisect(slices, known_dead)
            except FailureRateExceeded as error:
                self._lane_store.pause_service(error.code, str(error))
                self._throttle.expire()
                return
            except Exception as error:
                kind = self._classify(error)
                if kind is FailureKind.TOO_SLOW and records_in(slices) > 1:
                    slices = self._batch_size.halve(slices)
                    continue
                transient_failures += 1
                if (
                    kind not in {FailureKind.TRANSIENT, FailureKind.TOO_SLOW}
                    or transient_failures > TRANSIENT_ATTEMPTS_MAX
                ):
                    raise
            else:
                return
        raise BatchUndecided(f"{records_in(slices)} records, {ATTEMPTS_MAX} attempts")

    def _without_fenced(self, slices: list[LaneSlice], error: LanesFenced) -> list[LaneSlice]:
        self.assignment.reacquire_fenced(error.lanes)
        return [lane_slice for lane_slice in slices if lane_slice.lane.key not in error.lanes]

    def _bisect(
        self, slices: list[LaneSlice], known_dead: dict[RecordPosition, Dead]
    ) -> list[LaneSlice]:
        """Add the poison records to `known_dead`, and return what is to be tried next. Records that
        fail only together are tried in halves.
        """
        try:
            dead = self._bisector.find(
                slices, known_dead, dead_max=self._settings.breaker_window_records
            )
        except LanesFenced as error:
            return self._without_fenced(slices, error)
        except Exception as error:
            # Bisecting itself may last too long.
            if self._classify(error) is FailureKind.TOO_SLOW and records_in(slices) > 1:
                return self._batch_size.halve(slices)
            raise
        known_dead |= dead
        return slices if dead else halved(slices)

    def _publish(self, slices: list[LaneSlice], batch: CommittedBatch) -> None:
        self._backoff.reset()
        self._batch_size.observe_duration(batch.summary.seconds)
        for lane_slice in slices:
            lane_slice.lane.advance(len(lane_slice.taken), self._clock())
            self._publisher.send(lane_slice.lane, batch.outputs.get(lane_slice.lane.key, ()))
        self._telemetry.produced([lane_slice.lane.key for lane_slice in slices])

    def _run_timer(self) -> None:
        lane = self.assignment.lanes.get(TIMER)
        if lane is None or not self._timer.is_due(lane):
            return
        try:
            if (outputs := self._timer.run(lane)) is not None:
                self._publisher.send(lane, outputs)
                self._telemetry.produced([TIMER])
        except LanesFenced as error:
            self.assignment.reacquire_fenced(error.lanes)
        except TickFailed as error:  # lanes with input go on
            self._telemetry.backing_off(error, 1, self._settings.backoff_max_ms / 1_000)

    # The end.

    def stop(self, requested_at: float | None = None) -> bool:
        """Stop preparing, wait for the acknowledgements of what is committed, and leave the group.
        Returns whether everything is published.

        The deadline counts from `requested_at`, by the loop's clock: an iteration may wait for a
        broker that does not respond, so the request may be some time ago.
        """
        begun = self._clock() if requested_at is None else requested_at
        deadline = begun + self._settings.stop_deadline_ms / 1_000
        lanes = list(self.assignment)
        for lane in lanes:
            lane.prepared.clear()
        self._publisher.await_acks(lanes, 0.0, until=deadline - 1.0)
        self._publisher.settle(lanes)
        # Not required: without it the next owner only publishes again what is acknowledged.
        with suppress(Exception):
            self._idle_checks.clear(lanes)
        left = [lane for lane in lanes if lane.pending_acks is not None or lane.outbox_uncertain]
        self._broker.close(max(0.0, deadline - self._clock()))
        self._lane_store.close()
        return not left
