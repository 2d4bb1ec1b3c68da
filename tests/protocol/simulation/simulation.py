"""Simulates two stages under faults, from one seed: each step, fault and late arrival is random,
and nothing depends on real time.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import override

from schemas.envelope import Output
from services.runtime.errors import BrokerUnavailable
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.worker import Worker
from services.runtime.observability.telemetry import BatchSummary, Telemetry
from services.runtime.records import TIMER, LaneKey
from services.runtime.service import Service
from services.runtime.settings import LaneSettings
from services.runtime.testing import (
    FakeBroker,
    FakeBrokerClient,
    FakeClock,
    FakeDatabase,
    FakeLaneStore,
    FakeSession,
    classify_fake_error,
)
from tests.protocol.simulation.two_stages import FIRST, FIRST_TOPICS, LAST, MIDDLE, SECOND

SETTINGS = LaneSettings(
    batch_linger_ms=30,
    batch_records_max=7,
    idle_check_ms=1_000,
    tick_interval_ms=200,
    breaker_window_records=10_000,
)
POINTS = (
    "transaction_begun",
    "committing",
    "committed",
    "produced",
    "published",
    "assigned",
    "revoked",
    "lost",
)


class SimulatedKillError(BaseException):
    """kill -9, at a point of a batch's life."""


@dataclass
class SimulatedTrap(Telemetry):
    """Kills its process, or raises in its callback, at a named point."""

    kill_at: str = ""
    raise_at: str = ""

    def _at(self, point: str) -> None:
        if point == self.kill_at:
            raise SimulatedKillError
        if point == self.raise_at:
            self.raise_at = ""
            raise RuntimeError(point)

    @override
    def transaction_begun(self, lanes: Collection[LaneKey]) -> None:
        self._at("transaction_begun")

    @override
    def committing(self, lanes: Collection[LaneKey]) -> None:
        self._at("committing")

    @override
    def committed(self, batch: BatchSummary) -> None:
        self._at("committed")

    @override
    def produced(self, lanes: Collection[LaneKey]) -> None:
        self._at("produced")

    @override
    def published(self, lane: LaneKey) -> None:
        self._at("published")

    @override
    def assigned(self, lanes: Collection[LaneKey]) -> None:
        self._at("assigned")

    @override
    def revoked(self, lanes: Collection[LaneKey]) -> None:
        self._at("revoked")

    @override
    def lost(self, lanes: Collection[LaneKey]) -> None:
        self._at("lost")


@dataclass
class SimulatedProcess:
    """A worker, its member of the group, and until when it is paused (SIGSTOP)."""

    worker: Worker[FakeSession]
    client: FakeBrokerClient
    trap: SimulatedTrap
    paused_until: float = 0.0


