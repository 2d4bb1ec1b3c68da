"""Who used the CPU: seconds of user and system time by kind of process, whether the machine was
quiet, and what PostgreSQL did meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil
import psycopg

LOOP_STEPS = 2_000_000
BUSY_SHARE = 0.10  # of all cores, used by processes that are not measured
WORK = """
select (select sum(xact_commit)::bigint from pg_stat_database),
    (select coalesce(sum(fsyncs), 0)::bigint from pg_stat_io where object = 'wal')
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading of the counters: CPU seconds by kind, and those of the whole machine."""

    at: float
    seconds: Mapping[str, float]
    machine_busy_s: float
    commits: int
    fsyncs: int


@dataclass(frozen=True, slots=True)
class Account:
    """What was used between two readings."""

    wall_s: float
    seconds: Mapping[str, float]
    others_share: float  # of all cores: what ran beside
    commits: int
    fsyncs: int

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())

    @property
    def cores(self) -> float:
        return self.total_s / self.wall_s

    @property
    def is_too_busy(self) -> bool:
        return self.others_share > BUSY_SHARE

    def by_kind(self, count: int) -> str:
        """Return the milliseconds of each kind for one of `count`, the greatest first."""
        ranked = sorted(self.seconds.items(), key=lambda entry: -entry[1])
        return ", ".join(f"{kind} {1_000 * seconds / count:.2f}" for kind, seconds in ranked)


def read(kinds: Mapping[str, tuple[int, ...]], database_url: str) -> Reading:
    """Read the counters. `kinds`: process ids by kind; their children are counted with them."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        commits, fsyncs = connection.execute(WORK).fetchone() or (0, 0)
    machine = psutil.cpu_times()
    return Reading(
        time.monotonic(),
        {kind: sum(map(family_seconds, pids)) for kind, pids in kinds.items()},
        sum(machine) - machine.idle - machine.iowait - machine.guest - machine.guest_nice,
        commits,
        fsyncs,
    )


def between(first: Reading, last: Reading, poster_s: float) -> Account:
    """Return what was used between two readings. `poster_s`: the CPU of the load itself."""
    wall_s = last.at - first.at
    seconds = {kind: last.seconds[kind] - first.seconds[kind] for kind in last.seconds}
    measured = sum(seconds.values()) + poster_s
    others = (last.machine_busy_s - first.machine_busy_s - measured) / wall_s
    return Account(
        wall_s,
        seconds,
        max(0.0, others / (psutil.cpu_count() or 1)),
        last.commits - first.commits,
        last.fsyncs - first.fsyncs,
    )


def family_seconds(pid: int) -> float:
    """Return the CPU of a process, its living descendants and those that it has collected."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += sum(member.cpu_times()[:4])
    return total


def fixed_loop_ms() -> float:
    """Return how long a fixed loop takes: how fast this machine is now."""
    begun, total = time.perf_counter(), 0
    for step in range(LOOP_STEPS):
        total += step & 7
    return (time.perf_counter() - begun) * 1_000
