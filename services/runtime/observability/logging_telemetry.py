"""Logs the events of the loop, and keeps the health server's answers up to date.

One line per event, never one per record or batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from typing_extensions import override

from services.runtime.errors import LoopFailed, StublineError
from services.runtime.failures.classification import code_of
from services.runtime.observability import logs
from services.runtime.observability.health import Health
from services.runtime.observability.log_limits import RepeatLimiter
from services.runtime.observability.prometheus import PrometheusTelemetry
from services.runtime.records import LaneKey


class LoggingTelemetry(PrometheusTelemetry):
    """Metrics and log lines of one process and group."""

    def __init__(self, group: str, health: Health) -> None:
        super().__init__(group)
        self._log = logs.get("lanes").bind(group=group)
        self._health = health
        self._readiness = (False, "starting")
        self._uncommitted: frozenset[LaneKey] = frozenset()  # lanes at an open transaction
        self._repeats = RepeatLimiter()
        self._backing_off = ""  # the error code that was logged last, until the process is ready

    @override
    def iteration_done(self, *, is_ready: bool, reason: str) -> None:
        self._health.beat()
        if is_ready and self._backing_off:
            self._log.info("ready again", code=self._backing_off)
            self._backing_off = ""
        if (is_ready, reason) != self._readiness:
            self._health.ready(is_ready, reason)
            self._readiness = (is_ready, reason)

    @override
    def acquired(self, lane: LaneKey, epoch: int, offset: int, republished: int) -> None:
        super().acquired(lane, epoch, offset, republished)
        where = {"topic": lane.topic, "partition": lane.partition}
        self._log.info(
            "lane acquired", **where, epoch=epoch, offset=offset, republished=republished
        )

    @override
    def revoked(self, lanes: Collection[LaneKey]) -> None:
        self._log.info("lanes revoked", lanes=_named(lanes))

    @override
    def lost(self, lanes: Collection[LaneKey]) -> None:
        self._log.warning("lanes lost", lanes=_named(lanes))

    @override
    def fenced(self, lanes: Collection[LaneKey]) -> None:
        super().fenced(lanes)
        self._log.warning("lanes fenced", lanes=_named(lanes))

    @override
    def stopped(self, lane: LaneKey, code: str, text: str) -> None:
        super().stopped(lane, code, text)
        self._log.error(
            "lane stopped", topic=lane.topic, partition=lane.partition, code=code, error=text
        )

    @override
    def repositioned(self, lane: LaneKey, offset: int, reason: str) -> None:
        super().repositioned(lane, offset, reason)
        self._log.warning(
            "lane assigned again",
            topic=lane.topic,
            partition=lane.partition,
            offset=offset,
            reason=reason,
        )

    @override
    def hole_suspected(self, lane: LaneKey, offset: int) -> None:
        super().hole_suspected(lane, offset)
        self._log.debug(
            "possible hole in the log", topic=lane.topic, partition=lane.partition, offset=offset
        )

    @override
    def client_skipped_record(self, lane: LaneKey, offset: int) -> None:
        self._log.warning(
            "client skipped a record and was repositioned",
            topic=lane.topic,
            partition=lane.partition,
            offset=offset,
        )

    @override
    def gauges(
        self,
        lag: Mapping[LaneKey, tuple[int, float]],
        unacknowledged: Mapping[LaneKey, int],
        stopped: Collection[LaneKey],
        uncommitted: Mapping[LaneKey, int],
    ) -> None:
        super().gauges(lag, unacknowledged, stopped, uncommitted)
        for lane in uncommitted.keys() - self._uncommitted:
            self._log.info(
                "lane waits for an open transaction", topic=lane.topic, partition=lane.partition
            )
        self._uncommitted = frozenset(uncommitted)

    @override
    def backing_off(self, error: BaseException, attempt: int, wait_s: float) -> None:
        super().backing_off(error, attempt, wait_s)
        code = code_of(error)
        suppressed = self._repeats.due(code)
        if suppressed is None:
            return
        self._backing_off = code
        fields = {"attempt": attempt, "wait_s": round(wait_s, 2), "suppressed": suppressed}
        if code == LoopFailed.code:
            self._log.error("retrying after error", code=code, **fields, exc_info=error)
        else:
            self._log.warning(
                "retrying after error", code=code, **fields, error=logs.describe(error)
            )

    @override
    def warning(self, error: StublineError) -> None:
        self._log.warning(
            "configuration problem", code=error.code, error=error.cause, next_step=error.next_step
        )

    @override
    def record_failed(self, record_at: tuple[str, int, int], error: BaseException) -> None:
        topic, partition, offset = record_at
        self._log.error(
            "unexpected error in record",
            topic=topic,
            partition=partition,
            offset=offset,
            exc_info=error,
        )

    @override
    def paused(self, *, is_paused: bool, reason: str) -> None:
        super().paused(is_paused=is_paused, reason=reason)
        self._log.warning("service paused" if is_paused else "service resumed", reason=reason)

    @override
    def conservation(self, gaps: Mapping[LaneKey, int]) -> None:
        super().conservation(gaps)
        for lane, gap in gaps.items():
            if gap:
                self._log.error(
                    "records without an outcome",
                    topic=lane.topic,
                    partition=lane.partition,
                    gap=gap,
                )


def _named(lanes: Collection[LaneKey]) -> list[str]:
    return [f"{lane.topic}/{lane.partition}" for lane in sorted(lanes)]
