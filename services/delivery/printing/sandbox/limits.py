"""A process that lays out under limits of time and memory, so that a design that exhausts them
harms nothing else.

The parent holds the process's pipe, and the process ends when the pipe is closed, so no process
survives a parent that is killed.
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
    """The limits of one request: processor time, which other programs on the machine cannot use up,
    time by the clock, and address space.
    """

    seconds_max: int = SECONDS_MAX
    wait_s_max: float = SECONDS_MAX + 1  # a process that only waits uses no processor time
    bytes_max: int = BYTES_MAX

    def describe(self) -> str:
        return (
            f"needs more than {self.seconds_max} s or {self.bytes_max // 2**20:,} MiB to be "
            "laid out"
        )


def limit_process(bytes_max: int) -> None:
    """Limit this process until it ends. It leaves no core dump, which would hold names."""
    resource.setrlimit(resource.RLIMIT_AS, (bytes_max, bytes_max))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def renew_cpu_limit(seconds: int) -> None:
    """Allow so many seconds of processor time from now on. A process lays out many pages, and each
    has this limit.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    entries_max = math.ceil(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (entries_max, resource.RLIM_INFINITY))


def is_over_limit(code: int, last: str) -> bool:
    """Return whether a process reached a limit, by its exit code and the last line that it wrote to
    stderr.
    """
    return code < 0 or "MemoryError" in last


class SandboxEnded(Exception):
    """The process did not reply. `is_cpu_exhausted`: this request used up its processor time, and
    would do so again.
    """

    def __init__(self, cause: str, *, is_limit: bool, is_cpu_exhausted: bool = False) -> None:
        super().__init__(cause)
        self.cause, self.is_limit, self.is_cpu_exhausted = cause, is_limit, is_cpu_exhausted


class SandboxProcess:
    """A process under limits. Not shared between threads. Raises LayoutUnavailable if it cannot
    start.
    """

    def __init__(self, limits: SandboxLimits) -> None:
        self._limits, self._is_late = limits, threading.Event()
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end_process`
        command = [sys.executable, "-m", PROGRAM, str(limits.bytes_max), str(limits.seconds_max)]
        try:
            process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
            )
        except OSError as error:
            self._stderr.close()
            raise LayoutUnavailable(f"no process can be started: {error.strerror}") from None
        self._process = process
        self._end = weakref.finalize(self, end_process, process, self._stderr)
        try:
            self._exchange(START_S_MAX)
        except SandboxEnded as ended:
            self.close()
            raise LayoutUnavailable(f"the process ends as it starts: {ended.cause}") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def request(self, message: WireMessage) -> WireMessage:
        """Raises SandboxEnded."""
        return self._exchange(self._limits.wait_s_max, message)

    def close(self) -> None:
        self._end()

    def _exchange(self, seconds_max: float, message: WireMessage | None = None) -> WireMessage:
        """Send a message, if there is one, and return the reply. When the time is over the process
        is killed, and the pipe ends.
        """
        if self._process.stdin is None or self._process.stdout is None:  # both were requested
            raise SandboxEnded("it has no pipes", is_limit=False)
        alarm = threading.Timer(seconds_max, self._stop)
        alarm.start()
        reply: WireMessage | None = None
        try:
            with suppress(BrokenPipeError):  # its end is described below
                if message is not None:
                    wire.write(self._process.stdin.fileno(), message)
                reply = wire.read(self._process.stdout.fileno())
        except PlateUnreadable:
            self._process.kill()
        finally:
            alarm.cancel()
        if reply is None:
            raise self._describe_end()
        return reply

    def _stop(self) -> None:
        self._is_late.set()
        self._process.kill()

    def _describe_end(self) -> SandboxEnded:
        try:
            code = self._process.wait(END_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._stderr.seek(0)
        last = ["", *self._stderr.read().decode("utf-8", "replace").strip().splitlines()][-1][
            :CAUSE_CHARS_MAX
        ]
        if code == -signal.SIGXCPU:
            return SandboxEnded("it used up its time", is_limit=True, is_cpu_exhausted=True)
        if self._is_late.is_set():
            return SandboxEnded("it did not reply in time", is_limit=True)
        return SandboxEnded(last or describe_exit(code), is_limit=is_over_limit(code, last))


def describe_exit(code: int) -> str:
    return f"it was ended by signal {-code}" if code < 0 else f"exit code {code}"


def end_process(process: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
    """End the process by closing its pipes, and kill it if it does not end."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(END_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    stderr.close()


@dataclass(frozen=True, slots=True)
class CompileTask:
    """A design and a campaign's facts; its plate is stored under the key."""

    variant: DesignVariant
    facts: CampaignFacts
    plate_cache: PlateCache
    key: str


def compile_in_sandbox(
    task: CompileTask, *, seconds_max: int = SECONDS_MAX, bytes_max: int = BYTES_MAX
) -> float:
    """Compile a plate, and return the seconds that it took. Raises DesignUnusable, also if a limit
    was reached.
    """
    begun, name = time.monotonic(), task.variant.design.name
    limits = SandboxLimits(seconds_max, seconds_max + 1, bytes_max)
    design = wire.encode_request(task.variant, task.facts)
    request = {"do": "compile", "plate_cache": str(task.plate_cache.folder), "key": task.key}
    with closing(SandboxProcess(limits)) as process:
        try:
            reply = process.request(WireMessage(design.head | request, design.blobs)).head
        except SandboxEnded as ended:
            if ended.is_limit:
                raise DesignUnusable(
                    f"{name}: {limits.describe()}: leave out what is large or nested deeply"
                ) from None
            raise DesignUnusable(f"{name}: WeasyPrint failed on it: {ended.cause}") from None
    if reply["status"] == "unusable":
        raise DesignUnusable(reply["cause"])
    if reply["status"] == "unavailable":
        raise PlatesFolderUnusable(reply["cause"])
    if reply["status"] == "failed":
        raise DesignUnusable(f"{name}: WeasyPrint failed on it: {reply['cause']}")
    return time.monotonic() - begun
