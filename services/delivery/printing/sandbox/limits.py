"""Laying out in a process of its own, with a ceiling of time and of memory: what eats both harms
nobody else.

Whoever asks holds the other process's pipe. It ends when the pipe does, so none is left behind by a
kill -9.
"""

from __future__ import annotations

import math
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import IO

from services.delivery.printing.design.library import DesignVariant
from services.delivery.printing.design.page import CampaignFacts
from services.delivery.printing.errors import (
    DesignUnusable,
    LayoutUnavailable,
    PlatesFolderUnusable,
    PlateUnreadable,
)
from services.delivery.printing.plate_cache import PlateCache
from services.delivery.printing.sandbox import wire
from services.delivery.printing.sandbox.wire import WireMessage

SECONDS_MAX = 60
BYTES_MAX = 2 * 2**30
START_S_MAX = 60.0
END_S_MAX = 1.0  # it holds nothing that could be lost
CAUSE_CHARS_MAX = 500
PROGRAM = "services.delivery.printing.sandbox.child"


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Of one job: processor time, which no neighbour on the machine can use up, time by the clock,
    and address space.
    """

    seconds_max: int = SECONDS_MAX
    wait_s_max: float = SECONDS_MAX + 1  # a process that only waits uses no processor time
    bytes_max: int = BYTES_MAX

    def told(self) -> str:
        return (
            f"needs more than {self.seconds_max} s or {self.bytes_max // 2**20:,} MiB to be "
            "laid out"
        )


def limit_process(bytes_max: int) -> None:
    """For this process, for good. No core is left: it would hold names."""
    resource.setrlimit(resource.RLIMIT_AS, (bytes_max, bytes_max))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def renew_cpu_limit(seconds: int) -> None:
    """From now on: a process lays out much, but nothing of it for long."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    entries_max = math.ceil(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (entries_max, resource.RLIM_INFINITY))


def is_over_limit(code: int, last: str) -> bool:
    """By how a process ended: its exit code, and the last line that it wrote."""
    return code < 0 or "MemoryError" in last


class SandboxEnded(Exception):
    """The other process did not answer. `is_used_up`: this job has had all its processor time, and
    would again.
    """

    def __init__(self, cause: str, *, is_ceiling: bool, is_used_up: bool = False) -> None:
        super().__init__(cause)
        self.cause, self.is_ceiling, self.is_used_up = cause, is_ceiling, is_used_up


class SandboxProcess:
    """The other process. Not shared between threads. Raises LayoutUnavailable if it cannot even
    begin.
    """

    def __init__(self, ceiling: SandboxLimits) -> None:
        self._ceiling, self._is_late = ceiling, threading.Event()
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end_process`
        command = [sys.executable, "-m", PROGRAM, str(ceiling.bytes_max), str(ceiling.seconds_max)]
        try:
            process = subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
            )
        except OSError as error:
            self._said.close()
            raise LayoutUnavailable(f"no process can be started: {error.strerror}") from None
        self._process = process
        self._end = weakref.finalize(self, end_process, process, self._said)
        try:
            self._answer(START_S_MAX)
        except SandboxEnded as ended:
            self.close()
            raise LayoutUnavailable(f"the process ends as it starts: {ended.cause}") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, said: WireMessage) -> WireMessage:
        """Raises Ended."""
        return self._answer(self._ceiling.wait_s_max, said)

    def close(self) -> None:
        self._end()

    def _answer(self, seconds_max: float, said: WireMessage | None = None) -> WireMessage:
        """By the clock it is killed, and then the pipe says so."""
        if self._process.stdin is None or self._process.stdout is None:  # both were asked for
            raise SandboxEnded("it has no pipes", is_ceiling=False)
        alarm = threading.Timer(seconds_max, self._stop)
        alarm.start()
        answer: WireMessage | None = None
        try:
            with suppress(BrokenPipeError):  # it is told below why it ended
                if said is not None:
                    wire.write(self._process.stdin.fileno(), said)
                answer = wire.read(self._process.stdout.fileno())
        except PlateUnreadable:
            self._process.kill()
        finally:
            alarm.cancel()
        if answer is None:
            raise self._ended()
        return answer

    def _stop(self) -> None:
        self._is_late.set()
        self._process.kill()

    def _ended(self) -> SandboxEnded:
        try:
            code = self._process.wait(END_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._said.seek(0)
        last = ["", *self._said.read().decode("utf-8", "replace").strip().splitlines()][-1][
            :CAUSE_CHARS_MAX
        ]
        if code == -signal.SIGXCPU:
            return SandboxEnded("it used up its time", is_ceiling=True, is_used_up=True)
        if self._is_late.is_set():
            return SandboxEnded("it did not answer in time", is_ceiling=True)
        return SandboxEnded(last or describe_exit(code), is_ceiling=is_over_limit(code, last))


def describe_exit(code: int) -> str:
    return f"it was ended by signal {-code}" if code < 0 else f"exit code {code}"


def end_process(process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    """Its pipe's end is its own; what does not hear that is killed."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(END_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    said.close()


@dataclass(frozen=True, slots=True)
class CompileTask:
    """A design for a campaign's facts; its plate goes on the shelf under the key."""

    variant: DesignVariant
    facts: CampaignFacts
    plate_cache: PlateCache
    key: str


def compile_in_sandbox(
    task: CompileTask, *, seconds_max: int = SECONDS_MAX, bytes_max: int = BYTES_MAX
) -> float:
    """Seconds that it took. Raises DesignUnusable, also for what reached the ceiling."""
    begun, name = time.monotonic(), task.variant.design.name
    ceiling = SandboxLimits(seconds_max, seconds_max + 1, bytes_max)
    sheet = wire.encode_request(task.variant, task.facts)
    job = {"do": "compile", "shelf": str(task.plate_cache.folder), "key": task.key}
    with closing(SandboxProcess(ceiling)) as process:
        try:
            answer = process.ask(WireMessage(sheet.head | job, sheet.blobs)).head
        except SandboxEnded as ended:
            if ended.is_ceiling:
                raise DesignUnusable(
                    f"{name}: {ceiling.told()}: leave out what is large or nested deeply"
                ) from None
            raise DesignUnusable(f"{name}: WeasyPrint failed on it: {ended.cause}") from None
    if answer["said"] == "unusable":
        raise DesignUnusable(answer["cause"])
    if answer["said"] == "away":
        raise PlatesFolderUnusable(answer["cause"])
    if answer["said"] == "failed":
        raise DesignUnusable(f"{name}: WeasyPrint failed on it: {answer['cause']}")
    return time.monotonic() - begun
