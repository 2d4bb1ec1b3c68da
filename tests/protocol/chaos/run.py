"""A run: two stages under a stream of inputs, one random fault after the other, and the laws after
each.
"""

from __future__ import annotations

import random
import secrets
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.process import StackError
from deploy.local.stack import Stack
from tests.protocol.chaos.faults import FAULTS, Fault
from tests.protocol.laws.kafka_system import KafkaSystem
from tests.protocol.laws.lane_laws import broken
from tests.protocol.laws.stage_process import StageProcess
from tests.protocol.laws.system import NotSettledError, story
from tests.protocol.toy.service import Release
from tests.support.proxy import Proxy
from tests.support.stack import Databases, ServersForTests

RELEASE = Release(ticks=True)
SETTLE_S = 90.0
ROUNDS_OF_A_SYSTEM = 12  # then the next one begins: reading its whole log again would take too long
MEMBERS = 2  # of each stage


@dataclass(slots=True)
class Tally:
    """The results of a fault, over all its runs."""

    runs: int = 0
    violations: int = 0
    recoveries_s: list[float] = field(default_factory=list)


class ChaosRun:
    """One test environment, and what faults may change in it."""

    stages = ("first", "second")

    def __init__(self, system: KafkaSystem, stack: Stack, proxy: Proxy, rng: random.Random) -> None:
        self.system, self.stack, self.proxy, self.rng = system, stack, proxy, rng
        self.number = 0
        self._fed = 0
        system.proxy = proxy

    def members(self, stage: str) -> list[StageProcess]:
        return [
            member for member in self.system.members if member.stage == stage and member.is_alive
        ]

    def any_member(self) -> StageProcess:
        return self.rng.choice(self.members(self.rng.choice(self.stages)))

    def start(self, stage: str, *, at: str = "", release: Release = RELEASE) -> StageProcess:
        return self.system.start(stage, at=at, release=release, delivery_timeout_ms=2_000)

    def end(self, member: StageProcess) -> None:
        if member.is_alive:
            member.kill()

    def make_whole(self) -> None:
        """Start missing members, and replace those with a sabotage switch."""
        for stage in self.stages:
            for member in self.members(stage):
                if member.is_sabotaged:
                    self.end(member)
            for _ in range(MEMBERS - len(self.members(stage))):
                self.start(stage)

    def feed(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """A stream of inputs, some of them twice."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            self._fed += 1
            inputs = story(self.rng.randrange(1_000), 40, 50, name=f"feed{self._fed}")
            self.system.send(*inputs, *inputs[:5])
            time.sleep(0.05)

    def let_run(self, seconds: float) -> None:
        """Wait without sending, while the broker does not respond."""
        time.sleep(seconds)

    def play(self, fault: Fault) -> tuple[float, list[str]]:
        """Play a fault. Returns the seconds until the run settled, and the broken laws."""
        self.number += 1
        self.make_whole()
        self.feed(0.5)
        fault(self)
        self.make_whole()
        began = time.monotonic()
        try:
            self.system.settle(SETTLE_S)
        except NotSettledError as error:
            return time.monotonic() - began, [f"not settled: {str(error)[:3_000]}"]
        recovery_s = time.monotonic() - began
        return recovery_s, [
            f"{law}: {case}" for law, cases in broken(self.system.state()).items() for case in cases
        ]


@contextmanager
def one_system(stack: Stack, databases: Databases, rng: random.Random) -> Iterator[ChaosRun]:
    servers = ServersForTests(stack.bootstrap_servers, stack.database_url, stack)
    prefix = f"c{secrets.token_hex(4)}"
    with (
        databases.new() as url,
        tempfile.TemporaryDirectory() as folder,
        Proxy(url) as proxy,
        KafkaSystem(servers, url, prefix, Path(folder), partitions=6) as system,
    ):
        yield ChaosRun(system, stack, proxy, rng)


def run(seed: int, seconds: float, brokers: int, report: Callable[[str], None]) -> dict[str, Tally]:
    """Play faults in an order that the seed decides, until the time is over."""
    rng, tallies = random.Random(f"{seed}/{brokers}"), defaultdict[str, Tally](Tally)
    end = time.monotonic() + seconds
    waiting: list[Fault] = []
    while time.monotonic() < end:
        with Stack.temporary(brokers) as stack:
            databases = Databases(stack.database_url)
            try:
                while time.monotonic() < end:
                    with one_system(stack, databases, rng) as current:
                        play_rounds(current, waiting, tallies, end, report)
            except StackError as error:  # servers failed on a busy machine, which proves nothing
                report(f"new servers, for the old ones did not come back: {str(error)[:200]}")
            else:
                databases.close()
    return tallies


def play_rounds(
    current: ChaosRun,
    waiting: list[Fault],
    tallies: dict[str, Tally],
    end: float,
    report: Callable[[str], None],
) -> None:
    """Play some faults in one environment. The first broken law ends it, since all later checks
    would fail too.
    """
    for _ in range(ROUNDS_OF_A_SYSTEM):
        if time.monotonic() > end:
            return
        if not waiting:
            waiting += current.rng.sample(FAULTS, len(FAULTS))  # each once before any comes again
        fault = waiting.pop()
        recovery_s, cases = current.play(fault)
        tally = tallies[fault.__name__]
        tally.runs += 1
        tally.violations += len(cases)
        tally.recoveries_s.append(recovery_s)
        report(
            f"{len(current.stack.kafka)} broker(s), {fault.__name__}: {recovery_s:.1f} s, "
            f"{len(cases)} violations"
        )
        for case in cases[:5]:
            report(f"    {case}")
        if cases:
            return
