"""A broker in memory: topics with ids, logs with offset gaps, a group protocol like that of
KIP-848, and produce requests that can be delayed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4
from zlib import crc32

from schemas.envelope import Output
from services.runtime.errors import BrokerUnavailable, OutputUnauthorized, StublineError
from services.runtime.ports import DeliveryCallback, FetchResult, RebalanceListener
from services.runtime.records import LaneKey, Record
from services.runtime.testing.clock import FakeClock

SESSION_TIMEOUT_S = 6.0


@dataclass(slots=True)
class _Topic:
    topic_id: str
    partitions: list[list[Record | None]]  # None: a transaction's marker, or compacted
    low: list[int]


@dataclass(slots=True)
class _Member:
    log: FakeBrokerClient
    seen_at: float
    owned: set[LaneKey] = field(default_factory=set)
    expired: bool = False  # the group has assigned its lanes to others; it does not know yet


class FakeBroker:
    """Shared by all members. Tests inject faults through its attributes and methods."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.topics: dict[str, _Topic] = {}
        self.is_unavailable = False
        # Batches that no client can unpack: their first offset, and the first one after.
        self.unreadable: dict[LaneKey, tuple[int, int]] = {}
        self.forbidden: set[str] = set()  # topics and groups without a right to read
        self.unwritable: set[str] = set()  # topics without a right to write
        self.refusals: list[StublineError] = []  # one for each of the next deliveries that fail
        self.holds_requests = False  # produce requests stay in `in_flight` until `land`
        self.in_flight: list[tuple[Output, DeliveryCallback]] = []
        self.group_offsets: dict[tuple[str, LaneKey], int] = {}
        self._members: dict[str, dict[FakeBrokerClient, _Member]] = {}

    # Topics.

    def create_topic(self, name: str, partitions: int = 2) -> None:
        self.topics[name] = _Topic(uuid4().hex, [[] for _ in range(partitions)], [0] * partitions)

    def delete_topic(self, name: str) -> None:
        del self.topics[name]

    def add_partitions(self, name: str, total: int) -> None:
        topic = self.topics[name]
        for _ in range(total - len(topic.partitions)):
            topic.partitions.append([])
            topic.low.append(0)

    def append(self, output: Output, partition: int | None = None) -> LaneKey:
        topic = self.topics[output.topic]
        if partition is None:
            partition = crc32(output.key or b"") % len(topic.partitions)
        entries = topic.partitions[partition]
        at = int(self.clock() * 1_000)
        entries.append(
            Record(
                output.topic,
                partition,
                len(entries),
                at,
                output.key,
                output.value,
                list(output.headers),
            )
        )
        return LaneKey(output.topic, partition)

    def append_marker(self, lane: LaneKey) -> None:
        self.topics[lane.topic].partitions[lane.partition].append(None)

    def delete_records(self, lane: LaneKey, before: int) -> None:
        """Delete records as retention does."""
        self.topics[lane.topic].low[lane.partition] = before

    def records(self, topic: str) -> list[Record]:
        return [
            record
            for entries in self.topics[topic].partitions
            for record in entries
            if record is not None
        ]

    def land(self, copies: int = 1) -> None:
        """Append what is in flight, perhaps twice. The producer gets one report for each."""
        requests, self.in_flight = self.in_flight, []
        for output, on_delivery in requests:
            for _ in range(copies):
                self.append(output)
            on_delivery(None)

    # Groups.

    def join(self, group: str, log: FakeBrokerClient) -> None:
        self._members.setdefault(group, {})[log] = _Member(log, self.clock())

    def leave(self, group: str, log: FakeBrokerClient) -> None:
        self._members.get(group, {}).pop(log, None)

    def expire(self, group: str) -> None:
        for member in self._members.get(group, {}).values():
            if self.clock() - member.seen_at > SESSION_TIMEOUT_S:
                member.expired = True

    def member(self, group: str, log: FakeBrokerClient) -> _Member:
        return self._members[group][log]

    def targets(self, group: str) -> dict[FakeBrokerClient, set[LaneKey]]:
        """Return each member's lanes. Members keep their order, so few lanes move."""
        alive = [member for member in self._members.get(group, {}).values() if not member.expired]
        if not alive:
            return {}
        wanted = {topic for member in alive for topic in member.log.topics}
        lanes = sorted(
            LaneKey(name, partition)
            for name in wanted & self.topics.keys()
            for partition in range(len(self.topics[name].partitions))
        )
        targets: dict[FakeBrokerClient, set[LaneKey]] = {member.log: set() for member in alive}
        for index, lane in enumerate(lanes):
            targets[alive[index % len(alive)].log].add(lane)
        return targets

    def is_free(self, group: str, lane: LaneKey, log: FakeBrokerClient) -> bool:
        """Return whether no other live member owns the lane: it moves only after it was revoked."""
        others = (
            member
            for member in self._members[group].values()
            if member.log is not log and not member.expired
        )
        return not any(lane in member.owned for member in others)