@dataclass
class Simulation:
    """Two stages with their broker and database, in memory."""

    seed: int
    jitter: random.Random = field(init=False)
    random: random.Random = field(init=False)
    clock: FakeClock = field(default_factory=FakeClock)
    broker: FakeBroker = field(init=False)
    database: FakeDatabase = field(default_factory=FakeDatabase)
    processes: dict[str, list[SimulatedProcess]] = field(init=False)
    sent: list[str] = field(default_factory=list)
    poison: int = 0
    happened: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.jitter = random.Random(self.seed)  # of the loop's delays: a seed is one run, always
        self.broker = FakeBroker(self.clock)
        for topic in (*FIRST_TOPICS, MIDDLE, LAST):
            self.broker.create_topic(topic, 2)
        for service in (FIRST, SECOND):
            self.broker.create_topic(service.replay_topic, 1)
            self.broker.create_topic(service.dead_topic, 1)
        self.processes = {service.group: [self.process(service)] for service in (FIRST, SECOND)}

    def process(self, service: Service[Any, FakeSession]) -> SimulatedProcess:
        client, trap = FakeBrokerClient(self.broker, service.group), SimulatedTrap()
        lane_store = FakeLaneStore(self.database, service.group)
        worker = Worker(
            WorkerContext(
                service,
                client,
                lane_store,
                SETTINGS,
                trap,
                classify_fake_error,
                self.clock,
                self.clock,
                self.jitter.random,
            )
        )
        return SimulatedProcess(worker, client, trap)

    # Input.

    def send(self) -> None:
        draw = self.random.random()
        topic, key = self.random.choice(FIRST_TOPICS), self.random.choice(["k1", "k2", "k3"])
        if draw < 0.1:
            value = b"\xff"
            self.poison += 1
        elif draw < 0.15:
            value = f"boom{len(self.sent)} {key}".encode()
            self.sent.append("")
            self.poison += 1
        elif draw < 0.35 and any(self.sent):
            value = self.random.choice([text for text in self.sent if text]).encode()
        else:
            text = f"id{len(self.sent)} {key}"
            self.sent.append(text)
            value = text.encode()
        lane = self.broker.append(Output(topic, key.encode(), value, [("source", b"\0\xff")]))
        if self.random.random() < 0.03:
            self.broker.append_marker(lane)

    # One step of every process, or a fault.

    def step(self) -> None:
        for service in (FIRST, SECOND):
            for process in list(self.processes[service.group]):
                if self.clock() < process.paused_until:
                    continue
                try:
                    process.worker.step()
                except SimulatedKillError:
                    self.kill(service, process)

    def kill(self, service: Service[Any, FakeSession], process: SimulatedProcess) -> None:
        """Kill a process. Some requests of its producer arrive later, others never."""
        self.happened["killed"] += 1
        self.processes[service.group].remove(process)
        for output, answer in process.client.pending:
            if self.random.random() < 0.5:
                self.broker.in_flight.append((output, lambda _error: None))
            del answer
        if not self.processes[service.group]:
            self.processes[service.group].append(self.process(service))

    def break_something(self) -> None:
        service = self.random.choice((FIRST, SECOND))
        process = self.random.choice(self.processes[service.group])
        fault = self.random.choice(FAULTS)
        fault(self, service, process)
        self.happened[fault.__name__] += 1

    def kill_at_a_point(
        self, _service: Service[Any, FakeSession], process: SimulatedProcess
    ) -> None:
        process.trap.kill_at = self.random.choice(POINTS)

    def pause(self, _service: Service[Any, FakeSession], process: SimulatedProcess) -> None:
        process.paused_until = self.clock() + self.random.choice([0.5, 8.0])

    def join(self, service: Service[Any, FakeSession], _process: SimulatedProcess) -> None:
        if len(self.processes[service.group]) < 3:
            self.processes[service.group].append(self.process(service))

    def lose_a_commits_response(
        self, _service: Service[Any, FakeSession], _process: SimulatedProcess
    ) -> None:
        self.database.answers_lost += 1

    def refuse_a_commit(
        self, _service: Service[Any, FakeSession], _process: SimulatedProcess
    ) -> None:
        self.database.commits_refused += 1

    def conflict(self, _service: Service[Any, FakeSession], _process: SimulatedProcess) -> None:
        self.database.conflicts += self.random.choice([1, 5])

    def toggle_database(
        self, _service: Service[Any, FakeSession], _process: SimulatedProcess
    ) -> None:
        self.database.is_unavailable = not self.database.is_unavailable

    def toggle_broker(
        self, _service: Service[Any, FakeSession], _process: SimulatedProcess
    ) -> None:
        self.broker.is_unavailable = not self.broker.is_unavailable

    def fail_a_delivery(
        self, _service: Service[Any, FakeSession], _process: SimulatedProcess
    ) -> None:
        self.broker.refusals.append(BrokerUnavailable("timed out"))

    def toggle_delayed_requests(
        self, _service: Service[Any, FakeSession], _process: SimulatedProcess
    ) -> None:
        self.broker.holds_requests = not self.broker.holds_requests

    def land_requests(
        self, _service: Service[Any, FakeSession], _process: SimulatedProcess
    ) -> None:
        self.random.shuffle(self.broker.in_flight)
        self.broker.land(copies=self.random.choice([1, 2]))

    def jump(self, _service: Service[Any, FakeSession], process: SimulatedProcess) -> None:
        """Have the client jump at any moment, also between an assignment and the first record after
        it, as a real client was seen to do.
        """
        for lane in sorted(process.client.assigned()):
            if process.worker.assignment.lanes.get(lane) is None:
                continue
            ends = self.broker.topics[lane.topic].partitions[lane.partition]
            process.client.jump(lane, self.random.randint(0, len(ends)))

    def stop_fetching(self, _service: Service[Any, FakeSession], process: SimulatedProcess) -> None:
        for lane in sorted(process.client.assigned()):
            process.client.stop_fetching_of(lane)

    def rewind(self, service: Service[Any, FakeSession], _process: SimulatedProcess) -> None:
        rows = [
            lane for group, lane in self.database.rows if group == service.group and lane != TIMER
        ]
        if rows:
            lane = self.random.choice(sorted(rows))
            row = self.database.rows[service.group, lane]
            self.database.move(
                service.group, lane, self.random.randint(row.first_offset, row.next_offset)
            )
            if lane.topic in FIRST_TOPICS:
                self.happened["rewound"] += 1

    def raise_in_a_callback(
        self, _service: Service[Any, FakeSession], process: SimulatedProcess
    ) -> None:
        process.trap.raise_at = self.random.choice(["assigned", "revoked", "lost"])

    def lock_rows(self, _service: Service[Any, FakeSession], _process: SimulatedProcess) -> None:
        self.database.locked = {lane for _, lane in self.database.rows}

    def clear_locks(self, _service: Service[Any, FakeSession], _process: SimulatedProcess) -> None:
        self.database.locked = set()

    def add_partitions(
        self, _service: Service[Any, FakeSession], _process: SimulatedProcess
    ) -> None:
        for topic in (*FIRST_TOPICS, MIDDLE):
            self.broker.add_partitions(topic, 4)

    def replay(self, _service: Service[Any, FakeSession], _process: SimulatedProcess) -> None:
        for row in self.database.dead_letters.values():
            if row.state in {"open", "replayed"}:
                row.state = "requested"

    # The end.

    def heal(self) -> None:
        """End all faults, and resume paused processes."""
        self.database.is_unavailable = self.broker.is_unavailable = self.broker.holds_requests = (
            False
        )
        self.database.answers_lost = self.database.commits_refused = self.database.conflicts = 0
        self.database.locked = set()
        self.broker.refusals.clear()
        for processes in self.processes.values():
            for process in processes:
                process.trap.kill_at = process.trap.raise_at = ""
                process.paused_until = 0.0
        self.broker.land()

    def settle(self, steps_max: int = 3_000) -> None:
        quiet = 0
        for _ in range(steps_max):
            self.step()
            self.broker.land()
            quiet = quiet + 1 if self.is_quiet() else 0
            if quiet > 20:
                return
        raise AssertionError(f"seed {self.seed} does not settle: {self.lanes_with_lag()}")

    def is_quiet(self) -> bool:
        return not self.lanes_with_lag() and not any(
            row.state in {"requested", "replayed"} for row in self.database.dead_letters.values()
        )

    def lanes_with_lag(self) -> list[str]:
        problems = []
        for service in (FIRST, SECOND):
            for topic in service.input_topics:
                for partition, entries in enumerate(self.broker.topics[topic].partitions):
                    last = max(
                        (record.offset for record in entries if record is not None), default=-1
                    )
                    row = self.database.rows.get((service.group, LaneKey(topic, partition)))
                    if row is None or row.next_offset <= last:
                        problems.append(
                            f"{service.group} {topic}/{partition} at {row and row.next_offset} of "
                            f"{last + 1}"
                        )
        return problems


# Weighted by repetition.
FAULTS: tuple[Callable[[Simulation, Service[Any, FakeSession], SimulatedProcess], None], ...] = (
    Simulation.kill_at_a_point,
    Simulation.kill_at_a_point,
    Simulation.pause,
    Simulation.pause,
    Simulation.join,
    Simulation.lose_a_commits_response,
    Simulation.refuse_a_commit,
    Simulation.conflict,
    Simulation.toggle_database,
    Simulation.toggle_broker,
    Simulation.fail_a_delivery,
    Simulation.toggle_delayed_requests,
    Simulation.land_requests,
    Simulation.jump,
    Simulation.stop_fetching,
    Simulation.rewind,
    Simulation.raise_in_a_callback,
    Simulation.lock_rows,
    Simulation.add_partitions,
    Simulation.replay,
    Simulation.clear_locks,
)
