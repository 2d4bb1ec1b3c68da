"""Detects inputs that an available broker does not serve: topics that do not exist, lanes and
memberships that it refuses. The process is then not ready, with that reason, and works its other
inputs.

The client reports once that a lane is refused. Afterwards it is silent, whether the lane is still
refused or allowed again, and it never reports a topic that does not exist (seen with
confluent-kafka 2.16.1 and Kafka 4). So both are checked again and again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar

from services.runtime.errors import InputMissing, InputRefused, Transient
from services.runtime.loop.assignment import Assignment
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import LaneState
from services.runtime.ports import FetchResult
from services.runtime.records import LaneKey

S = TypeVar("S")


class RefusedInputs(Generic[S]):
    """Tracks the lanes, topics and group membership that Kafka refuses, until each is readable
    again.

    A lane is readable when it brings records, or is not refused after it was assigned again. The
    membership is restored when the group assigns lanes, perhaps none. A topic is missing only if
    two checks in a row miss it, since brokers learn of a new topic one after the other.
    """

    def __init__(self, context: WorkerContext[S], assignment: Assignment[S]) -> None:
        self._assignment, self._telemetry = assignment, context.telemetry
        self._topics = frozenset(context.service.input_topics)
        self._wait_s = context.settings.idle_check_ms / 1_000
        self._membership = ""  # the broker's text, if it refuses the membership
        self._lanes: dict[LaneKey, str] = {}  # refused lanes, with the broker's text
        self._rechecked = set[LaneKey]()  # assigned again, and not refused since
        self._missing = self._missing_before = frozenset[str]()
        self._reported: Transient | None = None

    @property
    def code(self) -> str:
        """The error code of the refusal that was reported last; empty: nothing is refused."""
        return self._reported.code if self._reported else ""

    def observe(self, fetch: FetchResult) -> None:
        """Examine a fetch. It is called for every fetch."""
        for key in fetch.records:
            self._lanes.pop(key, None)
        for refused, text in fetch.refused.items():
            if refused is not None:
                self._lanes[refused] = text
                self._rechecked.discard(refused)
            elif not self._assignment.with_partition:
                self._membership, self._assignment.is_member = text, False
        if self._reported or fetch.refused:
            self._report()

    def recheck(self) -> None:
        """Assign refused lanes again, and drop those that were not refused since the last check."""
        self._lanes = {
            key: text
            for key, text in self._lanes.items()
            if key not in self._rechecked and self._is_running(key)
        }
        self._rechecked = set(self._lanes)
        for key in self._lanes:
            self._assignment.start_at_fetch_position(self._assignment.lanes[key])
        self._report()

    def compare(self, existing: Collection[str]) -> None:
        """Compare the input topics with those that the broker shows us."""
        self._missing_before = self._missing
        self._missing = self._topics - frozenset(existing)

    def _is_running(self, key: LaneKey) -> bool:
        lane = self._assignment.lanes.get(key)
        return lane is not None and lane.state is LaneState.RUNNING

    def _report(self) -> None:
        """Report each change once."""
        before, self._reported = self._reported, self._refused()
        if self._reported is not None and str(self._reported) != str(before):
            self._telemetry.backing_off(self._reported, 1, self._wait_s)

    def _refused(self) -> Transient | None:
        if self._assignment.is_member:
            self._membership = ""
        if self._membership:
            return InputRefused(self._membership)
        if self._lanes:
            key = min(self._lanes)
            return InputRefused(f"{key.topic} {key.partition}: {self._lanes[key]}")
        missing = sorted(self._missing & self._missing_before)
        return InputMissing(", ".join(missing)) if missing else None