class FakeBrokerClient:
    """One member. See ports.BrokerClient."""

    def __init__(self, broker: FakeBroker, group: str) -> None:
        self.broker, self.group = broker, group
        self.topics: tuple[str, ...] = ()
        self.pending: list[tuple[Output, DeliveryCallback]] = []
        self._listener: RebalanceListener
        self._positions: dict[LaneKey, int] = {}
        self._paused: set[LaneKey] = set()
        self._reported: set[tuple[LaneKey, int]] = set()
        self._not_fetched: dict[LaneKey, tuple[int, int]] = {}  # with their ends at that time
        self._is_zombie = self._was_refused = False

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        self.topics, self._listener = tuple(topics), listener  # no member fetches before it
        self.broker.join(self.group, self)

    def fetch(self, records_max: int, timeout_s: float) -> FetchResult:
        self.broker.expire(self.group)
        if self.broker.is_unavailable:
            self.broker.clock.sleep(timeout_s)
            return FetchResult()
        if self.group in self.broker.forbidden and not self._positions:
            self.broker.clock.sleep(timeout_s)
            reported, self._was_refused = self._was_refused, True  # once, as the real client
            return (
                FetchResult()
                if reported
                else FetchResult(refused={None: "group authorization failed"})
            )
        member = self.broker.member(self.group, self)
        if member.expired and not self._is_zombie:
            # The first fetch after a long pause still returns what the client had, and no error.
            self._is_zombie = True
            return self._take(records_max, timeout_s)
        self._apply_assignment(member)
        return self._take(records_max, timeout_s)

    def _apply_assignment(self, member: _Member) -> None:
        listener = self._listener
        if member.expired:
            owned, member.owned, member.expired, self._is_zombie = member.owned, set(), False, False
            member.seen_at = self.broker.clock()
            self._forget(owned)
            listener.lost(sorted(owned))
        member.seen_at = self.broker.clock()
        target = self.broker.targets(self.group).get(self, set())
        if revoked := member.owned - target:
            try:
                listener.revoked(sorted(revoked))
            finally:
                member.owned -= revoked
                self._forget(revoked)
        if new := {
            lane for lane in target - member.owned if self.broker.is_free(self.group, lane, self)
        }:
            member.owned |= new
            self._paused |= new
            listener.assigned(sorted(new))

    def _forget(self, lanes: Collection[LaneKey]) -> None:
        for lane in lanes:
            self._not_fetched.pop(lane, None)
            self._positions.pop(lane, None)
            self._paused.discard(lane)

    def _take(self, records_max: int, timeout_s: float) -> FetchResult:
        fetch = FetchResult()
        for lane, position in sorted(self._positions.items()):
            topic = self.broker.topics.get(lane.topic)
            if (
                lane in self._paused
                or lane in self._not_fetched
                or topic is None
                or lane.partition >= len(topic.partitions)
            ):
                continue
            if lane.topic in self.broker.forbidden:
                if self._is_first_report(lane, position):
                    fetch.refused[lane] = "topic authorization failed"
                continue
            entries, low = topic.partitions[lane.partition], topic.low[lane.partition]
            if not low <= position <= len(entries):
                if self._is_first_report(lane, position):
                    fetch.out_of_range[lane] = (
                        f"offset {position} is not in {low} to {len(entries)}"
                    )
                continue
            bad = self.broker.unreadable.get(lane, (len(entries), len(entries)))
            if bad[0] <= position < bad[1]:
                fetch.unreadable[lane] = f"cannot unpack the batch at {bad[0]}"
                continue
            last = bad[0] if position < bad[0] else len(entries)
            records = [record for record in entries[position:last] if record is not None]
            if records := records[:records_max]:
                records_max -= len(records)
                self._positions[lane] = records[-1].offset + 1
                fetch.records[lane] = records
            is_at_end = not any(entries[self._positions[lane] :])
            if is_at_end and self._is_first_report(lane, -len(entries)):
                self._positions[lane] = len(entries)
                fetch.ends[lane] = len(entries)
        self.broker.clock.sleep(0.001 if fetch.records else max(timeout_s, 0.001))
        return fetch

    def _is_first_report(self, lane: LaneKey, position: int) -> bool:
        """Return True once for each assignment, as the real client reports."""
        is_first = (lane, position) not in self._reported
        self._reported.add((lane, position))
        return is_first

    def assigned(self) -> frozenset[LaneKey]:
        return frozenset(self.broker.member(self.group, self).owned)

    def start_at(self, lane: LaneKey, offset: int) -> None:
        self._positions[lane] = offset
        self._paused.discard(lane)
        self._not_fetched.pop(lane, None)
        self._reported = {reported for reported in self._reported if reported[0] != lane}

    def jump(self, lane: LaneKey, offset: int) -> None:
        """A fault: the client reads on at another offset and reports nothing."""
        self._positions[lane] = offset

    def stop_fetching_of(self, lane: LaneKey) -> None:
        """A fault: the client stops fetching a lane, and so does not see its end either, until it
        is assigned again.
        """
        if (ends := self.ends(lane)) is not None:
            self._not_fetched[lane] = ends

    def pause(self, lanes: Collection[LaneKey]) -> None:
        self._paused |= set(lanes)

    def resume(self, lanes: Collection[LaneKey]) -> None:
        self._paused -= set(lanes)

    def produce(self, output: Output, on_delivery: DeliveryCallback) -> None:
        self.pending.append((output, on_delivery))

    def poll_deliveries(self, timeout_s: float) -> None:
        self.broker.clock.sleep(timeout_s)
        if self.broker.is_unavailable:
            return
        pending, self.pending = self.pending, []
        if self.broker.holds_requests:
            self.broker.in_flight += pending
            return
        for output, on_delivery in pending:
            if self.broker.refusals:
                on_delivery(self.broker.refusals.pop(0))
            elif output.topic in self.broker.unwritable:
                on_delivery(OutputUnauthorized(f"{output.topic}: topic authorization failed"))
            elif output.topic not in self.broker.topics:
                on_delivery(BrokerUnavailable(f"{output.topic} does not exist"))
            else:
                self.broker.append(output)
                on_delivery(None)

    def ends(self, lane: LaneKey) -> tuple[int, int] | None:
        return self._not_fetched.get(lane) or self._true_ends(lane)

    def _true_ends(self, lane: LaneKey) -> tuple[int, int] | None:
        topic = self.broker.topics.get(lane.topic)
        return (
            None
            if topic is None
            else (topic.low[lane.partition], len(topic.partitions[lane.partition]))
        )

    def request_ends(self, lanes: Collection[LaneKey]) -> Callable[[], Mapping[LaneKey, int]]:
        bounds = (
            {} if self.broker.is_unavailable else {lane: self._true_ends(lane) for lane in lanes}
        )
        return lambda: {lane: ends[1] for lane, ends in bounds.items() if ends is not None}

    def bounds(self, lane: LaneKey) -> tuple[int, int]:
        bounds = self._true_ends(lane)
        if self.broker.is_unavailable or bounds is None:
            raise BrokerUnavailable(f"no answer for {lane}")
        return bounds

    def unreadable_to(self, lane: LaneKey, offset: int) -> int | None:  # noqa: ARG002 - the port's signature
        return self.broker.unreadable[lane][1]

    def topic_ids(self, topics: Collection[str]) -> Callable[[], Mapping[str, str]]:
        def answers() -> Mapping[str, str]:
            if self.broker.is_unavailable:
                raise BrokerUnavailable("describe topics: no answer")
            return {
                name: self.broker.topics[name].topic_id
                for name in topics
                if name in self.broker.topics
            }

        return answers

    def lanes_total(self) -> int:
        return sum(
            len(self.broker.topics[name].partitions)
            for name in self.topics
            if name in self.broker.topics
        )

    def commit_group_offsets(self, positions: Mapping[LaneKey, int]) -> None:
        self.broker.group_offsets |= {
            (self.group, lane): offset for lane, offset in positions.items()
        }

    def close(self, timeout_s: float) -> None:  # noqa: ARG002 - the port's signature
        self.poll_deliveries(0.0)
        self.broker.leave(self.group, self)
