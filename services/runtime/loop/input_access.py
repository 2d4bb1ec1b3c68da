"""What the broker withholds although it answers: the process is not ready and says why, and works
what it is given.

The client says once that a lane is refused and is silent from then on, whether it is refused or
allowed again, and it says nothing at all of a topic that is not there (seen with confluent-kafka
2.16.1 and Kafka 4). So both are asked anew.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar

from services.runtime.errors import InputMissing, InputRefused, Transient
from services.runtime.loop.assignment import Assignment
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.lane import LaneState
from services.runtime.loop.ports import FetchResult
from services.runtime.records import LaneKey

S = TypeVar("S")


class InputAccess(Generic[S]):
    """Stands until the lane brings records, or is not refused again when it is asked for anew; the
    group's, until it names lanes for us, perhaps none. A topic is missing when it was missing twice
    in a row: brokers learn of new ones in their turn.
    """

    def __init__(self, means: WorkerContext[S], assignment: Assignment[S]) -> None:
        self._assignment, self._topics, self._telemetry = (
            assignment,
            means.service.input_topics,
            means.telemetry,
        )
        self._wait_s = means.settings.idle_check_ms / 1_000
        self._membership = ""
        self._lanes: dict[LaneKey, str] = {}
        self._asked = set[LaneKey]()  # anew, and not refused since
        self._missing: tuple[frozenset[str], frozenset[str]] = (
            frozenset(),
            frozenset(),
        )  # now, and when asked before
        self._told: Transient | None = None

    @property
    def code(self) -> str:
        """Of what is withheld; empty: nothing."""
        return self._told.code if self._told else ""

    def heard(self, fetch: FetchResult) -> None:
        """What a fetch brought. Called for each."""
        for key in fetch.records:
            self._lanes.pop(key, None)
        for refused, text in fetch.refused.items():
            if refused is not None:
                self._lanes[refused] = text
                self._asked.discard(refused)
            elif not self._assignment.with_partition:
                self._membership, self._assignment.is_member = text, False
        if self._told or fetch.refused:
            self._tell()

    def ask_again(self) -> None:
        """Now and then: of lanes that were asked for before and not refused since, nothing is
        withheld.
        """
        self._lanes = {
            key: text
            for key, text in self._lanes.items()
            if key not in self._asked and self._is_ours(key)
        }
        self._asked = set(self._lanes)
        for key in self._lanes:
            self._assignment.from_tail(self._assignment.lanes[key])
        self._tell()

    def compare(self, found: Collection[str]) -> None:
        """The topics that the broker shows us."""
        self._missing = (frozenset(self._topics) - frozenset(found), self._missing[0])

    def _is_ours(self, key: LaneKey) -> bool:
        lane = self._assignment.lanes.get(key)
        return lane is not None and lane.state is LaneState.RUNNING

    def _tell(self) -> None:
        """Once for each that is not what was told before."""
        before, self._told = self._told, self._found()
        if self._told is not None and str(self._told) != str(before):
            self._telemetry.trouble(self._told, 1, self._wait_s)

    def _found(self) -> Transient | None:
        if self._assignment.is_member:
            self._membership = ""
        if self._membership:
            return InputRefused(self._membership)
        if self._lanes:
            key = min(self._lanes)
            return InputRefused(f"{key.topic} {key.partition}: {self._lanes[key]}")
        missing = sorted(self._missing[0] & self._missing[1])
        return InputMissing(", ".join(missing)) if missing else None
